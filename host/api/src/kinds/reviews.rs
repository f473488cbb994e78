//! Reviews: kinds that are asked and answered, never stored.

use super::Kind;

const CREATE: &[&str] = &["create"];

const AUTHENTICATION: Kind = Kind {
    group: "authentication.k8s.io",
    namespaced: false,
    verbs: CREATE,
    ..Kind::BASE
};

const AUTHORIZATION: Kind = Kind {
    group: "authorization.k8s.io",
    namespaced: false,
    verbs: CREATE,
    ..Kind::BASE
};

pub(super) static SELF_SUBJECT: Kind = Kind {
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    type_name: "io.k8s.api.authentication.v1.SelfSubjectReview",
    ..AUTHENTICATION
};

pub(super) static TOKEN: Kind = Kind {
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    type_name: "io.k8s.api.authentication.v1.TokenReview",
    ..AUTHENTICATION
};

pub(super) static LOCAL_ACCESS: Kind = Kind {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    type_name: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    ..AUTHORIZATION
};

pub(super) static SELF_ACCESS: Kind = Kind {
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    type_name: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    ..AUTHORIZATION
};

pub(super) static SELF_RULES: Kind = Kind {
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    type_name: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    ..AUTHORIZATION
};

pub(super) static ACCESS: Kind = Kind {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    type_name: "io.k8s.api.authorization.v1.SubjectAccessReview",
    ..AUTHORIZATION
};

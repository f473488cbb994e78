//! Role and ClusterRole: rules.

use crate::field::{Errors, Path};
use crate::kinds::Kind;
use crate::label_selector;
use crate::{meta, names};
use serde_json::{Value, json};

pub(in crate::kinds) static ROLE: Kind = Kind {
    group: super::GROUP,
    kind: "Role",
    plural: "roles",
    singular: "role",
    type_name: "io.k8s.api.rbac.v1.Role",
    storage: "rbac.authorization.k8s.io/roles",
    name: names::path_segment,
    default,
    validate: |object, errors| validate_rules(object, true, errors),
    ..Kind::BASE
};

pub(in crate::kinds) static CLUSTER_ROLE: Kind = Kind {
    group: super::GROUP,
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    type_name: "io.k8s.api.rbac.v1.ClusterRole",
    storage: "rbac.authorization.k8s.io/clusterroles",
    name: names::path_segment,
    default,
    validate,
    ..Kind::BASE
};

/// Upstream serves `rules` even if there are none.
fn default(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        meta::default(map, "rules", json!([]));
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    validate_rules(object, false, errors);
    let Some(aggregation) = object.get("aggregationRule") else {
        return;
    };
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = meta::list(aggregation, &["clusterRoleSelectors"]);
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&path, why);
    }
    for (i, selector) in selectors.iter().enumerate() {
        label_selector::validate(selector, &path.index(i), errors);
    }
}

fn validate_rules(object: &Value, namespaced: bool, errors: &mut Errors) {
    for (i, rule) in meta::list(object, &["rules"]).iter().enumerate() {
        validate_rule(rule, namespaced, &Path::new("rules").index(i), errors);
    }
}

fn validate_rule(rule: &Value, namespaced: bool, path: &Path, errors: &mut Errors) {
    let empty = |key: &str| meta::list(rule, &[key]).is_empty();
    if empty("verbs") {
        let why = "verbs must contain at least one value";
        errors.required(&path.child("verbs"), why);
    }
    if !empty("nonResourceURLs") {
        let at = path.child("nonResourceURLs");
        let urls = rule["nonResourceURLs"].clone();
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.invalid(&at, urls.clone(), why);
        }
        if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&at, urls, why);
        }
        return;
    }
    if empty("apiGroups") {
        let why = "resource rules must supply at least one api group";
        errors.required(&path.child("apiGroups"), why);
    }
    if empty("resources") {
        let why = "resource rules must supply at least one resource";
        errors.required(&path.child("resources"), why);
    }
}

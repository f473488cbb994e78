//! RoleBinding and ClusterRoleBinding: who has a role.

use super::GROUP;
use crate::field::{Errors, Path};
use crate::kinds::Kind;
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static ROLE_BINDING: Kind = Kind {
    group: GROUP,
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    type_name: "io.k8s.api.rbac.v1.RoleBinding",
    storage: "rbac.authorization.k8s.io/rolebindings",
    name: names::path_segment,
    columns: COLUMNS,
    cells,
    default,
    validate: |object, errors| validate(object, true, errors),
    validate_update,
    ..Kind::BASE
};

pub(in crate::kinds) static CLUSTER_ROLE_BINDING: Kind = Kind {
    group: GROUP,
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    type_name: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    storage: "rbac.authorization.k8s.io/clusterrolebindings",
    name: names::path_segment,
    columns: COLUMNS,
    cells,
    default,
    validate: |object, errors| validate(object, false, errors),
    validate_update,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Role", 0, "The role that is granted."),
    AGE,
    text("Users", 1, "The users who have it."),
    text("Groups", 1, "The groups who have it."),
    text("ServiceAccounts", 1, "The service accounts that have it."),
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let of = |kind: &str| {
        let found: Vec<String> = meta::list(object, &["subjects"])
            .iter()
            .filter(|s| meta::text(s, &["kind"]) == kind)
            .map(|s| match kind {
                "ServiceAccount" => format!(
                    "{}/{}",
                    meta::text(s, &["namespace"]),
                    meta::text(s, &["name"])
                ),
                _ => meta::text(s, &["name"]).to_owned(),
            })
            .collect();
        found.join(", ")
    };
    let role = |key| meta::text(object, &["roleRef", key]);
    vec![
        meta::name(object).into(),
        format!("{}/{}", role("kind"), role("name")).into(),
        age(object, now),
        of("User").into(),
        of("Group").into(),
        of("ServiceAccount").into(),
    ]
}

fn default(object: &mut Value) {
    let role = meta::ensure(object, "roleRef");
    meta::default_text(role, "apiGroup", GROUP);
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        if matches!(meta::text(subject, &["kind"]), "User" | "Group")
            && let Some(map) = subject.as_object_mut()
        {
            meta::default_text(map, "apiGroup", GROUP);
        }
    }
}

fn validate(object: &Value, namespaced: bool, errors: &mut Errors) {
    let (role, path) = (&object["roleRef"], Path::new("roleRef"));
    let group = meta::text(role, &["apiGroup"]);
    if group != GROUP {
        errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = match namespaced {
        true => &["Role", "ClusterRole"],
        false => &["ClusterRole"],
    };
    let kind = meta::text(role, &["kind"]);
    if !kinds.contains(&kind) {
        errors.not_supported(&path.child("kind"), kind, kinds);
    }
    match meta::text(role, &["name"]) {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), name, names::path_segment(name)),
    }
    for (i, subject) in meta::list(object, &["subjects"]).iter().enumerate() {
        validate_subject(subject, namespaced, &Path::new("subjects").index(i), errors);
    }
}

fn validate_subject(subject: &Value, namespaced: bool, path: &Path, errors: &mut Errors) {
    let name = meta::text(subject, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    let group = meta::text(subject, &["apiGroup"]);
    match meta::text(subject, &["kind"]) {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && meta::text(subject, &["namespace"]).is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&path.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => errors.not_supported(
            &path.child("kind"),
            other,
            &["ServiceAccount", "User", "Group"],
        ),
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.get("roleRef") != old.get("roleRef") {
        let role = new["roleRef"].clone();
        errors.invalid(&Path::new("roleRef"), role, "cannot change roleRef");
    }
}

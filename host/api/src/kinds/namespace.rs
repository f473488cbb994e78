//! Namespace: made with a finalizer of its own, which its controller removes
//! by the `finalize` endpoint when the namespace is empty.

use super::{ALL_VERBS, Deletion, Kind, Subresource};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Upstream has no deletecollection here.
const VERBS: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];

pub(super) static KIND: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    type_name: "io.k8s.api.core.v1.Namespace",
    storage: "core/namespaces",
    verbs: VERBS,
    subresources: &[Subresource::Finalize, Subresource::Status],
    deletion: Deletion::NamespaceLifecycle,
    name: names::dns_label,
    selectable: &["status.phase"],
    columns: COLUMNS,
    cells,
    default,
    validate,
    prepare_create,
    prepare_update,
    ..Kind::BASE
};

const _: () = assert!(VERBS.len() + 1 == ALL_VERBS.len());

const COLUMNS: &[Column] = &[NAME, text("Status", 0, "The phase of the namespace."), AGE];

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::text(object, &["status", "phase"]).into(),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if name.is_empty() {
        return;
    }
    let labels = meta::ensure_metadata(object);
    let labels = labels
        .entry("labels")
        .or_insert_with(|| json!({}))
        .as_object_mut();
    if let Some(labels) = labels {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
    }
}

fn prepare_create(object: &mut Value) {
    let spec = meta::ensure(object, "spec");
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push("kubernetes".into());
    }
    object["status"] = json!({"phase": "Active"});
}

fn prepare_update(new: &mut Value, old: &Value) {
    meta::keep(new, old, "status");
    // Only the finalize endpoint changes the spec's finalizers.
    match meta::at(old, &["spec", "finalizers"]) {
        Some(finalizers) => {
            meta::ensure(new, "spec").insert("finalizers".to_owned(), finalizers.clone());
        }
        None => {
            meta::ensure(new, "spec").shift_remove("finalizers");
        }
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("finalizers");
    for (i, f) in meta::list(object, &["spec", "finalizers"])
        .iter()
        .enumerate()
    {
        let text = f.as_str().unwrap_or_default();
        errors.invalid_each(&path.index(i), text, names::qualified_name(text));
    }
}

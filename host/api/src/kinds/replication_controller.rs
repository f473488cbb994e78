//! ReplicationController: its selector is a plain map of labels.

use super::{Kind, Subresource, replica_set, workload};
use crate::field::{Errors, Path};
use crate::meta::{self, default};
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    type_name: "io.k8s.api.core.v1.ReplicationController",
    storage: "core/replicationcontrollers",
    subresources: &[Subresource::Scale, Subresource::Status],
    selectable: &["status.replicas"],
    columns: replica_set::COLUMNS,
    cells: |object, now| {
        let selector = workload::labels_cell(meta::at(object, &["spec", "selector"]));
        replica_set::cells(object, selector, now)
    },
    default: default_controller,
    validate,
    validate_status: |new, _, errors| replica_set::validate_counts(new, errors),
    prepare_create: |object| workload::begin(object, json!({"replicas": 0})),
    prepare_update: workload::next,
    ..Kind::BASE
};

/// Labels and selector come from the template where they are absent.
fn default_controller(object: &mut Value) {
    let labels = meta::at(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        let own = meta::ensure_metadata(object);
        let absent = |v: Option<&Value>| {
            v.and_then(Value::as_object)
                .is_none_or(serde_json::Map::is_empty)
        };
        if absent(own.get("labels")) {
            own.insert("labels".to_owned(), labels.clone());
        }
        let spec = workload::spec_of(object);
        if absent(spec.get("selector")) {
            spec.insert("selector".to_owned(), labels);
        }
    }
    let spec = workload::spec_of(object);
    default(spec, "replicas", 1);
    workload::default_template(spec, "template");
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    errors.nonnegative(spec, "minReadySeconds", &path);
    let selector = meta::at(spec, &["selector"]).and_then(Value::as_object);
    if selector.is_none_or(serde_json::Map::is_empty) {
        errors.required(&path.child("selector"), "");
    }
    errors.nonnegative(spec, "replicas", &path);
    if spec.get("template").is_none() {
        errors.required(&path.child("template"), "");
        return;
    }
    let labels = meta::at(spec, &["template", "metadata", "labels"]);
    let selected = selector
        .into_iter()
        .flatten()
        .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v));
    workload::validate_lasting_template(spec, selected, &path, errors);
}

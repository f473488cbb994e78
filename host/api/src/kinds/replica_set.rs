//! ReplicaSet, and what it shares with ReplicationController.

use super::workload::{self, SELECTOR, TEMPLATE_COLUMNS};
use super::{Kind, Subresource};
use crate::field::{Errors, Path};
use crate::meta::{self, default};
use crate::print::{AGE, Cells, Column, NAME, age, int};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    type_name: "io.k8s.api.apps.v1.ReplicaSet",
    storage: "apps/replicasets",
    subresources: &[Subresource::Scale, Subresource::Status],
    selectable: &["status.replicas"],
    columns: COLUMNS,
    cells: |object, now| {
        cells(
            object,
            workload::selector_cell(meta::at(object, &["spec", "selector"])),
            now,
        )
    },
    default: |object| {
        let spec = workload::spec_of(object);
        default(spec, "replicas", 1);
        workload::default_template(spec, "template");
    },
    validate,
    validate_update: |new, old, errors| {
        errors.immutable(&new["spec"], &old["spec"], "selector", &Path::new("spec"));
    },
    validate_status: |new, _, errors| validate_counts(new, errors),
    prepare_create: |object| workload::begin(object, json!({"replicas": 0})),
    prepare_update: workload::next,
    ..Kind::BASE
};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    int("Desired", 0, "Pods that are wanted."),
    int("Current", 0, "Pods that there are."),
    int("Ready", 0, "Pods that are ready."),
    AGE,
    TEMPLATE_COLUMNS[0],
    TEMPLATE_COLUMNS[1],
    SELECTOR,
];

pub(super) fn cells(object: &Value, selector: Value, now: Timestamp) -> Cells {
    let [names, images] = workload::containers(&object["spec"]["template"]);
    vec![
        meta::name(object).into(),
        workload::count(object, &["spec", "replicas"]).into(),
        workload::count(object, &["status", "replicas"]).into(),
        workload::count(object, &["status", "readyReplicas"]).into(),
        age(object, now),
        names,
        images,
        selector,
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    for key in ["replicas", "minReadySeconds"] {
        errors.nonnegative(spec, key, &path);
    }
    // Upstream says "deployment" here too.
    let selected = workload::validate_selector(spec, "deployment", &path, errors);
    workload::validate_lasting_template(spec, selected, &path, errors);
}

pub(super) fn validate_counts(object: &Value, errors: &mut Errors) {
    const PARTS: &[&str] = &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let counts = &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
    ];
    workload::validate_counts(object, counts, PARTS, errors);
    workload::validate_available(object, errors);
}

//! Deployment.

use super::workload::{self, SELECTOR, TEMPLATE_COLUMNS};
use super::{Kind, Subresource};
use crate::field::{Errors, Path};
use crate::label_selector;
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    type_name: "io.k8s.api.apps.v1.Deployment",
    storage: "apps/deployments",
    subresources: &[Subresource::Scale, Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_deployment,
    validate,
    validate_update,
    validate_status,
    prepare_create: |object| workload::begin(object, json!({})),
    prepare_update,
    prepare_status,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", 0, "Pods that are ready, of those wanted."),
    text("Up-to-date", 0, "Pods of the newest template."),
    text("Available", 0, "Pods that are available."),
    AGE,
    TEMPLATE_COLUMNS[0],
    TEMPLATE_COLUMNS[1],
    SELECTOR,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let status = |key| workload::count(object, &["status", key]);
    let wanted = workload::count(object, &["spec", "replicas"]);
    let [names, images] = workload::containers(&object["spec"]["template"]);
    vec![
        meta::name(object).into(),
        format!("{}/{wanted}", status("readyReplicas")).into(),
        status("updatedReplicas").into(),
        status("availableReplicas").into(),
        age(object, now),
        names,
        images,
        selector(object).into(),
    ]
}

/// An empty one is shown as it is, unlike other workloads'.
fn selector(object: &Value) -> String {
    match meta::at(object, &["spec", "selector"]) {
        None => String::new(),
        Some(of) => label_selector::text(of).unwrap_or("<invalid>".to_owned()),
    }
}

fn default_deployment(object: &mut Value) {
    let spec = workload::spec_of(object);
    default(spec, "replicas", 1);
    if let Some(strategy) = workload::part(spec, "strategy") {
        default_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").is_some_and(|t| t == "RollingUpdate")
            && let Some(rolling) = workload::part(strategy, "rollingUpdate")
        {
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
    }
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    workload::default_template(spec, "template");
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    errors.nonnegative(spec, "replicas", &path);
    let selected = workload::validate_selector(spec, "deployment", &path, errors);
    workload::validate_lasting_template(spec, selected, &path, errors);
    validate_strategy(spec, &path.child("strategy"), errors);
    for key in [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        errors.nonnegative(spec, key, &path);
    }
    if let Some(deadline) = meta::int(spec, &["progressDeadlineSeconds"])
        && deadline <= workload::count(spec, &["minReadySeconds"])
    {
        let why = "must be greater than minReadySeconds";
        errors.invalid(&path.child("progressDeadlineSeconds"), deadline, why);
    }
}

fn validate_strategy(spec: &Value, at: &Path, errors: &mut Errors) {
    let strategy = spec.get("strategy").unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate");
    let path = at.child("rollingUpdate");
    match (meta::text(strategy, &["type"]), rolling) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => errors.forbidden(
            &path,
            "may not be specified when strategy `type` is 'Recreate'",
        ),
        ("RollingUpdate", None) => {
            errors.required(&path, "this should be defaulted and never be nil");
        }
        ("RollingUpdate", Some(rolling)) => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            let first = path.child("maxUnavailable");
            workload::validate_share(unavailable, &first, errors);
            workload::validate_share(surge, &path.child("maxSurge"), errors);
            if workload::share(unavailable) == 0 && workload::share(surge) == 0 {
                let shown = unavailable.cloned().unwrap_or_default();
                errors.invalid(&first, shown, "may not be 0 when `maxSurge` is 0");
            }
            workload::validate_at_most_all(unavailable, &first, errors);
        }
        (other, _) => {
            errors.not_supported(&at.child("type"), other, &["Recreate", "RollingUpdate"])
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    errors.immutable(&new["spec"], &old["spec"], "selector", &Path::new("spec"));
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const PARTS: &[&str] = &["updatedReplicas", "readyReplicas", "availableReplicas"];
    let counts = &[
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "collisionCount",
    ];
    workload::validate_counts(new, counts, PARTS, errors);
    workload::validate_available(new, errors);
    workload::validate_collisions(new, old, errors);
}

/// Annotations are part of what a revision records, so they count as spec.
fn prepare_update(new: &mut Value, old: &Value) {
    let annotations = |o: &Value| meta::at(o, &["metadata", "annotations"]).cloned();
    let changed = new.get("spec") != old.get("spec") || annotations(new) != annotations(old);
    meta::keep(new, old, "status");
    workload::advance(new, old, changed);
}

fn prepare_status(new: &mut Value, old: &Value) {
    super::keep_all_but_status(new, old);
    let labels = meta::at(old, &["metadata", "labels"]).cloned();
    let metadata = meta::ensure_metadata(new);
    match labels {
        Some(labels) => {
            metadata.insert("labels".to_owned(), labels);
        }
        None => {
            metadata.shift_remove("labels");
        }
    }
}

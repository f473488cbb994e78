//! DaemonSet.

use super::workload::{self, SELECTOR, TEMPLATE_COLUMNS};
use super::{Kind, Subresource};
use crate::field::{Errors, Path};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, int, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    type_name: "io.k8s.api.apps.v1.DaemonSet",
    storage: "apps/daemonsets",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_set,
    validate,
    validate_update: |new, old, errors| {
        errors.immutable(&new["spec"], &old["spec"], "selector", &Path::new("spec"));
    },
    validate_status,
    prepare_create: |object| {
        let status = json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0,
            "desiredNumberScheduled": 0, "numberReady": 0,
        });
        workload::begin(object, status);
        set_template_generation(object, 1);
    },
    prepare_update,
    ..Kind::BASE
};

/// apps/v1 keeps the template's generation in an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const COLUMNS: &[Column] = &[
    NAME,
    int("Desired", 0, "Nodes that should run the pod."),
    int("Current", 0, "Nodes that run it, of those."),
    int("Ready", 0, "Nodes where it is ready."),
    int("Up-to-date", 0, "Nodes that run the newest template."),
    int("Available", 0, "Nodes where it is available."),
    text("Node Selector", 0, "Which nodes run it."),
    AGE,
    TEMPLATE_COLUMNS[0],
    TEMPLATE_COLUMNS[1],
    SELECTOR,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let status = |key| Value::from(workload::count(object, &["status", key]));
    let template = &object["spec"]["template"];
    let [names, images] = workload::containers(template);
    vec![
        meta::name(object).into(),
        status("desiredNumberScheduled"),
        status("currentNumberScheduled"),
        status("numberReady"),
        status("updatedNumberScheduled"),
        status("numberAvailable"),
        workload::labels_cell(meta::at(template, &["spec", "nodeSelector"])),
        age(object, now),
        names,
        images,
        workload::selector_cell(meta::at(object, &["spec", "selector"])),
    ]
}

fn default_set(object: &mut Value) {
    let spec = workload::spec_of(object);
    if let Some(strategy) = workload::part(spec, "updateStrategy") {
        default_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").is_some_and(|t| t == "RollingUpdate")
            && let Some(rolling) = workload::part(strategy, "rollingUpdate")
        {
            default(rolling, "maxUnavailable", 1);
            default(rolling, "maxSurge", 0);
        }
    }
    default(spec, "revisionHistoryLimit", 10);
    workload::default_template(spec, "template");
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    let selected = workload::validate_selector(spec, "daemonset", &path, errors);
    workload::validate_lasting_template(spec, selected, &path, errors);
    errors.nonnegative(spec, "minReadySeconds", &path);
    validate_strategy(spec, &path.child("updateStrategy"), errors);
    errors.nonnegative(spec, "revisionHistoryLimit", &path);
}

fn validate_strategy(spec: &Value, at: &Path, errors: &mut Errors) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    match meta::text(strategy, &["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(rolling) = strategy.get("rollingUpdate") else {
                errors.required(&at.child("rollingUpdate"), "");
                return;
            };
            let at = at.child("rollingUpdate");
            let share = |key| (rolling.get(key), at.child(key));
            let (unavailable, first) = share("maxUnavailable");
            let (surge, second) = share("maxSurge");
            for (value, path) in [(unavailable, &first), (surge, &second)] {
                workload::validate_share(value, path, errors);
                workload::validate_at_most_all(value, path, errors);
            }
            let shown = |v: Option<&Value>| v.cloned().unwrap_or_default();
            match (
                workload::share(unavailable) != 0,
                workload::share(surge) != 0,
            ) {
                (true, true) => errors.invalid(
                    &second,
                    shown(surge),
                    "may not be set when maxUnavailable is non-zero",
                ),
                (false, false) => errors.required(&first, "cannot be 0 when maxSurge is 0"),
                (true, false) | (false, true) => {}
            }
        }
        other => errors.not_supported(&at.child("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let counts = &[
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    workload::validate_counts(new, counts, &[], errors);
    workload::validate_collisions(new, old, errors);
}

fn prepare_update(new: &mut Value, old: &Value) {
    workload::next(new, old);
    let path = ["metadata", "annotations", TEMPLATE_GENERATION];
    let was: i64 = meta::text(old, &path).parse().unwrap_or(0);
    let template = |o: &Value| meta::at(o, &["spec", "template"]).cloned();
    set_template_generation(new, was + i64::from(template(new) != template(old)));
}

fn set_template_generation(object: &mut Value, generation: i64) {
    let annotations = meta::ensure_metadata(object)
        .entry("annotations")
        .or_insert_with(|| json!({}));
    if let Some(map) = annotations.as_object_mut() {
        map.insert(
            TEMPLATE_GENERATION.to_owned(),
            generation.to_string().into(),
        );
    }
}

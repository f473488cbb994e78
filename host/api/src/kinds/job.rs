//! Job: its selector and the labels that it selects by are made here.

use super::workload::{self, SELECTOR, TEMPLATE_COLUMNS};
use super::{Kind, Subresource, job_validate};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::time;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(super) static KIND: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    type_name: "io.k8s.api.batch.v1.Job",
    storage: "batch/jobs",
    subresources: &[Subresource::Status],
    selectable: &["status.successful"],
    columns: COLUMNS,
    cells,
    default: default_job,
    validate: job_validate::validate,
    validate_create: job_validate::validate_create,
    validate_update: job_validate::validate_update,
    validate_status: job_validate::validate_status,
    prepare_create,
    prepare_update: workload::next,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Status", 0, "Where the job is in its life."),
    text("Completions", 0, "Pods that succeeded, of those wanted."),
    text("Duration", 0, "How long it took, or takes."),
    AGE,
    TEMPLATE_COLUMNS[0],
    TEMPLATE_COLUMNS[1],
    SELECTOR,
];

/// Labels that tie pods to their job, each with its older form.
pub(super) const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
pub(super) const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let succeeded = workload::count(object, &["status", "succeeded"]);
    let completions = match meta::int(object, &["spec", "completions"]) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None => match workload::count(object, &["spec", "parallelism"]) {
            many @ 2.. => format!("{succeeded}/1 of {many}"),
            _ => format!("{succeeded}/1"),
        },
    };
    let stamp = |key| time::parse(meta::text(object, &["status", key]));
    let duration = stamp("startTime").map_or(String::new(), |start| {
        let end = stamp("completionTime").unwrap_or(now);
        time::human_duration(end.duration_since(start).as_secs())
    });
    let [names, images] = workload::containers(&object["spec"]["template"]);
    vec![
        meta::name(object).into(),
        phase(object).into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        workload::selector_cell(meta::at(object, &["spec", "selector"])),
    ]
}

pub(super) fn has_condition(object: &Value, kind: &str) -> bool {
    meta::list(object, &["status", "conditions"])
        .iter()
        .any(|c| meta::text(c, &["type"]) == kind && meta::text(c, &["status"]) == "True")
}

fn phase(object: &Value) -> &'static str {
    match () {
        () if has_condition(object, "Complete") => "Complete",
        () if has_condition(object, "Failed") => "Failed",
        () if meta::is_deleting(object) => "Terminating",
        () if has_condition(object, "Suspended") => "Suspended",
        () if has_condition(object, "FailureTarget") => "FailureTarget",
        () if has_condition(object, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn default_job(object: &mut Value) {
    let labels = meta::at(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        default(meta::ensure_metadata(object), "labels", labels);
    }
    let spec = workload::spec_of(object);
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    default(spec, "parallelism", 1);
    let limit = match spec.contains_key("backoffLimitPerIndex") {
        true => i32::MAX,
        false => 6,
    };
    default(spec, "backoffLimit", limit);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let replacement = match spec.contains_key("podFailurePolicy") {
        true => "Failed",
        false => "TerminatingOrFailed",
    };
    default(spec, "podReplacementPolicy", replacement);
    default_failure_policy(spec);
    workload::default_template(spec, "template");
}

/// Shared with CronJob's template, which gets no other defaults of a job.
pub(super) fn default_failure_policy(spec: &mut Map<String, Value>) {
    let rules = spec
        .get_mut("podFailurePolicy")
        .and_then(|p| p.get_mut("rules"));
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten() {
        let patterns = rule.get_mut("onPodConditions");
        for pattern in patterns.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(pattern) = pattern.as_object_mut() {
                default_text(pattern, "status", "True");
            }
        }
    }
}

fn prepare_create(object: &mut Value) {
    workload::begin(object, json!({}));
    if meta::flag(object, &["spec", "manualSelector"]) {
        return;
    }
    let (uid, name) = (meta::uid(object).to_owned(), meta::name(object).to_owned());
    let spec = workload::spec_of(object);
    let Some(template) = spec.get_mut("template").filter(|t| t.is_object()) else {
        return;
    };
    let labels = meta::ensure_metadata(template)
        .entry("labels")
        .or_insert_with(|| json!({}));
    for (keys, value) in [(UID_LABELS, &uid), (NAME_LABELS, &name)] {
        for key in keys {
            labels[key] = value.as_str().into();
        }
    }
    let selector = workload::part(spec, "selector");
    if let Some(matching) = selector.and_then(|s| workload::part(s, "matchLabels")) {
        matching.insert(UID_LABELS[1].to_owned(), uid.into());
    }
}

//! CronJob.

use super::workload::{self, SELECTOR, TEMPLATE_COLUMNS};
use super::{Kind, Subresource, job, job_validate};
use crate::cron;
use crate::field::{Errors, Path};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, int, or_none, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    type_name: "io.k8s.api.batch.v1.CronJob",
    storage: "batch/cronjobs",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_cron_job,
    validate,
    prepare_create: |object| workload::begin(object, json!({})),
    prepare_update: workload::next,
    ..Kind::BASE
};

/// Longest name: a job's name adds eleven characters and has to fit a label.
const NAME_MAX: usize = 52;

const COLUMNS: &[Column] = &[
    NAME,
    text("Schedule", 0, "When jobs are made, as cron has it."),
    text("Timezone", 0, "The time zone of the schedule."),
    Column {
        kind: "boolean",
        ..text("Suspend", 0, "Whether no more jobs are made.")
    },
    int("Active", 0, "Jobs that run."),
    text("Last Schedule", 0, "When the last job was made."),
    AGE,
    TEMPLATE_COLUMNS[0],
    TEMPLATE_COLUMNS[1],
    SELECTOR,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let job = &object["spec"]["jobTemplate"]["spec"];
    let [names, images] = workload::containers(&job["template"]);
    let suspend = match meta::at(object, &["spec", "suspend"]).and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = meta::at(object, &["status", "lastScheduleTime"]).and_then(Value::as_str);
    vec![
        meta::name(object).into(),
        meta::text(object, &["spec", "schedule"]).into(),
        or_none(meta::text(object, &["spec", "timeZone"])),
        suspend.into(),
        meta::list(object, &["status", "active"]).len().into(),
        last.map_or("<none>".into(), |t| crate::time::age(Some(t), now).into()),
        age(object, now),
        names,
        images,
        workload::selector_cell(job.get("selector")),
    ]
}

fn default_cron_job(object: &mut Value) {
    let spec = workload::spec_of(object);
    default_text(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    let template = spec.get_mut("jobTemplate").filter(|t| t.is_object());
    if let Some(template) = template {
        let job = meta::ensure(template, "spec");
        job::default_failure_policy(job);
        workload::default_template(job, "template");
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let name = meta::name(object);
    if name.len() > NAME_MAX {
        let why = format!("must be no more than {NAME_MAX} characters");
        errors.invalid(&Path::new("metadata").child("name"), name, why);
    }
    let path = Path::new("spec");
    let spec = &object["spec"];
    validate_schedule(spec, &path, errors);
    errors.nonnegative(spec, "startingDeadlineSeconds", &path);
    match meta::text(spec, &["concurrencyPolicy"]) {
        "Allow" | "Forbid" | "Replace" => {}
        "" => errors.required(&path.child("concurrencyPolicy"), ""),
        other => errors.not_supported(
            &path.child("concurrencyPolicy"),
            other,
            &["Allow", "Forbid", "Replace"],
        ),
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.nonnegative(spec, key, &path);
    }
    let job = &spec["jobTemplate"]["spec"];
    let at = path.child("jobTemplate").child("spec");
    job_validate::validate_spec(job, &at, errors);
    if let Some(selector) = job.get("selector") {
        let why = "`selector` will be auto-generated";
        errors.invalid(&at.child("selector"), selector.clone(), why);
    }
    if meta::flag(job, &["manualSelector"]) {
        errors.not_supported(&at.child("manualSelector"), "true", &["nil", "false"]);
    }
}

fn validate_schedule(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("schedule");
    let schedule = meta::text(spec, &["schedule"]);
    if schedule.is_empty() {
        errors.required(&at, "");
    } else if schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(&at, schedule, why);
    } else if let Err(why) = cron::check(schedule) {
        errors.invalid(&at, schedule, why);
    }
    let at = path.child("timeZone");
    match spec.get("timeZone").and_then(Value::as_str) {
        None => {}
        Some("") => errors.invalid(&at, "", "timeZone must be nil or non-empty string"),
        Some(zone) if zone.eq_ignore_ascii_case("local") => errors.invalid(
            &at,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ),
        Some(zone) if !cron::is_zone_name(zone) => {
            errors.invalid(&at, zone, format!("unknown time zone {zone}"));
        }
        Some(_) => {}
    }
}

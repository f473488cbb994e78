//! What a Job has to be, and what of it may change: upstream's
//! `pkg/apis/batch/validation`.

use super::job::{NAME_LABELS, UID_LABELS, has_condition};
use super::workload;
use crate::field::{Errors, Path};
use crate::{label_selector, meta, names};
use serde_json::{Value, json};

const MAX_PARALLELISM_INDEXED: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
const HIGH_COMPLETIONS: i64 = 100_000;
const HIGH_PARALLELISM: i64 = 10_000;
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_CONDITION_PATTERNS: usize = 20;

pub(super) fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    validate_spec(spec, &path, errors);
    let Some(selector) = spec.get("selector") else {
        errors.required(&path.child("selector"), "");
        return;
    };
    label_selector::validate(selector, &path.child("selector"), errors);
    let labels = meta::at(spec, &["template", "metadata", "labels"]);
    let labels = labels.cloned().unwrap_or_default();
    if label_selector::parse(selector).is_some() && !label_selector::selects(selector, &labels) {
        let at = path.child("template").child("metadata").child("labels");
        errors.invalid(&at, labels, "`selector` does not match template `labels`");
    }
}

/// The selector was made, or is the client's own wish.
pub(super) fn validate_create(object: &Value, errors: &mut Errors) {
    validate_index_names(object, errors);
    if meta::flag(object, &["spec", "manualSelector"]) {
        return;
    }
    let (uid, name) = (meta::uid(object), meta::name(object));
    let mut expected = json!({});
    for (keys, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
        for key in keys {
            expected[key] = value.into();
        }
    }
    let selector = &object["spec"]["selector"];
    if !label_selector::selects(selector, &expected) {
        let at = Path::new("spec").child("selector");
        errors.invalid(&at, selector.clone(), "`selector` not auto-generated");
    }
}

fn validate_index_names(object: &Value, errors: &mut Errors) {
    let completions = workload::count(object, &["spec", "completions"]);
    if meta::text(object, &["spec", "completionMode"]) != "Indexed" || completions <= 0 {
        return;
    }
    let name = meta::name(object);
    let last = format!("{name}-{}", completions - 1);
    if !names::dns_label(&last).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {last}");
        errors.invalid(&Path::new("metadata").child("name"), name, why);
    }
}

/// What a job's and a cron job's spec share.
pub(super) fn validate_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.nonnegative(spec, key, path);
    }
    let per_index = spec.get("backoffLimitPerIndex");
    if spec.get("maxFailedIndexes").is_some() && per_index.is_none() {
        let at = path.child("backoffLimitPerIndex");
        errors.required(&at, "when maxFailedIndexes is specified");
    }
    if let Some(by) = spec.get("managedBy").and_then(Value::as_str) {
        let at = path.child("managedBy");
        let prefixed = by
            .split_once('/')
            .is_some_and(|(p, rest)| names::dns_subdomain(p).is_empty() && !rest.is_empty());
        if !prefixed {
            errors.invalid(
                &at,
                by,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            );
        }
        if by.len() > 63 {
            errors.too_long(&at, 63);
        }
    }
    validate_mode(spec, path, errors);
    if let Some(policy) = spec.get("podFailurePolicy") {
        let rules = path.child("podFailurePolicy").child("rules");
        validate_failure_rules(spec, policy, &rules, errors);
    }
    validate_success_policy(spec, &path.child("successPolicy"), errors);
    validate_replacement(spec, &path.child("podReplacementPolicy"), errors);
    let template = spec.get("template").unwrap_or(&Value::Null);
    workload::validate_template(template, &path.child("template"), errors);
    validate_restart(spec, path, errors);
}

fn validate_mode(spec: &Value, path: &Path, errors: &mut Errors) {
    let int = |key| meta::int(spec, &[key]);
    let mode = meta::text(spec, &["completionMode"]);
    if !matches!(mode, "" | "NonIndexed" | "Indexed") {
        let at = path.child("completionMode");
        errors.not_supported(&at, mode, &["NonIndexed", "Indexed"]);
    }
    if mode != "Indexed" {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(n) = int(key) {
                errors.invalid(&path.child(key), n, "requires indexed completion mode");
            }
        }
        return;
    }
    let Some(completions) = int("completions") else {
        let at = path.child("completions");
        errors.required(&at, "when completion mode is Indexed");
        return;
    };
    let at_most = |key: &str, max: i64, why: String, errors: &mut Errors| {
        if let Some(n) = meta::int(spec, &[key]).filter(|n| *n > max) {
            errors.invalid(&path.child(key), n, why);
        }
    };
    let why = "must be less than or equal to";
    at_most(
        "parallelism",
        MAX_PARALLELISM_INDEXED,
        format!("{why} {MAX_PARALLELISM_INDEXED} when completion mode is Indexed"),
        errors,
    );
    at_most(
        "maxFailedIndexes",
        completions,
        format!("{why} completions"),
        errors,
    );
    at_most(
        "maxFailedIndexes",
        MAX_FAILED_INDEXES,
        format!("{why} {MAX_FAILED_INDEXES}"),
        errors,
    );
    if completions > HIGH_COMPLETIONS && int("backoffLimitPerIndex").is_some() {
        let high = format!(
            "when completions are above {HIGH_COMPLETIONS} and used with backoff limit per index"
        );
        if int("maxFailedIndexes").is_none() {
            let why = format!("must be specified when completions is above {HIGH_COMPLETIONS}");
            errors.required(&path.child("maxFailedIndexes"), why);
        }
        for key in ["parallelism", "maxFailedIndexes"] {
            let why = format!("{why} {HIGH_PARALLELISM} {high}");
            at_most(key, HIGH_PARALLELISM, why, errors);
        }
    }
}

fn validate_restart(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("template").child("spec").child("restartPolicy");
    match meta::text(spec, &["template", "spec", "restartPolicy"]) {
        "" | "Always" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.get("podFailurePolicy").is_some() => errors.invalid(
            &at,
            "OnFailure",
            "only \"Never\" is supported when podFailurePolicy is specified",
        ),
        "OnFailure" | "Never" => {}
        other => errors.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn validate_replacement(spec: &Value, at: &Path, errors: &mut Errors) {
    let Some(policy) = spec.get("podReplacementPolicy").and_then(Value::as_str) else {
        return;
    };
    let allowed: &[&str] = match spec.get("podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    if !allowed.contains(&policy) {
        errors.not_supported(at, policy, allowed);
    }
}

fn validate_success_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    let Some(policy) = spec.get("successPolicy") else {
        return;
    };
    if meta::text(spec, &["completionMode"]) != "Indexed" {
        errors.invalid(at, policy.clone(), "requires indexed completion mode");
        return;
    }
    let rules = meta::list(policy, &["rules"]);
    let path = at.child("rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, why);
    }
    if rules.len() > MAX_RULES {
        errors.too_many(&path, rules.len(), MAX_RULES);
    }
    let completions = workload::count(spec, &["completions"]);
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        let count = meta::int(rule, &["succeededCount"]);
        if count.is_none() && rule.get("succeededIndexes").is_none() {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&at, why);
        }
        errors.nonnegative(rule, "succeededCount", &at);
        if let Some(n) = count.filter(|n| *n > completions) {
            let why = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            errors.invalid(&at.child("succeededCount"), n, why);
        }
    }
}

fn validate_failure_rules(spec: &Value, policy: &Value, path: &Path, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
    let rules = meta::list(policy, &["rules"]);
    if rules.len() > MAX_RULES {
        errors.too_many(path, rules.len(), MAX_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        let action = at.child("action");
        match meta::text(rule, &["action"]) {
            "" => errors.required(&action, format!("valid values: {ACTIONS:?}")),
            "FailIndex" if spec.get("backoffLimitPerIndex").is_none() => {
                let why = "requires the backoffLimitPerIndex to be set";
                errors.invalid(&action, "FailIndex", why);
            }
            known if ACTIONS.contains(&known) => {}
            other => errors.not_supported(&action, other, ACTIONS),
        }
        let conditions = meta::list(rule, &["onPodConditions"]);
        if let Some(codes) = rule.get("onExitCodes") {
            validate_exit_codes(spec, codes, &at.child("onExitCodes"), errors);
        }
        validate_conditions(conditions, &at.child("onPodConditions"), errors);
        match (rule.get("onExitCodes").is_some(), conditions.is_empty()) {
            (true, false) => errors.invalid_unshown(
                &at,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, true) => errors.invalid_unshown(
                &at,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            (true, true) | (false, false) => {}
        }
    }
}

fn validate_conditions(conditions: &[Value], path: &Path, errors: &mut Errors) {
    const VALUES: &[&str] = &["False", "True", "Unknown"];
    if conditions.len() > MAX_CONDITION_PATTERNS {
        errors.too_many(path, conditions.len(), MAX_CONDITION_PATTERNS);
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let at = path.index(i);
        let kind = meta::text(pattern, &["type"]);
        errors.invalid_each(&at.child("type"), kind, names::qualified_name(kind));
        match meta::text(pattern, &["status"]) {
            "" => errors.required(&at.child("status"), format!("valid values: {VALUES:?}")),
            known if VALUES.contains(&known) => {}
            other => errors.not_supported(&at.child("status"), other, VALUES),
        }
    }
}

fn validate_exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    const OPERATORS: &[&str] = &["In", "NotIn"];
    let operator = meta::text(codes, &["operator"]);
    let at = path.child("operator");
    match operator {
        "" => errors.required(&at, format!("valid values: {OPERATORS:?}")),
        known if OPERATORS.contains(&known) => {}
        other => errors.not_supported(&at, other, OPERATORS),
    }
    if let Some(name) = codes.get("containerName").and_then(Value::as_str) {
        let known = ["containers", "initContainers"].iter().any(|part| {
            meta::list(spec, &["template", "spec", part])
                .iter()
                .any(|c| meta::text(c, &["name"]) == name)
        });
        if !known {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&path.child("containerName"), name, why);
        }
    }
    let at = path.child("values");
    let values: Vec<i64> = meta::list(codes, &["values"])
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    if values.is_empty() {
        errors.invalid(&at, json!(values), "at least one value is required");
    } else if values.len() > MAX_EXIT_CODES {
        errors.too_many(&at, values.len(), MAX_EXIT_CODES);
    }
    for (i, code) in values.iter().enumerate() {
        if operator == "In" && *code == 0 {
            errors.invalid(&at.index(i), 0, "must not be 0 for the In operator");
        }
        if values.iter().take(i).any(|c| c == code) {
            errors.duplicate(&at.index(i), *code);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&at, json!(values), "must be ordered");
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (is, was) = (&new["spec"], &old["spec"]);
    let completions = |s: &Value| meta::int(s, &["completions"]);
    if completions(is) != completions(was) {
        // An indexed job may be resized, its parallelism along with it.
        let elastic = meta::text(is, &["completionMode"]) == "Indexed"
            && completions(is).is_some()
            && completions(was).is_some()
            && completions(is) == meta::int(is, &["parallelism"]);
        if meta::text(is, &["completionMode"]) != "Indexed" {
            errors.immutable(is, was, "completions", &path);
        } else if !elastic {
            let shown = is.get("completions").cloned().unwrap_or_default();
            let why = format!(
                "can only be modified in tandem with {}",
                path.child("parallelism")
            );
            errors.invalid(&path.child("completions"), shown, why);
        }
    }
    errors.immutable(is, was, "selector", &path);
    validate_template_update(new, old, &path, errors);
    for key in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        errors.immutable(is, was, key, &path);
    }
}

/// Suspended and never started, a job may still be told where to run.
fn validate_template_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let started = meta::at(old, &["status", "startTime"]).is_some();
    let suspended = meta::flag(old, &["spec", "suspend"]) && !started;
    let frozen = |object: &Value| {
        let mut template = object["spec"]["template"].clone();
        if suspended {
            for (part, keys) in [
                ("metadata", &["labels", "annotations"][..]),
                (
                    "spec",
                    &["nodeSelector", "tolerations", "schedulingGates", "affinity"][..],
                ),
            ] {
                for key in keys {
                    if let Some(map) = template.get_mut(part).and_then(Value::as_object_mut) {
                        map.shift_remove(*key);
                    }
                }
            }
        }
        template
    };
    let (is, was) = (frozen(new), frozen(old));
    if is != was {
        errors.invalid(&path.child("template"), is, "field is immutable");
    }
}

pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let status = &new["status"];
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.nonnegative(status, key, &path);
    }
    let conditions = path.child("conditions");
    let true_of = |kind| has_condition(new, kind);
    for (a, b, why) in [
        (
            "Complete",
            "Failed",
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            "Complete",
            "FailureTarget",
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            "SuccessCriteriaMet",
            "Failed",
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            "SuccessCriteriaMet",
            "FailureTarget",
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
    ] {
        if true_of(a) && true_of(b) {
            errors.invalid_unshown(&conditions, why);
        }
    }
    for kind in ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"] {
        if has_condition(old, kind) && !true_of(kind) {
            let why = format!("cannot disable {kind}=True condition");
            errors.invalid_unshown(&conditions, why);
        }
    }
    let finished = true_of("Complete") || true_of("Failed");
    let active = workload::count(status, &["active"]);
    if finished && active > 0 && !(has_condition(old, "Complete") || has_condition(old, "Failed")) {
        errors.invalid(
            &path.child("active"),
            active,
            "active>0 is invalid for finished job",
        );
    }
}

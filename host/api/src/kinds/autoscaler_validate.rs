//! What a HorizontalPodAutoscaler has to be: upstream's
//! `pkg/apis/autoscaling/validation`.

use super::workload;
use crate::field::{Errors, Path};
use crate::{meta, names, resources};
use serde_json::Value;

const TYPES: &[&str] = &[
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];
const POLICIES: &[&str] = &["Percent", "Pods"];
const SELECT: &[&str] = &["Disabled", "Max", "Min"];
const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

/// The member that holds a metric of the type.
pub(super) fn part_of(kind: &str) -> &'static str {
    match kind {
        "ContainerResource" => "containerResource",
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        _ => "resource",
    }
}

pub(super) fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    let least = workload::count(spec, &["minReplicas"]);
    if spec.get("minReplicas").is_some() && least < 1 {
        let why = "must be greater than or equal to 1";
        errors.invalid(&path.child("minReplicas"), least, why);
    }
    let most = workload::count(spec, &["maxReplicas"]);
    if most < 1 {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    }
    if spec.get("minReplicas").is_some() && most < least {
        let why = "must be greater than or equal to `minReplicas`";
        errors.invalid(&path.child("maxReplicas"), most, why);
    }
    validate_reference(
        &spec["scaleTargetRef"],
        &path.child("scaleTargetRef"),
        errors,
    );
    validate_metrics(spec, &path.child("metrics"), errors);
    for key in ["scaleUp", "scaleDown"] {
        if let Some(rules) = meta::at(spec, &["behavior", key]) {
            validate_rules(rules, &path.child("behavior").child(key), errors);
        }
    }
}

pub(super) fn validate_status(object: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    for key in ["currentReplicas", "desiredReplicas"] {
        errors.nonnegative(&object["status"], key, &path);
    }
}

fn validate_reference(reference: &Value, at: &Path, errors: &mut Errors) {
    for key in ["kind", "name"] {
        match meta::text(reference, &[key]) {
            "" => errors.required(&at.child(key), ""),
            value => errors.invalid_each(&at.child(key), value, names::path_segment(value)),
        }
    }
    let version = meta::text(reference, &["apiVersion"]);
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.invalid(&at.child("apiVersion"), version, why);
    }
}

fn validate_metrics(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, metric) in meta::list(spec, &["metrics"]).iter().enumerate() {
        let at = path.index(i);
        let kind = meta::text(metric, &["type"]);
        if kind.is_empty() {
            let why = "must specify a metric source type";
            errors.required(&at.child("type"), why);
            continue;
        }
        if !TYPES.contains(&kind) {
            errors.not_supported(&at.child("type"), kind, TYPES);
            continue;
        }
        let part = part_of(kind);
        for other in TYPES.iter().map(|t| part_of(t)).filter(|p| *p != part) {
            if metric.get(other).is_some() {
                let why = "must populate information for only one metric source";
                errors.forbidden(&at.child(other), why);
            }
        }
        let at = at.child(part);
        let Some(source) = metric.get(part) else {
            let why = "must populate information for the given metric source";
            errors.required(&at, why);
            continue;
        };
        validate_source(source, kind, &at, errors);
    }
}

fn validate_source(source: &Value, kind: &str, at: &Path, errors: &mut Errors) {
    match kind {
        "Resource" | "ContainerResource" => {
            if meta::text(source, &["name"]).is_empty() {
                let why = "must specify a resource name";
                errors.required(&at.child("name"), why);
            }
            if kind == "ContainerResource" && meta::text(source, &["container"]).is_empty() {
                errors.required(&at.child("container"), "must specify a container name");
            }
        }
        _ => {
            let name = meta::text(source, &["metric", "name"]);
            let path = at.child("metric").child("name");
            match name {
                "" => errors.required(&path, "must specify a metric name"),
                name => errors.invalid_each(&path, name, names::path_segment(name)),
            }
            if kind == "Object" {
                let path = at.child("describedObject");
                validate_reference(&source["describedObject"], &path, errors);
            }
        }
    }
    validate_target(source, kind, &at.child("target"), errors);
}

fn validate_target(source: &Value, kind: &str, at: &Path, errors: &mut Errors) {
    let target = &source["target"];
    let form = meta::text(target, &["type"]);
    match form {
        "" => errors.required(&at.child("type"), "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        _ => errors.invalid(
            &at.child("type"),
            form,
            "must be either Utilization, Value, or AverageValue",
        ),
    }
    for key in ["value", "averageValue"] {
        if let Some(value) = target.get(key)
            && resources::parse(value).is_some_and(|q| q.milli() <= 0)
        {
            errors.invalid(&at.child(key), value.clone(), "must be positive");
        }
    }
    let share = meta::int(target, &["averageUtilization"]);
    if let Some(n) = share.filter(|n| *n < 1) {
        let why = "must be greater than 0";
        errors.invalid(&at.child("averageUtilization"), n, why);
    }
    let (value, average) = (target.get("value"), target.get("averageValue"));
    match kind {
        "Resource" | "ContainerResource" => {
            if share.is_none() && average.is_none() {
                let why = "must set either a target raw value or a target utilization";
                errors.required(&at.child("averageUtilization"), why);
            }
            if share.is_some() && average.is_some() {
                let why = "may not set both a target raw value and a target utilization";
                errors.forbidden(&at.child("averageValue"), why);
            }
        }
        "Pods" if average.is_none() => {
            let why = "must specify a positive target averageValue";
            errors.required(&at.child("averageValue"), why);
        }
        "Object" | "External" if value.is_none() && average.is_none() => {
            let why = "must set either a target value for metric or a per-pod target";
            errors.required(&at.child("averageValue"), why);
        }
        "External" if value.is_some() && average.is_some() => {
            let why = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&at.child("value"), why);
        }
        _ => {}
    }
}

fn validate_rules(rules: &Value, at: &Path, errors: &mut Errors) {
    let window = meta::int(rules, &["stabilizationWindowSeconds"]);
    if let Some(n) = window {
        let path = at.child("stabilizationWindowSeconds");
        if n < 0 {
            errors.invalid(&path, n, "must be greater than or equal to zero");
        } else if n > WINDOW_MAX {
            let why = format!("must be less than or equal to {WINDOW_MAX}");
            errors.invalid(&path, n, why);
        }
    }
    let select = meta::text(rules, &["selectPolicy"]);
    if !select.is_empty() && !SELECT.contains(&select) {
        errors.not_supported(&at.child("selectPolicy"), select, SELECT);
    }
    let policies = meta::list(rules, &["policies"]);
    if policies.is_empty() {
        errors.required(&at.child("policies"), "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = at.child("policies").index(i);
        let kind = meta::text(policy, &["type"]);
        if !POLICIES.contains(&kind) {
            errors.not_supported(&at.child("type"), kind, POLICIES);
        }
        for key in ["value", "periodSeconds"] {
            let n = workload::count(policy, &[key]);
            if n <= 0 {
                errors.invalid(&at.child(key), n, "must be greater than zero");
            } else if key == "periodSeconds" && n > PERIOD_MAX {
                let why = format!("must be less than or equal to {PERIOD_MAX}");
                errors.invalid(&at.child(key), n, why);
            }
        }
    }
}

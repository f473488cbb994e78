//! LimitRange.

use super::Kind;
use crate::field::{Errors, Path};
use crate::quantity::Quantity;
use crate::{meta, names, resources};
use serde_json::{Map, Value};

pub(super) static KIND: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    type_name: "io.k8s.api.core.v1.LimitRange",
    storage: "core/limitranges",
    default: default_range,
    validate,
    ..Kind::BASE
};

/// For containers: the limit comes from the maximum, the request from the
/// limit or the minimum.
fn default_range(object: &mut Value) {
    let limits = meta::ensure(object, "spec").get_mut("limits");
    for item in limits.and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(item) = item.as_object_mut() else {
            continue;
        };
        if item.get("type").is_some_and(|t| t == "Container") {
            fill(item, "default", "max");
            fill(item, "defaultRequest", "default");
            fill(item, "defaultRequest", "min");
        }
    }
}

fn fill(item: &mut Map<String, Value>, to: &str, from: &str) {
    let Some(Value::Object(given)) = item.get(from).cloned() else {
        return;
    };
    let target = item.entry(to).or_insert_with(|| Value::Object(Map::new()));
    if let Some(target) = target.as_object_mut() {
        for (name, value) in given {
            target.entry(name).or_insert(value);
        }
    }
}

const TYPES: &[&str] = &["Pod", "Container", "PersistentVolumeClaim"];

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("limits");
    let mut seen: Vec<&str> = Vec::new();
    for (i, item) in meta::list(object, &["spec", "limits"]).iter().enumerate() {
        let at = path.index(i);
        let kind = meta::text(item, &["type"]);
        let faults = names::qualified_name(kind);
        if !faults.is_empty() {
            errors.invalid_each(&at.child("type"), kind, faults);
        } else if !kind.contains('/') && !TYPES.contains(&kind) {
            let why = "must be a standard limit type or fully qualified";
            errors.invalid(&at.child("type"), kind, why);
        }
        if seen.contains(&kind) {
            errors.duplicate(&at.child("type"), kind);
        }
        seen.push(kind);
        validate_item(item, kind, &at, errors);
    }
}

const PARTS: &[&str] = &[
    "max",
    "min",
    "default",
    "defaultRequest",
    "maxLimitRequestRatio",
];

fn validate_item(item: &Value, kind: &str, at: &Path, errors: &mut Errors) {
    let mut keys: Vec<&String> = Vec::new();
    for part in PARTS {
        if kind == "Pod" && part.starts_with("default") {
            if item.get(*part).is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.forbidden(&at.child(part), why);
            }
            continue;
        }
        for (name, _) in meta::members(item, &[part]) {
            let path = at.child(part).key(name);
            match kind {
                "Pod" | "Container" => resources::validate_container_name(name, &path, errors),
                _ => {
                    resources::validate_name(name, &path, errors);
                }
            }
            if !keys.contains(&name) {
                keys.push(name);
            }
        }
    }
    let storage = |part| meta::at(item, &[part, "storage"]).is_some();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        errors.required(
            &at.child("limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    keys.sort();
    for key in keys {
        validate_order(item, key, at, errors);
    }
}

/// min <= defaultRequest <= default <= max, and a ratio that they allow.
fn validate_order(item: &Value, key: &str, at: &Path, errors: &mut Errors) {
    let of = |part: &str| meta::at(item, &[part, key]).and_then(resources::parse);
    let (min, max) = (of("min"), of("max"));
    let (limit, request, ratio) = (
        of("default"),
        of("defaultRequest"),
        of("maxLimitRequestRatio"),
    );
    let bound = |q: Option<Quantity>, name: &'static str| q.map(|q| (q, name));
    let (least, most) = (bound(min, "min"), bound(max, "max"));
    let asked = bound(request, "default request");
    // Upstream shows the bound, not the value, where it blames the default.
    for (low, high, blamed, shown) in [
        (least, most, "min", min),
        (least, asked, "defaultRequest", request),
        (asked, most, "defaultRequest", request),
        (
            asked,
            bound(limit, "default limit"),
            "defaultRequest",
            request,
        ),
        (least, bound(limit, "default"), "default", min),
        (bound(limit, "default"), most, "default", max),
    ] {
        if let (Some((low, low_name)), Some((high, high_name))) = (low, high)
            && low > high
        {
            errors.invalid(
                &at.child(blamed).key(key),
                shown.map(|q| q.to_string()).unwrap_or_default(),
                format!("{low_name} value {low} is greater than {high_name} value {high}"),
            );
        }
    }
    if let Some(ratio) = ratio {
        validate_ratio(
            ratio,
            min,
            max,
            &at.child("maxLimitRequestRatio").key(key),
            errors,
        );
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && !resources::may_overcommit(key)
        && limit != request
    {
        errors.invalid(
            &at.child("defaultRequest").key(key),
            request.to_string(),
            format!("default value {limit} must equal to defaultRequest value {request} in {key}"),
        );
    }
}

fn validate_ratio(
    ratio: Quantity,
    min: Option<Quantity>,
    max: Option<Quantity>,
    path: &Path,
    errors: &mut Errors,
) {
    let shown = ratio.to_string();
    if ratio.milli() < 1000 {
        let why = format!("ratio {ratio} is less than 1");
        errors.invalid(path, shown.as_str(), why);
    }
    if let (Some(min), Some(max)) = (min, max)
        && min.milli() > 0
        && ratio.milli().saturating_mul(min.milli()) > max.milli().saturating_mul(1000)
    {
        let hundredths = max.milli().saturating_mul(1_000_000) / min.milli();
        let why = format!(
            "ratio {ratio} is greater than max/min = {}.{:06}",
            hundredths / 1_000_000,
            hundredths % 1_000_000
        );
        errors.invalid(path, shown, why);
    }
}

//! What workloads share: pod templates, selectors, generations, replica
//! counts, and the cells that show them.

use super::{pod_defaults, pod_validate, validate_labels};
use crate::field::{Errors, Path};
use crate::print::{Column, text};
use crate::{label_selector, meta};
use serde_json::{Map, Value, json};

pub(super) const TEMPLATE_COLUMNS: [Column; 2] = [
    text("Containers", 1, "Names of the template's containers."),
    text("Images", 1, "Images of the template's containers."),
];
pub(super) const SELECTOR: Column = text("Selector", 1, "Which pods belong to it.");

/// The defaults of the pod template at `key`.
pub(super) fn default_template(owner: &mut Map<String, Value>, key: &str) {
    let Some(template) = owner.get_mut(key).filter(|t| t.is_object()) else {
        return;
    };
    pod_defaults::default_pod_spec(meta::ensure(template, "spec"));
}

pub(super) fn validate_template(template: &Value, path: &Path, errors: &mut Errors) {
    let metadata = template.get("metadata").unwrap_or(&Value::Null);
    validate_labels(&metadata["labels"], &path.child("labels"), errors);
    super::validate_annotations(metadata, &path.child("annotations"), errors);
    let spec = template.get("spec").unwrap_or(&Value::Null);
    pod_validate::validate_spec(spec, &path.child("spec"), errors);
}

/// A template whose pods always restart, chosen by `selector`.
pub(super) fn validate_lasting_template(
    spec: &Value,
    selected: bool,
    path: &Path,
    errors: &mut Errors,
) {
    let at = path.child("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    let labels = meta::at(template, &["metadata", "labels"]);
    if !selected {
        errors.invalid(
            &at.child("metadata").child("labels"),
            labels.cloned().unwrap_or_default(),
            "`selector` does not match template `labels`",
        );
    }
    validate_template(template, &at, errors);
    validate_lasting(template, &at, errors);
}

/// Restarted always, and without an end of its own.
pub(super) fn validate_lasting(template: &Value, at: &Path, errors: &mut Errors) {
    let policy = meta::text(template, &["spec", "restartPolicy"]);
    if policy != "Always" {
        errors.not_supported(
            &at.child("spec").child("restartPolicy"),
            policy,
            &["Always"],
        );
    }
    if let Some(deadline) = meta::at(template, &["spec", "activeDeadlineSeconds"]) {
        errors.invalid(
            &at.child("spec").child("activeDeadlineSeconds"),
            deadline.clone(),
            "must not be specified",
        );
    }
}

/// A `LabelSelector` that has to be there and select something; whether it
/// selects the template's labels (true where it can't be judged).
pub(super) fn validate_selector(spec: &Value, of: &str, path: &Path, errors: &mut Errors) -> bool {
    let at = path.child("selector");
    let Some(selector) = spec.get("selector") else {
        errors.required(&at, "");
        return true;
    };
    label_selector::validate(selector, &at, errors);
    if label_selector::is_empty(selector) {
        let why = format!("empty selector is invalid for {of}");
        errors.invalid(&at, selector.clone(), why);
        return true;
    }
    if label_selector::parse(selector).is_none() {
        errors.invalid(&at, selector.clone(), "invalid label selector");
        return true;
    }
    label_selector::selects(selector, &template_labels(spec))
}

fn template_labels(spec: &Value) -> Value {
    meta::at(spec, &["template", "metadata", "labels"])
        .cloned()
        .unwrap_or_default()
}

/// A new object begins with generation 1 and this status.
pub(super) fn begin(object: &mut Value, status: Value) {
    object["status"] = status;
    meta::ensure_metadata(object).insert("generation".to_owned(), 1.into());
}

/// The main endpoint keeps the status; a changed spec is a new generation.
pub(super) fn next(new: &mut Value, old: &Value) {
    meta::keep(new, old, "status");
    advance(new, old, new.get("spec") != old.get("spec"));
}

pub(super) fn advance(new: &mut Value, old: &Value, changed: bool) {
    let generation = meta::int(old, &["metadata", "generation"]).unwrap_or(0);
    meta::ensure_metadata(new).insert(
        "generation".to_owned(),
        (generation + i64::from(changed)).into(),
    );
}

/// Counts in a status: none negative, those of `parts` at most `replicas`.
pub(super) fn validate_counts(
    object: &Value,
    counts: &[&str],
    parts: &[&str],
    errors: &mut Errors,
) {
    let path = Path::new("status");
    let status = object.get("status").unwrap_or(&Value::Null);
    let count = |key: &str| meta::int(status, &[key]).unwrap_or(0);
    for key in counts {
        errors.nonnegative(status, key, &path);
    }
    for key in parts {
        if count(key) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            errors.invalid(&path.child(key), count(key), why);
        }
    }
}

pub(super) fn validate_available(object: &Value, errors: &mut Errors) {
    let count = |key: &str| meta::int(object, &["status", key]).unwrap_or(0);
    let available = count("availableReplicas");
    if available > count("readyReplicas") {
        errors.invalid(
            &Path::new("status").child("availableReplicas"),
            available,
            "cannot be greater than readyReplicas",
        );
    }
}

/// `collisionCount` only grows.
pub(super) fn validate_collisions(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |o: &Value| meta::int(o, &["status", "collisionCount"]);
    if let Some(was) = count(old)
        && count(new).unwrap_or(0) < was
    {
        errors.invalid(
            &Path::new("status").child("collisionCount"),
            count(new).unwrap_or(0),
            "cannot be decremented",
        );
    }
}

/// Names and images of a template's containers.
pub(super) fn containers(template: &Value) -> [Value; 2] {
    let list = meta::list(template, &["spec", "containers"]);
    let of = |key: &str| {
        let all: Vec<&str> = list.iter().map(|c| meta::text(c, &[key])).collect();
        Value::from(all.join(","))
    };
    [of("name"), of("image")]
}

/// The selector's text, in upstream's words for none and for a broken one.
pub(super) fn selector_cell(selector: Option<&Value>) -> Value {
    let text = selector.map_or(Some(String::new()), label_selector::text);
    match text {
        None => "<error>".into(),
        Some(t) if t.is_empty() => "<none>".into(),
        Some(t) => t.into(),
    }
}

/// A plain map of labels as text.
pub(super) fn labels_cell(labels: Option<&Value>) -> Value {
    let mut pairs: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    match pairs.is_empty() {
        true => "<none>".into(),
        false => pairs.join(",").into(),
    }
}

/// The number at `path`, or 0.
pub(super) fn count(object: &Value, path: &[&str]) -> i64 {
    meta::int(object, path).unwrap_or(0)
}

/// An int-or-percent that may not be negative.
pub(super) fn validate_share(value: Option<&Value>, path: &Path, errors: &mut Errors) {
    match value {
        None => {}
        Some(Value::String(s)) => errors.invalid_each(path, s, crate::names::percent(s)),
        Some(v) => {
            if let Some(n) = v.as_i64().filter(|n| *n < 0) {
                errors.invalid(path, n, "must be greater than or equal to 0");
            }
        }
    }
}

pub(super) fn validate_at_most_all(value: Option<&Value>, path: &Path, errors: &mut Errors) {
    if let Some(Value::String(s)) = value
        && crate::names::percent(s).is_empty()
        && share(value) > 100
    {
        errors.invalid(path, s.as_str(), "must not be greater than 100%");
    }
}

/// The number of an int-or-percent; 0 for what is neither.
pub(super) fn share(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::String(s)) => s.trim_end_matches('%').parse().unwrap_or(0),
        Some(v) => v.as_i64().unwrap_or(0),
        None => 0,
    }
}

/// What every `spec` that a client left out becomes.
pub(super) fn spec_of(object: &mut Value) -> &mut Map<String, Value> {
    meta::ensure(object, "spec")
}

/// `map[key]` as an object, made where it is absent.
pub(super) fn part<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.entry(key).or_insert_with(|| json!({})).as_object_mut()
}

//! The annotation in which kubectl's client-side apply keeps what it applied.
//! When kubectl goes over to server-side apply, what it applied before isn't
//! somebody else's; and the annotation stays up to date, so that it can go
//! back.

use super::merge::validate;
use super::set::Set;
use super::updater::{self, ApplyError, Versions, Writer};
use super::walk::{compare, field_set};
use crate::kinds::ANNOTATIONS_MAX;
use crate::meta;
use serde_json::Value;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Whoever doesn't want this uses another name.
const KUBECTL: &str = "kubectl";

/// As [`updater::apply`], with the annotation.
pub(super) fn apply<V: Versions>(
    versions: &V,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let outcome = updater::apply(versions, live, config, writer, force);
    if writer.manager != KUBECTL {
        return outcome;
    }
    let mut object = match (outcome, live) {
        (Err(ApplyError::Conflicts(conflicts)), Some(live)) => {
            let Some(own) = still_applied(versions, live, writer.version) else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let foreign: Vec<_> = conflicts
                .into_iter()
                .filter(|c| !own.has(&c.path))
                .collect();
            if !foreign.is_empty() {
                return Err(ApplyError::Conflicts(foreign));
            }
            updater::apply(versions, Some(live), config, writer, true)?
        }
        (outcome, _) => outcome?,
    };
    if !annotation(&object).is_empty() {
        update(&mut object, config);
    }
    Ok(object)
}

fn annotation(object: &Value) -> &str {
    meta::text(object, &["metadata", "annotations", ANNOTATION])
}

/// What the last client-side apply set and still stands so.
fn still_applied<V: Versions>(versions: &V, live: &Value, version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(annotation(live)).ok()?;
    if meta::text(&last, &["apiVersion"]) != version {
        return None;
    }
    let node = versions.schema(version)?;
    validate(&node, live, false).ok()?;
    validate(&node, &last, false).ok()?;
    let changed = compare(&node, &last, live);
    let differs = changed
        .modified
        .union(&changed.added)
        .union(&changed.removed);
    Some(field_set(&node, &last).difference(&differs))
}

fn update(object: &mut Value, config: &Value) {
    let mut config = config.clone();
    if let Some(annotations) = config
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove(ANNOTATION);
        if annotations.is_empty() {
            meta::ensure_metadata(&mut config).shift_remove("annotations");
        }
    }
    let text = sorted(&config).to_string() + "\n";
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let others: usize = annotations
        .iter()
        .filter(|(key, _)| *key != ANNOTATION)
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if others + ANNOTATION.len() + text.len() > ANNOTATIONS_MAX {
        annotations.shift_remove(ANNOTATION);
    } else {
        annotations.insert(ANNOTATION.to_owned(), text.into());
    }
}

/// Members by name, as kubectl writes the annotation.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let entries = names.into_iter().filter_map(|n| {
                let value = members.get(n)?;
                Some((n.clone(), sorted(value)))
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

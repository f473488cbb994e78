//! What an update of a pod may change.

use super::pod_restart;
use crate::field::{Errors, Path};
use crate::meta;
use serde_json::{Map, Value};

const WHAT_MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// The main endpoint keeps the status; a changed spec is a new generation.
pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    meta::keep(new, old, "status");
    let generation = meta::int(old, &["metadata", "generation"]).unwrap_or(1);
    let changed = new.get("spec") != old.get("spec");
    meta::ensure_metadata(new).insert(
        "generation".to_owned(),
        (generation + i64::from(changed)).into(),
    );
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    validate_deadline(new, old, &spec, errors);
    validate_tolerations(new, old, &spec, errors);
    let (was, is) = (frozen(old), frozen(new));
    if was != is {
        let detail = format!("{WHAT_MAY_CHANGE}\n{}", difference(&was, &is));
        errors.forbidden(&spec, detail);
    }
}

fn validate_deadline(new: &Value, old: &Value, spec: &Path, errors: &mut Errors) {
    let path = spec.child("activeDeadlineSeconds");
    let deadline = |o| meta::int(o, &["spec", "activeDeadlineSeconds"]);
    match (deadline(old), deadline(new)) {
        (Some(was), Some(is)) if is > was => {
            errors.invalid(&path, is, "must be less than or equal to previous value")
        }
        (Some(was), None) => errors.invalid(
            &path,
            was,
            "must not update from a positive integer to nil value",
        ),
        _ => {}
    }
}

fn validate_tolerations(new: &Value, old: &Value, spec: &Path, errors: &mut Errors) {
    let is = meta::list(new, &["spec", "tolerations"]);
    // What stays may only have its seconds changed.
    let bare = |t: &Value| {
        let mut t = t.clone();
        if let Some(map) = t.as_object_mut() {
            map.shift_remove("tolerationSeconds");
        }
        t
    };
    for gone in meta::list(old, &["spec", "tolerations"]) {
        if gone.get("key").is_some() && is.iter().all(|t| bare(t) != bare(gone)) {
            // Defaults that a client's wider toleration covers may go.
            let key = meta::text(gone, &["key"]);
            if is.iter().any(|t| meta::text(t, &["key"]).is_empty())
                && key.starts_with("node.kubernetes.io/")
            {
                continue;
            }
            errors.forbidden(
                &spec.child("tolerations"),
                "existing toleration can not be modified except its tolerationSeconds",
            );
        }
    }
}

/// The spec without what may change.
fn frozen(pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    let Some(map) = spec.as_object_mut() else {
        return spec;
    };
    map.shift_remove("activeDeadlineSeconds");
    map.shift_remove("tolerations");
    let grace = "terminationGracePeriodSeconds";
    if map
        .get(grace)
        .and_then(Value::as_i64)
        .is_some_and(|g| g < 0)
    {
        map.insert(grace.to_owned(), 1.into());
    }
    for part in ["containers", "initContainers"] {
        for container in map
            .get_mut(part)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(c) = container.as_object_mut() {
                c.shift_remove("image");
            }
        }
    }
    spec
}

/// The members of two specs that differ, a line each.
fn difference(was: &Value, is: &Value) -> String {
    let empty = Map::new();
    let (was, is) = (
        was.as_object().unwrap_or(&empty),
        is.as_object().unwrap_or(&empty),
    );
    let mut lines = Vec::new();
    for key in was
        .keys()
        .chain(is.keys().filter(|k| !was.contains_key(*k)))
    {
        if was.get(key) != is.get(key) {
            for (mark, side) in [('-', was), ('+', is)] {
                if let Some(value) = side.get(key) {
                    lines.push(format!("{mark} {key}: {value}"));
                }
            }
        }
    }
    lines.join("\n")
}

/// A status may not move the pod, nor bring containers that ended for good
/// back to life.
pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Path::new("status");
    let nominated = meta::text(new, &["status", "nominatedNodeName"]);
    if !nominated.is_empty() {
        let path = status.child("nominatedNodeName");
        errors.invalid_each(&path, nominated, crate::names::dns_subdomain(nominated));
    }
    for (i, was) in meta::list(old, &["status", "containerStatuses"])
        .iter()
        .enumerate()
    {
        let name = meta::text(was, &["name"]);
        let Some(ended) = meta::at(was, &["state", "terminated"]) else {
            continue;
        };
        let exit_code = meta::int(ended, &["exitCode"]).unwrap_or(0);
        if pod_restart::may_run_again(old, name, exit_code) {
            continue;
        }
        let revived = meta::list(new, &["status", "containerStatuses"])
            .iter()
            .any(|c| {
                meta::text(c, &["name"]) == name && meta::at(c, &["state", "terminated"]).is_none()
            });
        if revived {
            let path = status.child("containerStatuses").index(i).child("state");
            errors.forbidden(&path, "may not be transitioned to non-terminated state");
        }
    }
}

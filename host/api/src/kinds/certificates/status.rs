//! The status of a request: what each endpoint may change of it.
//!
//! | endpoint | Approved, Denied | other conditions | certificate |
//! | --- | --- | --- | --- |
//! | main | kept | kept | kept |
//! | approval | added | added | kept |
//! | status | kept | added | set once |

use super::request;
use crate::field::{Errors, Path};
use crate::kinds::strategy;
use crate::meta;
use jiff::Timestamp;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Main,
    Status,
    Approval,
}

fn all(object: &Value) -> &[Value] {
    meta::list(object, &["status", "conditions"])
}

fn kind(condition: &Value) -> &str {
    meta::text(condition, &["type"])
}

pub(super) fn conditions<'a>(object: &'a Value, wanted: &str) -> Vec<&'a Value> {
    all(object).iter().filter(|c| kind(c) == wanted).collect()
}

const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Of a status update: decisions that were taken stay as they are.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    strategy::keep_spec(new, old);
    for decision in DECISIONS {
        let was = conditions(old, decision);
        if conditions(new, decision).len() != was.len() {
            continue;
        }
        let listed = new
            .pointer_mut("/status/conditions")
            .and_then(Value::as_array_mut);
        let mut was = was.into_iter();
        for condition in listed.into_iter().flatten() {
            if kind(condition) == decision
                && let Some(old) = was.next()
            {
                *condition = old.clone();
            }
        }
    }
}

/// Of an approval: only conditions come from the client.
pub(super) fn prepare_approval(new: &mut Value, old: &Value) {
    let wanted = meta::at(new, &["status", "conditions"]).cloned();
    strategy::keep_spec(new, old);
    meta::keep(new, old, "status");
    let status = meta::ensure(new, "status");
    match wanted {
        Some(list) => {
            status.insert("conditions".to_owned(), list);
        }
        None => {
            status.shift_remove("conditions");
        }
    }
}

/// Gives conditions the times that they lack: `now`, or of a condition that
/// stood there already its own.
pub fn stamp_conditions(new: &mut Value, old: &Value, now: Timestamp) {
    let now = crate::time::rfc3339(now);
    let listed = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut);
    for condition in listed.into_iter().flatten() {
        let same = all(old)
            .iter()
            .find(|o| kind(o) == kind(condition) && o["status"] == condition["status"])
            .and_then(|o| o.get("lastTransitionTime"))
            .cloned();
        if let Some(map) = condition.as_object_mut() {
            meta::default(map, "lastUpdateTime", now.as_str());
            let since = same.unwrap_or_else(|| now.as_str().into());
            meta::default(map, "lastTransitionTime", since);
        }
    }
}

pub(super) fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in all(object).iter().enumerate() {
        let at = path.index(i);
        let of = kind(condition);
        if of.is_empty() {
            errors.required(&at.child("type"), "");
        }
        let allowed: &[&str] = match of {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        match meta::text(condition, &["status"]) {
            "" => errors.required(&at.child("status"), ""),
            status if !allowed.contains(&status) => {
                errors.not_supported(&at.child("status"), status, allowed);
            }
            _ => {}
        }
        let opposite = match of {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !opposite.is_empty() && seen.contains(&opposite) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&at.child("type"), of, why);
        }
        if seen.contains(&of) {
            errors.duplicate(&at.child("type"), of);
        }
        seen.push(of);
    }
    let certificate = meta::text(object, &["status", "certificate"]);
    if let Err(why) = request::check_certificates(certificate) {
        let at = Path::new("status").child("certificate");
        errors.invalid(&at, "<certificate data>", why);
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, by: Endpoint, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    for of in ["Approved", "Denied", "Failed"] {
        if conditions(new, of).len() < conditions(old, of).len() {
            let why = format!("updates may not remove a condition of type {of:?}");
            errors.forbidden(&path, why);
        }
    }
    for of in DECISIONS {
        let (is, was) = (conditions(new, of), conditions(old, of));
        if by != Endpoint::Approval && is.len() > was.len() {
            let why = format!("updates may not add a condition of type {of:?}");
            errors.forbidden(&path, why);
        } else if by != Endpoint::Approval && is.len() == was.len() && is != was {
            let why = format!("updates may not modify a condition of type {of:?}");
            errors.forbidden(&path, why);
        }
    }
    let certificate = |object| meta::text(object, &["status", "certificate"]);
    let (is, was) = (certificate(new), certificate(old));
    let at = Path::new("status").child("certificate");
    if is == was {
        return;
    }
    if by != Endpoint::Status {
        errors.forbidden(&at, "updates may not set certificate content");
    } else if !was.is_empty() {
        errors.forbidden(&at, "updates may not modify existing certificate content");
    }
}

//! Pod Security: the levels that a namespace's labels name, in the versions
//! that they name, checked for each pod in it (KEP-2579).
//!
//! `levels` reads the labels, `checks` has the checks of each version. Labels
//! that can't be read are refused where they are written; those that stand
//! enforce the strictest level, and the audit log says so. Not done: warnings
//! about workloads that would make bad pods, and about pods that stand where a
//! namespace's level is raised.

mod checks;
mod levels;

use super::{Attributes, Operation};
use crate::audit;
use crate::lookup;
use api::status::Status;
use checks::violations;
use levels::{Asked, Modes, PREFIX};
use serde_json::Value;
use store::Store;

fn note(a: &Attributes<'_>, key: &str, value: &str) {
    let key = format!("{PREFIX}{key}");
    a.trail.annotate(audit::Level::Metadata, &key, value);
}

/// Refuses labels that name no level and no version, unless they stood before.
pub(super) fn check_namespace(
    a: &Attributes<'_>,
    namespace: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if matches!(a.operation, Operation::Delete | Operation::Connect) {
        return Ok(());
    }
    let (_, errors) = Modes::of(namespace);
    let before = old.map(|old| Modes::of(old).1).unwrap_or_default();
    if errors.0.is_empty() || errors.0 == before.0 {
        return Ok(());
    }
    Err(Status::invalid(a.kind.qualified_kind(), a.name, &errors))
}

/// Refuses a pod that its namespace doesn't allow; what it is to be warned of.
pub(super) fn check(
    store: &Store,
    a: &Attributes<'_>,
    pod: &Value,
    old: Option<&Value>,
) -> Result<Vec<String>, Status> {
    let relevant = match a.operation {
        Operation::Create => true,
        Operation::Update => old.is_none_or(|old| old["spec"] != pod["spec"]),
        Operation::Delete | Operation::Connect => false,
    };
    if !relevant {
        return Ok(Vec::new());
    }
    let Ok(namespace) = lookup::object(store, ("", "namespaces"), "", a.namespace) else {
        return Ok(Vec::new());
    };
    let (modes, errors) = Modes::of(&namespace);
    if errors.0.is_empty() && modes.are_privileged() {
        note(a, "enforce-policy", "privileged:latest");
        return Ok(Vec::new());
    }
    note(a, "enforce-policy", &modes.enforce.to_string());
    if !errors.0.is_empty() {
        let why = errors.aggregate();
        note(a, "error", &format!("Failed to parse policy: {why}"));
    }
    let says = |asked: Asked, faults: &[String]| {
        let faults = faults.join(", ");
        format!("PodSecurity \"{asked}\": {faults}")
    };
    let faults = violations(pod, modes.audit);
    if !faults.is_empty() {
        let why = says(modes.audit, &faults);
        note(a, "audit-violations", &format!("would violate {why}"));
    }
    let faults = violations(pod, modes.enforce);
    if !faults.is_empty() {
        return Err(a.forbid(&format!("violates {}", says(modes.enforce, &faults))));
    }
    let faults = violations(pod, modes.warn);
    Ok(match faults.is_empty() {
        true => Vec::new(),
        false => vec![format!("would violate {}", says(modes.warn, &faults))],
    })
}

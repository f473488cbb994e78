//! flowcontrol.apiserver.k8s.io: FlowSchema and PriorityLevelConfiguration.

mod bootstrap;
mod flow_schema;
mod priority_level;

pub(super) use bootstrap::{flow_schemas, priority_levels};
pub(super) use flow_schema::KIND as FLOW_SCHEMA;
pub(super) use priority_level::KIND as PRIORITY_LEVEL;

use crate::field::{Errors, Path};
use crate::meta;
use serde_json::Value;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// The conditions of either kind: each type once.
fn validate_conditions(object: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in meta::list(object, &["status", "conditions"])
        .iter()
        .enumerate()
    {
        let at = path.index(i).child("type");
        let kind = meta::text(condition, &["type"]);
        if seen.contains(&kind) {
            errors.duplicate(&at, kind);
        }
        seen.push(kind);
        if kind.is_empty() {
            errors.required(&at, "must not be empty");
        }
    }
}

/// Some objects have to be as they are.
fn validate_mandatory(object: &Value, fixed: &[Value], errors: &mut Errors) {
    let name = meta::name(object);
    let same = fixed.iter().find(|f| meta::name(f) == name);
    if same.is_some_and(|f| f["spec"] != object["spec"]) {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.invalid(&Path::new("spec"), object["spec"].clone(), why);
    }
}

#[cfg(test)]
mod tests;

//! PriorityClass (scheduling.k8s.io), and the two that every cluster has.

use super::{Kind, strategy};
use crate::field::{Errors, Path};
use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, int, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    type_name: "io.k8s.api.scheduling.v1.PriorityClass",
    storage: "scheduling.k8s.io/priorityclasses",
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_update,
    prepare_create: strategy::first_generation,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    int("Value", 0, "The priority of its pods."),
    Column {
        kind: "boolean",
        ..text("Global-Default", 0, "Whether pods without a class get it.")
    },
    AGE,
    text("PreemptionPolicy", 0, "Whether its pods push out others."),
];

const SYSTEM_PREFIX: &str = "system-";
const USER_MAX: i64 = 1_000_000_000;

/// Name, value, description of those that are made at start.
const SYSTEM_PRIORITY_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The objects that are there from the start.
pub(super) fn system_classes() -> Vec<Value> {
    SYSTEM_PRIORITY_CLASSES
        .iter()
        .map(|(name, value, description)| {
            json!({
                "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
                "metadata": {"name": name}, "value": value, "description": description,
            })
        })
        .collect()
}

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::int(object, &["value"]).unwrap_or(0).into(),
        meta::flag(object, &["globalDefault"]).into(),
        age(object, now),
        meta::text(object, &["preemptionPolicy"]).into(),
    ]
}

fn default(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        meta::default(map, "preemptionPolicy", "PreemptLowerPriority");
        meta::default(map, "value", 0);
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["PreemptLowerPriority", "Never"];
    let name = meta::name(object);
    let value = meta::int(object, &["value"]).unwrap_or(0);
    if name.starts_with(SYSTEM_PREFIX) {
        let known = SYSTEM_PRIORITY_CLASSES.iter().find(|(n, ..)| *n == name);
        let why = match known {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, wanted, _)) if *wanted != value => {
                Some(format!("value of {name} PriorityClass must be {wanted}"))
            }
            Some(_) if meta::flag(object, &["globalDefault"]) => Some(format!(
                "globalDefault of {name} PriorityClass must be false"
            )),
            Some(_) => None,
        };
        if let Some(why) = why {
            errors.forbidden(
                &Path::new("metadata").child("name"),
                format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                ),
            );
        }
    } else if value > USER_MAX {
        errors.forbidden(
            &Path::new("value"),
            format!("maximum allowed value of a user defined priority is {USER_MAX}"),
        );
    }
    let path = Path::new("preemptionPolicy");
    match meta::text(object, &["preemptionPolicy"]) {
        "" => errors.required(&path, ""),
        policy if !POLICIES.contains(&policy) => errors.not_supported(&path, policy, POLICIES),
        _ => {}
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.get("value") != old.get("value") {
        errors.forbidden(&Path::new("value"), "may not be changed in an update.");
    }
    errors.immutable(new, old, "preemptionPolicy", &Path::default());
}

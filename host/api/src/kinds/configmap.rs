//! ConfigMap.

use super::Kind;
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

/// Most bytes of a ConfigMap's or Secret's data together.
pub(super) const DATA_MAX: usize = 1024 * 1024;

pub(super) static KIND: Kind = Kind {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    type_name: "io.k8s.api.core.v1.ConfigMap",
    storage: "core/configmaps",
    columns: COLUMNS,
    cells,
    validate,
    validate_update,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Data", 0, "How many entries the object holds."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let count =
        meta::members(object, &["data"]).count() + meta::members(object, &["binaryData"]).count();
    vec![meta::name(object).into(), count.into(), age(object, now)]
}

fn validate(object: &Value, errors: &mut Errors) {
    let mut total = 0;
    for part in ["data", "binaryData"] {
        let path = Path::new(part);
        for (key, value) in meta::members(object, &[part]) {
            errors.invalid_each(&path.key(key), key, names::config_key(key));
            if part == "data" && object["binaryData"].get(key).is_some() {
                errors.invalid(
                    &path.key(key),
                    key.as_str(),
                    "duplicate of key present in binaryData",
                );
            }
            total += value.as_str().map_or(0, str::len);
        }
    }
    if total > DATA_MAX {
        errors.too_long(&Path::default(), DATA_MAX);
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    immutable_data(new, old, &["data", "binaryData"], errors);
}

/// Shared with Secret: `immutable` can be set, not unset, and freezes `parts`.
pub(super) fn immutable_data(new: &Value, old: &Value, parts: &[&str], errors: &mut Errors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !meta::flag(old, &["immutable"]) {
        return;
    }
    if !meta::flag(new, &["immutable"]) {
        errors.forbidden(&Path::new("immutable"), WHY);
    }
    for part in parts {
        if new.get(*part) != old.get(*part) {
            errors.forbidden(&Path::new(part), WHY);
        }
    }
}

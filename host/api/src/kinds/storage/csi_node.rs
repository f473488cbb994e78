//! CSINode: the drivers of a node.

use crate::field::{Errors, Path};
use crate::kinds::Kind;
use crate::print::{AGE, Cells, Column, NAME, age, int};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    namespaced: false,
    type_name: "io.k8s.api.storage.v1.CSINode",
    storage: "storage.k8s.io/csinodes",
    columns: COLUMNS,
    cells,
    default: |object| {
        // Upstream serves the list even if it is empty.
        let spec = meta::ensure(object, "spec");
        meta::default(spec, "drivers", json!([]));
    },
    validate,
    validate_update,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[NAME, int("Drivers", 0, "How many drivers it has."), AGE];

const NODE_ID_MAX: usize = 192;

fn drivers(object: &Value) -> &[Value] {
    meta::list(object, &["spec", "drivers"])
}

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        drivers(object).len().into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("drivers");
    for (i, driver) in drivers(object).iter().enumerate() {
        let at = path.index(i);
        let name = meta::text(driver, &["name"]);
        super::validate_driver_name(name, &at.child("name"), errors);
        let id = meta::text(driver, &["nodeID"]);
        if id.is_empty() {
            errors.required(&at.child("nodeID"), "");
        }
        if id.len() > NODE_ID_MAX {
            let why = format!("must be {NODE_ID_MAX} characters or less");
            errors.invalid(&at.child("nodeID"), id, why);
        }
        errors.nonnegative(&driver["allocatable"], "count", &at.child("allocatable"));
        let taken = |d: &Value| meta::text(d, &["name"]) == name;
        if drivers(object)[..i].iter().any(taken) {
            errors.duplicate(&at.child("name"), name);
        }
        validate_keys(driver, &at, errors);
    }
}

fn validate_keys(driver: &Value, path: &Path, errors: &mut Errors) {
    let keys = meta::list(driver, &["topologyKeys"]);
    for (i, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            errors.required(path, "");
        }
        if keys[..i].contains(key) {
            errors.duplicate(path, text);
        }
        for why in names::qualified_name(text) {
            errors.invalid(path, keys, why);
        }
    }
}

/// A driver may come and go, but not change; what it has left may.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        if let Some(map) = driver.as_object_mut() {
            map.shift_remove("allocatable");
        }
        driver
    };
    for was in drivers(old) {
        for is in drivers(new).iter().filter(|d| d["name"] == was["name"]) {
            if fixed(is) != fixed(was) {
                let path = Path::new("CSINodeDriver");
                errors.invalid(&path, is.clone(), "field is immutable");
            }
        }
    }
}

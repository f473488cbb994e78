//! StorageClass: how volumes are made. VolumeAttributesClass: what may be
//! changed of them later.

use crate::field::{Errors, Path};
use crate::kinds::Kind;
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(in crate::kinds) static STORAGE_CLASS: Kind = Kind {
    group: super::GROUP,
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    type_name: "io.k8s.api.storage.v1.StorageClass",
    storage: "storage.k8s.io/storageclasses",
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_update: |new, old, errors| {
        for key in ["parameters", "provisioner", "reclaimPolicy"] {
            super::forbid_update(new, old, key, errors);
        }
        errors.immutable(new, old, "volumeBindingMode", &Path::default());
    },
    ..Kind::BASE
};

pub(in crate::kinds) static VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    group: super::GROUP,
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    namespaced: false,
    type_name: "io.k8s.api.storage.v1.VolumeAttributesClass",
    storage: "storage.k8s.io/volumeattributesclasses",
    columns: &[
        NAME,
        text("DriverName", 0, "The driver that knows it."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            meta::name(object).into(),
            meta::text(object, &["driverName"]).into(),
            age(object, now),
        ]
    },
    validate: |object, errors| {
        let driver = meta::text(object, &["driverName"]);
        super::validate_driver_name(driver, &Path::new("driverName"), errors);
        super::validate_parameters(object, true, errors);
    },
    validate_update: |new, old, errors| {
        super::forbid_update(new, old, "driverName", errors);
        super::forbid_update(new, old, "parameters", errors);
    },
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Provisioner", 0, "Who makes its volumes."),
    text("ReclaimPolicy", 0, "What becomes of them."),
    text("VolumeBindingMode", 0, "When they are made."),
    text("AllowVolumeExpansion", 0, "Whether they may grow."),
    AGE,
];

const DEFAULT_ANNOTATIONS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let is_default = DEFAULT_ANNOTATIONS
        .iter()
        .any(|a| meta::text(object, &["metadata", "annotations", a]) == "true");
    let name = meta::name(object);
    let or = |path: &[&str], default: &str| match meta::at(object, path) {
        Some(Value::String(text)) => Value::from(text.as_str()),
        _ => default.into(),
    };
    vec![
        match is_default {
            true => format!("{name} (default)").into(),
            false => name.into(),
        },
        meta::text(object, &["provisioner"]).into(),
        or(&["reclaimPolicy"], "Delete"),
        or(&["volumeBindingMode"], "Immediate"),
        meta::flag(object, &["allowVolumeExpansion"]).into(),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        meta::default(map, "reclaimPolicy", "Delete");
        meta::default(map, "volumeBindingMode", "Immediate");
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Delete", "Retain"];
    const MODES: &[&str] = &["Immediate", "WaitForFirstConsumer"];
    let path = Path::new("provisioner");
    match meta::text(object, &["provisioner"]) {
        "" => errors.required(&path, ""),
        name => errors.invalid_each(&path, name, names::qualified_name(&name.to_lowercase())),
    }
    super::validate_parameters(object, false, errors);
    let policy = meta::text(object, &["reclaimPolicy"]);
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.not_supported(&Path::new("reclaimPolicy"), policy, POLICIES);
    }
    let mode = meta::text(object, &["volumeBindingMode"]);
    if !MODES.contains(&mode) {
        errors.not_supported(&Path::new("volumeBindingMode"), mode, MODES);
    }
    validate_topologies(object, errors);
}

type Topology<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn validate_topologies(object: &Value, errors: &mut Errors) {
    let mut seen: Vec<Topology<'_>> = Vec::new();
    for (i, term) in meta::list(object, &["allowedTopologies"])
        .iter()
        .enumerate()
    {
        let at = Path::new("allowedTopologies")
            .index(i)
            .child("matchLabelExpressions");
        let topology = validate_topology(term, &at, errors);
        if seen.contains(&topology) {
            errors.duplicate(&at, "");
        }
        seen.push(topology);
    }
}

fn validate_topology<'a>(term: &'a Value, path: &Path, errors: &mut Errors) -> Topology<'a> {
    let mut topology = Topology::new();
    for (i, of) in meta::list(term, &["matchLabelExpressions"])
        .iter()
        .enumerate()
    {
        let at = path.index(i);
        let mut values = BTreeSet::new();
        let listed = meta::list(of, &["values"]);
        if listed.is_empty() {
            errors.required(&at.child("values"), "");
        }
        for (i, value) in listed.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            if !values.insert(value) {
                errors.duplicate(&at.child("values").index(i), value);
            }
        }
        let key = meta::text(of, &["key"]);
        errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
        if topology.insert(key, values).is_some() {
            errors.duplicate(&at.child("key"), key);
        }
    }
    topology
}

//! PersistentVolumeClaim.

use super::{Kind, Subresource, workload};
use crate::field::{Errors, Path};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, or_unset, text};
use crate::{label_selector, names, resources};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    type_name: "io.k8s.api.core.v1.PersistentVolumeClaim",
    storage: "core/persistentvolumeclaims",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_claim,
    validate,
    validate_update,
    prepare_create: |object| object["status"] = json!({"phase": "Pending"}),
    prepare_update: |new, old| meta::keep(new, old, "status"),
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Status", 0, "Whether it has a volume."),
    text("Volume", 0, "The volume that it has."),
    text("Capacity", 0, "The volume's size."),
    text("Access Modes", 0, "How the volume can be mounted."),
    text("StorageClass", 0, "The claim's storage class."),
    text("VolumeAttributesClass", 0, "The claim's attributes class."),
    AGE,
    text("VolumeMode", 1, "A file system, or a device."),
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let bound = !meta::text(object, &["spec", "volumeName"]).is_empty();
    let phase = match meta::is_deleting(object) {
        true => "Terminating",
        false => meta::text(object, &["status", "phase"]),
    };
    let (capacity, modes) = match bound {
        true => (
            size(meta::at(object, &["status", "capacity", "storage"])),
            access_modes(meta::list(object, &["status", "accessModes"])),
        ),
        false => ("".into(), String::new()),
    };
    vec![
        meta::name(object).into(),
        phase.into(),
        meta::text(object, &["spec", "volumeName"]).into(),
        capacity,
        modes.into(),
        class(object).into(),
        or_unset(object, &["spec", "volumeAttributesClassName"]),
        age(object, now),
        or_unset(object, &["spec", "volumeMode"]),
    ]
}

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn class(object: &Value) -> &str {
    match meta::at(object, &["metadata", "annotations", CLASS]) {
        Some(beta) => beta.as_str().unwrap_or_default(),
        None => meta::text(object, &["spec", "storageClassName"]),
    }
}

/// An amount of storage; an absent one is Go's zero quantity.
pub(super) fn size(amount: Option<&Value>) -> Value {
    amount.and_then(Value::as_str).unwrap_or("0").into()
}

/// `RWO,ROX`: each mode once, in upstream's order.
pub(super) fn access_modes(modes: &[Value]) -> String {
    let shown: Vec<&str> = MODES
        .iter()
        .filter(|(mode, _)| modes.iter().any(|m| m == mode))
        .map(|(_, short)| *short)
        .collect();
    shown.join(",")
}

pub(super) const MODES: &[(&str, &str)] = &[
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

pub(super) fn default_claim(object: &mut Value) {
    default(workload::spec_of(object), "volumeMode", "Filesystem");
    default_text(meta::ensure(object, "status"), "phase", "Pending");
    // Either form of the data source stands for the other.
    let spec = workload::spec_of(object);
    let (short, long) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    match (short.cloned(), long.cloned()) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(source)) if source.get("namespace").is_none() => {
            spec.insert("dataSource".to_owned(), source);
        }
        _ => {}
    }
}

/// Shared with PersistentVolume.
pub(super) fn validate_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("accessModes");
    let modes = meta::list(spec, &["accessModes"]);
    if modes.is_empty() {
        errors.required(&at, "at least 1 access mode is required");
    }
    let mut known: Vec<&str> = MODES.iter().map(|(mode, _)| *mode).collect();
    known.sort_unstable();
    for mode in modes {
        let mode = mode.as_str().unwrap_or_default();
        if !known.contains(&mode) {
            errors.not_supported(&at, mode, &known);
        }
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.forbidden(&at, why);
    }
}

pub(super) fn validate_volume_mode(spec: &Value, path: &Path, errors: &mut Errors) {
    if let Some(mode) = spec.get("volumeMode").and_then(Value::as_str)
        && !matches!(mode, "Block" | "Filesystem")
    {
        let at = path.child("volumeMode");
        errors.not_supported(&at, mode, &["Block", "Filesystem"]);
    }
}

pub(super) fn validate_classes(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["storageClassName", "volumeAttributesClassName"] {
        let name = meta::text(spec, &[key]);
        if !name.is_empty() {
            errors.invalid_each(&path.child(key), name, names::dns_subdomain(name));
        }
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    validate_claim_spec(&object["spec"], &Path::new("spec"), errors);
}

/// Also of a pod's ephemeral volume.
pub(super) fn validate_claim_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    validate_modes(spec, path, errors);
    if let Some(selector) = spec.get("selector") {
        label_selector::validate(selector, &path.child("selector"), errors);
    }
    let at = path.child("resources").key("storage");
    match meta::at(spec, &["resources", "requests", "storage"]) {
        None => errors.required(&at, ""),
        Some(size) => {
            resources::validate_quantity("storage", size, &at, errors);
            if resources::parse(size).is_some_and(|q| q.milli() <= 0) {
                errors.invalid(&at, size.clone(), "must be greater than zero");
            }
        }
    }
    validate_classes(spec, path, errors);
    validate_volume_mode(spec, path, errors);
    for key in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.get(key) else {
            continue;
        };
        let at = path.child(key);
        for part in ["name", "kind"] {
            if meta::text(source, &[part]).is_empty() {
                errors.required(&at.child(part), "");
            }
        }
        let group = meta::text(source, &["apiGroup"]);
        if group.is_empty() && meta::text(source, &["kind"]) != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&at, meta::text(source, &["kind"]), why);
        }
    }
}

const WHAT_MAY_CHANGE: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let bound = meta::text(old, &["status", "phase"]) == "Bound";
    let unnamed = meta::text(old, &["spec", "volumeName"]).is_empty();
    let frozen = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            if unnamed {
                map.shift_remove("volumeName");
            }
            if bound {
                map.shift_remove("volumeAttributesClassName");
                if let Some(r) = map.get_mut("resources").and_then(Value::as_object_mut) {
                    r.shift_remove("requests");
                }
            }
        }
        spec
    };
    let path = Path::new("spec");
    if frozen(new) != frozen(old) {
        errors.forbidden(&path, WHAT_MAY_CHANGE);
    }
    let size = |object: &Value, at: &[&str]| meta::at(object, at).and_then(resources::parse);
    let requests = ["spec", "resources", "requests", "storage"];
    let (is, was) = (size(new, &requests), size(old, &requests));
    let have = size(old, &["status", "capacity", "storage"]);
    if let (Some(is), Some(was)) = (is, was)
        && is < was
        && have.is_none_or(|have| is <= have)
    {
        let at = path.child("resources").child("requests").child("storage");
        errors.forbidden(&at, "field can not be less than status.capacity");
    }
}

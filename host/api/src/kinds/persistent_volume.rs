//! PersistentVolume.

use super::persistent_volume_claim::{
    access_modes, class, size, validate_classes, validate_modes, validate_volume_mode,
};
use super::{Kind, Subresource, workload};
use crate::field::{Errors, Path};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, or_unset, text};
use crate::{facts, resources};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    type_name: "io.k8s.api.core.v1.PersistentVolume",
    storage: "core/persistentvolumes",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_volume,
    validate,
    validate_update,
    prepare_create: |object| object["status"] = json!({"phase": "Pending"}),
    prepare_update: |new, old| meta::keep(new, old, "status"),
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Capacity", 0, "Its size."),
    text("Access Modes", 0, "How it can be mounted."),
    text("Reclaim Policy", 0, "What becomes of it after its claim."),
    text("Status", 0, "Where it is in its life."),
    text("Claim", 0, "Whose it is."),
    text("StorageClass", 0, "Its storage class."),
    text("VolumeAttributesClass", 0, "Its attributes class."),
    text("Reason", 0, "Why it is in this phase."),
    AGE,
    text("VolumeMode", 1, "A file system, or a device."),
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let phase = match meta::is_deleting(object) {
        true => "Terminating",
        false => meta::text(object, &["status", "phase"]),
    };
    let claim = match meta::at(object, &["spec", "claimRef"]) {
        None => String::new(),
        Some(of) => format!(
            "{}/{}",
            meta::text(of, &["namespace"]),
            meta::text(of, &["name"])
        ),
    };
    vec![
        meta::name(object).into(),
        size(meta::at(object, &["spec", "capacity", "storage"])),
        access_modes(meta::list(object, &["spec", "accessModes"])).into(),
        meta::text(object, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase.into(),
        claim.into(),
        class(object).into(),
        or_unset(object, &["spec", "volumeAttributesClassName"]),
        meta::text(object, &["status", "reason"]).into(),
        age(object, now),
        or_unset(object, &["spec", "volumeMode"]),
    ]
}

fn default_volume(object: &mut Value) {
    let spec = workload::spec_of(object);
    default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    default(spec, "volumeMode", "Filesystem");
    if let Some(path) = spec.get_mut("hostPath").and_then(Value::as_object_mut) {
        default(path, "type", "");
    }
    default_text(meta::ensure(object, "status"), "phase", "Pending");
}

/// The members of the spec that aren't a kind of volume.
const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &Value) -> Vec<&'static str> {
    facts::of("io.k8s.api.core.v1.PersistentVolumeSpec")
        .map(|t| t.fields.iter().map(|f| f.name))
        .into_iter()
        .flatten()
        .filter(|n| !NOT_SOURCES.contains(n) && spec.get(*n).is_some())
        .collect()
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    validate_modes(spec, &path, errors);
    validate_capacity(spec, &path.child("capacity"), errors);
    let policies = &["Delete", "Recycle", "Retain"];
    let policy = meta::text(spec, &["persistentVolumeReclaimPolicy"]);
    if !policies.contains(&policy) {
        let at = path.child("persistentVolumeReclaimPolicy");
        errors.not_supported(&at, policy, policies);
    }
    match sources(spec).as_slice() {
        [] => errors.required(&path, "must specify a volume type"),
        [_] => {}
        [_, more @ ..] => {
            for source in more {
                let why = "may not specify more than 1 volume type";
                errors.forbidden(&path.child(source), why);
            }
        }
    }
    validate_sources(spec, &path, errors);
    if meta::text(spec, &["hostPath", "path"]) == "/" && policy == "Recycle" {
        let at = path.child("persistentVolumeReclaimPolicy");
        errors.forbidden(&at, "may not be 'recycle' for a hostPath mount of '/'");
    }
    validate_classes(spec, &path, errors);
    validate_volume_mode(spec, &path, errors);
}

fn validate_capacity(spec: &Value, at: &Path, errors: &mut Errors) {
    let capacity: Vec<_> = meta::members(spec, &["capacity"]).collect();
    if capacity.is_empty() {
        errors.required(at, "");
    } else if capacity.len() > 1 || capacity[0].0 != "storage" {
        let shown: Vec<&str> = capacity.iter().map(|(k, _)| k.as_str()).collect();
        errors.not_supported(at, &shown.join(","), &["storage"]);
    }
    for (name, size) in capacity {
        let at = at.key(name);
        resources::validate_quantity(name, size, &at, errors);
        if resources::parse(size).is_some_and(|q| q.milli() <= 0) {
            errors.invalid(&at, size.clone(), "must be greater than zero");
        }
    }
}

fn validate_sources(spec: &Value, path: &Path, errors: &mut Errors) {
    for (source, keys) in [
        ("hostPath", &["path"][..]),
        ("local", &["path"]),
        ("nfs", &["server", "path"]),
        ("csi", &["driver", "volumeHandle"]),
        ("iscsi", &["targetPortal", "iqn"]),
        ("rbd", &["image"]),
    ] {
        let Some(value) = spec.get(source) else {
            continue;
        };
        for key in keys {
            if meta::text(value, &[key]).is_empty() {
                errors.required(&path.child(source).child(key), "");
            }
        }
    }
    if spec.get("local").is_some() && spec.get("nodeAffinity").is_none() {
        let why = "Local volume requires node affinity";
        errors.required(&path.child("nodeAffinity"), why);
    }
    if let Some(affinity) = spec.get("nodeAffinity")
        && affinity.get("required").is_none()
    {
        let at = path.child("nodeAffinity").child("required");
        errors.required(&at, "must specify required node constraints");
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (is, was) = (&new["spec"], &old["spec"]);
    let of = |spec: &Value| -> Vec<(&'static str, Value)> {
        sources(spec)
            .into_iter()
            .map(|s| (s, spec[s].clone()))
            .collect()
    };
    let path = Path::new("spec");
    if of(is) != of(was) {
        errors.forbidden(
            &path.child("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    errors.immutable(is, was, "volumeMode", &path);
    if was.get("nodeAffinity").is_some() {
        errors.immutable(is, was, "nodeAffinity", &path);
    }
}

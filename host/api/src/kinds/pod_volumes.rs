//! A pod's volumes: each has a name of its own and exactly one source; and where
//! containers mount them.

use super::pod_placement::one_of;
use super::pod_validate::PULL;
use crate::field::{Errors, Path};
use crate::{facts, meta, names};
use serde_json::Value;

/// The names of the volumes that mounts may refer to.
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for (i, volume) in meta::list(spec, &["volumes"]).iter().enumerate() {
        let at = path.child("volumes").index(i);
        match meta::text(volume, &["name"]) {
            "" => errors.required(&at.child("name"), ""),
            name => {
                errors.invalid_each(&at.child("name"), name, names::dns_label(name));
                if known.iter().any(|k| k == name) {
                    errors.duplicate(&at.child("name"), name);
                }
                known.push(name.to_owned());
            }
        }
        validate_source(volume, &at, errors);
    }
    known
}

/// A pod says which image a volume is; a template may leave it to who makes pods.
pub(super) fn validate_references(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, volume) in meta::list(spec, &["volumes"]).iter().enumerate() {
        let Some(image) = volume.get("image") else {
            continue;
        };
        if meta::text(image, &["reference"]).is_empty() {
            let at = path.child("volumes").index(i).child("image");
            errors.required(&at.child("reference"), "");
        }
    }
}

fn validate_source(volume: &Value, at: &Path, errors: &mut Errors) {
    let Some(facts) = facts::of("io.k8s.api.core.v1.Volume") else {
        return;
    };
    let mut sources = facts
        .fields
        .iter()
        .map(|f| f.name)
        .filter(|n| *n != "name" && volume.get(*n).is_some());
    match sources.next() {
        None => errors.required(at, "must specify a volume type"),
        Some(_) => {
            for extra in sources {
                let why = "may not specify more than 1 volume type";
                errors.forbidden(&at.child(extra), why);
            }
        }
    }
    for (source, key) in [
        ("secret", "secretName"),
        ("configMap", "name"),
        ("persistentVolumeClaim", "claimName"),
        ("hostPath", "path"),
    ] {
        let path = at.child(source);
        let Some(value) = volume.get(source) else {
            continue;
        };
        if meta::text(value, &[key]).is_empty() {
            errors.required(&path.child(key), "");
        }
        validate_items(value, &path, errors);
    }
    if let Some(down) = volume.get("downwardAPI") {
        validate_items(down, &at.child("downwardAPI"), errors);
    }
    if let Some(image) = volume.get("image") {
        one_of(image, "pullPolicy", PULL, &at.child("image"), errors);
    }
    for (i, source) in meta::list(volume, &["projected", "sources"])
        .iter()
        .enumerate()
    {
        let path = at.child("projected").child("sources").index(i);
        for part in ["secret", "configMap", "downwardAPI"] {
            if let Some(value) = source.get(part) {
                validate_items(value, &path.child(part), errors);
            }
        }
    }
}

fn validate_items(source: &Value, at: &Path, errors: &mut Errors) {
    let mode = |value: &Value, key: &str, path: &Path, errors: &mut Errors| {
        if let Some(n) = meta::int(value, &[key]).filter(|n| !(0..=0o777).contains(n)) {
            let why = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.invalid(&path.child(key), n, why);
        }
    };
    mode(source, "defaultMode", at, errors);
    for (i, item) in meta::list(source, &["items"]).iter().enumerate() {
        let path = at.child("items").index(i);
        mode(item, "mode", &path, errors);
        if meta::text(item, &["path"]).is_empty() {
            errors.required(&path.child("path"), "");
        }
        inside(item, "path", &path, errors);
    }
}

/// The path at `key` stays below where it starts.
pub(super) fn inside(value: &Value, key: &str, at: &Path, errors: &mut Errors) {
    let path = meta::text(value, &[key]);
    if path.starts_with('/') {
        errors.invalid(&at.child(key), path, "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        errors.invalid(&at.child(key), path, "must not contain '..'");
    }
}

pub(super) fn validate_mounts(c: &Value, path: &Path, volumes: &[String], errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, mount) in meta::list(c, &["volumeMounts"]).iter().enumerate() {
        let at = path.index(i);
        match meta::text(mount, &["name"]) {
            "" => errors.required(&at.child("name"), ""),
            name if volumes.iter().any(|v| v == name) => {}
            name => errors.not_found(&at.child("name"), name),
        }
        let target = meta::text(mount, &["mountPath"]);
        if target.is_empty() {
            errors.required(&at.child("mountPath"), "");
        } else if seen.contains(&target) {
            errors.invalid(&at.child("mountPath"), target, "must be unique");
        }
        seen.push(target);
        inside(mount, "subPath", &at, errors);
        validate_propagation(c, mount, &at, errors);
    }
}

fn validate_propagation(c: &Value, mount: &Value, at: &Path, errors: &mut Errors) {
    const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    one_of(mount, "mountPropagation", PROPAGATIONS, at, errors);
    let propagation = meta::text(mount, &["mountPropagation"]);
    let path = at.child("mountPropagation");
    if propagation == "Bidirectional" && !meta::flag(c, &["securityContext", "privileged"]) {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(&path, why);
    }
    const RECURSIVE: &[&str] = &["Disabled", "Enabled", "IfPossible"];
    one_of(mount, "recursiveReadOnly", RECURSIVE, at, errors);
    let path = at.child("recursiveReadOnly");
    if ["Enabled", "IfPossible"].contains(&meta::text(mount, &["recursiveReadOnly"])) {
        if !meta::flag(mount, &["readOnly"]) {
            errors.forbidden(&path, "may only be specified when readOnly is true");
        }
        if !["", "None"].contains(&propagation) {
            let why = "may only be specified when mountPropagation is None or not specified";
            errors.forbidden(&path, why);
        }
    }
}

//! CSIDriver: what a driver can do and wants to know.

use crate::field::{Errors, Path};
use crate::kinds::{Kind, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, flag, or_none, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    namespaced: false,
    type_name: "io.k8s.api.storage.v1.CSIDriver",
    storage: "storage.k8s.io/csidrivers",
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_update,
    prepare_update: |new, old| {
        let changed = MUTABLE
            .iter()
            .any(|key| new["spec"].get(*key) != old["spec"].get(*key));
        strategy::next_generation(new, old, changed);
    },
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    flag("AttachRequired", "Whether volumes are attached first."),
    flag("PodInfoOnMount", "Whether it is told of the pod."),
    flag("StorageCapacity", "Whether it says what it has left."),
    text("TokenRequests", 0, "The audiences of tokens that it wants."),
    flag("RequiresRepublish", "Whether it is called again and again."),
    text("Modes", 0, "The lives that its volumes may have."),
    AGE,
];

/// What of its spec may change and counts a generation.
const MUTABLE: &[&str] = &[
    "fsGroupPolicy",
    "nodeAllocatableUpdatePeriodSeconds",
    "requiresRepublish",
    "seLinuxMount",
    "serviceAccountTokenInSecrets",
    "storageCapacity",
    "tokenRequests",
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let flag = |key| meta::flag(object, &["spec", key]).into();
    let attached = meta::at(object, &["spec", "attachRequired"]);
    let attached = attached.and_then(Value::as_bool).unwrap_or(true);
    let tokens = match meta::at(object, &["spec", "tokenRequests"]) {
        None => "<unset>".to_owned(),
        Some(_) => {
            let audiences: Vec<&str> = meta::list(object, &["spec", "tokenRequests"])
                .iter()
                .map(|t| meta::text(t, &["audience"]))
                .collect();
            audiences.join(",")
        }
    };
    let modes: Vec<&str> = meta::list(object, &["spec", "volumeLifecycleModes"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    vec![
        meta::name(object).into(),
        attached.into(),
        flag("podInfoOnMount"),
        flag("storageCapacity"),
        tokens.into(),
        flag("requiresRepublish"),
        or_none(&modes.join(",")),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    let spec = meta::ensure(object, "spec");
    meta::default(spec, "attachRequired", true);
    for key in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        meta::default(spec, key, false);
    }
    meta::default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    meta::default(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

fn validate(object: &Value, errors: &mut Errors) {
    const POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
    const MODES: &[&str] = &["Persistent", "Ephemeral"];
    let name = meta::name(object);
    if name.len() > names::LABEL_MAX {
        errors.too_long(&Path::new("metadata").child("name"), names::LABEL_MAX);
    }
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let policy = meta::text(spec, &["fsGroupPolicy"]);
    if !POLICIES.contains(&policy) {
        errors.not_supported(&path.child("fsGroupPolicy"), policy, POLICIES);
    }
    validate_tokens(spec, &path.child("tokenRequests"), errors);
    for mode in meta::list(spec, &["volumeLifecycleModes"]) {
        let mode = mode.as_str().unwrap_or_default();
        if !MODES.contains(&mode) {
            errors.not_supported(&path.child("volumeLifecycleModes"), mode, MODES);
        }
    }
    if let Some(seconds) = meta::int(spec, &["nodeAllocatableUpdatePeriodSeconds"])
        && seconds < 10
    {
        let why = "must be greater than or equal to 10 seconds";
        let at = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.invalid(&at, seconds, why);
    }
}

fn validate_tokens(spec: &Value, path: &Path, errors: &mut Errors) {
    const LEAST: i64 = 10 * 60;
    const MOST: i64 = 1 << 32;
    let mut seen: Vec<&str> = Vec::new();
    for (i, request) in meta::list(spec, &["tokenRequests"]).iter().enumerate() {
        let at = path.index(i);
        let audience = meta::text(request, &["audience"]);
        if seen.contains(&audience) {
            errors.duplicate(&at.child("audience"), audience);
            continue;
        }
        seen.push(audience);
        let at = at.child("expirationSeconds");
        match meta::int(request, &["expirationSeconds"]) {
            Some(n) if n < LEAST => {
                errors.invalid(&at, n, "may not specify a duration less than 10 minutes");
            }
            Some(n) if n > MOST => {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.invalid(&at, n, why);
            }
            _ => {}
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    for key in ["attachRequired", "volumeLifecycleModes"] {
        errors.immutable(&new["spec"], &old["spec"], key, &path);
    }
}

//! Secret. `stringData` is written, never stored.

use super::Kind;
use super::configmap::{DATA_MAX, immutable_data};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    type_name: "io.k8s.api.core.v1.Secret",
    storage: "core/secrets",
    selectable: &["type"],
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_update,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Type", 0, "What the data is for."),
    text("Data", 0, "How many entries the object holds."),
    AGE,
];

/// What must stand in `data` for a type.
const DEMANDS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::text(object, &["type"]).into(),
        meta::members(object, &["data"]).count().into(),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    meta::default_text(map, "type", "Opaque");
    if let Some(Value::Object(plain)) = map.shift_remove("stringData") {
        let data = meta::ensure(object, "data");
        for (key, value) in plain {
            let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let data = Path::new("data");
    let mut total = 0;
    for (key, value) in meta::members(object, &["data"]) {
        errors.invalid_each(&data.key(key), key, names::config_key(key));
        total += value.as_str().map_or(0, |v| v.len() / 4 * 3);
    }
    if total > DATA_MAX {
        errors.too_long(&data, DATA_MAX);
    }
    let kind = meta::text(object, &["type"]);
    for (_, keys) in DEMANDS.iter().filter(|(k, _)| *k == kind) {
        for key in *keys {
            let Some(value) = meta::at(object, &["data", key]).and_then(Value::as_str) else {
                errors.required(&data.key(key), "");
                continue;
            };
            let decoded = STANDARD.decode(value).unwrap_or_default();
            if key.starts_with(".docker") && serde_json::from_slice::<Value>(&decoded).is_err() {
                errors.invalid(
                    &data.key(key),
                    "<secret contents redacted>",
                    "invalid character in JSON",
                );
            }
        }
    }
    if kind == "kubernetes.io/basic-auth"
        && meta::at(object, &["data", "username"]).is_none()
        && meta::at(object, &["data", "password"]).is_none()
    {
        errors.required(&data.key("username"), "");
        errors.required(&data.key("password"), "");
    }
    let account = "kubernetes.io/service-account.name";
    if kind == "kubernetes.io/service-account-token"
        && meta::text(object, &["metadata", "annotations", account]).is_empty()
    {
        let path = Path::new("metadata").child("annotations").key(account);
        errors.required(&path, "");
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.get("type") != old.get("type") {
        let is = meta::text(new, &["type"]);
        errors.invalid(&Path::new("type"), is, "field is immutable");
    }
    immutable_data(new, old, &["data"], errors);
}

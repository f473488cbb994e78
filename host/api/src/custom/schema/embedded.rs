//! Objects inside of objects (`x-kubernetes-embedded-resource`), and the outer
//! one's own metadata: typed as metadata is everywhere, and checked (upstream's
//! `apiserver/schema/objectmeta`).

use super::Schema;
use crate::field::{Errors, Path};
use crate::{decode, kinds, meta, names};
use serde_json::Value;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Types metadata, at the root (`whole`) and in embedded objects. Unknown
/// members of metadata go to `unknown`; the error is a field's.
pub fn coerce(
    value: &mut Value,
    schema: Option<&Schema>,
    whole: bool,
    path: &Path,
    unknown: &mut Vec<String>,
) -> Result<(), Errors> {
    match value {
        Value::Object(members) => {
            if whole || schema.is_some_and(|s| s.embedded) {
                for key in ["apiVersion", "kind"] {
                    if let Some(other) = members.get(key).filter(|v| !v.is_string()) {
                        let mut errors = Errors::default();
                        errors.invalid(&path.child(key), other.clone(), "must be a string");
                        return Err(errors);
                    }
                }
                if let Some(metadata) = members.get_mut("metadata") {
                    coerce_metadata(metadata, path, unknown)?;
                }
            }
            for (name, member) in members.iter_mut() {
                if let Some(of) = schema.and_then(|s| s.member(name)) {
                    coerce(member, Some(of), false, &path.child(name), unknown)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = schema.and_then(|s| s.items.as_deref()) {
                for (i, item) in items.iter_mut().enumerate() {
                    coerce(item, Some(of), false, &path.index(i), unknown)?;
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn coerce_metadata(
    metadata: &mut Value,
    path: &Path,
    unknown: &mut Vec<String>,
) -> Result<(), Errors> {
    let at = path.child("metadata");
    if metadata.is_null() {
        *metadata = Value::Object(serde_json::Map::new());
    }
    let original = metadata.clone();
    let mut found = Vec::new();
    decode::conform(metadata, METADATA, &mut found).map_err(|why| {
        let mut errors = Errors::default();
        errors.invalid(&at, original, why);
        errors
    })?;
    unknown.extend(found.into_iter().map(|name| at.child(&name).to_string()));
    Ok(())
}

/// Checks embedded objects below `value`.
pub fn validate(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    if schema.embedded && value.is_object() {
        object(value, path, errors);
    }
    schema.below(value, path, |value, schema, path| {
        validate(value, schema, path, errors);
    });
}

/// An embedded object has apiVersion and kind; its metadata is as metadata is,
/// but for the name, which may be any segment of a path.
fn object(value: &Value, path: &Path, errors: &mut Errors) {
    for key in ["apiVersion", "kind"] {
        let at = path.child(key);
        match value.get(key) {
            None => errors.required(&at, ""),
            Some(Value::String(text)) if text.is_empty() => {
                errors.invalid(&at, "", "must not be empty");
            }
            Some(Value::String(text)) if key == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    errors.invalid(
                        &at,
                        text.as_str(),
                        format!("unexpected GroupVersion string: {text}"),
                    );
                }
            }
            Some(Value::String(text)) => {
                let faults = super::super::definition::dns_1035_label(&text.to_lowercase());
                if !faults.is_empty() {
                    let why = format!(
                        "may have mixed case, but should otherwise match: {}",
                        faults.join(",")
                    );
                    errors.invalid(&at, text.as_str(), why);
                }
            }
            Some(other) => errors.invalid(&at, other.clone(), "must be a string"),
        }
    }
    if let Some(metadata) = value.get("metadata").filter(|m| m.is_object()) {
        let at = path.child("metadata");
        let name = meta::text(metadata, &["name"]);
        errors.invalid_each(&at.child("name"), name, names::path_segment(name));
        kinds::validate_labels(&metadata["labels"], &at.child("labels"), errors);
        kinds::validate_annotations(metadata, &at.child("annotations"), errors);
    }
}

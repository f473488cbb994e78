//! A custom kind's schema as OpenAPI documents have it
//! (`apiextensions/controller/openapi/builder`). OpenAPI 2.0 can't say all of
//! it, and kubectl can't read all of 2.0: there the rest is left out.

use super::CustomKind;
use crate::meta;
use serde_json::{Map, Value, json};

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const OF_API_VERSION: &str =
    "APIVersion defines the versioned schema of this representation of an object.";
const OF_KIND: &str =
    "Kind is a string value representing the REST resource this object represents.";
const OF_METADATA: &str = "Standard object's metadata.";

/// The definition of the kind's type; `references` stands before the names of
/// types.
pub fn definition(kind: &CustomKind, references: &str, v3: bool) -> Value {
    let published = &*kind.published;
    let preserves = meta::flag(published, &["x-kubernetes-preserve-unknown-fields"]);
    let mut out = if !published.is_object() || (!v3 && preserves) {
        json!({"type": "object"})
    } else {
        let mut out = published.clone();
        if !v3 {
            reduce(&mut out);
        }
        embed(&mut out, references, v3);
        type_members(&mut out, references, v3);
        out
    };
    out["x-kubernetes-group-version-kind"] = json!([{
        "group": kind.group, "version": kind.version, "kind": kind.names.kind,
    }]);
    if v3 && !kind.selectable.is_empty() {
        out["x-kubernetes-selectable-fields"] = kind
            .selectable
            .iter()
            .map(|path| json!({"fieldPath": path}))
            .collect();
    }
    out
}

fn type_members(of: &mut Value, references: &str, v3: bool) {
    let reference = json!({"$ref": format!("{references}{METADATA}")});
    let metadata = match v3 {
        true => json!({"allOf": [reference], "description": OF_METADATA}),
        false => json!({"$ref": format!("{references}{METADATA}"), "description": OF_METADATA}),
    };
    let properties = meta::ensure(of, "properties");
    let text = |description: &str| json!({"type": "string", "description": description});
    properties.insert("apiVersion".to_owned(), text(OF_API_VERSION));
    properties.insert("kind".to_owned(), text(OF_KIND));
    properties.insert("metadata".to_owned(), metadata);
}

/// Embedded objects have what every object has.
fn embed(of: &mut Value, references: &str, v3: bool) {
    each_child(of, &mut |child| embed(child, references, v3));
    let flag = |key: &str| meta::flag(of, &[key]);
    let preserves = flag("x-kubernetes-preserve-unknown-fields");
    if flag("x-kubernetes-embedded-resource") && (v3 || !preserves) {
        type_members(of, references, v3);
        let mut required = meta::list(of, &["required"]).to_vec();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == name) {
                required.push(name.into());
            }
        }
        of["required"] = required.into();
    }
}

fn each_child(of: &mut Value, act: &mut dyn FnMut(&mut Value)) {
    let Some(map) = of.as_object_mut() else {
        return;
    };
    for key in ["items", "additionalProperties"] {
        if let Some(child) = map.get_mut(key).filter(|c| c.is_object()) {
            act(child);
        }
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(act);
    }
}

/// Leaves out what OpenAPI 2.0, or kubectl's reading of it, doesn't know.
fn reduce(of: &mut Value) {
    let nullable = |v: &Value| meta::flag(v, &["nullable"]);
    let loose: Vec<String> = meta::members(of, &["properties"])
        .filter(|(_, child)| nullable(child))
        .map(|(name, _)| name.clone())
        .collect();
    let any_nullable = of.get("additionalProperties").is_some_and(nullable);
    if let Some(map) = of.as_object_mut() {
        if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|r| !any_nullable && !loose.iter().any(|name| r == name.as_str()));
            if required.is_empty() {
                map.shift_remove("required");
            }
        }
        reduce_node(map);
    }
    each_child(of, &mut reduce);
}

fn reduce_node(map: &mut Map<String, Value>) {
    for key in ["allOf", "oneOf", "anyOf", "not"] {
        map.shift_remove(key);
    }
    let flag = |map: &Map<String, Value>, key: &str| map.get(key) == Some(&Value::Bool(true));
    let preserves = flag(map, "x-kubernetes-preserve-unknown-fields");
    if map.shift_remove("nullable") == Some(Value::Bool(true)) {
        for key in ["type", "items", "properties"] {
            map.shift_remove(key);
        }
    }
    if preserves {
        map.shift_remove("items");
        map.shift_remove("properties");
    }
    let untyped = match map.get("type").and_then(Value::as_str) {
        Some("array") => !map.contains_key("items"),
        Some("object") => preserves,
        _ => false,
    };
    if untyped {
        map.shift_remove("type");
    }
}

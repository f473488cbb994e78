//! What a definition's schema may use of OpenAPI, with the Kubernetes
//! extensions (`ValidateCustomResourceDefinitionOpenAPISchema`), and whether
//! its defaults are right.

use super::super::schema::{Schema, embedded, is_meta, pruning, validation};
use crate::custom::rules;
use crate::field::{Errors, Path};
use crate::meta;
use serde_json::Value;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const AT_ROOT: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
const AT_ROOT_SHOWN: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// With a status subresource the root is only what can be taken apart.
pub(super) fn root_with_status(of: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in of.as_object().into_iter().flatten() {
        let unset = matches!(value, Value::Bool(false) | Value::Null);
        if key == "type" && value != "object" {
            errors.invalid(
                &path.child("type"),
                value.clone(),
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
            );
            return;
        }
        if !unset && !AT_ROOT.contains(&key.as_str()) {
            let why = format!(
                "only {AT_ROOT_SHOWN} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            errors.invalid(path, of.clone(), why);
            return;
        }
    }
}

/// Where a node stands.
#[derive(Clone, Default)]
struct Place {
    /// Why no default may stand here.
    no_default: Option<String>,
    in_metadata: bool,
    root: bool,
    /// Rules count here: not below allOf and its like.
    counted: bool,
    /// The first node above whose parts an update can't be matched with.
    uncorrelated: Option<Path>,
}

/// Checks a whole schema; with `rules`, its rules too.
pub(super) fn validate(of: &Value, path: &Path, rules: bool, errors: &mut Errors) {
    let place = Place {
        root: true,
        counted: rules,
        ..Place::default()
    };
    node(of, path, &place, errors);
}

fn node(of: &Value, path: &Path, place: &Place, errors: &mut Errors) {
    let before = errors.0.len();
    supported(of, path, place, errors);
    extensions(of, path, errors);
    if of
        .get("additionalProperties")
        .is_some_and(|a| *a != Value::Bool(true))
        && of["properties"].as_object().is_some_and(|p| !p.is_empty())
    {
        errors.forbidden(
            &path.child("additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        );
    }
    for (name, child) in super::children(of) {
        let below = below(of, &name, path, place);
        node(child, &path.child(&name), &below, errors);
    }
    let listed = meta::list(of, &["x-kubernetes-validations"]);
    if !listed.is_empty() {
        let sound = place.counted && errors.0.len() == before;
        rules::validate(of, path, sound, place.uncorrelated.as_ref(), errors);
    }
}

fn below(of: &Value, name: &str, path: &Path, place: &Place) -> Place {
    let mut below = Place {
        root: false,
        ..place.clone()
    };
    let property = name
        .strip_prefix("properties[")
        .and_then(|rest| rest.strip_suffix(']'));
    match property {
        Some(property) => {
            let whole = place.root || meta::flag(of, &["x-kubernetes-embedded-resource"]);
            if whole && is_meta(property) {
                below.in_metadata = true;
                if place.root {
                    below.no_default = Some(format!("in top-level {property}"));
                }
            }
        }
        None if name == "items" => {
            if meta::text(of, &["x-kubernetes-list-type"]) != "map" {
                below.uncorrelated.get_or_insert(path.clone());
            }
        }
        None if name == "additionalProperties" => {
            if place.in_metadata {
                below.no_default =
                    Some("inside additionalProperties applying to object metadata".to_owned());
            }
        }
        None => below.counted = false,
    }
    below
}

fn supported(of: &Value, path: &Path, place: &Place, errors: &mut Errors) {
    let kind = meta::text(of, &["type"]);
    if kind == "null" {
        errors.forbidden(
            &path.child("type"),
            "type cannot be set to null, use nullable as an alternative",
        );
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.not_supported(&path.child("type"), kind, TYPES);
    }
    if let Some(why) = &place.no_default
        && of.get("default").is_some_and(|d| !d.is_null())
    {
        errors.forbidden(&path.child("default"), format!("must not be set {why}"));
    }
    for key in [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ] {
        let empty = |v: &Value| match v {
            Value::String(text) => text.is_empty(),
            Value::Object(map) => map.is_empty() && key != "additionalItems",
            Value::Null => true,
            _ => false,
        };
        if of.get(key).is_some_and(|v| !empty(v)) {
            errors.forbidden(&path.child(key), format!("{key} is not supported"));
        }
    }
    if of.get("items").is_some_and(Value::is_array) {
        errors.forbidden(
            &path.child("items"),
            "items must be a schema object and not an array",
        );
    }
    if place.in_metadata && meta::flag(of, &["x-kubernetes-embedded-resource"]) {
        errors.forbidden(
            &path.child("x-kubernetes-embedded-resource"),
            "must not be used inside of resource meta",
        );
    }
    if meta::flag(of, &["uniqueItems"]) {
        errors.forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
}

fn extensions(of: &Value, path: &Path, errors: &mut Errors) {
    if of.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.invalid(&at, false, "must be true or undefined");
    }
    let kind = meta::text(of, &["type"]);
    for (key, wanted, values) in [
        (
            "x-kubernetes-map-type",
            "object",
            &["atomic", "granular"] as &[&str],
        ),
        ("x-kubernetes-list-type", "array", &["atomic", "map", "set"]),
    ] {
        let Some(value) = of.get(key).and_then(Value::as_str) else {
            continue;
        };
        let why = format!("must be {wanted} if {key} is specified");
        if kind.is_empty() {
            errors.required(&path.child("type"), why);
        } else if kind != wanted {
            errors.invalid(&path.child("type"), kind, why);
        }
        if !values.contains(&value) {
            errors.not_supported(&path.child(key), value, values);
        }
    }
    match meta::text(of, &["x-kubernetes-list-type"]) {
        "set" => set_items(of, path, errors),
        "map" => map_items(of, path, errors),
        other => {
            let at = path.child("x-kubernetes-list-type");
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            if !meta::list(of, &["x-kubernetes-list-map-keys"]).is_empty() {
                match other {
                    "" => errors.required(&at, why),
                    other => errors.invalid(&at, other, why),
                }
            }
        }
    }
}

fn set_items(of: &Value, path: &Path, errors: &mut Errors) {
    const WHY: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let items = &of["items"];
    let at = path.child("items");
    let list = meta::text(items, &["x-kubernetes-list-type"]);
    let map = meta::text(items, &["x-kubernetes-map-type"]);
    match meta::text(items, &["type"]) {
        "array" if !matches!(list, "" | "atomic") => {
            errors.invalid(&at.child("x-kubernetes-list-type"), list, WHY);
        }
        "object" if map != "atomic" => {
            errors.invalid(&at.child("x-kubernetes-map-type"), map, WHY);
        }
        _ => {}
    }
    if meta::flag(items, &["nullable"]) {
        let why = "cannot be nullable when x-kubernetes-list-type is set";
        errors.forbidden(&at.child("nullable"), why);
    }
    if !meta::list(of, &["x-kubernetes-list-map-keys"]).is_empty() {
        errors.invalid(
            &path.child("x-kubernetes-list-type"),
            "set",
            "must be map if x-kubernetes-list-map-keys is non-empty",
        );
    }
}

fn map_items(of: &Value, path: &Path, errors: &mut Errors) {
    let keys = meta::list(of, &["x-kubernetes-list-map-keys"]);
    let keys_at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.required(
            &keys_at,
            "must not be empty if x-kubernetes-list-type is map",
        );
    }
    let at = path.child("items");
    let Some(items) = of.get("items") else {
        errors.required(&at, "must have a schema if x-kubernetes-list-type is map");
        return;
    };
    if meta::flag(items, &["nullable"]) {
        let why = "cannot be nullable when x-kubernetes-list-type is map";
        errors.forbidden(&at.child("nullable"), why);
    }
    let kind = meta::text(items, &["type"]);
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid(&at.child("type"), kind, why);
        return;
    }
    let required = meta::list(items, &["required"]);
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        if keys[..i].contains(key) {
            errors.invalid(
                &keys_at,
                keys.to_vec(),
                "must not contain duplicate entries",
            );
        }
        let at = at.child("properties").key(name);
        let Some(property) = items["properties"].get(name) else {
            let why = "entries must all be names of item properties";
            errors.invalid(&keys_at, keys.to_vec(), why);
            continue;
        };
        if matches!(meta::text(property, &["type"]), "array" | "object") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&at.child("type"), kind, why);
        }
        if !required.contains(key) && property.get("default").is_none() {
            errors.required(
                &at.child("default"),
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            );
        }
        if meta::flag(property, &["nullable"]) {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&at.child("nullable"), why);
        }
    }
}

/// Each default is itself pruned, valid, and obeys the rules.
pub(super) fn defaults(of: &Value, path: &Path, errors: &mut Errors) {
    if let Some(default) = of.get("default").filter(|d| !d.is_null()) {
        let schema = Schema::parse(of);
        let at = path.child("default");
        if !pruning::is_pruned(default, &schema) {
            errors.invalid(&at, default.clone(), "must not have unknown fields");
        }
        let mut coerced = default.clone();
        let mut found = Errors::default();
        match embedded::coerce(&mut coerced, Some(&schema), false, &at, &mut Vec::new()) {
            Err(faults) => found = faults,
            Ok(()) => embedded::validate(default, &schema, &at, &mut found),
        }
        if found.is_empty() {
            found = validation::validate(default, None, &schema, "").below(&at);
        }
        if found.is_empty() {
            found = rules::check_default(default, &schema).below(&at);
        }
        errors.0.extend(found.0);
    }
    for (name, child) in super::children(of) {
        if name == "items" || name.starts_with("properties[") {
            defaults(child, &path.child(&name), errors);
        }
    }
}

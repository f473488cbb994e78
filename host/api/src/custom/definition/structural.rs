//! Structural schemas (`apiserver/schema/validation.go`, `complete.go`): every
//! value that a schema speaks of has a type, and what stands below allOf,
//! anyOf, oneOf and not only restricts what stands outside of them.

use super::super::schema::compile_pattern;
use super::children;
use crate::field::{Errors, FieldError, Path};
use crate::meta;
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Names what isn't structural, in the order of the messages.
pub(super) fn validate(of: &Value, path: &Path, errors: &mut Errors) {
    let mut found = Errors::default();
    node(of, Level::Root, path, &mut found);
    complete(of, Some(of), path, path, &mut found);
    found.0.sort_by_cached_key(FieldError::to_string);
    errors.0.extend(found.0);
}

fn properties(of: &Value) -> impl Iterator<Item = (&String, &Value)> {
    of.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

fn node(of: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let kind = meta::text(of, &["type"]);
    if kind == "array" && of.get("items").is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    if let Some(items) = of.get("items").filter(|i| i.is_object()) {
        node(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in properties(of) {
        node(
            property,
            Level::Field,
            &path.child("properties").key(name),
            errors,
        );
    }
    if let Some(additional) = of.get("additionalProperties") {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&at, "must not be used at the root");
        }
        if additional.is_object() {
            node(additional, Level::Field, &at, errors);
        }
    }
    extensions(of, path, errors);
    let any_of = of.get("anyOf") == Some(&int_or_string());
    let first = of.pointer("/allOf/0/anyOf") == Some(&int_or_string());
    junctors(of, any_of, first, path, errors);
    type_of(of, level, path, errors);
    metadata(of, level, path, errors);
}

fn int_or_string() -> Value {
    json!([{"type": "integer"}, {"type": "string"}])
}

fn extensions(of: &Value, path: &Path, errors: &mut Errors) {
    if !meta::flag(of, &["x-kubernetes-int-or-string"]) {
        return;
    }
    for key in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ] {
        if meta::flag(of, &[key]) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.invalid(&path.child(key), true, why);
        }
    }
}

fn type_of(of: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let kind = meta::text(of, &["type"]);
    let at = path.child("type");
    let flag = |key: &str| meta::flag(of, &[key]);
    let embedded = flag("x-kubernetes-embedded-resource");
    let preserves = flag("x-kubernetes-preserve-unknown-fields");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.required(&at, why),
            kind => errors.invalid(&at, kind, why),
        }
    } else if kind.is_empty() && !flag("x-kubernetes-int-or-string") && !preserves {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.required(&at, why);
    }
    if embedded && of.get("additionalProperties").is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(&path.child("additionalProperties"), why);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.invalid(&at, kind, "must be object at the root");
    }
    if embedded && !preserves && properties(of).next().is_none() {
        errors.required(
            &path.child("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
}

/// apiVersion, kind and metadata of an object are what they are everywhere.
fn metadata(of: &Value, level: Level, path: &Path, errors: &mut Errors) {
    let whole = level == Level::Root || meta::flag(of, &["x-kubernetes-embedded-resource"]);
    if !whole {
        return;
    }
    for (name, wanted) in [
        ("kind", "string"),
        ("apiVersion", "string"),
        ("metadata", "object"),
    ] {
        let Some(property) = of["properties"].get(name) else {
            continue;
        };
        let at = path.child("properties").key(name);
        let kind = meta::text(property, &["type"]);
        if kind != wanted {
            errors.invalid(&at.child("type"), kind, format!("must be {wanted}"));
        }
        if name == "metadata" && level == Level::Root {
            let mut rest = property.clone();
            if let Some(map) = rest.as_object_mut() {
                map.shift_remove("type");
                map.shift_remove("default");
                let only_names = properties(property)
                    .all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
                if only_names {
                    map.shift_remove("properties");
                }
            }
            if rest.as_object().is_some_and(|map| !map.is_empty()) {
                errors.forbidden(
                    &at,
                    "must not specify anything other than name and generateName, but metadata is implicitly specified",
                );
            }
        }
    }
}

fn junctors(of: &Value, skip_any: bool, skip_first: bool, path: &Path, errors: &mut Errors) {
    for (name, child) in children(of) {
        let first = name == "allOf[0]" && skip_first;
        let junctor = name == "not"
            || name.starts_with("allOf[")
            || name.starts_with("oneOf[")
            || (name.starts_with("anyOf[") && !skip_any);
        if junctor {
            nested(child, first, &path.child(&name), errors);
        }
    }
    let pattern = meta::text(of, &["pattern"]);
    if !pattern.is_empty()
        && let Err(why) = compile_pattern(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.invalid(&path.child("pattern"), pattern, why);
    }
}

/// Below a junctor only values are restricted.
fn nested(of: &Value, skip_any: bool, path: &Path, errors: &mut Errors) {
    junctors(of, skip_any, false, path, errors);
    if let Some(items) = of.get("items").filter(|i| i.is_object()) {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, property) in properties(of) {
        let at = path.child("properties").key(name);
        nested(property, false, &at, errors);
        if name == "metadata" {
            errors.forbidden(&at, "must not be specified in a nested context");
        }
    }
    for (key, why) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (
            "x-kubernetes-preserve-unknown-fields",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-embedded-resource",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-int-or-string",
            "must be false to be structural",
        ),
        (
            "x-kubernetes-list-map-keys",
            "must be empty to be structural",
        ),
        (
            "x-kubernetes-list-type",
            "must be undefined to be structural",
        ),
        (
            "x-kubernetes-map-type",
            "must be undefined to be structural",
        ),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let unset = |v: &Value| matches!(v, Value::Null | Value::Bool(false)) || *v == "";
        if of.get(key).is_some_and(|v| !unset(v)) {
            errors.forbidden(&path.child(key), why);
        }
    }
}

/// What a junctor in `of` speaks of, `outer` has too: at `path` and `at`.
fn complete(of: &Value, outer: Option<&Value>, path: &Path, at: &Path, errors: &mut Errors) {
    for (name, child) in children(of) {
        let junctor = name == "not"
            || ["allOf[", "anyOf[", "oneOf["]
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if junctor {
            complete_nested(child, outer, path, &at.child(&name), errors);
        }
    }
}

fn complete_nested(of: &Value, outer: Option<&Value>, path: &Path, at: &Path, errors: &mut Errors) {
    let Some(outer) = outer else {
        errors.required(path, format!("because it is defined in {at}"));
        return;
    };
    complete(of, Some(outer), path, at, errors);
    if let Some(items) = of.get("items").filter(|i| i.is_object()) {
        let (path, at) = (path.child("items"), at.child("items"));
        complete_nested(items, outer.get("items"), &path, &at, errors);
    }
    for (name, property) in properties(of) {
        let path = path.child("properties").key(name);
        let at = at.child("properties").key(name);
        complete_nested(property, outer["properties"].get(name), &path, &at, errors);
    }
}

//! Reading and writing an object's metadata, and values by path, on
//! `serde_json::Value`. A missing or mistyped member reads as absent.

use serde_json::{Map, Value};

/// The value at `path`, if it is there.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(key))
}

/// The text at `path`, or "".
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

pub fn int(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

pub fn flag(object: &Value, path: &[&str]) -> bool {
    at(object, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at `path`, or nothing.
pub fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The members at `path`, or nothing.
pub fn members<'a>(
    object: &'a Value,
    path: &[&str],
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(object, path)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

pub fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

pub fn is_deleting(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}

/// The map at `key`, made when it is missing or no map.
pub fn ensure<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object[key];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

pub fn ensure_metadata(object: &mut Value) -> &mut Map<String, Value> {
    ensure(object, "metadata")
}

/// Sets `key` unless something stands there already.
pub fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match map.get(key) {
        None | Some(Value::Null) => {
            map.insert(key.to_owned(), value.into());
        }
        Some(_) => {}
    }
}

/// Sets `key` also over an empty string: Go's zero value of a plain field.
pub fn default_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    match map.get(key) {
        None | Some(Value::Null) => {}
        Some(Value::String(s)) if s.is_empty() => {}
        Some(_) => return,
    }
    map.insert(key.to_owned(), value.into());
}

/// What a view of `object`, such as its scale, says in its metadata.
pub fn identity(object: &Value) -> Value {
    let mut out = Value::Object(Map::new());
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        keep(&mut out, &object["metadata"], key);
    }
    out
}

/// Moves `key` of `from` into `to`, or removes it there: how an update keeps
/// what it may not touch.
pub fn keep(to: &mut Value, from: &Value, key: &str) {
    match (from.get(key), to.as_object_mut()) {
        (Some(old), Some(map)) => {
            map.insert(key.to_owned(), old.clone());
        }
        (None, Some(map)) => {
            map.shift_remove(key);
        }
        (_, None) => {}
    }
}

//! Lists that are sets or maps hold no item twice (upstream's
//! `apiserver/schema/listtype`).

use super::{ListType, Schema};
use crate::field::{Errors, Path};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Names the second of each pair of equal items, once for each value.
pub fn validate(value: &Value, schema: &Schema, path: &Path, errors: &mut Errors) {
    if let Value::Array(items) = value {
        match schema.list_type {
            ListType::Atomic => {}
            ListType::Set => {
                for i in repeated(items.iter()) {
                    errors.duplicate(&path.index(i), items[i].clone());
                }
            }
            ListType::Map => map(items, schema, path, errors),
        }
    }
    schema.below(value, path, |value, schema, path| {
        validate(value, schema, path, errors);
    });
}

fn map(items: &[Value], schema: &Schema, path: &Path, errors: &mut Errors) {
    for (i, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            errors.invalid(
                &path.index(i),
                item.clone(),
                "must be an object for an array of list-type map",
            );
            return;
        }
    }
    let keys: Vec<Value> = items.iter().map(|i| key(i, schema)).collect();
    for i in repeated(keys.iter()) {
        errors.duplicate(&path.index(i), keys[i].clone());
    }
}

/// The members of `item` that name it in its list.
pub fn key(item: &Value, schema: &Schema) -> Value {
    let mut out = Map::new();
    for name in &schema.list_keys {
        if let Some(value) = item.get(name) {
            out.insert(name.clone(), value.clone());
        }
    }
    Value::Object(out)
}

/// Where values stand for the second time.
fn repeated<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut out = Vec::new();
    for (i, value) in values.enumerate() {
        let times = seen.entry(canonical(value)).or_insert(0);
        *times += 1;
        if *times == 2 {
            out.push(i);
        }
    }
    out
}

/// Text that is equal for equal values, whatever the order of members.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            let parts: Vec<String> = sorted
                .into_iter()
                .map(|(name, v)| format!("{name:?}:{}", canonical(v)))
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        Value::Array(items) => {
            let parts: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", parts.join(","))
        }
        other => other.to_string(),
    }
}

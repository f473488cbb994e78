//! Defaulting, as upstream's `apiserver/schema/defaulting`: nulls that are not
//! allowed count as absent.

use super::{Additional, Schema};
use serde_json::Value;

/// Fills in defaults below `value`; afterwards no null is left where none is
/// allowed.
pub fn default(value: &mut Value, schema: &Schema) {
    drop_nulls(value, Some(schema));
    fill(value, schema);
}

/// A null that its schema forbids, and that no default replaces, goes.
fn drop_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(members) => {
            members.retain(|name, member| {
                let of = schema.and_then(|s| s.member(name));
                !(member.is_null() && of.is_some_and(|s| !s.nullable && s.default.is_none()))
            });
            for (name, member) in members.iter_mut() {
                drop_nulls(member, schema.and_then(|s| s.member(name)));
            }
        }
        Value::Array(items) => {
            let of = schema.and_then(|s| s.items.as_deref());
            items.iter_mut().for_each(|item| drop_nulls(item, of));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replaces(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(members) => {
            for (name, of) in &schema.properties {
                let Some(default) = &of.default else {
                    continue;
                };
                if members.get(name).is_none_or(|member| replaces(member, of)) {
                    members.insert(name.clone(), default.clone());
                }
            }
            for (name, member) in members.iter_mut() {
                if let Some(of) = schema.properties.get(name) {
                    fill(member, of);
                } else if let Some(Additional::Each(of)) = &schema.additional {
                    replace(member, of);
                    fill(member, of);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of) = &schema.items {
                for item in items {
                    replace(item, of);
                    fill(item, of);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn replace(value: &mut Value, schema: &Schema) {
    if replaces(value, schema) {
        *value = schema.default.clone().unwrap_or(Value::Null);
    }
}

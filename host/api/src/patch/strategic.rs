//! Strategic merge patch: lists merge by key where the facts table says so,
//! with the directives `$patch`, `$retainKeys`, `$setElementOrder/…` and
//! `$deleteFromPrimitiveList/…`.

use super::PatchError;
use crate::facts::{self, Field, Shape, Type};
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

/// Applies `patch` to `target`, an object of the type `type_name`.
pub fn strategic_merge(
    target: &mut Value,
    patch: Value,
    type_name: &str,
) -> Result<(), PatchError> {
    let (Value::Object(map), Value::Object(patch)) = (target, patch) else {
        return Err(PatchError::Malformed(
            "a strategic merge patch is a JSON object".to_owned(),
        ));
    };
    merge_map(map, patch, facts::of(type_name))
}

fn merge_map(
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    facts: Option<&'static Type>,
) -> Result<(), PatchError> {
    match patch.shift_remove(PATCH) {
        None => {}
        Some(Value::String(s)) if s == "merge" => {}
        Some(Value::String(s)) if s == "replace" => {
            *target = patch;
            return Ok(());
        }
        Some(Value::String(s)) if s == "delete" => {
            target.clear();
            return Ok(());
        }
        Some(other) => {
            return Err(PatchError::Malformed(format!(
                "Unknown patch type found: {other}"
            )));
        }
    }
    if let Some(keys) = patch.shift_remove(RETAIN) {
        let Value::Array(keys) = keys else {
            return Err(PatchError::Malformed(
                "unable to parse $retainKeys".to_owned(),
            ));
        };
        target.retain(|k, _| keys.iter().any(|r| r.as_str() == Some(k)));
    }
    let mut orders = Vec::new();
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(ORDER) {
            orders.push((name.to_owned(), value));
        } else if let Some(name) = key.strip_prefix(DELETE) {
            delete_primitives(target, name, &value);
        } else if value.is_null() {
            target.shift_remove(&key);
        } else {
            let field = facts.and_then(|t| t.field(&key));
            merge_member(target, key, value, field)?;
        }
    }
    for (name, order) in orders {
        let field = facts.and_then(|t| t.field(&name));
        if let (Some(Value::Array(items)), Value::Array(order)) = (target.get_mut(&name), order) {
            reorder(items, &order, field.and_then(|f| f.patch_key));
        }
    }
    Ok(())
}

fn delete_primitives(target: &mut Map<String, Value>, name: &str, gone: &Value) {
    if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(name), gone) {
        items.retain(|i| !gone.contains(i));
    }
}

fn inner_type(shape: &Shape) -> Option<&'static Type> {
    match shape {
        Shape::Ref(name) => facts::of(name),
        Shape::List(inner) => inner_type(inner),
        Shape::Map(_) | Shape::Scalar(_) => None,
    }
}

fn merge_member(
    target: &mut Map<String, Value>,
    key: String,
    value: Value,
    field: Option<&'static Field>,
) -> Result<(), PatchError> {
    let inner = field.and_then(|f| inner_type(&f.shape));
    match value {
        Value::Object(patch) => {
            let slot = target
                .entry(key)
                .or_insert_with(|| Value::Object(Map::new()));
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            match slot {
                Value::Object(map) => merge_map(map, patch, inner),
                _ => Ok(()),
            }
        }
        Value::Array(patch) if field.is_some_and(|f| f.patch_merge) => {
            let slot = target
                .entry(key)
                .or_insert_with(|| Value::Array(Vec::new()));
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            let Value::Array(items) = slot else {
                return Ok(());
            };
            match field.and_then(|f| f.patch_key) {
                Some(merge_key) => merge_list(items, patch, merge_key, inner),
                None => {
                    for item in patch {
                        if !items.contains(&item) {
                            items.push(item);
                        }
                    }
                    Ok(())
                }
            }
        }
        other => {
            target.insert(key, other);
            Ok(())
        }
    }
}

fn merge_list(
    items: &mut Vec<Value>,
    patch: Vec<Value>,
    key: &'static str,
    inner: Option<&'static Type>,
) -> Result<(), PatchError> {
    let directive = |v: &Value| v.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    if patch
        .iter()
        .any(|p| directive(p).as_deref() == Some("replace"))
    {
        *items = patch
            .into_iter()
            .filter(|p| p.get(PATCH).is_none())
            .collect();
        return Ok(());
    }
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(PatchError::Malformed(format!(
                "an element of a list that merges by {key} is no object"
            )));
        };
        let Some(id) = item.get(key).cloned() else {
            return Err(PatchError::Malformed(format!(
                "map: {} does not contain declared merge key: {key}",
                Value::Object(item)
            )));
        };
        let found = items.iter().position(|i| i.get(key) == Some(&id));
        match item.get(PATCH).and_then(Value::as_str) {
            Some("delete") => items.retain(|i| i.get(key) != Some(&id)),
            _ => match found.and_then(|at| items.get_mut(at)) {
                Some(Value::Object(existing)) => merge_map(existing, item, inner)?,
                _ => {
                    item.shift_remove(PATCH);
                    let mut fresh = Map::new();
                    merge_map(&mut fresh, item, inner)?;
                    items.push(Value::Object(fresh));
                }
            },
        }
    }
    Ok(())
}

/// Puts `items` into the client's `order`; what it doesn't name keeps its place
/// relative to its neighbours.
fn reorder(items: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let id = |v: &Value| match key {
        Some(k) => v.get(k).cloned().unwrap_or(Value::Null),
        None => v.clone(),
    };
    let place: Vec<Value> = order.iter().map(&id).collect();
    let indexed: Vec<(usize, Option<usize>, Value)> = std::mem::take(items)
        .into_iter()
        .enumerate()
        .map(|(i, v)| (i, place.iter().position(|p| *p == id(&v)), v))
        .collect();
    let (mut named, rest): (Vec<_>, Vec<_>) = indexed.into_iter().partition(|t| t.1.is_some());
    named.sort_by_key(|t| t.1);
    let mut rest = rest.into_iter().peekable();
    for (at, _, value) in named {
        while let Some((_, _, other)) = rest.next_if(|r| r.0 < at) {
            items.push(other);
        }
        items.push(value);
    }
    items.extend(rest.map(|r| r.2));
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn check(target: Value, patch: Value, wanted: Value) {
        let mut got = target;
        strategic_merge(&mut got, patch, "io.k8s.api.core.v1.PodSpec").unwrap();
        assert_eq!(got, wanted);
    }

    #[test]
    fn lists_merge_by_key() {
        check(
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "b", "image": "3"}, {"name": "c"}]}),
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c"}]}),
        );
        check(
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b"}]}),
        );
        check(
            json!({"containers": [{"name": "a"}]}),
            json!({"containers": [{"$patch": "replace"}, {"name": "z"}]}),
            json!({"containers": [{"name": "z"}]}),
        );
    }

    #[test]
    fn atomic_lists_replace_and_nulls_remove() {
        check(
            json!({"tolerations": [{"key": "a"}], "nodeName": "x"}),
            json!({"tolerations": [{"key": "b"}], "nodeName": null}),
            json!({"tolerations": [{"key": "b"}]}),
        );
    }

    #[test]
    fn element_order_and_retained_keys() {
        check(
            json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]}),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "tty": true}]}),
            // "s" stood before "b" and stays there; "a" follows as asked.
            json!({"containers": [{"name": "s"}, {"name": "b", "tty": true}, {"name": "a"}]}),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        );
    }
}

//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge by
//! the facts table. Each takes the current object and gives the wanted one.

mod strategic;

pub use strategic::strategic_merge;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself can't be read: the client's syntax.
    #[error("{0}")]
    Malformed(String),
    /// The patch reads well, but not onto this object.
    #[error("{0}")]
    Inapplicable(String),
    #[error("{0}")]
    TooLarge(String),
}

/// Most operations in one JSON patch, as upstream bounds it.
const MAX_OPERATIONS: usize = 10_000;
/// Most values that a patched object may hold: `copy` can double it each time.
const MAX_VALUES: usize = 1_000_000;

/// RFC 7386. Depth is bounded by the parser that made `patch`.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            map.shift_remove(&key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902.
pub fn json_patch(target: &mut Value, patch: Value) -> Result<(), PatchError> {
    match json_patch_if(target, patch)? {
        true => Ok(()),
        false => Err(PatchError::Inapplicable(
            json_patch::PatchErrorKind::TestFailed.to_string(),
        )),
    }
}

/// The same; false if a test in the patch fails. Then, as after an error, what
/// became of the target is of no use.
pub fn json_patch_if(target: &mut Value, patch: Value) -> Result<bool, PatchError> {
    let operations: json_patch::Patch =
        serde_json::from_value(patch).map_err(|e| PatchError::Malformed(e.to_string()))?;
    if operations.0.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.0.len()
        )));
    }
    let mut budget = MAX_VALUES;
    for operation in operations.0 {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            let copied = target.pointer(copy.from.as_str()).map_or(0, count);
            budget = budget
                .checked_sub(copied)
                .ok_or_else(|| PatchError::Inapplicable("the patch copies too much".to_owned()))?;
        }
        match json_patch::patch(target, std::slice::from_ref(&operation)) {
            Ok(()) => {}
            Err(e) if matches!(e.kind, json_patch::PatchErrorKind::TestFailed) => {
                return Ok(false);
            }
            Err(e) => return Err(PatchError::Inapplicable(e.to_string())),
        }
    }
    Ok(true)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        Value::String(s) => s.len() / 64,
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patch_as_the_rfc_shows() {
        for (target, patch, wanted) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
        ] {
            let mut got = target;
            merge(&mut got, patch);
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn json_patch_applies_refuses_and_bounds_copies() {
        let mut v = json!({"a": [1, 2]});
        json_patch(&mut v, json!([{"op": "add", "path": "/a/-", "value": 3}])).unwrap();
        assert_eq!(v, json!({"a": [1, 2, 3]}));
        assert!(matches!(
            json_patch(&mut v, json!([{"op": "test", "path": "/a/0", "value": 9}])),
            Err(PatchError::Inapplicable(_))
        ));
        assert!(matches!(
            json_patch(&mut v, json!({"op": "add"})),
            Err(PatchError::Malformed(_))
        ));
        let double: Vec<Value> = (0..60)
            .map(|i| json!({"op": "copy", "from": "", "path": format!("/x{i}")}))
            .collect();
        assert!(json_patch(&mut v, Value::Array(double)).is_err());
    }
}

//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge by
//! the facts table. Each takes the current object and gives the wanted one.

mod json;
mod strategic;

pub use json::{json_patch, json_patch_if};
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

#[cfg(test)]
mod tests {
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
}

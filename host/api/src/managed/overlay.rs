//! A configuration laid over an object: merged as an apply merges, but owned
//! by nobody and removing nothing. For mutating admission policies
//! (`policy/mutating/patch/smd.go`).

use super::custom::CustomNode;
use super::element::PathElement;
use super::merge::{merge, validate};
use super::schema::{FactsNode, SchemaNode};
use super::set::shown;
use super::walk::{is_atomic_list, is_atomic_map};
use crate::kinds::KindRef;
use serde_json::Value;

/// `object` with everything that `config` says. `own_type` is the full name of
/// its type where that isn't the kind's. What is atomic can't be laid over: it
/// would be replaced, not merged.
pub fn overlay(
    kind: &KindRef,
    own_type: Option<&str>,
    object: &Value,
    config: &Value,
) -> Result<Value, String> {
    match (own_type, kind) {
        (Some(name), _) => overlaid(&FactsNode::named(name), object, config),
        (None, KindRef::Row(kind)) => overlaid(&FactsNode::named(kind.type_name), object, config),
        (None, KindRef::Custom(kind)) => overlaid(&CustomNode::root(&kind.schema), object, config),
    }
}

fn overlaid<S: SchemaNode>(node: &S, object: &Value, config: &Value) -> Result<Value, String> {
    validate(node, config, false)
        .map_err(|e| format!("failed to convert patch object to typed object: {e}"))?;
    let mut atomic = Vec::new();
    find_atomic(node, config, &mut Vec::new(), &mut atomic);
    if !atomic.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomic.join(", ")
        ));
    }
    Ok(merge(node, object, config))
}

/// The paths of everything atomic in `value`.
fn find_atomic<S: SchemaNode>(
    node: &S,
    value: &Value,
    path: &mut Vec<PathElement>,
    found: &mut Vec<String>,
) {
    match value {
        Value::Object(members) if node.map().is_some() => {
            if is_atomic_map(node) {
                found.push(shown(path));
            }
            for (name, member) in members {
                if let Some(field) = node.field(name) {
                    path.push(PathElement::field(name));
                    find_atomic(&field.node, member, path, found);
                    path.pop();
                }
            }
        }
        Value::Array(items) if node.list().is_some() => {
            if is_atomic_list(node) {
                found.push(shown(path));
            }
            let node = node.item();
            for (i, item) in (0..).zip(items) {
                path.push(PathElement::Index(i));
                find_atomic(&node, item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kinds::by_resource;
    use serde_json::json;

    #[test]
    fn keyed_lists_merge_and_atomic_ones_are_refused() {
        let pods = by_resource("", "v1", "pods").unwrap();
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "i"}]}});
        for (config, wanted) in [
            (
                json!({"spec": {"containers": [{"name": "b", "image": "j"}]}}),
                Ok(json!({"spec": {"containers": [
                    {"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}})),
            ),
            (
                json!({"metadata": {"labels": {"x": "y"}}}),
                Ok(
                    json!({"spec": {"containers": [{"name": "a", "image": "i"}]},
                    "metadata": {"labels": {"x": "y"}}}),
                ),
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "command": ["x"]}]}}),
                Err(
                    "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].command",
                ),
            ),
            (
                json!({"spec": {"wrong": 1}}),
                Err(
                    "failed to convert patch object to typed object: .spec.wrong: field not declared in schema",
                ),
            ),
        ] {
            let found = overlay(&pods, None, &pod, &config);
            assert_eq!(found, wanted.map_err(str::to_owned), "{config}");
        }
    }
}

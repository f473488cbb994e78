//! OpenAPI v2 of extension servers, merged into this server's (upstream's
//! `kube-openapi/pkg/aggregator`): paths of their group-versions, and the
//! definitions that these need. A definition that has the name of another one
//! but isn't it gets a name of its own.

use super::Remote;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DEFINITION: &str = "#/definitions/";
/// Deeper than any schema; deeper ones are left out.
const MAX_DEPTH: usize = 100;

/// Adds what `remotes` say, those of higher priority first.
pub(crate) fn merge(document: &mut Value, remotes: &[Arc<Remote>]) {
    let mut ordered: Vec<&Arc<Remote>> = remotes.iter().collect();
    ordered.sort_by_key(|r| std::cmp::Reverse(r.priority()));
    for remote in ordered {
        add(document, &remote.said.v2, remote.group(), remote.version());
    }
}

fn members<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn add(document: &mut Value, other: &Value, group: &str, version: &str) {
    let own = format!("/apis/{group}/{version}/");
    let mut paths: Vec<(String, Value)> = members(other, "paths")
        .filter(|(path, _)| format!("{path}/").starts_with(&own))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    let mut wanted = BTreeSet::new();
    for (_, item) in &paths {
        references(item, MAX_DEPTH, &mut wanted);
    }
    let mut waiting: Vec<String> = wanted.iter().cloned().collect();
    while let Some(name) = waiting.pop() {
        let mut further = BTreeSet::new();
        references(&other["definitions"][&name], MAX_DEPTH, &mut further);
        waiting.extend(further.into_iter().filter(|n| wanted.insert(n.clone())));
    }
    let mut names = BTreeMap::new();
    for name in &wanted {
        let new = place(&document["definitions"], name, &other["definitions"][name]);
        names.insert(name.clone(), new);
    }
    for (path, item) in &mut paths {
        rename(item, MAX_DEPTH, &names);
        if let Some(all) = entries(document, "paths") {
            all.entry(path.clone()).or_insert_with(|| item.clone());
        }
    }
    for (name, new) in &names {
        let Some(found) = other.get("definitions").and_then(|d| d.get(name)) else {
            continue;
        };
        let mut definition = found.clone();
        rename(&mut definition, MAX_DEPTH, &names);
        if let Some(all) = entries(document, "definitions") {
            all.entry(new.clone()).or_insert(definition);
        }
    }
}

fn entries<'a>(document: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    document.get_mut(key).and_then(Value::as_object_mut)
}

/// The name under which a definition stands, or is to stand.
fn place(known: &Value, name: &str, definition: &Value) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while known
        .get(&candidate)
        .is_some_and(|k| !is_alike(k, definition, MAX_DEPTH))
    {
        candidate = format!("{name}_v{number}");
        number += 1;
    }
    candidate
}

/// The same but for what is said of it in words: servers of other releases
/// share the types of upstream's libraries.
fn is_alike(a: &Value, b: &Value, depth: usize) -> bool {
    match (a, b) {
        _ if depth == 0 => false,
        (Value::Object(a), Value::Object(b)) => {
            let keys = |m: &Map<String, Value>| -> BTreeSet<String> {
                let named = m.keys().filter(|k| *k != "description");
                named.cloned().collect()
            };
            let all = keys(a);
            let same = |k: &String| is_alike(&a[k], &b[k], depth - 1);
            all == keys(b) && all.iter().all(same)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_alike(a, b, depth - 1))
        }
        (a, b) => a == b,
    }
}

fn references(value: &Value, depth: usize, out: &mut BTreeSet<String>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Object(map) => {
            let to = map.get("$ref").and_then(Value::as_str);
            if let Some(name) = to.and_then(|to| to.strip_prefix(DEFINITION)) {
                out.insert(name.to_owned());
            }
            map.values().for_each(|v| references(v, depth - 1, out));
        }
        Value::Array(all) => all.iter().for_each(|v| references(v, depth - 1, out)),
        _ => {}
    }
}

fn rename(value: &mut Value, depth: usize, names: &BTreeMap<String, String>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(new) = to.strip_prefix(DEFINITION).and_then(|name| names.get(name))
            {
                *to = format!("{DEFINITION}{new}");
            }
            map.values_mut().for_each(|v| rename(v, depth - 1, names));
        }
        Value::Array(all) => all.iter_mut().for_each(|v| rename(v, depth - 1, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_and_what_they_need_are_added() {
        let to = |name: &str| json!({"schema": {"$ref": format!("{DEFINITION}{name}")}});
        let mut document = json!({
            "paths": {"/api/v1/pods": {}},
            "definitions": {
                "Shared": {"type": "object", "description": "ours"},
                "Clash": {"type": "string"},
            },
        });
        let other = json!({
            "paths": {
                "/apis/g/v1/things": {"get": to("Thing")},
                "/apis/g/v10/things": {"get": to("Unwanted")},
                "/api/v1/pods": {"get": to("Unwanted")},
            },
            "definitions": {
                "Thing": {"properties": {
                    "a": {"$ref": "#/definitions/Shared"},
                    "b": {"$ref": "#/definitions/Clash"},
                    "c": {"$ref": "#/definitions/Thing"},
                    "d": {"$ref": "#/definitions/Nowhere"},
                }},
                "Shared": {"type": "object", "description": "theirs"},
                "Clash": {"type": "integer"},
                "Unwanted": {},
            },
        });
        add(&mut document, &other, "g", "v1");
        let keys =
            |key: &str| -> Vec<&str> { members(&document, key).map(|(k, _)| k.as_str()).collect() };
        assert_eq!(keys("paths"), ["/api/v1/pods", "/apis/g/v1/things"]);
        assert_eq!(
            keys("definitions"),
            ["Shared", "Clash", "Clash_v2", "Thing"]
        );
        assert_eq!(document["definitions"]["Shared"]["description"], "ours");
        assert_eq!(document["definitions"]["Clash_v2"]["type"], "integer");
        let b = &document["definitions"]["Thing"]["properties"]["b"]["$ref"];
        assert_eq!(b, "#/definitions/Clash_v2");
        assert_eq!(document["paths"]["/api/v1/pods"], json!({}));
    }

    #[test]
    fn junk_adds_nothing() {
        for junk in [
            json!(null),
            json!([1]),
            json!({"paths": 1}),
            json!({"paths": {"/apis/g/v1": 7}}),
        ] {
            let mut document = json!({"paths": {}, "definitions": {}});
            add(&mut document, &junk, "g", "v1");
            assert_eq!(document["definitions"], json!({}), "{junk}");
        }
    }
}

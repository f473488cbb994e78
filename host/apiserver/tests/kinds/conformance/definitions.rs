//! CustomResourceDefinitions: their status, lists, defaults, what they publish.

use super::{events, items, names, until, version};
use crate::api::Api;
use serde_json::{Value, json};

pub(super) const ALL: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const JSON_PATCH: &str = "application/json-patch+json";

/// Of the kind Foo, cluster-wide, in these versions; the first is stored.
pub(super) fn definition(group: &str, versions: &[&str], schema: Value) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(i, name)| {
            json!({"name": name, "served": true, "storage": i == 0,
                "schema": {"openAPIV3Schema": schema}})
        })
        .collect();
    json!({
        "metadata": {"name": format!("foos.{group}")},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": versions,
        },
        // As Go's client has what it doesn't know.
        "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": null},
    })
}

/// Made, and there to be used.
fn served(api: &Api, group: &str, versions: &[&str], schema: Value) -> Value {
    let made = api.create(ALL, &definition(group, versions, schema));
    for version in versions {
        let path = format!("/apis/{group}/{version}");
        until(api, &path, |code, _| code == 200);
    }
    made
}

fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[test]
fn the_status_of_a_definition_takes_any_condition() {
    let api = Api::start();
    let made = served(&api, "status.example.com", &["v1"], anything());
    let one = format!("{ALL}/foos.status.example.com");
    let status = until(&api, &format!("{one}/status"), |_, found| {
        found["status"]["conditions"]
            .as_array()
            .is_some_and(|c| c.len() == 2)
    });
    assert_eq!(status["spec"], made["spec"]);
    let mut wanted = status.clone();
    let bare = json!({"type": "", "status": "", "lastTransitionTime": null, "message": "updated"});
    wanted["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(bare);
    let updated = api.update(&format!("{one}/status"), &wanted);
    assert_eq!(updated["status"]["conditions"][2]["message"], "updated");
    let change =
        json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let patched = api.patch(&format!("{one}/status"), JSON_PATCH, &change);
    let conditions = patched["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["message"] == "patched"));
    api.delete(&one);
    until(&api, &one, |code, _| code == 404);
}

#[test]
fn definitions_are_listed_and_deleted_by_label() {
    let api = Api::start();
    for i in 0..4 {
        let group = format!("listed{i}.example.com");
        let mut body = definition(&group, &["v1"], anything());
        if i > 0 {
            body["metadata"]["labels"] = json!({"test": "list"});
        }
        api.create(ALL, &body);
        until(&api, &format!("/apis/{group}/v1"), |code, _| code == 200);
    }
    let labelled = format!("{ALL}?labelSelector=test%3Dlist");
    assert_eq!(items(&api.get(&labelled)).len(), 3);
    api.delete(&labelled);
    until(&api, &labelled, |_, found| items(found).is_empty());
    api.get(&format!("{ALL}/foos.listed0.example.com"));
    until(&api, "/apis/listed1.example.com/v1", |code, _| code == 404);
}

#[test]
fn defaults_come_to_requests_and_to_what_is_stored() {
    let api = Api::start();
    let mut schema = anything();
    schema["properties"] = json!({"a": {"type": "string"}, "b": {"type": "string"}});
    served(&api, "defaults.example.com", &["v1"], schema);
    let (one, foos) = (
        format!("{ALL}/foos.defaults.example.com"),
        "/apis/defaults.example.com/v1/foos",
    );
    let named = |name: &str| json!({"apiVersion": "defaults.example.com/v1", "kind": "Foo", "metadata": {"name": name}});
    api.create(foos, &named("first"));
    let at =
        |name: &str| format!("/spec/versions/0/schema/openAPIV3Schema/properties/{name}/default");
    api.patch(
        &one,
        JSON_PATCH,
        &json!([{"op": "add", "path": at("a"), "value": "A"}]),
    );
    let first = format!("{foos}/first");
    until(&api, &first, |_, found| found["a"] == "A");
    let second = api.create(foos, &named("second"));
    assert_eq!(second["a"], "A");
    let change =
        json!([{"op": "remove", "path": at("a")}, {"op": "add", "path": at("b"), "value": "B"}]);
    api.patch(&one, JSON_PATCH, &change);
    // What was stored with it keeps it.
    let second = until(&api, &format!("{foos}/second"), |_, found| {
        found["b"] == "B"
    });
    assert_eq!(second["a"], "A");
    let first = api.get(&first);
    assert_eq!((&first["a"], &first["b"]), (&Value::Null, &json!("B")));
}

#[test]
fn watches_of_custom_objects_see_their_lives() {
    let api = Api::start();
    served(&api, "watch.example.com", &["v1"], anything());
    let foos = "/apis/watch.example.com/v1/foos";
    let start = api.get(foos);
    let body =
        json!({"apiVersion": "watch.example.com/v1", "kind": "Foo", "metadata": {"name": "one"}});
    api.create(foos, &body);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    api.patch(&format!("{foos}/one"), crate::api::MERGE, &labels);
    api.delete(&format!("{foos}/one"));
    let seen = events(&api, foos, version(&start));
    assert_eq!(names(&seen), ["ADDED", "MODIFIED", "DELETED"]);
}

/// The definition in the published document, without what the server adds.
fn published(document: &Value, name: &str) -> Option<Value> {
    let mut found = document["definitions"].get(name)?.clone();
    assert!(
        found["x-kubernetes-group-version-kind"].is_array(),
        "{found:#}"
    );
    let members = found.as_object_mut().unwrap();
    members.remove("x-kubernetes-group-version-kind");
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        properties.retain(|k, _| !matches!(k.as_str(), "metadata" | "apiVersion" | "kind"));
        if properties.is_empty() {
            members.remove("properties");
        }
    }
    Some(found)
}

#[test]
fn openapi_follows_the_versions_that_are_served() {
    let api = Api::start();
    let schema = json!({
        "description": "Foo CRD for Testing",
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"bars": {"type": "array", "items": {
                "type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string", "description": "Name of Bar."},
                    "feeling": {"type": "string", "enum": ["Great", "Down"]}}}}}},
            "status": {"type": "object", "properties": {
                "quxType": {"type": "string", "pattern": "in-tree|out-of-tree"}}},
        },
    });
    served(&api, "multi.example.com", &["v2", "v3"], schema.clone());
    let one = format!("{ALL}/foos.multi.example.com");
    let rename = json!([
        {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
    ]);
    let unserve = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    for (change, there, gone) in [
        (None, &["v2", "v3"][..], "v4"),
        (Some(rename), &["v2", "v4"], "v3"),
        (Some(unserve), &["v2"], "v4"),
    ] {
        if let Some(change) = change {
            api.patch(&one, JSON_PATCH, &change);
        }
        let name = |v: &str| format!("com.example.multi.{v}.Foo");
        let document = until(&api, "/openapi/v2", |_, found| {
            let definitions = &found["definitions"];
            definitions.get(name(gone)).is_none()
                && there.iter().all(|v| definitions.get(name(v)).is_some())
        });
        for version in there {
            assert_eq!(published(&document, &name(version)), Some(schema.clone()));
        }
    }
    // Without a schema of any use it is an object and no more.
    served(&api, "empty.example.com", &["v1"], anything());
    let document = until(&api, "/openapi/v2", |_, found| {
        found["definitions"]
            .get("com.example.empty.v1.Foo")
            .is_some()
    });
    let found = published(&document, "com.example.empty.v1.Foo");
    assert_eq!(found, Some(json!({"type": "object"})));
}

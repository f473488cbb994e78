//! Discovery documents, tables, published OpenAPI.

use super::{accepting, until};
use crate::api::Api;
use serde_json::{Value, json};

/// A resource of each group-version that a conformant server has.
const RESOURCES: [(&str, &str, &str); 20] = [
    ("", "v1", "namespaces"),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
    ),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
    ("flowcontrol.apiserver.k8s.io", "v1", "flowschemas"),
];
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[test]
fn every_group_prefers_a_version_that_it_has() {
    let api = Api::start();
    let groups = api.get("/apis/");
    let groups = groups["groups"].as_array().unwrap();
    assert!(groups.len() > 15);
    for group in groups {
        let found = api.get(&format!("/apis/{}/", group["name"].as_str().unwrap()));
        let preferred = &found["preferredVersion"]["groupVersion"];
        let versions = found["versions"].as_array().unwrap();
        let has = versions.iter().any(|v| &v["groupVersion"] == preferred);
        assert!(has, "{found:#}");
    }
}

#[test]
fn every_document_of_discovery_lists_the_resources() {
    let api = Api::start();
    let apis = accepting(&api, "GET", "/apis", AGGREGATED, &Value::Null).1;
    let core = accepting(&api, "GET", "/api", AGGREGATED, &Value::Null).1;
    for (group, version, resource) in RESOURCES {
        let (path, all, of_group) = match group {
            "" => ("/api/v1".to_owned(), &core, "v1".to_owned()),
            _ => (
                format!("/apis/{group}/{version}"),
                &apis,
                format!("{group}/{version}"),
            ),
        };
        let list = api.get(&path);
        assert_eq!(list["groupVersion"], of_group);
        let listed = list["resources"].as_array().unwrap();
        assert!(listed.iter().any(|r| r["name"] == resource), "{path}");
        let items = all["items"].as_array().unwrap();
        let of = items.iter().filter(|g| {
            // The core group has no name.
            g["metadata"]["name"].as_str().unwrap_or_default() == group
        });
        let versions = of.flat_map(|g| g["versions"].as_array().unwrap());
        let mut resources = versions
            .filter(|v| v["version"] == version)
            .flat_map(|v| v["resources"].as_array().unwrap());
        assert!(resources.any(|r| r["resource"] == resource), "{path}");
    }
}

#[test]
fn what_can_only_be_created_has_no_table() {
    let api = Api::start();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let json_too = format!("{table},application/json");
    let access = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let token = json!({"spec": {"token": "t"}});
    let request = json!({"spec": {"audiences": []}});
    let account = json!({"metadata": {"name": "a"}});
    api.create("/api/v1/namespaces/default/serviceaccounts", &account);
    for (path, body) in [
        (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            access,
        ),
        ("/apis/authentication.k8s.io/v1/tokenreviews", token),
        (
            "/api/v1/namespaces/default/serviceaccounts/a/token",
            request,
        ),
    ] {
        let (code, status) = accepting(&api, "POST", path, table, &body);
        assert_eq!(
            (code, &status["reason"]),
            (406, &json!("NotAcceptable")),
            "{path}"
        );
        let (code, made) = accepting(&api, "POST", path, &json_too, &body);
        assert_eq!(code, 201, "{path}: {made:#}");
    }
    for path in [
        "/api/v1/namespaces/default",
        "/api/v1/namespaces/default/status",
    ] {
        let (code, found) = accepting(&api, "GET", path, table, &Value::Null);
        assert_eq!((code, &found["kind"]), (200, &json!("Table")), "{path}");
    }
}

/// Every `$ref` below a value.
fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            out.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|v| references(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn published_schemas_lack_nothing_that_they_refer_to() {
    let api = Api::start();
    let definition =
        super::definitions::definition("refs.example.com", &["v1"], json!({"type": "object"}));
    api.create(super::definitions::ALL, &definition);
    until(&api, "/apis/refs.example.com/v1", |code, _| code == 200);
    let index = api.get("/openapi/v3");
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("apis/refs.example.com/v1"));
    for place in paths.values() {
        let path = place["serverRelativeURL"].as_str().unwrap();
        let document = api.get(path);
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}: {reference}");
        }
    }
    let document = api.get("/openapi/v2");
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

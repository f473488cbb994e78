//! Fields that a kind doesn't have, or has twice.

use super::definitions::{ALL, definition};
use super::{namespace, until};
use crate::api::{Api, request};
use serde_json::{Value, json};

/// A Deployment as text: `metadata` and `spec` begin with what is given.
fn deployment(metadata: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {{{metadata} "name": "my-dep", "labels": {{"app": "nginx"}}}},
        "spec": {{{spec} "selector": {{"matchLabels": {{"app": "nginx"}}}},
          "template": {{"metadata": {{"labels": {{"app": "nginx"}}}},
            "spec": {{"containers": [{{"name": "nginx", "image": "nginx:latest"}}]}}}}}}}}"#
    )
}

#[test]
fn strict_decoding_names_faults_in_the_order_of_the_body() {
    let api = Api::start();
    namespace(&api, "strict");
    let path = "/apis/apps/v1/namespaces/strict/deployments?fieldManager=m&fieldValidation=Strict";
    for (metadata, spec, words) in [
        (
            "",
            r#""unknownField": "foo", "replicas": 2, "replicas": 3,"#,
            r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#,
        ),
        (
            "",
            r#""replicas": 2, "replicas": 3, "unknownField": "foo","#,
            r#"strict decoding error: duplicate field "spec.replicas", unknown field "spec.unknownField""#,
        ),
        (
            r#""unknownMeta": "foo","#,
            "",
            r#"strict decoding error: unknown field "metadata.unknownMeta""#,
        ),
        (
            r#""x": 1,"#,
            r#""replicas": 1, "y": {"replicas": 4}, "replicas": 2, "z": 1, "replicas": 3,"#,
            r#"unknown field "metadata.x", unknown field "spec.y", duplicate field "spec.replicas", unknown field "spec.z", duplicate field "spec.replicas""#,
        ),
    ] {
        let mut request = request("POST", path, "application/json", &Value::Null);
        *request.body_mut() = deployment(metadata, spec).into();
        let (code, status) = api.together(vec![request]).pop().unwrap();
        let message = status["message"].as_str().unwrap();
        assert_eq!(code, 400, "{status:#}");
        assert!(message.contains(words), "no {words:?} in {message:?}");
    }
}

#[test]
fn what_a_schema_lacks_is_not_applied() {
    let api = Api::start();
    let spec = json!({"type": "object", "properties": {"foo": {"type": "string"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    api.create(ALL, &definition("lacks.example.com", &["v1"], schema));
    until(&api, "/apis/lacks.example.com/v1", |code, _| code == 200);
    let path = "/apis/lacks.example.com/v1/foos/mytest?fieldManager=m&fieldValidation=Strict";
    let fine = json!({"apiVersion": "lacks.example.com/v1", "kind": "Foo",
        "metadata": {"name": "mytest"}, "spec": {"foo": "foo1"}});
    for (place, member, words) in [
        (
            "",
            "unknownField",
            ".unknownField: field not declared in schema",
        ),
        (
            "/metadata",
            "unknownMeta",
            ".metadata.unknownMeta: field not declared in schema",
        ),
    ] {
        let mut config = fine.clone();
        config.pointer_mut(place).unwrap()[member] = "unknown".into();
        let (code, status) = api.send("PATCH", path, "application/apply-patch+yaml", &config);
        let message = status["message"].as_str().unwrap_or_default();
        assert!(code >= 400 && message.contains(words), "{code} {status:#}");
    }
    let (code, made) = api.send("PATCH", path, "application/apply-patch+yaml", &fine);
    assert_eq!(code, 201, "{made:#}");
}

/// A ConfigMap whose key stands twice, on the seventh line.
const TWICE: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: twice
data:
  a: b
  a: c
";

#[test]
fn keys_of_yaml_that_stand_twice_are_told_by_line() {
    let api = Api::start();
    namespace(&api, "yaml");
    let maps = "/api/v1/namespaces/yaml/configmaps";
    let line = "yaml: unmarshal errors:\n  line 7: key \"a\" already set in map";
    let applied = format!("error converting YAML to JSON: {line}");
    for (method, path, media, words) in [
        (
            "POST",
            format!("{maps}?"),
            "application/yaml",
            format!("strict decoding error: {line}"),
        ),
        (
            "PATCH",
            format!("{maps}/twice?fieldManager=m&"),
            "application/apply-patch+yaml",
            format!("error strict decoding patch: {applied}"),
        ),
    ] {
        let send = |validation: &str| {
            let path = format!("{path}fieldValidation={validation}");
            let mut request = request(method, &path, media, &Value::Null);
            *request.body_mut() = TWICE.into();
            api.together(vec![request]).pop().unwrap()
        };
        let (code, status) = send("Strict");
        let message = status["message"].as_str().unwrap();
        assert_eq!(code, 400, "{status:#}");
        assert!(message.contains(&words), "no {words:?} in {message:?}");
        let (code, made) = send("Warn");
        assert_eq!((code, &made["data"]["a"]), (201, &json!("c")), "{made:#}");
        api.delete(&format!("{maps}/twice"));
    }
}

//! CustomResourceDefinitions from their making to their end, as upstream's
//! conformance tests go through them: names, schemas, discovery, OpenAPI,
//! status, versions.

use crate::session::Session;
use crate::wire::Client;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

/// A definition of `kind` in `group`, with its versions.
pub(crate) fn definition(group: &str, kind: &str, versions: &Value) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "kind": kind},
        },
    })
}

fn version(name: &str, schema: &Value) -> Value {
    json!({
        "name": name, "served": true, "storage": name == "v1",
        "schema": {"openAPIV3Schema": schema},
    })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "description": "A thing to test with.",
        "properties": {
            "spec": {
                "type": "object",
                "description": "What is wanted.",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How big."},
                    "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "port": {"x-kubernetes-int-or-string": true},
                },
            },
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        },
    })
}

/// Makes a definition and waits until it is served.
pub(crate) fn establish(c: &Client, definition: &Value) -> Value {
    let (code, made) = c.post(DEFINITIONS, definition);
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let path = format!(
        "{DEFINITIONS}/{}",
        made["metadata"]["name"].as_str().unwrap()
    );
    until(|| {
        let (_, found) = c.get(&path);
        condition(&found, "Established").then_some(found)
    })
}

/// Things of example.com: a size, and a color that is red unless told.
pub(crate) fn establish_things(c: &Client) {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"}, "color": {"type": "string", "default": "red"}}}}});
    let versions = json!([{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": schema}}]);
    establish(c, &definition("example.com", "Thing", &versions));
}

fn condition(definition: &Value, name: &str) -> bool {
    definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == name && c["status"] == "True")
}

pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "nothing came of it");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn thing(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

#[test]
fn a_definition_brings_a_kind_and_takes_it_away() {
    let c = Client::start();
    let (code, _) = c.get(THINGS);
    assert_eq!(code, StatusCode::NOT_FOUND);
    let mut wanted = definition("example.com", "Thing", &json!([version("v1", &schema())]));
    wanted["spec"]["names"]["shortNames"] = json!(["th"]);
    wanted["spec"]["names"]["categories"] = json!(["all"]);
    let made = establish(&c, &wanted);
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "ThingList");
    assert_eq!(made["status"]["acceptedNames"]["singular"], "thing");
    assert!(condition(&made, "NamesAccepted"));
    // Discovery knows it at once, in both forms.
    let (_, groups) = c.get("/apis");
    assert!(
        groups["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|g| g["name"] == "example.com")
    );
    let (_, resources) = c.get("/apis/example.com/v1");
    assert_eq!(resources["resources"][0]["name"], "things");
    assert_eq!(resources["resources"][0]["shortNames"], json!(["th"]));
    let (_, group) = c.get("/apis/example.com");
    assert_eq!(group["preferredVersion"]["version"], "v1");
    let (code, _) = c.post(THINGS, &thing("a", &json!({"size": 3})));
    assert_eq!(code, StatusCode::CREATED);
    let (_, list) = c.get(THINGS);
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&json!("ThingList"), 1)
    );
    // Its objects go with it.
    let path = format!("{DEFINITIONS}/things.example.com");
    let (code, _) = c.send(Method::DELETE, &path, &[], b"");
    assert_eq!(code, StatusCode::OK);
    until(|| (c.get(&path).0 == StatusCode::NOT_FOUND).then_some(()));
    until(|| (c.get(THINGS).0 == StatusCode::NOT_FOUND).then_some(()));
    establish(&c, &wanted);
    let (_, list) = c.get(THINGS);
    assert_eq!(list["items"], json!([]));
}

#[test]
fn objects_are_pruned_defaulted_and_validated() {
    let c = Client::start();
    establish(
        &c,
        &definition("example.com", "Thing", &json!([version("v1", &schema())])),
    );
    let spec = json!({"size": 3, "unknown": 1, "color": null, "free": {"any": {"thing": 1}}, "port": "http"});
    let (code, made) = c.post(THINGS, &thing("a", &spec));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let wanted = json!({"size": 3, "color": "red", "free": {"any": {"thing": 1}}, "port": "http"});
    assert_eq!(made["spec"], wanted);
    assert_eq!(made["metadata"]["generation"], 1);
    let strict = format!("{THINGS}?fieldValidation=Strict");
    let (code, refused) = c.post(&strict, &thing("b", &spec));
    assert_eq!(code, StatusCode::BAD_REQUEST);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("unknown field \"spec.unknown\""),
        "{message}"
    );
    for (spec, wanted) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": 11}),
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({"size": "x"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 1, "color": "blue"}),
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({"size": 1, "tags": ["a", "a"]}),
            "spec.tags[1]: Duplicate value: \"a\"",
        ),
        (
            json!({"size": 1, "port": 1.5}),
            "spec.port: Invalid value: \"number\": spec.port in body must be of type integer,string: \"number\"",
        ),
    ] {
        let (code, refused) = c.post(THINGS, &thing("c", &spec));
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert_eq!(
            message,
            format!("Thing.example.com \"c\" is invalid: {wanted}")
        );
    }
    // A generation counts changes, not metadata.
    let one = format!("{THINGS}/a");
    let (_, patched) = c.send(
        Method::PATCH,
        &one,
        MERGE,
        br#"{"metadata":{"labels":{"x":"y"}}}"#,
    );
    assert_eq!(patched["metadata"]["generation"], 1, "{patched}");
    let (_, patched) = c.send(Method::PATCH, &one, MERGE, br#"{"spec":{"size":4}}"#);
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[test]
fn a_default_reaches_what_is_stored() {
    let c = Client::start();
    let mut wanted = definition("example.com", "Thing", &json!([version("v1", &schema())]));
    establish(&c, &wanted);
    c.post(THINGS, &thing("a", &json!({"size": 3})));
    wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["weight"] = json!({"type": "integer", "default": 7});
    let path = format!("{DEFINITIONS}/things.example.com");
    let patch = json!({"spec": {"versions": wanted["spec"]["versions"]}}).to_string();
    let (code, answer) = c.send(Method::PATCH, &path, MERGE, patch.as_bytes());
    assert_eq!(code, StatusCode::OK, "{answer}");
    assert_eq!(answer["metadata"]["generation"], 2);
    until(|| {
        let (_, found) = c.get(&format!("{THINGS}/a"));
        (found["spec"]["weight"] == 7).then_some(())
    });
    let (_, list) = c.get(THINGS);
    assert_eq!(list["items"][0]["spec"]["weight"], 7);
}

#[test]
fn status_is_written_apart() {
    let c = Client::start();
    let mut of = version("v1", &schema());
    of["subresources"] = json!({"status": {}});
    establish(&c, &definition("example.com", "Thing", &json!([of])));
    let mut with_status = thing("a", &json!({"size": 3}));
    with_status["status"] = json!({"ready": true});
    let (_, made) = c.post(THINGS, &with_status);
    assert_eq!(made.get("status"), None);
    let status = format!("{THINGS}/a/status");
    let (code, patched) = c.send(
        Method::PATCH,
        &status,
        MERGE,
        br#"{"status":{"ready":true},"spec":{"size":9}}"#,
    );
    assert_eq!(code, StatusCode::OK, "{patched}");
    assert_eq!(
        (&patched["status"]["ready"], &patched["spec"]["size"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(patched["metadata"]["generation"], 1);
    let (code, refused) = c.send(
        Method::PATCH,
        &status,
        MERGE,
        br#"{"status":{"ready":"x"}}"#,
    );
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    let (_, patched) = c.send(
        Method::PATCH,
        &format!("{THINGS}/a"),
        MERGE,
        br#"{"status":{"ready":false}}"#,
    );
    assert_eq!(patched["status"]["ready"], true);
}

#[test]
fn names_are_taken_once() {
    let c = Client::start();
    establish(
        &c,
        &definition("example.com", "Thing", &json!([version("v1", &schema())])),
    );
    let mut other = definition("example.com", "Item", &json!([version("v1", &schema())]));
    other["spec"]["names"]["kind"] = "Thing".into();
    other["spec"]["names"]["singular"] = "item".into();
    c.post(DEFINITIONS, &other);
    let path = format!("{DEFINITIONS}/items.example.com");
    let found = until(|| {
        let (_, found) = c.get(&path);
        let conditions = found["status"]["conditions"]
            .as_array()
            .is_some_and(|l| !l.is_empty());
        conditions.then_some(found)
    });
    assert!(!condition(&found, "NamesAccepted") && !condition(&found, "Established"));
    assert!(found.to_string().contains("is already in use"), "{found}");
    // Free again, the names go to whoever waits for them.
    c.send(
        Method::DELETE,
        &format!("{DEFINITIONS}/things.example.com"),
        &[],
        b"",
    );
    until(|| condition(&c.get(&path).1, "Established").then_some(()));
}

#[test]
fn definitions_are_checked() {
    let c = Client::start();
    for (change, wanted) in [
        (
            json!({"spec": {"group": "nodots"}}),
            "should be a domain with at least one dot",
        ),
        (
            json!({"spec": {"scope": "World"}}),
            "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            json!({"spec": {"versions": []}}),
            "must have exactly one version marked as storage version",
        ),
        (
            json!({"spec": {"versions": [version("v1", &json!({"type": "object", "properties": {"a": {}}}))]}}),
            "spec.validation.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"spec": {"versions": [version("v1", &json!({"type": "object", "properties": {"a": {"type": "string", "default": 1}}}))]}}),
            "spec.validation.openAPIV3Schema.properties[a].default: Invalid value: \"integer\"",
        ),
        (
            json!({"spec": {"versions": [version("v1", &json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}))]}}),
            "must be a valid regular expression",
        ),
        (
            json!({"spec": {"conversion": {"strategy": "Webhook"}}}),
            "spec.conversion.webhookClientConfig: Required value",
        ),
        (
            json!({"metadata": {"name": "other"}}),
            "must be spec.names.plural+\".\"+spec.group",
        ),
    ] {
        let mut definition = definition("example.com", "Thing", &json!([version("v1", &schema())]));
        merge(&mut definition, &change);
        let (code, refused) = c.post(DEFINITIONS, &definition);
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{message}");
    }
}

fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change.clone(),
    }
}

#[test]
fn several_versions_are_served_and_published() {
    let c = Client::start();
    let versions = json!([
        version("v1", &schema()),
        version(
            "v2",
            &json!({
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            })
        )
    ]);
    let made = establish(&c, &definition("example.com", "Thing", &versions));
    let (_, group) = c.get("/apis/example.com");
    assert_eq!(group["preferredVersion"]["version"], "v2");
    c.post(THINGS, &thing("a", &json!({"size": 3})));
    let (_, other) = c.get(&THINGS.replace("v1", "v2"));
    assert_eq!(other["items"][0]["apiVersion"], "example.com/v2");
    let (_, document) = c.get("/openapi/v2");
    let of = |v: &str| document["definitions"][format!("com.example.{v}.Thing")].clone();
    assert_eq!(
        of("v1")["properties"]["spec"]["properties"]["size"]["minimum"],
        1
    );
    assert_eq!(of("v2").get("properties"), None);
    assert_eq!(of("v2")["type"], "object");
    let (_, v3) = c.get("/openapi/v3/apis/example.com/v1");
    let published = &v3["components"]["schemas"]["com.example.v1.Thing"];
    assert_eq!(published["description"], "A thing to test with.");
    // No longer served, it is no longer published.
    let mut versions = made["spec"]["versions"].clone();
    versions[1]["served"] = false.into();
    let patch = json!({"spec": {"versions": versions}}).to_string();
    let path = format!("{DEFINITIONS}/things.example.com");
    c.send(Method::PATCH, &path, MERGE, patch.as_bytes());
    until(|| (c.get(&THINGS.replace("v1", "v2")).0 == StatusCode::NOT_FOUND).then_some(()));
    let (_, document) = c.get("/openapi/v2");
    assert_eq!(document["definitions"].get("com.example.v2.Thing"), None);
}

const FOR_KUBECTL: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: things, kind: Thing, shortNames: [th], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What is wanted.
            properties:
              size: {type: integer, description: How big.}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Since, type: date, jsonPath: .metadata.creationTimestamp}
"#;

#[test]
fn kubectl_gets_and_explains_them() {
    for kubectl in crate::session::kubectls() {
        let s = Session::start(&kubectl);
        s.run_with(&["apply", "-f", "-"], FOR_KUBECTL)
            .says("created");
        s.run(&[
            "wait",
            "--for=condition=Established",
            "crd/things.example.com",
        ])
        .says("condition met");
        let one = "apiVersion: example.com/v1
kind: Thing
metadata: {name: a}
spec: {size: 3}
";
        s.run_with(&["apply", "-f", "-"], one)
            .says("thing.example.com/a created");
        s.run(&["get", "th"])
            .says("NAME   SIZE   SINCE")
            .says("a      3");
        s.run(&["get", "all"]).says("thing.example.com/a");
        s.run(&["explain", "things.spec"])
            .says("What is wanted.")
            .says("How big.");
        s.run_with(&["apply", "-f", "-"], &one.replace('3', "4"))
            .says("configured");
        s.run(&["get", "crd"])
            .says("CREATED AT")
            .says("things.example.com");
        s.run(&["delete", "crd", "things.example.com"])
            .says("deleted");
    }
}

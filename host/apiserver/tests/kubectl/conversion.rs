//! Versions that a webhook converts: a real one, over TLS, in this process.

use crate::custom::{definition, establish, until};
use crate::hooks::{Reply, Server};
use crate::wire::Client;
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// `v1` has `host: "a:1"`, `v2` has `host: a, port: "1"`. Objects named `bad`
/// come back with another name.
fn convert(object: &Value, version: &Value) -> Value {
    let mut out = object.clone();
    out["apiVersion"] = version.clone();
    let host = object["spec"]["host"].as_str().unwrap_or_default();
    out["spec"] = match host.split_once(':') {
        Some((host, port)) if version == "example.com/v2" => json!({"host": host, "port": port}),
        _ if version == "example.com/v1" => {
            let port = object["spec"]["port"].as_str().unwrap_or_default();
            json!({"host": format!("{host}:{port}")})
        }
        _ => object["spec"].clone(),
    };
    if object["metadata"]["name"] == "bad" {
        out["metadata"]["name"] = "worse".into();
    }
    out
}

fn answer(review: &Value) -> Reply {
    let version = &review["request"]["desiredAPIVersion"];
    let objects = review["request"]["objects"].as_array().unwrap();
    let converted: Vec<Value> = objects.iter().map(|o| convert(o, version)).collect();
    Reply::Json(json!({
        "apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {
            "uid": review["request"]["uid"], "result": {"status": "Success"},
            "convertedObjects": converted,
        },
    }))
}

fn version(name: &str, storage: bool) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {"host": {"type": "string"}, "port": {"type": "string"}},
        }}}},
    })
}

const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com";
const MERGE: &[(&str, &str)] = &[("content-type", "application/merge-patch+json")];

fn things(version: &str) -> String {
    THINGS.replace("v1", version)
}

/// The definition of `Thing`, whose versions the webhook converts.
fn converted(webhook: &Server, versions: &Value) -> Value {
    let mut wanted = definition("example.com", "Thing", versions);
    wanted["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": webhook.config("/convert"),
        },
    });
    wanted
}

#[test]
fn a_webhook_converts_single_objects_and_mixed_lists() {
    let webhook = Server::start(|_, review| answer(review));
    let c = Client::start();
    let versions = json!([version("v1", true), version("v2", false)]);
    let wanted = converted(&webhook, &versions);
    establish(&c, &wanted);
    let object = |version: &str, name: &str, spec: Value| {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing",
            "metadata": {"name": name}, "spec": spec})
    };
    let (code, made) = c.post(THINGS, &object("v1", "a", json!({"host": "h:1"})));
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (_, other) = c.get(&format!("{}/a", things("v2")));
    assert_eq!(other["spec"], json!({"host": "h", "port": "1"}), "{other}");
    // Now new ones are stored in the other version.
    let versions = json!([version("v1", false), version("v2", true)]);
    let patch = json!({"spec": {"versions": versions}}).to_string();
    let (_, patched) = c.send(Method::PATCH, DEFINITION, MERGE, patch.as_bytes());
    assert_eq!(patched["status"]["storedVersions"], json!(["v1", "v2"]));
    until(|| {
        let (_, made) = c.post(
            &things("v2"),
            &object("v2", "b", json!({"host": "g", "port": "2"})),
        );
        (made["kind"] == "Thing" || made["reason"] == "AlreadyExists").then_some(())
    });
    for (version, wanted) in [
        ("v1", [json!({"host": "h:1"}), json!({"host": "g:2"})]),
        (
            "v2",
            [
                json!({"host": "h", "port": "1"}),
                json!({"host": "g", "port": "2"}),
            ],
        ),
    ] {
        let (_, list) = c.get(&things(version));
        let specs: Vec<Value> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["spec"].clone())
            .collect();
        assert_eq!(specs, wanted, "{list}");
    }
    let events = c.watch(&format!("{}?watch=1", things("v1")), 2);
    assert!(
        events
            .iter()
            .all(|e| e["object"]["apiVersion"] == "example.com/v1")
    );
    // What it may not change, it can't.
    let (code, refused) = c.post(THINGS, &object("v1", "bad", json!({"host": "h:1"})));
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("must have the same name: bad != worse"),
        "{message}"
    );
    // One connection for what is asked here, one for what asks by itself.
    assert!(webhook.accepted() <= 2, "{}", webhook.accepted());
    // Gone, it says so.
    drop(webhook);
    let (code, refused) = c.get(&format!("{}/a", things("v2")));
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("conversion webhook for example.com/v2, Kind=Thing failed"),
        "{message}"
    );
}

#[test]
fn a_list_is_converted_at_once() {
    let webhook = Server::start(|_, review| answer(review));
    let c = Client::start();
    let all = |stored: &str| -> Value {
        let versions = ["v1", "v2", "v3"].map(|name| version(name, name == stored));
        versions.into_iter().collect()
    };
    let wanted = converted(&webhook, &all("v1"));
    establish(&c, &wanted);
    let make = |version: &str, i: usize| {
        let labels = json!({"odd": (i % 2 == 1).to_string()});
        let object = json!({"apiVersion": format!("example.com/{version}"), "kind": "Thing",
            "metadata": {"name": format!("t{i}"), "labels": labels}, "spec": {"host": format!("h:{i}")}});
        c.post(&things(version), &object).1
    };
    for i in 0..6 {
        assert_eq!(make("v1", i)["kind"], "Thing");
    }
    let patch = json!({"spec": {"versions": all("v2")}}).to_string();
    let (_, patched) = c.send(Method::PATCH, DEFINITION, MERGE, patch.as_bytes());
    assert_eq!(patched["status"]["storedVersions"], json!(["v1", "v2"]));
    until(|| (make("v2", 6)["kind"] == "Thing").then_some(()));
    make("v2", 7);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    // Nothing is stored in v3: all that is listed is converted, and no object
    // is asked about twice. Who lists by itself, lists another version.
    for (version, query, accept, sent, names) in [
        ("v3", "", "application/json", &[8][..], 8),
        ("v3", "", table, &[8], 8),
        ("v3", "", partial, &[8], 8),
        ("v3", "?labelSelector=odd=true", "application/json", &[8], 4),
        ("v3", "?limit=3", "application/json", &[3], 3),
        (
            "v3",
            "?fieldSelector=metadata.name=t1",
            "application/json",
            &[8],
            1,
        ),
    ] {
        webhook.asked();
        let (code, list) = c.send(
            Method::GET,
            &format!("{}{query}", things(version)),
            &[("accept", accept)],
            b"",
        );
        assert_eq!(code, StatusCode::OK, "{list}");
        let asked = webhook.asked();
        let counts: Vec<usize> = asked
            .iter()
            .filter(|(_, review)| review["request"]["desiredAPIVersion"] == "example.com/v3")
            .map(|(_, review)| review["request"]["objects"].as_array().unwrap().len())
            .collect();
        assert_eq!(counts, sent, "{query} {accept}");
        let listed = list["items"]
            .as_array()
            .or(list["rows"].as_array())
            .unwrap();
        assert_eq!(listed.len(), names, "{query} {accept}");
        if accept == "application/json" {
            let others = listed
                .iter()
                .filter(|o| o["apiVersion"] != "example.com/v3");
            assert_eq!(others.count(), 0, "{list}");
        }
    }
}

//! Deletion: policies, preconditions, collections.

use crate::wire::{Client, MAPS, map};
use http::{Method, StatusCode};
use serde_json::{Value, json};

fn delete(c: &Client, path: &str, options: &Value) -> (StatusCode, Value) {
    c.send(Method::DELETE, path, &[], options.to_string().as_bytes())
}

#[test]
fn policies_wait_for_the_garbage_collector() {
    let c = Client::start();
    for (name, options, finalizers) in [
        (
            "f",
            json!({"propagationPolicy": "Foreground"}),
            json!(["foregroundDeletion"]),
        ),
        (
            "o",
            json!({"propagationPolicy": "Orphan"}),
            json!(["orphan"]),
        ),
        ("p", json!({"orphanDependents": true}), json!(["orphan"])),
    ] {
        c.post(MAPS, &map(name));
        let path = format!("{MAPS}/{name}");
        let (code, dry) = c.send(
            Method::DELETE,
            &format!("{path}?dryRun=All&propagationPolicy=Foreground"),
            &[],
            b"",
        );
        assert_eq!(code, StatusCode::OK);
        assert_eq!(dry["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        let (code, marked) = delete(&c, &path, &options);
        assert_eq!(code, StatusCode::OK, "{marked}");
        assert_eq!(marked["metadata"]["finalizers"], finalizers);
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        let patch = [("content-type", "application/merge-patch+json")];
        c.send(
            Method::PATCH,
            &path,
            &patch,
            br#"{"metadata":{"finalizers":null}}"#,
        );
        assert_eq!(c.get(&path).0, StatusCode::NOT_FOUND);
    }
    c.post(MAPS, &map("b"));
    let path = format!("{MAPS}/b");
    for (options, code, message) in [
        (
            json!({"propagationPolicy": "Sideways"}),
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
        (
            json!({"preconditions": {"uid": "u"}}),
            409,
            "Operation cannot be fulfilled on ConfigMap \"b\": the UID in the precondition (u) does not match the UID in record (",
        ),
        (
            json!({"preconditions": {"resourceVersion": "1"}}),
            409,
            "Operation cannot be fulfilled on ConfigMap \"b\": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (",
        ),
    ] {
        let (found, status) = delete(&c, &path, &options);
        assert_eq!(found.as_u16(), code, "{options}");
        let text = status["message"].as_str().unwrap();
        assert!(text.starts_with(message), "{text}");
    }
    let (code, status) = delete(&c, &path, &json!({"propagationPolicy": "Background"}));
    assert_eq!(
        (code, &status["status"]),
        (StatusCode::OK, &json!("Success"))
    );
}

#[test]
fn a_collection_goes_in_a_few_revisions() {
    let c = Client::start();
    let before = c.get(MAPS).1["items"].as_array().unwrap().len();
    for i in 0..300 {
        c.post(MAPS, &map(&format!("m{i}")));
    }
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    c.post(MAPS, &held);
    let revision = |c: &Client| -> u64 {
        let version = c.get(MAPS).1["metadata"]["resourceVersion"].clone();
        version.as_str().unwrap().parse().unwrap()
    };
    let at = revision(&c);
    let (code, listed) = c.send(Method::DELETE, &format!("{MAPS}?dryRun=All"), &[], b"");
    assert_eq!((code, revision(&c)), (StatusCode::OK, at));
    assert_eq!(listed["items"].as_array().unwrap().len(), before + 301);
    let (_, page) = c.send(
        Method::DELETE,
        &format!("{MAPS}?limit=2&labelSelector=n"),
        &[],
        b"",
    );
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let at = revision(&c);
    let (code, gone) = c.send(Method::DELETE, &format!("{MAPS}?labelSelector=n"), &[], b"");
    assert_eq!(code, StatusCode::OK);
    assert_eq!(gone["items"].as_array().unwrap().len(), 300);
    assert!(revision(&c) <= at + 3, "one revision for each transaction");
    let rest = c.get(&format!("{MAPS}?labelSelector=n")).1;
    let rest = rest["items"].as_array().unwrap();
    assert_eq!(rest.len(), 1);
    assert!(rest[0]["metadata"]["deletionTimestamp"].is_string());
}

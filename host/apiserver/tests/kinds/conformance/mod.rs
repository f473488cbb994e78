//! What upstream's conformance tests do that need neither pods nor workload
//! controllers, done here in the same order; `docs/conformance.md` says which
//! test is replayed where.

mod definitions;
mod discovery;
mod network;
mod operations;
mod quotas;
mod validation;
mod watches;

use crate::api::Api;
use apiserver::User;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// A namespace of its own.
fn namespace(api: &Api, name: &str) -> String {
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}));
    format!("/api/v1/namespaces/{name}")
}

/// With a header `Accept`: code and body.
fn accepting(api: &Api, method: &str, path: &str, accept: &str, body: &Value) -> (u16, Value) {
    let mut request = crate::api::request(method, path, "application/json", body);
    let accept = accept.parse().unwrap();
    request.headers_mut().insert("accept", accept);
    api.together(vec![request]).pop().unwrap()
}

/// What a watch from a revision tells within a second, in its order.
fn events(api: &Api, path: &str, since: &str) -> Vec<(String, Value)> {
    let root = User::new("root", ["system:masters".to_owned()]);
    let joint = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{joint}watch=true&timeoutSeconds=1&resourceVersion={since}");
    let (code, bytes) = api.raw(root, &path);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(code, 200, "{text}");
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    lines
        .map(|mut event: Value| {
            let kind = event["type"].as_str().unwrap().to_owned();
            (kind, event["object"].take())
        })
        .collect()
}

fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(kind, _)| kind.as_str()).collect()
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().unwrap()
}

/// Waits until what a path gives is as wanted; shows what it was otherwise.
#[track_caller]
fn until(api: &Api, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let (code, found) = api.send("GET", path, "", &Value::Null);
        if wanted(code, &found) {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "{path}: {code} {found:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

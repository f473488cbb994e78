//! The client against a transport that answers from a script.

#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use reconcile::resource::core::{NODES, PODS};
use reconcile::{
    Body, Client, DeleteOptions, ListOptions, ObjectKey, Patch, Resource, Transport,
    TransportError, WatchEvent, WatchOptions,
};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

struct Script {
    code: u16,
    chunks: Vec<&'static str>,
    seen: Mutex<Vec<(String, String, Value)>>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + 'a>>;

impl Transport for Script {
    fn send(&self, request: Request<Bytes>) -> Answer<'_> {
        let line = format!("{} {}", request.method(), request.uri());
        let content = request.headers().get("content-type");
        let content = content
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        let body = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        self.seen.lock().unwrap().push((line, content, body));
        let chunks: Vec<_> = self
            .chunks
            .iter()
            .map(|c| Ok(Frame::data(Bytes::from(*c))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(chunks)).boxed_unsync();
        let response = Response::builder().status(self.code).body(body).unwrap();
        Box::pin(async move { Ok(response) })
    }
}

fn script(code: u16, chunks: &[&'static str]) -> (Client, Arc<Script>) {
    let seen = Mutex::new(Vec::new());
    let script = Arc::new(Script {
        code,
        chunks: chunks.to_vec(),
        seen,
    });
    (Client::new(script.clone()), script)
}

#[tokio::test]
async fn verbs_become_methods_paths_and_bodies() {
    let (client, script) = script(200, &["{\"items\":[]}"]);
    let leases = Resource::namespaced("coordination.k8s.io", "v1", "leases");
    let object = json!({"metadata": {"name": "x"}});
    let selector = ListOptions {
        label_selector: Some("a=b,c".into()),
        limit: Some(5),
        ..ListOptions::default()
    };
    let patch = Patch::Strategic(json!({}));
    let apply = Patch::Apply {
        manager: "m e".into(),
        force: true,
        object: object.clone(),
    };
    let delete = DeleteOptions {
        uid: Some("u".into()),
        ..DeleteOptions::default()
    };
    client.get(&PODS, Some("default"), "p").await.unwrap();
    client.get(&NODES, Some("ignored"), "../n").await.unwrap();
    client.list(&leases, None, &selector).await.unwrap();
    client
        .create(&PODS, Some("default"), &object)
        .await
        .unwrap();
    client
        .update_status(&PODS, Some("default"), &object)
        .await
        .unwrap();
    client
        .patch(&PODS, Some("d"), "x", Some("status"), &patch)
        .await
        .unwrap();
    client
        .patch(&PODS, Some("d"), "x", None, &apply)
        .await
        .unwrap();
    client.delete(&PODS, Some("d"), "x", &delete).await.unwrap();
    client
        .create_subresource(&PODS, Some("d"), "x", "binding", &object)
        .await
        .unwrap();
    let seen = script.seen.lock().unwrap();
    let lines: Vec<_> = seen
        .iter()
        .map(|(line, content, _)| format!("{line} {content}"))
        .collect();
    assert_eq!(
        lines,
        [
            "GET /api/v1/namespaces/default/pods/p ",
            "GET /api/v1/nodes/..%2Fn ",
            "GET /apis/coordination.k8s.io/v1/leases?labelSelector=a%3Db%2Cc&limit=5 ",
            "POST /api/v1/namespaces/default/pods application/json",
            "PUT /api/v1/namespaces/default/pods/x/status application/json",
            "PATCH /api/v1/namespaces/d/pods/x/status application/strategic-merge-patch+json",
            "PATCH /api/v1/namespaces/d/pods/x?fieldManager=m%20e&force=true application/apply-patch+yaml",
            "DELETE /api/v1/namespaces/d/pods/x application/json",
            "POST /api/v1/namespaces/d/pods/x/binding application/json",
        ]
    );
    assert_eq!(seen[7].2["preconditions"]["uid"], "u");
}

#[tokio::test]
async fn refusals_keep_their_status() {
    let exists = r#"{"kind":"Status","reason":"AlreadyExists","message":"m","code":409}"#;
    let expired = r#"{"kind":"Status","reason":"Expired","message":"m","code":410}"#;
    let conflict = r#"{"kind":"Status","reason":"Conflict","message":"m","code":409}"#;
    for (code, body, expected) in [
        (409, exists, "exists"),
        (410, expired, "gone"),
        (409, conflict, "conflict"),
        (404, "404 page not found", "not found"),
        (502, "<html>", "other"),
    ] {
        let (client, _) = script(code, &[body]);
        let error = client.get(&PODS, Some("d"), "x").await.unwrap_err();
        let found = match () {
            () if error.is_already_exists() => "exists",
            () if error.is_gone() => "gone",
            () if error.is_conflict() => "conflict",
            () if error.is_not_found() => "not found",
            () => "other",
        };
        assert_eq!(found, expected, "{error}");
    }
    let (client, _) = script(200, &["{\"kind\":"]);
    let error = client.get(&PODS, Some("d"), "x").await.unwrap_err();
    assert!(error.to_string().contains("malformed answer"), "{error}");
}

#[tokio::test]
async fn a_list_names_its_items_kinds() {
    let body = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},
        "items":[{"metadata":{"name":"a","namespace":"d"}}]}"#;
    let (client, _) = script(200, &[body]);
    let list = client
        .list(&PODS, None, &ListOptions::default())
        .await
        .unwrap();
    assert_eq!(list.resource_version, "7");
    assert_eq!(list.items[0]["kind"], "Pod");
    assert_eq!(
        ObjectKey::of(&list.items[0]),
        Some(ObjectKey::new("d", "a"))
    );
}

#[tokio::test]
async fn a_watch_is_cut_into_events_wherever_frames_end() {
    let text = concat!(
        r#"{"type":"ADDED","object":{"n":1}}"#,
        "\n\n",
        r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
        "\n",
        r#"{"type":"DELETED","object":{"n":2}}"#,
        "\n",
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}"#,
        "\n"
    );
    for cut in 1..text.len() {
        let (client, _) = script(200, &[&text[..cut], &text[cut..]]);
        let mut watch = client
            .watch(&PODS, None, &WatchOptions::default())
            .await
            .unwrap();
        assert_eq!(
            watch.next().await.unwrap(),
            Some(WatchEvent::Added(json!({"n": 1})))
        );
        let bookmark = WatchEvent::Bookmark {
            resource_version: "9".into(),
            initial_events_end: false,
        };
        assert_eq!(watch.next().await.unwrap(), Some(bookmark));
        assert_eq!(
            watch.next().await.unwrap(),
            Some(WatchEvent::Deleted(json!({"n": 2})))
        );
        assert!(watch.next().await.unwrap_err().is_gone());
        assert_eq!(watch.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_broken_watch_is_an_error() {
    for text in [
        "{\"type\":\"ADDED\"",
        "nonsense\n",
        "{\"type\":\"ADDED\"}\n",
        "{\"type\":\"NEW\",\"object\":{}}\n",
    ] {
        let (client, _) = script(200, &[text]);
        let mut watch = client
            .watch(&PODS, None, &WatchOptions::default())
            .await
            .unwrap();
        let error = watch.next().await.unwrap_err();
        assert!(error.to_string().contains("malformed"), "{error}");
    }
}

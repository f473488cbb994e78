//! What clients see on the wire: pages, forms, versions, limits; through the
//! transport for clients in the same process.

use crate::session::Session;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use reconcile::Transport;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Client {
    transport: Arc<dyn Transport>,
    session: Session,
}

impl Client {
    pub(crate) fn start() -> Client {
        Client::of(Session::first())
    }

    pub(crate) fn of(session: Session) -> Client {
        Client {
            transport: session
                .running()
                .server()
                .local_transport(apiserver::User::new("root", ["system:masters".to_owned()])),
            session,
        }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (StatusCode, Value) {
        let (code, _, bytes) = self.raw(method, path, headers, body);
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// The answer as it stands, with its content type.
    pub(crate) fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (StatusCode, String, Bytes) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::copy_from_slice(body)).unwrap();
        self.session.runtime().block_on(async {
            let response = self.transport.send(request).await.unwrap();
            let code = response.status();
            let content_type = &response.headers()["content-type"];
            let content_type = content_type.to_str().unwrap().to_owned();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (code, content_type, bytes)
        })
    }

    /// Code, warnings and body of a POST.
    pub(crate) fn warned(&self, path: &str, body: &Value) -> (StatusCode, Vec<String>, Value) {
        let request = Request::post(path).body(body.to_string().into()).unwrap();
        self.session.runtime().block_on(async {
            let response = self.transport.send(request).await.unwrap();
            let (code, headers) = (response.status(), response.headers().clone());
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let warnings = headers.get_all("warning").iter();
            let warnings = warnings.map(|w| w.to_str().unwrap().to_owned());
            (
                code,
                warnings.collect(),
                serde_json::from_slice(&bytes).unwrap(),
            )
        })
    }

    /// Gives up all history before now.
    pub(crate) fn compact(&self) {
        let store = self.session.running().server().store().clone();
        let newest = store.revision();
        self.session
            .runtime()
            .block_on(store.compact(newest))
            .unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, &[], body.to_string().as_bytes())
    }

    /// The lines of a watch, until `count` of them are there.
    pub(crate) fn watch(&self, path: &str, count: usize) -> Vec<Value> {
        self.watch_as(path, "application/json", count)
    }

    pub(crate) fn watch_as(&self, path: &str, accept: &str, count: usize) -> Vec<Value> {
        let request = Request::get(path).header("accept", accept);
        let request = request.body(Bytes::new()).unwrap();
        self.session.runtime().block_on(async {
            let mut body = self.transport.send(request).await.unwrap().into_body();
            let mut text = Vec::new();
            loop {
                let lines: Vec<Value> = text
                    .split_inclusive(|b| *b == b'\n')
                    .filter(|l: &&[u8]| l.ends_with(b"\n"))
                    .map(|l| serde_json::from_slice(l).unwrap())
                    .collect();
                if lines.len() >= count {
                    return lines;
                }
                let frame = tokio::time::timeout(Duration::from_secs(30), body.frame());
                match frame.await.unwrap() {
                    Some(frame) => text.extend_from_slice(&frame.unwrap().into_data().unwrap()),
                    None => return lines,
                }
            }
        })
    }
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"n": name}}})
}

#[test]
fn lists_come_in_pages_that_stay_consistent() {
    let c = Client::start();
    for i in 0..7 {
        assert_eq!(c.post(MAPS, &map(&format!("m{i}"))).0, StatusCode::CREATED);
    }
    let (code, first) = c.get(&format!("{MAPS}?limit=3"));
    assert_eq!(code, StatusCode::OK);
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    // What changes between pages isn't seen.
    c.post(MAPS, &map("m9"));
    c.send(Method::DELETE, &format!("{MAPS}/m5"), &[], b"");
    let mut names: Vec<Value> = Vec::new();
    let mut page = first;
    loop {
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| i["metadata"]["name"].clone()),
        );
        let Some(next) = page["metadata"]["continue"].as_str() else {
            break;
        };
        page = c.get(&format!("{MAPS}?limit=3&continue={next}")).1;
    }
    assert_eq!(
        json!(names),
        json!(["m0", "m1", "m2", "m3", "m4", "m5", "m6"])
    );
    let (_, selected) = c.get(&format!("{MAPS}?limit=1&labelSelector=n%20in%20(m2,m4)"));
    assert_eq!(selected["items"][0]["metadata"]["name"], "m2");
    assert!(selected["metadata"]["continue"].is_string());
    let (code, refused) = c.get(&format!("{MAPS}?continue=junk"));
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::BAD_REQUEST, &json!("BadRequest"))
    );
    let (code, future) = c.get(&format!("{MAPS}?resourceVersion=99999"));
    assert_eq!(code, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        future["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

#[test]
fn watches_begin_where_they_are_asked_to() {
    let c = Client::start();
    let (_, made) = c.post(MAPS, &map("a"));
    let version = made["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    c.post(MAPS, &map("b"));
    c.send(Method::DELETE, &format!("{MAPS}/a"), &[], b"");
    let kinds = |lines: &[Value]| -> Vec<String> {
        lines
            .iter()
            .map(|l| format!("{} {}", l["type"], l["object"]["metadata"]["name"]).replace('"', ""))
            .collect()
    };
    let lines = c.watch(&format!("{MAPS}?watch=1&resourceVersion={version}"), 2);
    assert_eq!(kinds(&lines), ["ADDED b", "DELETED a"]);
    let lines = c.watch(&format!("{MAPS}?watch=true"), 1);
    assert_eq!(kinds(&lines), ["ADDED b"]);
    let streaming =
        "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let lines = c.watch(&format!("{MAPS}?{streaming}"), 2);
    assert_eq!(kinds(&lines), ["ADDED b", "BOOKMARK null"]);
    assert_eq!(
        lines[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    // Through a selector, leaving it looks like a deletion.
    let (_, now) = c.get(MAPS);
    let version = now["metadata"]["resourceVersion"].as_str().unwrap();
    let patch = [("content-type", "application/merge-patch+json")];
    c.send(
        Method::PATCH,
        &format!("{MAPS}/b"),
        &patch,
        br#"{"metadata":{"labels":{"n":"x"}}}"#,
    );
    let lines = c.watch(
        &format!("{MAPS}?watch=1&resourceVersion={version}&labelSelector=n=b"),
        1,
    );
    assert_eq!(kinds(&lines), ["DELETED b"]);
    // And an end is an end.
    let lines = c.watch(
        &format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}"),
        9,
    );
    assert_eq!(kinds(&lines), ["MODIFIED b"]);
}

#[test]
fn answers_take_the_form_that_is_asked_for() {
    let c = Client::start();
    c.post(MAPS, &map("a"));
    let accept = |v: &'static str| [("accept", v)];
    let table = accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    let (_, t) = c.send(Method::GET, MAPS, &table, b"");
    assert_eq!(t["kind"], "Table");
    assert_eq!(t["rows"][0]["cells"][0], "a");
    assert_eq!(t["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = accept("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io");
    let (_, p) = c.send(Method::GET, MAPS, &partial, b"");
    assert_eq!(p["items"][0]["kind"], "PartialObjectMetadata");
    let (code, _) = c.send(Method::GET, MAPS, &accept("text/html"), b"");
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
    let (code, _) = c.send(Method::POST, MAPS, &[("content-type", "text/plain")], b"x");
    assert_eq!(code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (code, _) = c.send(Method::PUT, MAPS, &[], b"{}");
    assert_eq!(code, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn events_are_one_object_with_two_views() {
    let c = Client::start();
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "e-"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "message": "m", "type": "Normal"});
    let (code, made) = c.post("/api/v1/namespaces/default/events", &old);
    assert_eq!(code, StatusCode::CREATED);
    let name = made["metadata"]["name"].as_str().unwrap();
    let (_, view) = c.get(&format!(
        "/apis/events.k8s.io/v1/namespaces/default/events/{name}"
    ));
    assert_eq!(view["note"], "m");
    assert_eq!(view["regarding"]["name"], "p");
    let (_, found) =
        c.get("/api/v1/events?fieldSelector=involvedObject.name=p,involvedObject.kind=Pod");
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}

#[test]
fn deletions_obey_preconditions_and_finalizers() {
    let c = Client::start();
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    c.post(MAPS, &held);
    let path = format!("{MAPS}/held");
    let delete = |body: &Value| c.send(Method::DELETE, &path, &[], body.to_string().as_bytes());
    let (code, refused) = delete(&json!({"preconditions": {"uid": "other"}}));
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::CONFLICT, &json!("Conflict"))
    );
    let (code, marked) = delete(&json!({}));
    assert_eq!(code, StatusCode::OK);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let patch = [("content-type", "application/merge-patch+json")];
    let (code, _) = c.send(
        Method::PATCH,
        &path,
        &patch,
        br#"{"metadata":{"finalizers":["a/b","c/d"]}}"#,
    );
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    c.send(
        Method::PATCH,
        &path,
        &patch,
        br#"{"metadata":{"finalizers":null}}"#,
    );
    assert_eq!(c.get(&path).0, StatusCode::NOT_FOUND);
    for i in 0..5 {
        c.post(MAPS, &map(&format!("d{i}")));
    }
    let (code, _) = c.send(
        Method::DELETE,
        &format!("{MAPS}?labelSelector=n!=d3"),
        &[],
        b"",
    );
    assert_eq!(code, StatusCode::OK);
    assert_eq!(c.get(MAPS).1["items"].as_array().unwrap().len(), 1);
}

/// Concurrent patches without a version all take effect.
#[test]
fn patches_without_a_version_never_conflict() {
    let c = Client::start();
    c.post(MAPS, &map("busy"));
    let transport = c.transport.clone();
    c.session.runtime().block_on(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..100 {
            let transport = transport.clone();
            tasks.spawn(async move {
                let request = Request::patch(format!("{MAPS}/busy"))
                    .header("content-type", "application/merge-patch+json")
                    .body(Bytes::from(format!("{{\"data\":{{\"k{i}\":\"v\"}}}}")))
                    .unwrap();
                transport.send(request).await.unwrap().status()
            });
        }
        while let Some(code) = tasks.join_next().await {
            assert_eq!(code.unwrap(), StatusCode::OK);
        }
    });
    let (_, busy) = c.get(&format!("{MAPS}/busy"));
    assert_eq!(busy["data"].as_object().unwrap().len(), 100);
}

//! A Kubernetes API in memory: as much as `node` asks of one.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use reconcile::{Body, Transport, TransportError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// How long a test waits for anything.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) struct Api(Arc<Inner>);

struct Inner {
    /// By path.
    objects: Mutex<BTreeMap<String, Value>>,
    revision: Mutex<u64>,
    pods: broadcast::Sender<(&'static str, Value)>,
    changed: watch::Sender<u64>,
}

impl Api {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            objects: Mutex::default(),
            revision: Mutex::new(1),
            pods: broadcast::channel(1024).0,
            changed: watch::Sender::default(),
        }))
    }

    pub(super) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut revision = self.0.revision.lock().unwrap();
        *revision += 1;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let old = self
            .0
            .objects
            .lock()
            .unwrap()
            .insert(path.to_owned(), object.clone());
        if path.contains("/pods/") {
            let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
            drop(self.0.pods.send((kind, object.clone())));
        }
        self.0.changed.send_replace(*revision);
        object
    }

    pub(super) fn remove(&self, path: &str) -> Option<Value> {
        let object = self.0.objects.lock().unwrap().remove(path)?;
        if path.contains("/pods/") {
            drop(self.0.pods.send(("DELETED", object.clone())));
        }
        let mut revision = self.0.revision.lock().unwrap();
        *revision += 1;
        self.0.changed.send_replace(*revision);
        Some(object)
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.0.objects.lock().unwrap().get(path).cloned()
    }

    /// All events, as `reason: message`, with counts.
    pub(super) fn events(&self) -> Vec<String> {
        let objects = self.0.objects.lock().unwrap();
        let events = objects.iter().filter(|(path, _)| path.contains("/events/"));
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        events
            .map(|(_, e)| format!("{}: {}", text(e, "reason"), text(e, "message")))
            .collect()
    }

    /// Waits until `wanted` holds; shows what there is if it never does.
    pub(super) async fn wait<T>(&self, what: &str, wanted: impl Fn(&Self) -> Option<T>) -> T {
        let mut changed = self.0.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = wanted(self) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(DEADLINE, waiting).await {
            Ok(found) => found,
            Err(_) => {
                let objects = self.0.objects.lock().unwrap();
                panic!("{what}: did not come; there is {objects:#?}");
            }
        }
    }

    fn answer(&self, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default();
        match *request.method() {
            Method::GET if query.contains("watch=") => self.watch(),
            Method::GET if path.ends_with("/pods") => self.list(),
            Method::GET => self.found(self.get(&path)),
            Method::POST if path.ends_with("/token") => {
                let asked: Value = serde_json::from_slice(request.body()).unwrap();
                assert_eq!(asked["spec"]["boundObjectRef"]["name"], "web");
                let status = json!({"token": format!("token of {path}"),
                    "expirationTimestamp": "2126-01-01T00:00:00Z"});
                reply(201, &json!({"status": status}))
            }
            Method::POST if path.ends_with("reviews") => {
                let asked: Value = serde_json::from_slice(request.body()).unwrap();
                reply(201, &json!({"status": review(&asked["spec"])}))
            }
            Method::POST => {
                let mut object: Value = serde_json::from_slice(request.body()).unwrap();
                let name = object["metadata"]["name"].as_str().unwrap();
                let path = format!("{path}/{name}");
                object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
                if self.get(&path).is_some() {
                    return status(409, "AlreadyExists");
                }
                reply(200, &self.put(&path, object))
            }
            Method::PUT => {
                let object = serde_json::from_slice(request.body()).unwrap();
                let path = path.trim_end_matches("/status");
                reply(200, &self.put(path, object))
            }
            Method::PATCH => {
                let of_pod = path.contains("/pods/") && path.ends_with("/status");
                let path = path.trim_end_matches("/status");
                let kind = &request.headers()["content-type"];
                let strategic = kind.to_str().unwrap().contains("strategic");
                let mut patch: Value = serde_json::from_slice(request.body()).unwrap();
                let Some(mut object) = self.get(path) else {
                    return status(404, "NotFound");
                };
                let uid = &patch["metadata"]["uid"];
                if !uid.is_null() && *uid != object["metadata"]["uid"] {
                    return status(409, "Conflict");
                }
                if strategic {
                    by_type(&object, &mut patch);
                }
                let before = object.clone();
                merge(&mut object, patch);
                if of_pod {
                    check_status(&object, &before);
                }
                reply(200, &self.put(path, object))
            }
            Method::DELETE => self.found(self.remove(&path)),
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn found(&self, object: Option<Value>) -> Response<Body> {
        object.map_or_else(|| status(404, "NotFound"), |object| reply(200, &object))
    }

    fn list(&self) -> Response<Body> {
        let objects = self.0.objects.lock().unwrap();
        let pods = objects.iter().filter(|(path, _)| path.contains("/pods/"));
        let items: Vec<&Value> = pods.map(|(_, pod)| pod).collect();
        let revision = self.0.revision.lock().unwrap().to_string();
        let metadata = json!({"resourceVersion": revision});
        reply(
            200,
            &json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}),
        )
    }

    /// All pods as they are, then what happens to them.
    fn watch(&self) -> Response<Body> {
        let receiver = self.0.pods.subscribe();
        let objects = self.0.objects.lock().unwrap();
        let pods = objects.iter().filter(|(path, _)| path.contains("/pods/"));
        let now: Vec<(&'static str, Value)> =
            pods.map(|(_, pod)| ("MODIFIED", pod.clone())).collect();
        let line = |(kind, object): (&str, Value)| {
            let mut line = serde_json::to_vec(&json!({"type": kind, "object": object})).unwrap();
            line.push(b'\n');
            Ok(Frame::data(Bytes::from(line)))
        };
        let later = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await.ok()?, receiver))
        });
        let stream = futures_util::stream::iter(now).chain(later).map(line);
        Response::new(Body::new(StreamBody::new(stream)))
    }
}

impl Transport for Api {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + '_>> {
        Box::pin(async move { Ok(self.answer(request)) })
    }
}

/// What a strategic merge does to a pod's status, as far as `node` uses it.
fn by_type(object: &Value, patch: &mut Value) {
    if let Some(addresses) = patch["status"]["hostIPs"].as_array_mut() {
        addresses.retain(|address| address.get("$patch").is_none());
    }
    let Some(conditions) = patch["status"]["conditions"].as_array_mut() else {
        return;
    };
    let gone = |condition: &Value| condition["$patch"] == "delete";
    let gone: Vec<Value> = conditions.extract_if(.., |own| gone(own)).collect();
    let before = object["status"]["conditions"].as_array();
    let kept = |old: &&Value| gone.iter().all(|own| own["type"] != old["type"]);
    for old in before.into_iter().flatten().filter(kept) {
        match conditions.iter_mut().find(|new| new["type"] == old["type"]) {
            Some(new) => {
                let mut merged = old.clone();
                merge(&mut merged, new.take());
                *new = merged;
            }
            None => conditions.push(old.clone()),
        }
    }
}

/// A status is one that the API server takes.
fn check_status(new: &Value, old: &Value) {
    let pods = api::kinds::by_resource("", "v1", "pods").unwrap();
    let mut errors = api::field::Errors::default();
    pods.validate_status(new, old, &mut errors);
    let all = errors.aggregate();
    assert!(errors.is_empty(), "{all}: {}", new["status"]);
}

/// There is one token, and its bearer may see metrics of `n1`.
fn review(asked: &Value) -> Value {
    let attributes = &asked["resourceAttributes"];
    if attributes.is_null() {
        let known = asked["token"] == "abc";
        return json!({"authenticated": known, "user": {"username": "prometheus",
            "groups": ["monitors"], "extra": {"example.test/scope": ["all"]}}});
    }
    assert_eq!(asked["extra"]["example.test/scope"], json!(["all"]));
    let wanted = json!({"verb": "get", "version": "v1", "resource": "nodes",
        "subresource": "metrics", "name": "n1"});
    json!({"allowed": asked["user"] == "prometheus" && *attributes == wanted})
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut target[&key], value);
        }
    }
}

fn reply(code: u16, value: &Value) -> Response<Body> {
    let bytes = Bytes::from(serde_json::to_vec(value).unwrap());
    let body = Full::new(bytes).map_err(|never| match never {});
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = code.try_into().unwrap();
    response
}

fn status(code: u16, reason: &str) -> Response<Body> {
    let message = format!("{reason} in the test's API");
    reply(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "reason": reason, "code": code, "message": message}),
    )
}

//! An API server of a few hundred lines, in memory: enough of list, watch,
//! create, patch, delete, binding and finalize for controllers to run on.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use reconcile::{Body, Transport, TransportError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Plural, namespace, name.
pub(crate) type Key = (String, String, String);

struct Watcher {
    wanted: Wanted,
    sender: UnboundedSender<Bytes>,
}

#[derive(Clone)]
struct Wanted {
    plural: String,
    namespace: String,
    name: Option<String>,
}

#[derive(Default)]
struct Objects {
    all: BTreeMap<Key, Value>,
    revision: u64,
    log: Vec<(u64, Key, &'static str, Value)>,
    watchers: Vec<Watcher>,
    writes: u64,
}

#[derive(Default)]
pub(crate) struct Api(Mutex<Objects>);

impl Wanted {
    fn matches(&self, key: &Key) -> bool {
        self.plural == key.0
            && (self.namespace.is_empty() || self.namespace == key.1)
            && self.name.as_ref().is_none_or(|name| *name == key.2)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
}

impl Objects {
    fn tell(&mut self, key: &Key, kind: &'static str, object: Value) {
        self.log
            .push((self.revision, key.clone(), kind, object.clone()));
        let bytes = line(kind, &object);
        self.watchers
            .retain(|w| !w.wanted.matches(key) || w.sender.send(bytes.clone()).is_ok());
    }

    fn put(&mut self, key: Key, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let kind = match self.all.insert(key.clone(), object.clone()) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        self.tell(&key, kind, object.clone());
        object
    }

    fn remove(&mut self, key: &Key) {
        if let Some(mut object) = self.all.remove(key) {
            self.revision += 1;
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.tell(key, "DELETED", object);
        }
    }
}

fn merge(to: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *to = patch.clone();
        return;
    };
    if !to.is_object() {
        *to = json!({});
    }
    for (name, value) in fields {
        match (value, to[name].as_array_mut()) {
            (Value::Null, _) => {
                to.as_object_mut().and_then(|object| object.remove(name));
            }
            (Value::Array(new), Some(old)) if name == "conditions" => {
                old.retain(|c| new.iter().all(|n| n["type"] != c["type"]));
                old.extend(new.iter().cloned());
            }
            _ => merge(&mut to[name], value),
        }
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "code": code, "reason": reason, "message": reason}),
    )
}

impl Api {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().expect("no panic while held")
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.lock().all.get(&key(plural, namespace, name)).cloned()
    }

    pub(crate) fn put(&self, plural: &str, object: Value) {
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let key = (plural.to_owned(), text("namespace"), text("name"));
        self.lock().put(key, object);
    }

    /// As the API server does it: what has finalizers only begins to end.
    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let key = key(plural, namespace, name);
        let mut objects = self.lock();
        match objects.all.get(&key).cloned() {
            Some(mut object) if plural == "namespaces" => {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                objects.put(key, object);
            }
            _ => objects.remove(&key),
        }
    }

    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let objects = self.lock();
        objects
            .all
            .iter()
            .filter(|(key, _)| key.0 == plural)
            .map(|(_, v)| v.clone())
            .collect()
    }

    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    fn answer(&self, request: &Request<Bytes>) -> (u16, Value) {
        let path: Vec<_> = request.uri().path().trim_matches('/').split('/').collect();
        let rest = match &path[..] {
            ["api", "v1"] => return (200, discovery()),
            ["apis"] => return (200, json!({"groups": []})),
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => return status(404, "NotFound"),
        };
        let (plural, namespace, rest) = match rest {
            ["namespaces", name, sub @ ("finalize" | "status")] => {
                return self.change(request, &key("namespaces", "", name), sub);
            }
            ["namespaces", namespace, plural, rest @ ..] => (*plural, *namespace, rest),
            [plural, rest @ ..] => (*plural, "", rest),
            [] => return status(404, "NotFound"),
        };
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        match (request.method(), rest) {
            (&Method::GET, []) => self.page(request, plural, namespace),
            (&Method::GET, [name]) => match self.get(plural, namespace, name) {
                Some(object) => (200, object),
                None => status(404, "NotFound"),
            },
            (&Method::POST, []) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let key = key(plural, namespace, name);
                let mut objects = self.lock();
                objects.writes += 1;
                match objects.all.contains_key(&key) {
                    true => status(409, "AlreadyExists"),
                    false => (201, objects.put(key, body)),
                }
            }
            (&Method::DELETE, [name]) => {
                self.lock().writes += 1;
                self.delete(plural, namespace, name);
                (200, json!({"kind": "Status"}))
            }
            (_, [name]) => self.change(request, &key(plural, namespace, name), ""),
            (_, [name, sub]) => self.change(request, &key(plural, namespace, name), sub),
            _ => status(404, "NotFound"),
        }
    }

    fn change(&self, request: &Request<Bytes>, key: &Key, sub: &str) -> (u16, Value) {
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let mut objects = self.lock();
        objects.writes += 1;
        let Some(mut object) = objects.all.get(key).cloned() else {
            return status(404, "NotFound");
        };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
            return status(409, "Conflict");
        }
        match (request.method(), sub) {
            (&Method::POST, "binding") => {
                object["spec"]["nodeName"] = body["target"]["name"].clone();
            }
            (&Method::PUT, "finalize") if body["spec"]["finalizers"] == json!([]) => {
                objects.remove(key);
                return (200, body);
            }
            (&Method::PATCH, _) => merge(&mut object, &body),
            _ => object = body,
        }
        (200, objects.put(key.clone(), object))
    }

    fn page(&self, request: &Request<Bytes>, plural: &str, namespace: &str) -> (u16, Value) {
        let wanted = wanted(request, plural, namespace);
        let objects = self.lock();
        let found = objects.all.iter().filter(|(key, _)| wanted.matches(key));
        let items: Vec<_> = found.map(|(_, object)| object.clone()).collect();
        let version = objects.revision.to_string();
        (
            200,
            json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    fn watch(&self, request: &Request<Bytes>) -> Body {
        let path: Vec<_> = request.uri().path().split('/').collect();
        let plural = path.last().copied().unwrap_or_default();
        let namespace = path
            .iter()
            .position(|part| *part == "namespaces")
            .map(|at| path[at + 1..].first());
        let namespace = namespace
            .flatten()
            .filter(|_| plural != "namespaces")
            .copied();
        let wanted = wanted(request, plural, namespace.unwrap_or_default());
        let from: u64 = query(request, "resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        let (sender, receiver) = unbounded_channel();
        let mut objects = self.lock();
        for (revision, key, kind, object) in &objects.log {
            if *revision > from && wanted.matches(key) {
                let _ = sender.send(line(kind, object));
            }
        }
        objects.watchers.push(Watcher { wanted, sender });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let bytes = receiver.recv().await?;
            Some((Ok(Frame::data(bytes)), receiver))
        });
        StreamBody::new(stream).boxed_unsync()
    }
}

fn key(plural: &str, namespace: &str, name: &str) -> Key {
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

fn query(request: &Request<Bytes>, name: &str) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    let found = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned())
}

fn wanted(request: &Request<Bytes>, plural: &str, namespace: &str) -> Wanted {
    let fields = query(request, "fieldSelector");
    let name = fields.and_then(|f| f.strip_prefix("metadata.name%3D").map(str::to_owned));
    Wanted {
        plural: plural.to_owned(),
        namespace: namespace.to_owned(),
        name,
    }
}

fn discovery() -> Value {
    let resource =
        |name: &str| json!({"name": name, "namespaced": true, "verbs": ["list", "delete"]});
    let names = ["pods", "configmaps", "serviceaccounts", "events"];
    json!({"groupVersion": "v1", "resources": names.map(resource)})
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + 'a>>;

impl Transport for Api {
    fn send(&self, request: Request<Bytes>) -> Answer<'_> {
        let response = match query(&request, "watch").is_some() {
            true => Response::new(self.watch(&request)),
            false => {
                let (code, body) = self.answer(&request);
                let stream =
                    futures_util::stream::iter([Ok(Frame::data(Bytes::from(body.to_string())))]);
                let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
                *response.status_mut() = http::StatusCode::from_u16(code).expect("a status");
                response
            }
        };
        Box::pin(async move { Ok(response) })
    }
}

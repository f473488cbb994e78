//! The verbs of the Kubernetes API over a [`Transport`], on JSON values.
//!
//! Refuses to wait for ever: every request but a watch's stream has a
//! deadline, and no answer may be larger than `MAX_BODY`. It never retries:
//! that is the caller's decision (`Queue`, `Reflector`).

use crate::error::{ClientError, Status};
use crate::resource::{ListOptions, Resource, WatchOptions, list_query, watch_query};
use crate::transport::{Body, Transport};
use crate::watch::WatchStream;
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const MAX_BODY: usize = 256 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    timeout: Duration,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct List {
    pub items: Vec<Value>,
    pub resource_version: String,
    pub continue_token: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    Strategic(Value),
    /// Server-side apply.
    Apply {
        manager: String,
        force: bool,
        object: Value,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<u32>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl DeleteOptions {
    fn body(&self) -> Value {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_period_seconds {
            body["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = json!(version);
        }
        if let Some(propagation) = self.propagation {
            body["propagationPolicy"] = json!(format!("{propagation:?}"));
        }
        body
    }
}

impl Client {
    pub fn new(transport: Arc<dyn Transport>) -> Client {
        Client {
            transport,
            timeout: TIMEOUT,
        }
    }

    /// Another deadline for each request.
    pub fn with_timeout(self, timeout: Duration) -> Client {
        Client { timeout, ..self }
    }

    pub async fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ClientError> {
        self.json(Method::GET, resource.path(namespace, &[name]), None)
            .await
    }

    /// One page; `namespace` `None` is all namespaces.
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, ClientError> {
        let path = resource.path(namespace, &[]) + &list_query(options);
        let operation = format!("GET {path}");
        let mut value = self.json(Method::GET, path, None).await?;
        let Some(Value::Array(mut items)) = value.get_mut("items").map(Value::take) else {
            return Err(ClientError::Malformed {
                operation,
                what: "no items".into(),
            });
        };
        name_kinds(&value, &mut items);
        let metadata = |field| {
            let text = value.get("metadata")?.get(field)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Ok(List {
            items,
            resource_version: metadata("resourceVersion").unwrap_or_default(),
            continue_token: metadata("continue"),
        })
    }

    /// All pages. When the continue token expires on the way the error says
    /// so (`is_gone`).
    pub async fn list_all(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, ClientError> {
        let mut all = self.list(resource, namespace, options).await?;
        while let Some(token) = all.continue_token.take() {
            let options = ListOptions {
                continue_token: Some(token),
                ..options.clone()
            };
            let page = self.list(resource, namespace, &options).await?;
            all.items.extend(page.items);
            all.continue_token = page.continue_token;
        }
        Ok(all)
    }

    pub async fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<WatchStream, ClientError> {
        let path = resource.path(namespace, &[]) + &watch_query(options);
        let operation = format!("GET {path}");
        let response = self
            .send(&operation, request(Method::GET, &path, None))
            .await?;
        Ok(WatchStream::new(operation, response.into_body()))
    }

    pub async fn create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ClientError> {
        self.json(Method::POST, resource.path(namespace, &[]), Some(object))
            .await
    }

    /// Replaces the object of the same name; its `resourceVersion`, if set,
    /// must still be the current one.
    pub async fn update(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ClientError> {
        self.put(resource, namespace, object, None).await
    }

    pub async fn update_status(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, ClientError> {
        self.put(resource, namespace, object, Some("status")).await
    }

    /// PUT of any subresource that takes the whole object (`finalize`).
    pub async fn update_subresource(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, ClientError> {
        self.put(resource, namespace, object, Some(subresource))
            .await
    }

    async fn put(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
        subresource: Option<&str>,
    ) -> Result<Value, ClientError> {
        let name = object
            .get("metadata")
            .and_then(|m| m.get("name"))
            .and_then(Value::as_str);
        let name = name.ok_or_else(|| ClientError::Incomplete {
            operation: format!("update {resource}"),
            field: "metadata.name",
        })?;
        let mut parts = vec![name];
        parts.extend(subresource);
        self.json(Method::PUT, resource.path(namespace, &parts), Some(object))
            .await
    }

    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: &Patch,
    ) -> Result<Value, ClientError> {
        let mut parts = vec![name];
        parts.extend(subresource);
        let mut path = resource.path(namespace, &parts);
        let (content_type, body) = match patch {
            Patch::Json(body) => ("application/json-patch+json", body),
            Patch::Merge(body) => ("application/merge-patch+json", body),
            Patch::Strategic(body) => ("application/strategic-merge-patch+json", body),
            Patch::Apply {
                manager,
                force,
                object,
            } => {
                let query = crate::resource::apply_query(manager, *force);
                path.push_str(&query);
                ("application/apply-patch+yaml", object)
            }
        };
        let operation = format!("PATCH {path}");
        let request = request(Method::PATCH, &path, Some((content_type, body)));
        self.answer(operation, request).await
    }

    /// The object as it was, or the `Status` that upstream answers with.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Value, ClientError> {
        let path = resource.path(namespace, &[name]);
        self.json(Method::DELETE, path, Some(&options.body())).await
    }

    /// Everything of a namespace; what holds itself is only marked.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &DeleteOptions,
    ) -> Result<(), ClientError> {
        let path = resource.path(Some(namespace), &[]);
        let body = options.body();
        let deleted = self.json(Method::DELETE, path, Some(&body));
        deleted.await.map(drop)
    }

    /// POST to `binding`, `eviction`, `token` and the like.
    pub async fn create_subresource(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, ClientError> {
        let path = resource.path(namespace, &[name, subresource]);
        self.json(Method::POST, path, Some(object)).await
    }

    /// Any path that answers JSON: discovery, version.
    pub async fn get_path(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, path.to_owned(), None).await
    }

    /// POST to any path that takes and answers JSON.
    pub async fn post_path(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.json(Method::POST, path.to_owned(), Some(body)).await
    }

    async fn json(
        &self,
        method: Method,
        path: String,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let operation = format!("{method} {path}");
        let body = body.map(|body| ("application/json", body));
        self.answer(operation, request(method, &path, body)).await
    }

    async fn answer(
        &self,
        operation: String,
        request: Result<Request<Bytes>, String>,
    ) -> Result<Value, ClientError> {
        let work = async {
            let response = self.send(&operation, request).await?;
            let body = collect(&operation, response.into_body()).await?;
            serde_json::from_slice(&body).map_err(|error| ClientError::Malformed {
                operation: operation.clone(),
                what: error.to_string(),
            })
        };
        self.within(&operation, work).await
    }

    /// A response that is no error; its body may still be streaming.
    async fn send(
        &self,
        operation: &str,
        request: Result<Request<Bytes>, String>,
    ) -> Result<Response<Body>, ClientError> {
        let malformed = |what| ClientError::Malformed {
            operation: operation.to_owned(),
            what,
        };
        let request = request.map_err(malformed)?;
        let work =
            async {
                let response = self.transport.send(request).await.map_err(|source| {
                    ClientError::Transport {
                        operation: operation.to_owned(),
                        source,
                    }
                })?;
                if response.status().is_success() {
                    return Ok(response);
                }
                let code = response.status().as_u16();
                let seconds = response.headers().get(header::RETRY_AFTER);
                let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
                let body = collect(operation, response.into_body()).await?;
                let status = Status::parse(code, &body, seconds.map(Duration::from_secs)).into();
                Err(ClientError::Api {
                    operation: operation.to_owned(),
                    status,
                })
            };
        self.within(operation, work).await
    }

    async fn within<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Timeout {
                    operation: operation.to_owned(),
                    seconds: self.timeout.as_secs(),
                })
            })
    }
}

fn request(
    method: Method,
    path: &str,
    body: Option<(&str, &Value)>,
) -> Result<Request<Bytes>, String> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("atoll/", env!("CARGO_PKG_VERSION")),
        );
    let bytes = match body {
        Some((content_type, body)) => {
            builder = builder.header(header::CONTENT_TYPE, content_type);
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    builder.body(bytes).map_err(|error| error.to_string())
}

async fn collect(operation: &str, body: Body) -> Result<Bytes, ClientError> {
    let collected = Limited::new(body, MAX_BODY).collect().await;
    collected
        .map(|body| body.to_bytes())
        .map_err(|error| ClientError::Malformed {
            operation: operation.to_owned(),
            what: error.to_string(),
        })
}

/// A list's items come without `kind` and `apiVersion`; a watch's with them.
/// Callers see no difference.
fn name_kinds(list: &Value, items: &mut [Value]) {
    let text = |field| list.get(field).and_then(Value::as_str);
    let kind = text("kind").and_then(|kind| kind.strip_suffix("List"));
    let (Some(kind), Some(version)) = (kind, text("apiVersion")) else {
        return;
    };
    if kind.is_empty() {
        return;
    }
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("kind").or_insert_with(|| kind.into());
        item.entry("apiVersion").or_insert_with(|| version.into());
    }
}

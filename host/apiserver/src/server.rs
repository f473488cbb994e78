//! One request, from whoever brought it to its response: authenticate, route,
//! authorize, dispatch, count.

use crate::admission::Admission;
use crate::authn::{Authenticator, impersonate};
use crate::authz::{self, Attributes, Authorizer};
use crate::documents::Documents;
use crate::frames::Frames;
use crate::kinds::{Kinds, Table};
use crate::metrics::{Labels, Metrics, Stored};
use crate::negotiate::Offer;
use crate::proxy::Streams;
use crate::query::Query;
use crate::registry;
use crate::respond::{self, Accepted};
use crate::rest::{Answer, Call};
use crate::route::{ResourceRoute, Route, route};
use crate::user::User;
use crate::{discovery, documents, health};
use api::status::Status;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use reconcile::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use store::Store;

/// Most bytes of a request's body, as upstream's limit.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;
/// For everything but watches and streams.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests worked on at once, watches and streams apart; more get 429.
const MAX_INFLIGHT: u64 = 400;

/// The API server without its listeners. Shared by all connections.
pub struct Server {
    pub(crate) store: Store,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) metrics: Metrics,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) webhooks: Arc<crate::webhook::Client>,
    pub(crate) documents: Documents,
    /// `https://HOST:PORT`, for clients.
    pub(crate) advertised: String,
}

/// A request whose body is here, and what came with its connection.
pub(crate) struct Arrived {
    pub(crate) request: Request<Bytes>,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) identity: Identity,
}

/// Where a request's user comes from.
pub(crate) enum Identity {
    /// From the same process: known.
    Known(User),
    /// From the network: the certificate's user, or else what headers say.
    Connection(Option<User>),
}

impl Server {
    /// The kinds that are served now.
    pub fn kinds(&self) -> &Arc<Kinds> {
        &self.kinds
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) async fn handle(self: &Arc<Self>, arrived: Arrived) -> Response<Body> {
        let started = Instant::now();
        let query = Query::parse(arrived.request.uri().query().unwrap_or_default());
        let accepted = respond::accepted(arrived.request.headers(), &query, Offer::DOCUMENT)
            .unwrap_or(Accepted::json());
        let head_only = arrived.request.method() == Method::HEAD;
        let mut labels = Labels::other("");
        let outcome = self.dispatch(arrived, query, &mut labels).await;
        let mut response = match outcome {
            Ok(response) => response,
            Err(status) => {
                if status.code >= 500 {
                    log::warn!("{} {}: {}", labels.verb, labels.resource, status.message);
                }
                respond::status(&status, accepted)
            }
        };
        if head_only {
            *response.body_mut() = respond::body(Bytes::new());
        }
        let code = response.status().as_u16();
        self.metrics.count(labels, code, started.elapsed());
        if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
            response.headers_mut().insert("audit-id", id);
        }
        response
    }

    async fn dispatch(
        self: &Arc<Self>,
        arrived: Arrived,
        query: Query,
        labels: &mut Labels,
    ) -> Answer {
        let Arrived {
            request,
            upgrade,
            identity,
        } = arrived;
        let (parts, body) = request.into_parts();
        let user = self.who(identity, &parts.headers)?;
        let path = parts.uri.path().to_owned();
        let route = route(&parts.method, &path, &query).ok_or_else(|| unrouted(&parts.method))?;
        let selected = authz::selected_name(&query);
        let attributes = Attributes::of(&route, &selected);
        self.authorizer.authorize(&user, &attributes)?;
        match route {
            Route::Other { verb, path } => {
                *labels = Labels::other(verb);
                self.other(&parts, verb, &path, &query)
            }
            Route::Resource(found) => {
                let kind = self
                    .kinds
                    .resolve(&found.group, &found.version, &found.resource)
                    .ok_or_else(Status::no_such_path)?;
                *labels = Labels::of(&kind, &found);
                let accepted = respond::accepted(&parts.headers, &query, offer(&kind, &found))?;
                let long = is_long(&found);
                let warning = kind.custom().and_then(|c| c.warning.clone());
                let call = Call {
                    store: self.store.clone(),
                    streams: self.streams.clone(),
                    frames: self.frames.clone(),
                    authenticator: self.authenticator.clone(),
                    authorizer: self.authorizer.clone(),
                    admission: self.admission.clone(),
                    warnings: crate::warnings::Warnings::default(),
                    kind,
                    route: found,
                    method: parts.method,
                    query,
                    raw_query: parts.uri.query().unwrap_or_default().to_owned(),
                    headers: parts.headers,
                    body,
                    upgrade,
                    accepted,
                    user,
                    now: Timestamp::now(),
                };
                let warnings = call.warnings.clone();
                let answer = match long {
                    true => call.answer().await,
                    false => self.bounded(call).await,
                };
                warnings.add(warning);
                answered(answer, &warnings.take(), accepted)
            }
        }
    }

    /// Whom the request comes from, or acts as.
    fn who(&self, identity: Identity, headers: &http::HeaderMap) -> Result<User, Status> {
        let user = match identity {
            Identity::Known(user) => user,
            Identity::Connection(certificate) => {
                self.authenticator
                    .user(headers, certificate.as_ref(), Timestamp::now())?
            }
        };
        impersonate::acting(&self.authorizer, user, headers)
    }

    /// Work that ends: at most so much of it at once, and not for ever.
    async fn bounded(&self, call: Call) -> Answer {
        let writes = !matches!(call.route.verb, "get" | "list" | "watch");
        let _guard = Inflight::enter(&self.metrics, writes)?;
        log::trace!(
            "{} {} {} by {}",
            call.route.verb,
            call.kind.plural(),
            call.route.name,
            call.user.name
        );
        tokio::time::timeout(REQUEST_TIMEOUT, call.answer())
            .await
            .unwrap_or_else(|_| {
                Err(Status::timeout(
                    "Timeout: request did not complete within the allotted timeout",
                ))
            })
    }

    fn other(&self, parts: &http::request::Parts, verb: &str, path: &str, query: &Query) -> Answer {
        if verb != "get" {
            return Err(Status::method_not_allowed());
        }
        let words: Vec<&str> = path.split('/').filter(|w| !w.is_empty()).collect();
        let accept = parts
            .headers
            .get(header::ACCEPT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let table = self.kinds.table();
        let aggregated = discovery::wants_aggregated(accept);
        let mut accepted =
            respond::accepted(&parts.headers, query, Offer::DOCUMENT).unwrap_or(Accepted::json());
        accepted.form = respond::Form::Object;
        let json = |value: Value| Ok(respond::json(200, &value, accepted));
        match words.as_slice() {
            [] => json(discovery::paths(&table)),
            ["healthz" | "livez" | "readyz"] => Ok(self.health(words[0], query)),
            ["healthz" | "livez" | "readyz", check @ ..] => {
                health::one(&self.checks(), &check.join("/"))
                    .map(|(code, text)| respond::text(code, text))
                    .ok_or_else(Status::no_such_path)
            }
            ["version"] => json(documents::version()),
            // Atoll's own: a backup over the network, read with `atoll store`.
            ["atoll", "store", "snapshot"] => {
                let (media, frames) = ("application/octet-stream", self.store.snapshot());
                Ok(respond::chunked(media, frames, 0, Accepted::json()))
            }
            ["metrics"] => Ok(respond::text(200, self.metrics.text(&self.stored(&table)))),
            [root @ ("api" | "apis")] if aggregated => {
                self.documents
                    .discovery(&table, *root == "api", &parts.headers, accepted)
            }
            ["api"] => json(discovery::versions()),
            ["apis"] => json(discovery::group_list(&table)),
            ["api", version] => {
                json(discovery::resources(&table, "", version).ok_or_else(Status::no_such_path)?)
            }
            ["apis", group] => {
                json(discovery::group(&table, group).ok_or_else(Status::no_such_path)?)
            }
            ["apis", group, version] => json(
                discovery::resources(&table, group, version).ok_or_else(Status::no_such_path)?,
            ),
            [".well-known", "openid-configuration"] => json(self.openid_configuration()),
            ["openid", "v1", "jwks"] => Ok(self.jwks()),
            ["openapi", ..] => {
                self.documents
                    .openapi(&table, path, &parts.headers, query, accepted)
            }
            _ => Err(Status::no_such_path()),
        }
    }

    fn jwks(&self) -> Response<Body> {
        let keys = self.authenticator.keys.jwks();
        let mut response = respond::json(200, &keys, Accepted::json());
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "application/jwk-set+json"),
            (header::CACHE_CONTROL, "public, max-age=3600"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// OpenID Connect discovery 1.0, 3; as far as tokens of service accounts go.
    fn openid_configuration(&self) -> Value {
        json!({
            "issuer": self.authenticator.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.advertised),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// How many objects of each resource there are.
    fn stored(&self, table: &Table) -> Stored {
        let mut seen: Vec<&str> = Vec::new();
        let mut objects = Vec::new();
        for kind in table.iter() {
            if kind.storage().is_empty() || seen.contains(&kind.storage()) {
                continue;
            }
            seen.push(kind.storage());
            let range = store::Range {
                limit: 1,
                ..store::Range::prefix(registry::prefix(kind, ""))
            };
            if let Ok(found) = self.store.range(&range) {
                let count = found.items.len() + found.remaining;
                objects.push((kind.resource().to_string(), count));
            }
        }
        Stored {
            revision: self.store.revision().0,
            objects,
        }
    }

    /// What has to hold for the server to be of use.
    fn checks(&self) -> [health::Check; 2] {
        // A store that can't read can't serve; it answers from memory.
        let probe = store::Range::key("/registry/core/namespaces/default");
        let read = self.store.range(&probe).map(|_| ());
        [("ping", Ok(())), ("etcd", read.map_err(|e| e.to_string()))]
    }

    fn health(&self, endpoint: &str, query: &Query) -> Response<Body> {
        let (code, text) = health::all(endpoint, &self.checks(), query);
        let mut response = respond::text(code, text);
        response.headers_mut().insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        response
    }
}

/// In which forms an endpoint answers.
fn offer(kind: &api::kinds::KindRef, route: &ResourceRoute) -> Offer {
    Offer {
        protobuf: api::protobuf::serves(kind.type_name()),
        transforms: true,
        watch: route.verb == "watch",
    }
}

/// An answer with what is to be warned of; a refusal that has nothing of the
/// kind stays one.
fn answered(answer: Answer, warnings: &[String], accepted: Accepted) -> Answer {
    if warnings.is_empty() {
        return answer;
    }
    let mut response = answer.unwrap_or_else(|status| {
        log::debug!("refused: {}", status.message);
        respond::status(&status, accepted)
    });
    respond::warn(&mut response, warnings);
    Ok(response)
}

/// Watches and streams last; they are bounded by connections instead.
fn is_long(route: &ResourceRoute) -> bool {
    route.verb == "watch"
        || matches!(
            route.subresource.as_str(),
            "log" | "exec" | "attach" | "portforward"
        )
}

/// A request that is worked on, and whether it writes.
struct Inflight<'a>(&'a Metrics, bool);

impl<'a> Inflight<'a> {
    fn enter(metrics: &'a Metrics, writes: bool) -> Result<Inflight<'a>, Status> {
        let guard = Inflight(metrics, writes);
        let mutating = u64::from(writes);
        metrics.mutating.fetch_add(mutating, Ordering::Relaxed);
        if metrics.inflight.fetch_add(1, Ordering::Relaxed) >= MAX_INFLIGHT {
            return Err(Status::too_many_requests(
                "too many requests, please try again later",
                1,
            ));
        }
        Ok(guard)
    }
}

impl Drop for Inflight<'_> {
    fn drop(&mut self) {
        self.0.inflight.fetch_sub(1, Ordering::Relaxed);
        let mutating = u64::from(self.1);
        self.0.mutating.fetch_sub(mutating, Ordering::Relaxed);
    }
}

/// What a request gets whose method and path lead nowhere.
fn unrouted(method: &Method) -> Status {
    match *method {
        Method::OPTIONS | Method::TRACE | Method::CONNECT => Status::method_not_allowed(),
        _ => Status::no_such_path(),
    }
}

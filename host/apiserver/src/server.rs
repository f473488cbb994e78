//! One request, from whoever brought it to its response: authenticate, route,
//! authorize, dispatch, count.

pub(crate) mod checks;
mod elsewhere;

use crate::admission::Admission;
use crate::audit::{Arrival, Audit, Trail};
use crate::authn::{Authenticator, Peer, impersonate};
use crate::authz::selection::Selection;
use crate::authz::{Attributes, Authorizer};
use crate::begun::Begun;
use crate::documents::Documents;
use crate::fairness::{Fairness, Flow, Refused, Seat};
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
use crate::usage::Usages;
use crate::user::User;
use crate::{discovery, documents};
use api::status::Status;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use reconcile::Body;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::watch;

/// Most bytes of a request's body, as upstream's limit.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;
/// For everything but watches and streams.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

const AUDIT_ID: &str = "audit-id";

/// The API server without its listeners. Shared by all connections.
pub struct Server {
    pub(crate) store: Store,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) fairness: Fairness,
    /// `None`: nothing is recorded.
    pub(crate) audit: Option<Audit>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) usages: Arc<Usages>,
    pub(crate) metrics: Metrics,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) webhooks: Arc<crate::webhook::Client>,
    pub(crate) documents: Documents,
    /// `https://HOST:PORT`, for clients.
    pub(crate) advertised: String,
    /// Empty until the server has started.
    pub(crate) begun: OnceLock<Begun>,
    /// True once the server is told to end.
    pub(crate) ending: watch::Receiver<bool>,
}

/// A request whose body is here, mostly, and what came with its connection.
pub(crate) struct Arrived {
    pub(crate) request: Request<Bytes>,
    /// The body instead, where it is passed on as it comes.
    pub(crate) streamed: Option<Incoming>,
    /// Why the body isn't here: it was too large, or broke off.
    pub(crate) broken: Option<Status>,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) identity: Identity,
    /// Of the connection.
    pub(crate) remote: Option<IpAddr>,
}

/// What is noted of a request on its way.
struct Noted {
    labels: Labels,
    trail: Trail,
    /// `None`: it needed no seat.
    flow: Option<Flow>,
}

/// A request that is authenticated and authorized.
struct Asked {
    parts: http::request::Parts,
    body: Bytes,
    streamed: Option<Incoming>,
    upgrade: Option<OnUpgrade>,
    remote: Option<IpAddr>,
    query: Query,
    user: User,
    now: Timestamp,
}

/// Where a request's user comes from.
pub(crate) enum Identity {
    /// From the same process: known.
    Known(User),
    /// From the network: what the certificate or headers say.
    Connection(Peer),
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
        let id = audit_id(arrived.request.headers());
        let mut noted = Noted {
            labels: Labels::other(""),
            trail: Trail::default(),
            flow: None,
        };
        let outcome = match &self.audit {
            None => self.dispatch(arrived, query, &id, &mut noted).await,
            Some(_) => {
                let dispatched = self.dispatch(arrived, query, &id, &mut noted);
                let outcome = AssertUnwindSafe(dispatched).catch_unwind().await;
                outcome.unwrap_or_else(|payload| {
                    noted.trail.panicked(&*payload);
                    resume_unwind(payload)
                })
            }
        };
        let Noted {
            labels,
            trail,
            flow,
        } = noted;
        let mut response = match outcome {
            Ok(response) => response,
            Err(status) => {
                if status.code >= 500 {
                    log::warn!("{} {}: {}", labels.verb, labels.resource, status.message);
                }
                trail.refused(&status);
                respond::status(&status, accepted)
            }
        };
        if head_only {
            *response.body_mut() = respond::body(Bytes::new());
        }
        let code = response.status().as_u16();
        self.metrics.count(labels, code, started.elapsed());
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(AUDIT_ID, id);
        }
        if let Some(flow) = flow {
            flow.tell(response.headers_mut());
        }
        trail.follow(response)
    }

    async fn dispatch(
        self: &Arc<Self>,
        arrived: Arrived,
        query: Query,
        id: &str,
        noted: &mut Noted,
    ) -> Answer {
        let Arrived {
            request,
            streamed,
            broken,
            upgrade,
            identity,
            remote,
        } = arrived;
        let now = Timestamp::now();
        let (parts, body) = request.into_parts();
        let route = route(&parts.method, parts.uri.path(), &query);
        let selected = Selection::of(route.as_ref(), &query);
        let arrival = Arrival {
            id,
            received: now,
            parts: &parts,
            remote,
            route: route.as_ref(),
            selected: &selected.name,
            size: body.len(),
        };
        let authenticated = self.authenticate(identity, &parts.headers, now).await;
        if let Some(audit) = &self.audit {
            noted.trail = audit.begin(&arrival, authenticated.as_ref().ok());
        }
        let trail = &noted.trail;
        let user = impersonate::acting(&self.authorizer, authenticated?, &parts.headers, trail)?;
        let route = route.ok_or_else(|| unrouted(&parts.method))?;
        let attributes = Attributes::of(&route, &selected);
        let (flow, seat) = self.seat(&user, &route, &attributes, &query).await;
        noted.flow = flow;
        let Ok(_seat) = seat else {
            return Ok(respond::too_many());
        };
        self.authorizer
            .authorize_audited(&user, &attributes, &noted.trail)?;
        if let Some(status) = broken {
            return Err(status);
        }
        let asked = Asked {
            parts,
            body,
            streamed,
            upgrade,
            remote,
            query,
            user,
            now,
        };
        self.answer(asked, route, id, noted).await
    }

    async fn resource(&self, asked: Asked, found: ResourceRoute, noted: &mut Noted) -> Answer {
        let Asked {
            parts,
            body,
            streamed,
            upgrade,
            remote,
            query,
            user,
            now,
        } = asked;
        let kind = self
            .kinds
            .resolve(&found.group, &found.version, &found.resource)
            .ok_or_else(Status::no_such_path)?;
        noted.labels = Labels::of(&kind, &found);
        if found.subresource != "proxy" && found.path.chars().any(|c| c != '/') {
            return Err(Status::no_such_path());
        }
        let accepted = match found.subresource.as_str() {
            // What the client accepts is between it and whom it talks to.
            "proxy" => Accepted::json(),
            _ => respond::accepted(&parts.headers, &query, offer(&kind, &found))?,
        };
        let long = found.is_long();
        let warning = kind.custom().and_then(|c| c.warning.clone());
        let call = Call {
            store: self.store.clone(),
            streams: self.streams.clone(),
            frames: self.frames.clone(),
            usages: self.usages.clone(),
            authenticator: self.authenticator.clone(),
            authorizer: self.authorizer.clone(),
            admission: self.admission.clone(),
            trail: noted.trail.clone(),
            warnings: crate::warnings::Warnings::default(),
            kind,
            route: found,
            method: parts.method,
            query,
            raw_query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers,
            body,
            streamed,
            upgrade,
            remote,
            accepted,
            user,
            now,
        };
        let warnings = call.warnings.clone();
        let answer = match long {
            true => call.answer().await,
            false => self.bounded(call).await,
        };
        warnings.add(warning);
        answered(answer, &warnings.take(), accepted, &noted.trail)
    }

    /// The right to be served, once there is room; what goes on for long needs
    /// none.
    async fn seat(
        &self,
        user: &User,
        route: &Route,
        attributes: &Attributes<'_>,
        query: &Query,
    ) -> (Option<Flow>, Result<Option<Seat>, Refused>) {
        if matches!(route, Route::Resource(found) if found.is_long()) {
            return (None, Ok(None));
        }
        let objects = || self.objects(route, attributes, query);
        let (flow, seat) = self.fairness.seat(user, attributes, objects).await;
        if let Err(Refused(why)) = &seat {
            log::debug!("{} of {} got no seat: {why}", attributes.verb, user.name);
        }
        (Some(flow), seat.map(Some))
    }

    /// How many objects a list has to go through.
    fn objects(&self, route: &Route, a: &Attributes<'_>, query: &Query) -> usize {
        let Route::Resource(found) = route else {
            return 0;
        };
        // A selected name is one object.
        if found.verb != "list" || !a.name.is_empty() {
            return 0;
        }
        let Some(kind) = self
            .kinds
            .resolve(&found.group, &found.version, &found.resource)
        else {
            return 0;
        };
        let stored = self.count(registry::prefix(&kind, &found.namespace));
        let selects = ["labelSelector", "fieldSelector"]
            .iter()
            .any(|key| !query.text(key).is_empty());
        match query.text("limit").parse::<usize>() {
            Ok(limit) if limit > 0 && !selects => stored.min(limit),
            _ => stored,
        }
    }

    /// How many keys have a prefix.
    fn count(&self, prefix: String) -> usize {
        let range = store::Range {
            limit: 1,
            ..store::Range::prefix(prefix)
        };
        let found = self.store.range(&range);
        found.map_or(0, |found| found.items.len() + found.remaining)
    }

    /// Whom the request comes from.
    async fn authenticate(
        &self,
        identity: Identity,
        headers: &http::HeaderMap,
        now: Timestamp,
    ) -> Result<User, Status> {
        match identity {
            Identity::Known(user) => Ok(user),
            Identity::Connection(peer) => self.authenticator.user(headers, &peer, now).await,
        }
    }

    /// Work that ends, and not for ever.
    async fn bounded(&self, call: Call) -> Answer {
        let writes = !matches!(call.route.verb, "get" | "list" | "watch");
        let _guard = Inflight::enter(&self.metrics, writes);
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

    async fn other(
        &self,
        parts: &http::request::Parts,
        verb: &str,
        path: &str,
        query: &Query,
    ) -> Answer {
        if verb != "get" {
            return Err(Status::method_not_allowed());
        }
        let words: Vec<&str> = path.split('/').filter(|w| !w.is_empty()).collect();
        let accept = parts.headers.get(header::ACCEPT);
        let accept = accept.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let table = self.kinds.table();
        let aggregated = discovery::wants_aggregated(accept);
        let mut accepted =
            respond::accepted(&parts.headers, query, Offer::DOCUMENT).unwrap_or(Accepted::json());
        accepted.form = respond::Form::Object;
        let json = |value: Value| Ok(respond::json(200, &value, accepted));
        match words.as_slice() {
            [] => json(discovery::paths(&table)),
            [endpoint @ ("healthz" | "livez" | "readyz"), check @ ..] => {
                self.health(endpoint, check, query).await
            }
            ["version"] => json(documents::version()),
            // Atoll's own: a backup over the network, read with `atoll store`.
            ["atoll", "store", "snapshot"] => {
                let (media, frames) = ("application/octet-stream", self.store.snapshot());
                Ok(respond::chunked(media, frames, 0, Accepted::json()))
            }
            ["metrics"] => {
                let audit = self.audit.as_ref().map(Audit::metrics);
                let mut text = self.metrics.text(&self.stored(&table));
                text += &self.fairness.metrics();
                text += &audit.unwrap_or_default();
                text += &self.authenticator.oidc.metrics();
                Ok(respond::text(200, text))
            }
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
            "id_token_signing_alg_values_supported": self.authenticator.keys.algorithms(),
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
            let count = self.count(registry::prefix(kind, ""));
            objects.push((kind.resource().to_string(), count));
        }
        Stored {
            revision: self.store.revision().0,
            objects,
        }
    }
}

/// In which forms an endpoint answers.
fn offer(kind: &api::kinds::KindRef, route: &ResourceRoute) -> Offer {
    Offer {
        protobuf: api::protobuf::serves(kind.type_name()),
        transforms: prints(kind, route),
        watch: route.verb == "watch",
    }
}

/// Whether there is a table of it: what can only be created (reviews, bindings,
/// tokens, evictions) has no metadata worth a row, and says 406.
fn prints(kind: &api::kinds::KindRef, route: &ResourceRoute) -> bool {
    let created = matches!(route.subresource.as_str(), "binding" | "eviction" | "token");
    !created && kind.verbs().contains(&"get")
}

/// An answer with what is to be warned of; a refusal that has nothing of the
/// kind stays one.
fn answered(answer: Answer, warnings: &[String], accepted: Accepted, trail: &Trail) -> Answer {
    if warnings.is_empty() {
        return answer;
    }
    let mut response = answer.unwrap_or_else(|status| {
        log::debug!("refused: {}", status.message);
        trail.refused(&status);
        respond::status(&status, accepted)
    });
    respond::warn(&mut response, warnings);
    Ok(response)
}

/// A request that is worked on, and whether it writes.
struct Inflight<'a>(&'a Metrics, bool);

impl<'a> Inflight<'a> {
    fn enter(metrics: &'a Metrics, writes: bool) -> Inflight<'a> {
        let mutating = u64::from(writes);
        metrics.mutating.fetch_add(mutating, Ordering::Relaxed);
        metrics.inflight.fetch_add(1, Ordering::Relaxed);
        Inflight(metrics, writes)
    }
}

impl Drop for Inflight<'_> {
    fn drop(&mut self) {
        self.0.inflight.fetch_sub(1, Ordering::Relaxed);
        let mutating = u64::from(self.1);
        self.0.mutating.fetch_sub(mutating, Ordering::Relaxed);
    }
}

/// The client's word for its request, or a new one.
fn audit_id(headers: &http::HeaderMap) -> String {
    let given = headers.get(AUDIT_ID).and_then(|id| id.to_str().ok());
    match given {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => uuid::Uuid::new_v4().to_string(),
    }
}

/// What a request gets whose method and path lead nowhere.
fn unrouted(method: &Method) -> Status {
    match *method {
        Method::OPTIONS | Method::TRACE | Method::CONNECT => Status::method_not_allowed(),
        _ => Status::no_such_path(),
    }
}

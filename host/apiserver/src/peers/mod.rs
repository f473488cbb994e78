//! HTTP to other servers: pods, Services, nodes, extension servers, webhooks,
//! issuers of tokens. Connections are kept and used again, as Go's transport
//! has it.
//!
//! ```text
//! send -> one on the shelf? --yes--> request ---dead, and safe---> a new one
//!             | no                      |
//!             v                         v answered; HTTP/1.1: body read
//!        open: HTTP/1.1 or 2        back to the shelf, for 90 s at most
//! ```
//! A peer is an address, the TLS settings to be used there (the very same: whom
//! they trust and what they say who asks), the name that its certificate has,
//! and which HTTP may be spoken; what was opened for one peer is never used for
//! another. Connections in use are as many as requests under way; those that
//! nobody uses are bounded ([`kept`]), and the one that lies longest goes first.
//! HTTP/2 is one connection for many requests, and what was opened at the same
//! time only serves the request that opened it.
//!
//! What is to be upgraded has a connection of its own.

mod answered;
mod kept;
mod open;

pub(crate) use open::Secured;

use crate::dialer::{Destination, Dialer};
use crate::proxy::forward::coming;
use crate::respond;
use crate::rest::pod::Endpoint;
use answered::{Back, Part};
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Request, Response, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use kept::{Shelf, State};
use reconcile::Body;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// Requests at once on one connection with HTTP/2; more open another.
const STREAMS: usize = 100;

/// TLS settings as an identity: two that were made apart are two, whatever is
/// in them.
#[derive(Clone)]
struct Identity(Arc<ClientConfig>);

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// How a peer is reached.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Way {
    /// Through the dialer.
    Network(Destination),
    /// A node's endpoint, by the host's own network.
    Node(Endpoint),
}

/// Which HTTP may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Http {
    /// What the server picks, over TLS; HTTP/1.1 without.
    Any,
    /// HTTP/1.1 only: for upgrades, and where many requests on one connection
    /// would all go to the same one of a Service's pods.
    One,
}

/// Whom a connection is to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    way: Way,
    tls: Option<(Identity, ServerName<'static>)>,
    http: Http,
}

impl Peer {
    pub(crate) fn network(to: Destination, tls: Option<Secured>, http: Http) -> Peer {
        Peer {
            way: Way::Network(to),
            tls: tls.map(|(config, name)| (Identity(config), name)),
            http,
        }
    }

    /// A node's endpoint. Its certificate has to carry its name: addresses come
    /// and go.
    pub(crate) fn node(to: Endpoint, config: Arc<ClientConfig>) -> Result<Peer, String> {
        let name = ServerName::try_from(to.node.clone()).map_err(|e| e.to_string())?;
        Ok(Peer {
            way: Way::Node(to),
            tls: Some((Identity(config), name)),
            http: Http::Any,
        })
    }

    /// HOST:PORT, for a request that names no host.
    pub(crate) fn authority(&self) -> String {
        match &self.way {
            Way::Network(to) => to.to_string(),
            Way::Node(Endpoint { host, port, .. }) if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Way::Node(Endpoint { host, port, .. }) => format!("{host}:{port}"),
        }
    }
}

/// How many requests a shared connection has.
#[derive(Default)]
struct Use(AtomicUsize);

/// The end of a connection where requests go in.
enum Sender {
    One(http1::SendRequest<Body>),
    Many(http2::SendRequest<Body>, Arc<Use>),
}

impl Sender {
    fn state(&self) -> State {
        match self {
            Sender::One(one) if one.is_closed() => State::Dead,
            Sender::Many(many, _) if many.is_closed() => State::Dead,
            Sender::Many(_, used) if used.0.load(Ordering::Relaxed) > 0 => State::Used,
            Sender::One(_) | Sender::Many(..) => State::Unused,
        }
    }

    /// This for one more request, and what stays for others.
    fn split(self) -> (Option<Sender>, Option<Sender>) {
        match self {
            Sender::One(one) => (one.is_ready().then_some(Sender::One(one)), None),
            Sender::Many(many, _) if many.is_closed() => (None, None),
            Sender::Many(many, used) => {
                let kept = Sender::Many(many.clone(), used.clone());
                if used.0.load(Ordering::Relaxed) >= STREAMS {
                    return (None, Some(kept));
                }
                (Some(Sender::Many(many, used)), Some(kept))
            }
        }
    }
}

/// Why a request has no answer; `again` is the request where it may be sent
/// anew.
struct Unanswered {
    why: String,
    again: Option<Request<Body>>,
}

/// The connections to all peers.
pub(crate) struct Peers {
    pub(crate) dialer: Arc<dyn Dialer>,
    shelf: Mutex<Shelf<Peer, Sender>>,
}

impl Peers {
    pub(crate) fn new(dialer: Arc<dyn Dialer>) -> Arc<Peers> {
        let shelf = Mutex::new(Shelf::new());
        Arc::new(Peers { dialer, shelf })
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<Peer, Sender>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what nobody has used for long; until `stopped` is told.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        loop {
            let next = self.shelf().expire(Instant::now(), Sender::state);
            tokio::select! {
                _ = stopped.changed() => return,
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// The answer to `request`, whose URI is a path, from `peer`; the error in
    /// Go's words. No timeout of its own but for connecting.
    pub(crate) async fn send(
        self: &Arc<Self>,
        peer: &Peer,
        request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        let kept = self.shelf().take(peer, Instant::now(), Sender::split);
        let mut request = request;
        if let Some(sender) = kept {
            match self.ask(peer, sender, request, Origin::Kept).await {
                Ok(answer) => return Ok(answer),
                Err(Unanswered { why, again: None }) => return Err(why),
                Err(Unanswered { again: Some(r), .. }) => request = r,
            }
        }
        let sender = open::open(&*self.dialer, peer).await?;
        let asked = self.ask(peer, sender, request, Origin::Opened).await;
        asked.map_err(|e| e.why)
    }

    /// The answer to `request` over a connection that nobody else has had or
    /// will have; it may be an upgrade.
    pub(crate) async fn alone(
        &self,
        peer: &Peer,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, String> {
        let own = Peer {
            http: Http::One,
            ..peer.clone()
        };
        match open::open(&*self.dialer, &own).await? {
            Sender::One(mut one) => one.send_request(request).await.map_err(|e| e.to_string()),
            Sender::Many(..) => Err("the server speaks HTTP/2 unasked".to_owned()),
        }
    }

    async fn ask(
        self: &Arc<Self>,
        peer: &Peer,
        sender: Sender,
        request: Request<Body>,
        origin: Origin,
    ) -> Result<Response<Body>, Unanswered> {
        let again = again(&request, origin);
        match sender {
            Sender::One(mut one) => {
                let request = relative(request);
                let asked = one.try_send_request(request).await;
                let answer = asked.map_err(|e| unanswered(e, again))?;
                let back = Back {
                    peers: Arc::downgrade(self),
                    peer: peer.clone(),
                    one,
                };
                Ok(answer.map(|body| answered::body(coming(body), back)))
            }
            Sender::Many(mut many, used) => {
                let part = Part::of(self, peer, &used);
                if origin == Origin::Opened {
                    self.share(peer, Sender::Many(many.clone(), used));
                }
                let request =
                    absolute(request, peer).map_err(|why| Unanswered { why, again: None })?;
                let asked = many.try_send_request(request).await;
                let mut answer = asked.map_err(|e| unanswered(e, again))?;
                *answer.version_mut() = Version::HTTP_11;
                Ok(answer.map(|body| answered::shared(coming(body), part)))
            }
        }
    }

    /// Lets others use a new connection, unless there is one that has room.
    fn share(&self, peer: &Peer, new: Sender) {
        let now = Instant::now();
        let mut shelf = self.shelf();
        let room = shelf.take(peer, now, Sender::split);
        if room.is_none() {
            drop(shelf.put(peer.clone(), new, now));
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Kept,
    Opened,
}

/// A request to be sent once more if a connection that was kept turns out to be
/// dead: one without a body that changes nothing (Go's `isReplayable`).
fn again(request: &Request<Body>, origin: Origin) -> Option<Request<Body>> {
    let is_safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    if !is_safe || !request.body().is_end_stream() || origin == Origin::Opened {
        return None;
    }
    let mut copy = Request::new(respond::body(Bytes::new()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn unanswered(
    mut e: hyper::client::conn::TrySendError<Request<Body>>,
    again: Option<Request<Body>>,
) -> Unanswered {
    // Of one that comes back nothing was sent, whatever it is.
    let back = e.take_message();
    let error = e.into_error();
    let is_dead = !(error.is_parse() || error.is_user() || error.is_timeout());
    Unanswered {
        why: error.to_string(),
        again: back.or(again.filter(|_| is_dead)),
    }
}

/// A request as HTTP/2 has it: its host in its URI.
fn absolute(mut request: Request<Body>, peer: &Peer) -> Result<Request<Body>, String> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let host = request.headers_mut().remove(header::HOST);
    let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = match named.or(parts.authority) {
        Some(named) => named,
        None => Authority::try_from(peer.authority()).map_err(|e| e.to_string())?,
    };
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(authority);
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|e| e.to_string())?;
    Ok(request)
}

/// A request as HTTP/1.1 has it, where it has been one of HTTP/2.
fn relative(mut request: Request<Body>) -> Request<Body> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority.take()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.scheme = None;
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

//! Connections: TLS, HTTP/1.1 and HTTP/2, limits in number, size and time.
//!
//! At most `MAX_CONNECTIONS` are open; further ones wait in the kernel's
//! backlog. A handshake, a request's head and its body each have a deadline.

use crate::authn::Peer;
use crate::authn::socket::take_token;
use crate::respond;
use crate::respond::Accepted;
use crate::server::{Arrived, Identity, MAX_BODY, Server};
use api::status::Status;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use reconcile::Body;
use rustls_pki_types::UnixTime;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

const MAX_CONNECTIONS: usize = 2048;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams of one HTTP/2 connection at once (upstream's default).
const MAX_STREAMS: u32 = 100;
/// How long open requests may take once the server is told to end.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept: descriptors may be short for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `shutdown` turns true.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    server: Arc<Server>,
    mut shutdown: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => Ok(stream),
                Err(e) => Err(e),
            },
            () = ended(&mut shutdown) => break,
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(e) => {
                log::warn!("accept: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, server, shutdown) = (acceptor.clone(), server.clone(), shutdown.clone());
        tokio::spawn(async move {
            server.metrics.connections.fetch_add(1, Ordering::Relaxed);
            connection(stream, acceptor, &server, shutdown).await;
            server.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
}

/// Resolves when the server is told to end, or nobody can tell it any more.
pub(crate) async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|down| *down).await;
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    server: &Arc<Server>,
    mut shutdown: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let remote = stream.peer_addr().ok().map(|a| a.ip());
    let tls = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(e)) => return log::debug!("TLS handshake: {e}"),
        Err(_) => return log::debug!("TLS handshake took too long"),
    };
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = server.authenticator.peer(chain, UnixTime::now());
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, Infallible>(receive(&server, request, peer, remote).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        outcome = connection.as_mut() => {
            if let Err(e) = outcome {
                log::debug!("connection: {e}");
            }
            return;
        }
        () = ended(&mut shutdown) => connection.as_mut().graceful_shutdown(),
    }
    // Watches don't end by themselves; they are cut off after a while.
    let _ = tokio::time::timeout(DRAIN, connection).await;
}

async fn receive(
    server: &Arc<Server>,
    mut request: Request<Incoming>,
    peer: Peer,
    remote: Option<IpAddr>,
) -> Response<Body> {
    let upgrade = request
        .headers()
        .contains_key(http::header::UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    take_token(&mut parts.headers);
    // HTTP/2 has the host in the URI (RFC 9113, 8.3.1).
    if let (None, Some(authority)) = (parts.headers.get(HOST), parts.uri.authority())
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    // Most have no body: then there is nothing to look at the route for.
    let streams = !body.is_end_stream() && server.streams(&parts);
    let mut arrived = Arrived {
        request: Request::from_parts(parts, Bytes::new()),
        streamed: None,
        broken: None,
        upgrade,
        identity: Identity::Connection(peer),
        remote,
    };
    if body.is_end_stream() {
        return server.handle(arrived).await;
    }
    if streams {
        arrived.streamed = Some(body);
        return server.handle(arrived).await;
    }
    let mut reading = Reading {
        server: server.clone(),
        arrived: Some(arrived),
    };
    match collect(body).await {
        Ok(body) => match reading.arrived.take() {
            Some(mut arrived) => {
                *arrived.request.body_mut() = body;
                server.handle(arrived).await
            }
            None => respond::status(
                &Status::internal("a request that is gone"),
                Accepted::json(),
            ),
        },
        Err(status) => reading.give_up(status).await,
    }
}

/// A request whose body is being read. However that ends, who asked and for
/// what goes through authentication and authorization to the audit log.
struct Reading {
    server: Arc<Server>,
    arrived: Option<Arrived>,
}

impl Reading {
    /// The answer of a request without its body.
    async fn give_up(&mut self, status: Status) -> Response<Body> {
        let refused = respond::status(&status, Accepted::json());
        match self.abandon(status) {
            Some(handled) => handled.await.unwrap_or(refused),
            None => refused,
        }
    }

    /// Goes on in a task of its own: the connection may end any moment, and
    /// takes with it what waits for it.
    fn abandon(&mut self, status: Status) -> Option<JoinHandle<Response<Body>>> {
        let mut arrived = self.arrived.take()?;
        arrived.broken = Some(status);
        let server = self.server.clone();
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move { server.handle(arrived).await }))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Nobody waits for the answer.
        drop(self.abandon(Status::bad_request("the request's body broke off")));
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Status> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.downcast_ref::<LengthLimitError>().is_some() => {
            Err(Status::too_large(MAX_BODY))
        }
        Ok(Err(e)) => Err(Status::bad_request(format!("unreadable body: {e}"))),
        Err(_) => Err(Status::timeout("the request's body took too long")),
    }
}

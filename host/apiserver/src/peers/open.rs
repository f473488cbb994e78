//! Opening connections to peers: the way there, TLS, and which HTTP.

use super::{Http, Peer, Sender, Use, Way};
use crate::dialer::{Destination, Dialer, Stream, undialed};
use crate::rest::pod::Endpoint;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// For connecting, TLS included (Go's dialer, as upstream sets it up).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A node is near.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a peer with HTTP/2 is asked whether it is there, and how long it
/// has to answer (upstream's `ReadIdleTimeout` and `PingTimeout`).
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));

/// TLS to a server, by its name.
pub(crate) type Secured = (Arc<rustls::ClientConfig>, ServerName<'static>);

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A stream to a server, and whether it speaks HTTP/2 there.
struct Opened {
    stream: Box<dyn Stream>,
    many: bool,
}

/// TLS over a stream; the error in Go's words.
async fn secured<S: Stream + 'static>(
    stream: S,
    (config, name): Secured,
    http: Http,
) -> Result<Opened, String> {
    let protocols: &[&[u8]] = match http {
        Http::Any => &[HTTP_2, HTTP_1],
        Http::One => &[HTTP_1],
    };
    let mut config = (*config).clone();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(name, stream).await;
    let tls = tls.map_err(|e| format!("tls: {e}"))?;
    let many = tls.get_ref().1.alpn_protocol() == Some(HTTP_2);
    let stream = Box::new(tls);
    Ok(Opened { stream, many })
}

/// A connection through the dialer; the error in Go's words.
async fn through(
    dialer: &dyn Dialer,
    to: &Destination,
    tls: Option<Secured>,
    http: Http,
) -> Result<Opened, String> {
    let opened = async {
        let stream = dialer.connect(to).await;
        let stream = stream.map_err(|e| undialed(to, &e))?;
        match tls {
            Some(tls) => secured(stream, tls, http).await,
            None => Ok(Opened {
                stream,
                many: false,
            }),
        }
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, opened).await {
        Ok(opened) => opened,
        Err(_) => Err(format!("dial tcp {to}: i/o timeout")),
    }
}

/// A connection to a node's endpoint, whose own network is this server's.
async fn to_node(endpoint: &Endpoint, tls: Option<Secured>, http: Http) -> Result<Opened, String> {
    let Endpoint { host, port, .. } = endpoint;
    let dialed = async {
        let tcp = TcpStream::connect((host.as_str(), *port)).await;
        let tcp = tcp.map_err(|e| format!("dial tcp {endpoint}: {e}"))?;
        let _ = tcp.set_nodelay(true);
        match tls {
            Some(tls) => secured(tcp, tls, http).await,
            None => Ok(Opened {
                stream: Box::new(tcp),
                many: false,
            }),
        }
    };
    match tokio::time::timeout(NODE_TIMEOUT, dialed).await {
        Ok(opened) => opened,
        Err(_) => Err(format!("dial tcp {endpoint}: i/o timeout")),
    }
}

/// A new connection to `peer`. It lives until its last sender is dropped, or
/// what it was upgraded to ends.
pub(super) async fn open(dialer: &dyn Dialer, peer: &Peer) -> Result<Sender, String> {
    let tls = peer
        .tls
        .as_ref()
        .map(|(id, name)| (id.0.clone(), name.clone()));
    let opened = match &peer.way {
        Way::Network(to) => through(dialer, to, tls, peer.http).await?,
        Way::Node(endpoint) => to_node(endpoint, tls, peer.http).await?,
    };
    let io = TokioIo::new(opened.stream);
    if opened.many {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true);
        let shaken = builder.handshake(io).await;
        let (sender, connection) = shaken.map_err(|e| e.to_string())?;
        run(connection);
        return Ok(Sender::Many(sender, Arc::new(Use::default())));
    }
    let shaken = http1::handshake(io).await;
    let (sender, connection) = shaken.map_err(|e| e.to_string())?;
    run(connection.with_upgrades());
    Ok(Sender::One(sender))
}

fn run(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            log::debug!("a connection to another server ended: {e}");
        }
    });
}

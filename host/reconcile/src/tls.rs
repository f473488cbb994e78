//! A transport over TLS (or plain TCP for `http://`): hyper's pooled client.
//!
//! HTTP/2 where the server offers it, one connection for all requests and
//! watches; else HTTP/1.1 with a connection each. A broken connection fails
//! its requests and the next request makes a new one. Dead peers are found by
//! HTTP/2 pings. Refuses servers that the given CA doesn't vouch for.

use crate::kubeconfig::Kubeconfig;
use crate::transport::{Body, Transport, TransportError};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("server address {server:?}: {what}")]
    Server { server: String, what: String },
    #[error("{what}: {message}")]
    Pem { what: &'static str, message: String },
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("the token has characters that no header may have")]
    Token,
}

pub struct TlsTransport {
    pool: Pool<Connector, Full<Bytes>>,
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    /// Before every request's path.
    base: String,
    token: Option<HeaderValue>,
}

impl TlsTransport {
    /// Connects when the first request comes. Needs a running tokio runtime
    /// only then.
    pub fn new(config: &Kubeconfig) -> Result<TlsTransport, TlsError> {
        let server = &config.server;
        let invalid = |what: String| TlsError::Server {
            server: server.clone(),
            what,
        };
        let uri: Uri = server
            .parse()
            .map_err(|e: http::uri::InvalidUri| invalid(e.to_string()))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.ok_or_else(|| invalid("no scheme".into()))?;
        let authority = parts.authority.ok_or_else(|| invalid("no host".into()))?;
        let path = parts
            .path_and_query
            .map(|path| path.path().to_owned())
            .unwrap_or_default();
        let tls = match scheme.as_str() {
            "https" => Some(client_config(config)?),
            "http" => None,
            other => return Err(invalid(format!("scheme {other:?}"))),
        };
        let name = config.server_name.as_deref().unwrap_or(host(&authority));
        let name = ServerName::try_from(name.to_owned()).map_err(|e| invalid(e.to_string()))?;
        let connector = Connector {
            tls: tls.map(|tls| (TlsConnector::from(Arc::new(tls)), name)),
        };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .build(connector);
        let token = config.token.as_ref().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok::<_, header::InvalidHeaderValue>(value)
        });
        let token = token.transpose().map_err(|_| TlsError::Token)?;
        let base = path.trim_end_matches('/').to_owned();
        Ok(TlsTransport {
            pool,
            scheme,
            authority,
            base,
            token,
        })
    }

    fn complete(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, http::Error> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.base))
            .build()?;
        if let Some(token) = &self.token {
            parts.headers.insert(header::AUTHORIZATION, token.clone());
        }
        Ok(Request::from_parts(parts, Full::new(body)))
    }
}

impl Transport for TlsTransport {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let request = self.complete(request).map_err(|error| TransportError {
                operation: "make the request",
                message: error.to_string(),
            })?;
            let failed = |error: PoolError| {
                let operation = if error.is_connect() {
                    "connect"
                } else {
                    "send the request"
                };
                TransportError {
                    operation,
                    message: chain(&error),
                }
            };
            let response = self.pool.request(request).await.map_err(failed)?;
            Ok(response.map(|body| {
                let failed = |error: hyper::Error| TransportError {
                    operation: "read the answer",
                    message: chain(&error),
                };
                body.map_err(failed).boxed_unsync()
            }))
        })
    }
}

/// An error and its causes: hyper's own texts say little.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Without the brackets of an IPv6 address.
fn host(authority: &http::uri::Authority) -> &str {
    authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
}

fn client_config(config: &Kubeconfig) -> Result<ClientConfig, TlsError> {
    let pem = |what| {
        move |e: rustls::pki_types::pem::Error| TlsError::Pem {
            what,
            message: e.to_string(),
        }
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(config.ca.as_deref().unwrap_or_default()) {
        roots.add(certificate.map_err(pem("certificate authority"))?)?;
    }
    if roots.is_empty() {
        let message = "no certificate".to_owned();
        return Err(TlsError::Pem {
            what: "certificate authority",
            message,
        });
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut tls = match &config.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
            let chain = chain.map_err(pem("client certificate"))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("client key"))?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

#[derive(Clone)]
struct Connector {
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    async fn connect(self, uri: Uri) -> io::Result<Stream> {
        let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
        let default = if self.tls.is_some() { 443 } else { 80 };
        let address = (
            host(authority).to_owned(),
            authority.port_u16().unwrap_or(default),
        );
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let Some((connector, name)) = self.tls else {
            return Ok(Stream {
                io: TokioIo::new(Box::new(tcp)),
                http2: false,
            });
        };
        let tls = connector.connect(name, tcp).await?;
        let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Stream {
            io: TokioIo::new(Box::new(tls)),
            http2,
        })
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move {
            let slow = |_| io::Error::from(io::ErrorKind::TimedOut);
            tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(slow)?
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

struct Stream {
    io: TokioIo<Box<dyn Io>>,
    http2: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self.http2 {
            true => Connected::new().negotiated_h2(),
            false => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

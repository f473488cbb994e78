//! The kubelet's surface: logs, exec, attach, port-forward, metrics, over TLS, for
//! clients whose certificate the cluster's CA signed, or who bear a token.
//!
//! At most 256 connections are served at once; who comes then waits in the
//! listener's backlog. Half of them at most have no certificate: the API server
//! always finds a place. A handshake may take ten seconds, and a connection may
//! be idle for two minutes, longer than the API server keeps one.

mod auth;
mod command;
mod figures;
mod forward;
mod gate;
mod logs;
mod routes;

pub(crate) use gate::Gate;
pub(crate) use routes::Surface;

use crate::config::Serving;
use auth::Client;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

const CONNECTIONS_MAX: usize = 256;
const STRANGERS_MAX: usize = CONNECTIONS_MAX / 2;
const IDLE: Duration = Duration::from_secs(120);
const HANDSHAKE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{path}: {message}")]
    Pem { path: String, message: String },
    #[error("TLS: {0}")]
    Tls(String),
    #[error("listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
}

pub(crate) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    surface: Surface,
}

impl Server {
    /// # Errors
    /// The file or the address that is no good.
    pub(crate) async fn bind(
        address: SocketAddr,
        serving: &Serving,
        surface: Surface,
    ) -> Result<Self, ServerError> {
        let acceptor = TlsAcceptor::from(Arc::new(tls(serving)?));
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServerError::Listen { address, source })?;
        Ok(Self {
            listener,
            acceptor,
            surface,
        })
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (acceptor, surface) = (self.acceptor.clone(), self.surface.clone());
                    let strangers = strangers.clone();
                    tokio::spawn(async move {
                        if let Err(error) = connection(stream, acceptor, surface, &strangers).await
                        {
                            log::debug!("client {peer}: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    log::warn!("accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    surface: Surface,
    strangers: &Semaphore,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let (_, session) = stream.get_ref();
    let certificates = session.peer_certificates().unwrap_or_default();
    let client = certificates.first().and_then(|c| Client::parse(c));
    let _place = match &client {
        Some(_) => None,
        None => Some(strangers.try_acquire()?),
    };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (surface, client) = (surface.clone(), client.clone());
        async move { Ok::<_, std::convert::Infallible>(surface.answer(request, client.as_ref()).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    let timer = TokioTimer::new();
    builder.http1().timer(timer).header_read_timeout(IDLE);
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
}

fn tls(serving: &Serving) -> Result<rustls::ServerConfig, ServerError> {
    let pem = |path: &Path, message: String| ServerError::Pem {
        path: path.display().to_string(),
        message,
    };
    let certificates = |path: &Path| {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| pem(path, error.to_string()))
    };
    let chain = certificates(&serving.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&serving.key)
        .map_err(|error| pem(&serving.key, error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&serving.client_ca)? {
        roots
            .add(root)
            .map_err(|error| pem(&serving.client_ca, error.to_string()))?;
    }
    let wrong = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
    // Who has no certificate may have a token.
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated();
    let verifier = verifier.build();
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier.map_err(|error| wrong(&error))?)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&error))?;
    // Upgrades exist in HTTP/1.1 only.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A client for tests, as its certificate would name it.
#[cfg(test)]
pub(crate) fn administrator() -> Client {
    Client {
        user: "admin".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..Client::default()
    }
}

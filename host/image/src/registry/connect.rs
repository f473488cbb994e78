//! From a host to a byte stream: name, TCP, proxy, TLS; within one deadline.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{self, Config, Proxy};
use crate::error::Failure;
use crate::registry::proxy::{self, ProxyUrl, bare_host};
use crate::registry::{api_host, dns};

/// The header of a proxy's answer to `CONNECT`.
const MAX_CONNECT_ANSWER: usize = 16 << 10;

/// Any stream that HTTP can run on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream, and what HTTP has to know of the way it takes.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    /// Set if requests must be in absolute form, with this authorization.
    pub(crate) forward_proxy: Option<ProxyUrl>,
}

/// Immutable after start.
pub(crate) struct Connector {
    proxy: Proxy,
    timeout: Duration,
    default_tls: Arc<ClientConfig>,
    by_host: HashMap<String, Arc<ClientConfig>>,
}

impl Connector {
    pub(crate) fn new(config: &Config) -> Result<Connector, String> {
        let mut roots = RootCertStore::empty();
        if let Ok(pem) = std::fs::read(&config.ca_bundle.0) {
            let all = rustls_pki_types::CertificateDer::pem_slice_iter(&pem);
            let (added, bad) = roots.add_parsable_certificates(all.flatten());
            log::debug!("image: {added} public roots, {bad} not usable");
        }
        add_roots(&mut roots, &config.ca_roots)?;
        let mut by_host = HashMap::new();
        for (host, registry) in &config.registries {
            if !registry.ca_roots.is_empty() {
                let mut own = roots.clone();
                add_roots(&mut own, &registry.ca_roots)?;
                by_host.insert(api_host(host).to_owned(), tls_config(own)?);
            }
        }
        Ok(Connector {
            proxy: config.proxy.clone(),
            timeout: Duration::from_secs(config.timeouts.connect_seconds),
            default_tls: tls_config(roots)?,
            by_host,
        })
    }

    /// `authority` is the host as configured, with its port if it has one.
    pub(crate) async fn connect(
        &self,
        tls: bool,
        authority: &http::uri::Authority,
    ) -> Result<Connection, Failure> {
        timeout(self.timeout, self.connect_now(tls, authority))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::unavailable(format!(
                    "dial {authority}: timed out after {} s",
                    self.timeout.as_secs()
                )))
            })
    }

    async fn connect_now(
        &self,
        tls: bool,
        authority: &http::uri::Authority,
    ) -> Result<Connection, Failure> {
        let host = bare_host(authority.host());
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let proxy = proxy::choose(&self.proxy, tls, host, port);
        let (next_host, next_port) = match &proxy {
            Some(p) => (p.host.as_str(), p.port),
            None => (host, port),
        };
        let mut tcp = dial(next_host, next_port).await?;
        if !tls {
            return Ok(Connection {
                stream: Box::new(tcp),
                forward_proxy: proxy,
            });
        }
        if let Some(proxy) = &proxy {
            open_tunnel(&mut tcp, proxy, host, port).await?;
        }
        let config = self
            .by_host
            .get(authority.as_str())
            .unwrap_or(&self.default_tls);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| Failure::unavailable(format!("{host}: {e}")))?;
        let stream = TlsConnector::from(config.clone())
            .connect(name, tcp)
            .await
            .map_err(|e| Failure::unavailable(format!("tls to {authority}: {e}")))?;
        Ok(Connection {
            stream: Box::new(stream),
            forward_proxy: None,
        })
    }
}

fn add_roots(roots: &mut RootCertStore, pems: &[String]) -> Result<(), String> {
    for certificate in config::certificates(pems)? {
        roots.add(certificate).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn tls_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut last = Failure::unavailable(format!("dial tcp: lookup {host}: no such host"));
    for address in dns::resolve(host).await? {
        match TcpStream::connect((address, port)).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => {
                let address = std::net::SocketAddr::new(address, port);
                last = Failure::unavailable(format!(
                    "dial tcp {address}: connect: {}",
                    errno_text(&e)
                ));
            }
        }
    }
    Err(last)
}

/// As Go prints it, which is what people search for.
fn errno_text(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        _ => e.to_string(),
    }
}

/// RFC 9110, 9.3.6.
async fn open_tunnel(
    tcp: &mut TcpStream,
    proxy: &ProxyUrl,
    host: &str,
    port: u16,
) -> Result<(), Failure> {
    let failed = |what: &dyn std::fmt::Display| {
        Failure::unavailable(format!("proxy {}:{}: {what}", proxy.host, proxy.port))
    };
    let target = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let authorization = match &proxy.authorization {
        Some(value) => format!("Proxy-Authorization: {value}\r\n"),
        None => String::new(),
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    tcp.write_all(request.as_bytes())
        .await
        .map_err(|e| failed(&e))?;
    let mut answer = Vec::new();
    // Byte by byte, so that nothing of the tunnel is swallowed.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_CONNECT_ANSWER {
            return Err(failed(&"its answer to CONNECT has no end"));
        }
        answer.push(tcp.read_u8().await.map_err(|e| failed(&e))?);
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(failed(&format!("CONNECT {target}: {line:?}"))),
    }
}

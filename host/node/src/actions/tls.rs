//! TLS to a pod's own port: as the kubelet, a probe takes any certificate.

use reconcile::AnyCertificate;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
});

pub(super) async fn connect(stream: UnixStream, host: &str) -> io::Result<TlsStream<UnixStream>> {
    let config = CONFIG.as_ref().map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned());
    let name = name.unwrap_or(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()));
    TlsConnector::from(config.clone())
        .connect(name, stream)
        .await
}

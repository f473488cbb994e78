//! `atoll control` alone, and what a client needs to reach it.

use crate::Result;
use crate::connection::{Connection, Target};
use crate::process::{Process, free_port};
use reconcile::Kubeconfig;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(crate) struct Atoll {
    pub(crate) process: Process,
    pub(crate) target: Target,
    /// From its start to the answer that it is ready.
    pub(crate) startup: Duration,
}

/// Starts it with its data in `place`, whatever is there.
pub(crate) async fn start(program: &Path, place: &Path) -> Result<Atoll> {
    let kubeconfig = place.join("kubeconfig");
    let text = |path: &Path| path.display().to_string();
    let address = format!("127.0.0.1:{}", free_port()?);
    let arguments = [
        "control",
        "--data-dir",
        &text(&place.join("data")),
        "--listen",
        &address,
        "--kubeconfig-out",
        &text(&kubeconfig),
    ];
    // What an earlier one left names another port.
    let _ = std::fs::remove_file(&kubeconfig);
    let began = Instant::now();
    let process = Process::start(program, &arguments, &place.join("log"))?;
    loop {
        if let Ok(config) = Kubeconfig::load(&kubeconfig) {
            let target = Target {
                address: address.parse()?,
                tls: Arc::new(client(&config)?),
            };
            if is_ready(&target).await.unwrap_or(false) {
                return Ok(Atoll {
                    process,
                    target,
                    startup: began.elapsed(),
                });
            }
        }
        if began.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(place.join("log"))?;
            return Err(format!("atoll isn't ready after a minute: {log}").into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn is_ready(target: &Target) -> Result<bool> {
    let mut connection = Connection::open(target).await?;
    Ok(connection.send("GET", "/readyz", "", b"").await? == 200)
}

pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

/// The administrator's certificate, HTTP/1.1.
fn client(config: &Kubeconfig) -> Result<ClientConfig> {
    let (certificate, key) = config.identity.as_ref().ok_or("no client certificate")?;
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
    let builder =
        ClientConfig::builder().with_root_certificates(roots(config.ca.as_deref().unwrap_or(b""))?);
    let mut tls = builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

//! TLS settings, from PEM: the server's with optional client certificates, and
//! the client's toward nodes.

use crate::pki::{Credential, PkiError};
use reconcile::AnyCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

fn broken(what: &str, e: &dyn std::fmt::Display) -> PkiError {
    PkiError::Pem {
        what: what.to_owned(),
        message: e.to_string(),
    }
}

fn roots(cas: &[&str]) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    let all = cas.iter();
    for certificate in all.flat_map(|ca| CertificateDer::pem_slice_iter(ca.as_bytes())) {
        let certificate = certificate.map_err(|e| broken("the CA's certificate", &e))?;
        roots
            .add(certificate)
            .map_err(|e| broken("the CA's certificate", &e))?;
    }
    Ok(roots)
}

/// What takes clients whose certificate any of `cas` (PEM) has signed, and
/// clients without one.
pub(crate) fn verifier(cas: &[&str]) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(cas)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| broken("the CA", &e))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(credential: &Credential) -> Result<Identity, PkiError> {
    let chain = CertificateDer::pem_slice_iter(credential.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| broken("a certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(credential.key.as_bytes())
        .map_err(|e| broken("a key", &e))?;
    Ok((chain, key))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// HTTP/2 and HTTP/1.1; a client certificate is verified if there is one.
pub(crate) fn server(cas: &[&str], credential: &Credential) -> Result<ServerConfig, PkiError> {
    let verifier = verifier(cas)?;
    let (chain, key) = identity(credential)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| broken("TLS", &e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| broken("the server's certificate", &e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Toward servers whose certificate nobody checks: pods and Services behind
/// `proxy` (upstream does the same), and where `insecureSkipTLSVerify` says so.
pub(crate) fn unverified(identity_of: Option<&Credential>) -> Result<ClientConfig, PkiError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| broken("TLS", &e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())));
    match identity_of {
        None => Ok(config.with_no_client_auth()),
        Some(credential) => {
            let (chain, key) = identity(credential)?;
            config
                .with_client_auth_cert(chain, key)
                .map_err(|e| broken("a client's certificate", &e))
        }
    }
}

pub(crate) fn client(ca: &str, credential: &Credential) -> Result<ClientConfig, PkiError> {
    let (chain, key) = identity(credential)?;
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| broken("TLS", &e))?
        .with_root_certificates(roots(&[ca])?)
        .with_client_auth_cert(chain, key)
        .map_err(|e| broken("a client's certificate", &e))
}

//! The engine whose truth is an etcd cluster, release 3.4 or later.
//!
//! As kube-apiserver's watch cache: the whole of it is kept in memory, from one
//! range at the start and one watch from there on, so reads and watches cost
//! what they cost with the embedded engine. A write is an etcd transaction,
//! answered when the watch has shown it here. Who must see what others wrote
//! asks first how far etcd is (`Store::fresh`) and waits for the watch; etcd's
//! progress notifications are not used, because before 3.4.31 they run ahead
//! of events.
//!
//! ```text
//! txn ----> remote ----etcd transaction----> etcd <---- other API servers
//!             ^ reached                       |
//! range, watch <-- state <-- feed <--watch----+
//! ```
//!
//! A revision here is a stored base plus etcd's: so a cluster that was moved to
//! etcd goes on above what it had. When the connection is lost the watch goes
//! on at the next member where it was. When others have compacted that away,
//! everything is read anew and watches here end (`SlowWatcher`). An etcd that
//! is another one, or that went back, stops the store.
//!
//! The watch is of all keys, so that every revision shows: the etcd had better
//! be Atoll's alone.

mod calls;
mod copy;
mod feed;
mod grpc;
mod load;
mod proto;
mod remote;

pub use copy::restore_to_etcd;

use crate::engine::Options;
use crate::store::{QUEUE, Store};
use crate::types::StoreError;
use bytes::Bytes;
use http::Uri;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where etcd is, and how to talk to it.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// `http://HOST:PORT` or `https://HOST:PORT`, one for each member.
    pub servers: Vec<String>,
    /// PEM: who may have signed the members' certificates.
    pub ca: Option<Vec<u8>>,
    /// PEM: our certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Keys are below `PREFIX/`.
    pub prefix: Option<String>,
}

const PREFIX: &str = "/atoll";

/// Where what is in etcd.
#[derive(Clone, Debug)]
struct Names {
    /// Goes before every key.
    prefix: Bytes,
    /// Holds the base of revisions; none is 0.
    base: Bytes,
}

impl Names {
    fn key(&self, key: &[u8]) -> Bytes {
        [&self.prefix, key].concat().into()
    }
}

/// `EtcdOptions`, checked.
#[derive(Clone, Debug)]
struct Cluster {
    servers: Vec<Uri>,
    tls: Arc<rustls::ClientConfig>,
    names: Names,
}

impl EtcdOptions {
    fn checked(&self) -> Result<Cluster, StoreError> {
        let wrong = |what: String| StoreError::EtcdOptions { what };
        let server = |text: &String| {
            let uri: Uri = text.parse().map_err(|e| wrong(format!("{text}: {e}")))?;
            match (uri.scheme_str(), uri.host()) {
                (Some("http" | "https"), Some(_)) => Ok(uri),
                _ => Err(wrong(format!(
                    "{text}: not http://HOST:PORT or https://HOST:PORT"
                ))),
            }
        };
        let servers = self
            .servers
            .iter()
            .map(server)
            .collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(wrong("no server".to_owned()));
        }
        let prefix = self.prefix.as_deref().unwrap_or(PREFIX);
        Ok(Cluster {
            servers,
            tls: Arc::new(self.tls().map_err(wrong)?),
            names: Names {
                prefix: format!("{prefix}/").into(),
                base: format!("{prefix}-base").into(),
            },
        })
    }

    fn tls(&self) -> Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.ca.as_deref().unwrap_or_default()) {
            let certificate = certificate.map_err(|e| format!("CA: {e}"))?;
            roots.add(certificate).map_err(|e| format!("CA: {e}"))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
                let chain = chain.map_err(|e| format!("client certificate: {e}"))?;
                let key = PrivateKeyDer::from_pem_slice(key);
                let key = key.map_err(|e| format!("client key: {e}"))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|e| format!("client certificate: {e}"))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl Store {
    /// Reads everything from etcd and follows it from there on. Of `options`,
    /// the bound on history counts.
    pub async fn connect(etcd: &EtcdOptions, options: Options) -> Result<Store, StoreError> {
        let cluster = etcd.checked()?;
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (feed, link) = feed::Feed::start(cluster, options.history_bytes).await?;
        let shared = link.shared.clone();
        let following = tokio::spawn(feed.run());
        let remote = remote::Remote::new(link, receiver);
        tokio::spawn(async move {
            remote.run().await;
            following.abort();
        });
        Ok(Store::of_others(shared, requests))
    }
}

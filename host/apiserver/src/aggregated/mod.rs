//! Group-versions that other servers serve: APIServices with `spec.service`
//! (upstream's kube-aggregator). Requests for them are passed on as they are, in
//! the user's name, which the front proxy's certificate vouches for.
//!
//! ```text
//! APIService --task: check, fetch--> Table: Remote --handler--> extension server
//!                  \-> status: Available
//! ```
//! The task owns the remotes of the table of kinds; requests, discovery and
//! OpenAPI read them there. `check` decides what is available, `fetch` asks the
//! servers, `openapi` merges what they describe.

mod check;
mod fetch;
mod handler;
pub(crate) mod openapi;
mod task;

pub(crate) use task::Aggregator;

use crate::dialer::Destination;
use crate::peers::{Http, Peer};
use crate::pki::Credential;
use crate::tls;
use api::meta;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A group-version on another server.
pub(crate) struct Remote {
    /// The APIService's `spec`.
    spec: Value,
    /// Whether its condition `Available` holds.
    pub(crate) available: bool,
    secured: Result<(Arc<rustls::ClientConfig>, ServerName<'static>), String>,
    pub(crate) said: Said,
}

/// What the server says of the group-version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// `APIVersionDiscovery`; null where nothing is known.
    pub(crate) discovery: Value,
    /// Paths of OpenAPI v3, with their URLs.
    pub(crate) v3: BTreeMap<String, String>,
    /// OpenAPI v2; null where there is none.
    pub(crate) v2: Value,
}

impl Remote {
    /// Of an APIService; `None` for one that this server serves itself, and for
    /// groups that nobody else may serve.
    fn of(service: &Value, identity: &Credential) -> Option<Remote> {
        let spec = service.get("spec")?;
        spec.get("service")?;
        let group = meta::text(spec, &["group"]);
        if group.is_empty() || group == "apiregistration.k8s.io" {
            return None;
        }
        let mut remote = Remote {
            spec: spec.clone(),
            available: check::is_available(service),
            secured: Err(String::new()),
            said: Said::default(),
        };
        remote.secured = remote.secure(identity);
        Some(remote)
    }

    fn secure(
        &self,
        identity: &Credential,
    ) -> Result<(Arc<rustls::ClientConfig>, ServerName<'static>), String> {
        let name = ServerName::try_from(self.host()).map_err(|e| e.to_string())?;
        let config = if meta::flag(&self.spec, &["insecureSkipTLSVerify"]) {
            tls::unverified(Some(identity))
        } else {
            let bundle = STANDARD.decode(meta::text(&self.spec, &["caBundle"]));
            let bundle = bundle.map_err(|e| format!("unable to load root certificates: {e}"))?;
            tls::client(&String::from_utf8_lossy(&bundle), identity)
        };
        let config = config.map_err(|e| format!("unable to load root certificates: {e}"))?;
        Ok((Arc::new(config), name))
    }

    pub(crate) fn group(&self) -> &str {
        meta::text(&self.spec, &["group"])
    }

    pub(crate) fn version(&self) -> &str {
        meta::text(&self.spec, &["version"])
    }

    /// The group's place in discovery, and the version's in its group.
    pub(crate) fn priority(&self) -> (i64, i64) {
        let of = |key: &str| meta::int(&self.spec, &[key]).unwrap_or(0);
        (of("groupPriorityMinimum"), of("versionPriority"))
    }

    fn namespace(&self) -> &str {
        meta::text(&self.spec, &["service", "namespace"])
    }

    fn name(&self) -> &str {
        meta::text(&self.spec, &["service", "name"])
    }

    fn port(&self) -> u16 {
        let port = meta::int(&self.spec, &["service", "port"]);
        port.and_then(|p| u16::try_from(p).ok()).unwrap_or(443)
    }

    /// The name that the server's certificate has.
    fn host(&self) -> String {
        format!("{}.{}.svc", self.name(), self.namespace())
    }

    /// Where it is, and how it is sure who asks.
    fn peer(&self, http: Http) -> Result<Peer, String> {
        let to = Destination::Service {
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
            port: self.port(),
        };
        let secured = self.secured.clone()?;
        Ok(Peer::network(to, Some(secured), http))
    }

    /// The same server, and it says the same.
    fn is_same(&self, other: &Remote) -> bool {
        (&self.spec, self.available, &self.said) == (&other.spec, other.available, &other.said)
    }
}

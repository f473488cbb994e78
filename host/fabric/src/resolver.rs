//! One resolver for all roles: static glibc has no name service switch.
//!
//! Reads `/etc/resolv.conf` (on the appliance a link to what `fabric` writes)
//! again whenever the file changed; keeps hickory's bounded cache until then.

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// What the resolver reads.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
#[error("resolve {name}: {source}")]
pub struct ResolveError {
    pub name: String,
    pub source: Box<NetError>,
}

/// Names to addresses; cheap to share.
#[derive(Clone)]
pub struct Resolver {
    path: PathBuf,
    current: Arc<Mutex<Option<Current>>>,
}

#[derive(Clone)]
struct Current {
    changed: Option<SystemTime>,
    resolver: TokioResolver,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(Path::new(RESOLV_CONF))
    }
}

impl Resolver {
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            current: Arc::new(Mutex::new(None)),
        }
    }

    /// The addresses of a host; an address is its own.
    ///
    /// # Errors
    /// No server, no answer, no such name.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        if host == "localhost" {
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        let fail = |source: NetError| ResolveError {
            name: host.to_owned(),
            source: Box::new(source),
        };
        let resolver = self.resolver().map_err(fail)?;
        let answer = resolver.lookup_ip(host).await.map_err(fail)?;
        Ok(answer.iter().collect())
    }

    /// The resolver for the file as it is now.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let changed = std::fs::metadata(&self.path)
            .and_then(|metadata| metadata.modified())
            .ok();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*current
            && current.changed == changed
        {
            return Ok(current.resolver.clone());
        }
        let text = std::fs::read(&self.path).unwrap_or_default();
        let (config, options) = hickory_resolver::system_conf::parse_resolv_conf(text)?;
        let provider = hickory_resolver::net::runtime::TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider).with_options(options);
        let resolver = builder.build()?;
        *current = Some(Current {
            changed,
            resolver: resolver.clone(),
        });
        Ok(resolver)
    }
}

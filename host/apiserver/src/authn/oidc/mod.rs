//! OpenID Connect: ID tokens of issuers as bearer tokens.
//!
//! ```text
//! start --discovery, again every 10 s until it answers--> keys
//!           a token that no key verifies --> keys, fetched again
//! ```
//! Fetched again at most once every `PAUSE`, by one request for all that wait:
//! strangers can't have the issuer asked more often. Until the issuer has
//! answered its tokens prove nobody. What a token may claim is in `claims`, whom
//! it names in `mapping`; issuers are named by `config` or by a file, `structured`,
//! which `reload` reads again when it changes.

mod claims;
mod config;
mod mapping;
pub(crate) mod reload;
mod structured;
#[cfg(test)]
mod tests;

pub use config::{OidcConfig, OidcError};

use super::jws::{self, Signed, Verifier};
use crate::config::Config;
use crate::user::User;
use crate::webhook::{Client, trusting};
use jiff::Timestamp;
use mapping::Mapping;
use reload::{Issuers, Reload};
use rustls::ClientConfig;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Between tries to reach the issuer at the start.
const RETRY: Duration = Duration::from_secs(10);
/// Between fetches of keys that tokens of unknown keys cause.
const PAUSE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Keys of one issuer; more are passed over.
const MAX_KEYS: usize = 256;
/// Bytes of what an issuer answers.
const MAX_DOCUMENT: usize = 1024 * 1024;

/// Where Go looks for this machine's authorities.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What signs for the issuer.
struct Key {
    id: Option<String>,
    key: Verifier,
}

/// What is known of the issuer's keys.
struct Keys {
    /// Where they come from (`jwks_uri`).
    url: String,
    keys: Vec<Key>,
    /// Grows with each fetch.
    round: u64,
}

/// Whose tokens count, and what they become.
struct Issuer {
    url: String,
    /// Where its discovery document is, if not below `url`.
    discovery: Option<String>,
    /// Of which a token has to name one.
    audiences: Vec<String>,
    /// PEM; `None`: this machine's.
    authorities: Option<Vec<u8>>,
    mapping: Mapping,
    algorithms: Vec<Signed>,
}

pub(crate) struct Oidc {
    issuer: Issuer,
    client: Arc<Client>,
    tls: Arc<ClientConfig>,
    /// `None` until the issuer has answered.
    keys: RwLock<Option<Arc<Keys>>>,
    /// When keys were last fetched for a token; held while it is done.
    fetching: Mutex<Option<Instant>>,
}

fn read(path: &Path) -> Result<Vec<u8>, OidcError> {
    std::fs::read(path).map_err(|source| OidcError::Read {
        path: path.display().to_string(),
        source,
    })
}

/// All issuers that are configured, and the task that asks them.
pub(crate) fn issuers(
    config: &Config,
    client: &Arc<Client>,
) -> Result<(Arc<Issuers>, Reload), OidcError> {
    let own = config.service_account_issuer.as_str();
    let mut all = Vec::new();
    let mut file = None;
    if let Some(path) = &config.authentication_config {
        let text = read(path)?;
        all = structured::of(&text, path, own)?;
        file = Some((path.clone(), text));
    }
    if let Some(told) = &config.oidc {
        told.check(own)?;
        all.push(Issuer {
            url: told.issuer_url.clone(),
            discovery: None,
            audiences: vec![told.client_id.clone()],
            authorities: told.ca_file.as_deref().map(read).transpose()?,
            mapping: told.mapping(),
            algorithms: told.algorithms()?,
        });
    }
    let issuers = Arc::new(Issuers::new(reload::made(all, client)?));
    let reload = Reload::new(issuers.clone(), file, own, client);
    Ok((issuers, reload))
}

impl Oidc {
    fn new(mut issuer: Issuer, client: &Arc<Client>) -> Result<Oidc, OidcError> {
        let authorities = match issuer.authorities.take() {
            Some(given) => given,
            None => match AUTHORITIES.iter().find(|path| Path::new(path).exists()) {
                Some(path) => read(Path::new(path))?,
                None => Vec::new(),
            },
        };
        Ok(Oidc {
            issuer,
            client: client.clone(),
            tls: trusting(&authorities).map_err(OidcError::Ca)?,
            keys: RwLock::default(),
            fetching: Mutex::default(),
        })
    }

    /// Asks the issuer until it answers.
    async fn run(self: Arc<Self>) {
        loop {
            match self.discover().await {
                Ok(keys) => {
                    self.keep(keys);
                    log::info!("oidc: issuer {} has answered", self.issuer.url);
                    return;
                }
                Err(why) => log::warn!("oidc: issuer {}: {why}", self.issuer.url),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whom a token proves; `None`: it isn't this issuer's.
    pub(crate) async fn user(&self, token: &str, now: Timestamp) -> Option<Result<User, String>> {
        let claimed = jws::unverified(token)?;
        if claimed["iss"] != self.issuer.url.as_str() {
            return None;
        }
        let known = self.known();
        let proven = match known {
            None => Err("oidc: authenticator not initialized".to_owned()),
            Some(known) => self.proven(token, &claimed, known, now).await,
        };
        Some(proven)
    }

    async fn proven(
        &self,
        token: &str,
        claimed: &Value,
        known: Arc<Keys>,
        now: Timestamp,
    ) -> Result<User, String> {
        let wrong = |why: String| format!("oidc: verify token: {why}");
        // Before the signature: what is wrong anyway costs no fetch.
        claims::check(claimed, &self.issuer.audiences, now).map_err(wrong)?;
        let signed = jws::signed(token).ok_or_else(|| wrong("malformed jwt".to_owned()))?;
        if !self.issuer.algorithms.contains(&signed.1) {
            let expected = self.issuer.algorithms.iter().map(|a| config::named(*a));
            let expected: Vec<String> = expected.collect();
            let got = config::named(signed.1);
            return Err(wrong(format!(
                "oidc: id token signed with unsupported algorithm, expected {expected:?} got {got:?}"
            )));
        }
        let by = (signed.0.as_deref(), signed.1);
        let claims = match verified(&known, token, by) {
            Some(claims) => Some(claims),
            None => {
                let newer = self.newer(&known).await;
                newer.and_then(|newer| verified(&newer, token, by))
            }
        };
        let claims = claims.ok_or_else(|| {
            wrong("failed to verify signature: failed to verify id token signature".to_owned())
        })?;
        self.issuer.mapping.user(&claims)
    }

    fn known(&self) -> Option<Arc<Keys>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    fn keep(&self, keys: Keys) {
        let mut kept = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::new(keys));
    }

    /// Keys that were fetched after `known`, if there may be any yet.
    async fn newer(&self, known: &Keys) -> Option<Arc<Keys>> {
        let mut last = self.fetching.lock().await;
        let current = self.known()?;
        if current.round != known.round {
            return Some(current);
        }
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            return None;
        }
        *last = Some(Instant::now());
        match self.fetch(&current.url).await {
            Ok(keys) => self.keep(Keys {
                url: current.url.clone(),
                keys,
                round: current.round + 1,
            }),
            Err(why) => {
                log::warn!("oidc: keys of {}: {why}", self.issuer.url);
                return None;
            }
        }
        self.known()
    }

    /// OpenID Connect Discovery 1.0, 4.
    async fn discover(&self) -> Result<Keys, String> {
        let base = self.issuer.url.trim_end_matches('/');
        let usual = || format!("{base}/.well-known/openid-configuration");
        let url = self.issuer.discovery.clone().unwrap_or_else(usual);
        let document = self.get(&url).await?;
        if document["issuer"] != self.issuer.url.as_str() {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {}",
                self.issuer.url, document["issuer"]
            ));
        }
        let url = document["jwks_uri"].as_str().unwrap_or_default().to_owned();
        let keys = self.fetch(&url).await?;
        Ok(Keys {
            url,
            keys,
            round: 0,
        })
    }

    async fn fetch(&self, url: &str) -> Result<Vec<Key>, String> {
        Ok(keys(&self.get(url).await?))
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let tls = self.tls.clone();
        self.client.get(url, tls, MAX_DOCUMENT, TIMEOUT).await
    }
}

/// The keys of a JWK set (RFC 7517) that this can use.
fn keys(set: &Value) -> Vec<Key> {
    let listed = set["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let read = |key: &Value| {
        Some(Key {
            id: key["kid"].as_str().map(str::to_owned),
            key: Verifier::of(key)?,
        })
    };
    listed.iter().filter_map(read).take(MAX_KEYS).collect()
}

fn verified(keys: &Keys, token: &str, by: (Option<&str>, Signed)) -> Option<Value> {
    let (id, signed) = by;
    let fits = |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
    let mut fitting = keys.keys.iter().filter(fits);
    fitting.find_map(|key| key.key.verified(token, signed))
}

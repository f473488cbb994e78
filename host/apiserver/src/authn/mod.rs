//! Authentication: front proxies, client certificates (CN is the user, O its
//! groups), static bearer tokens, service account tokens, bootstrap tokens, ID
//! tokens of issuers. Certificates are verified by TLS before this reads them.
//! Wrong credentials are refused,
//! absent ones are anonymous.

pub(crate) mod account;
mod bootstrap_token;
pub(crate) mod front_proxy;
pub(crate) mod impersonate;
mod jws;
pub(crate) mod keys;
pub(crate) mod legacy;
pub(crate) mod oidc;
mod pem_keys;
pub(crate) mod socket;

use crate::config::Token;
use crate::user::User;
use api::status::Status;
use front_proxy::FrontProxy;
use http::HeaderMap;
use jiff::Timestamp;
use keys::Keys;
use oidc::reload::Issuers;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use store::Store;
use x509_parser::prelude::FromDer;

const INVALID: &str = "invalid bearer token";

fn refused(why: String) -> String {
    format!("[{INVALID}, {why}]")
}

/// What a token proved.
#[derive(Debug)]
pub(crate) struct Proven {
    pub(crate) user: User,
    /// Those of the asked-for audiences that it is good for.
    pub(crate) audiences: Vec<String>,
}

/// What a connection's certificate, which TLS has verified, says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// Whom it names, if the CA of clients has signed it.
    user: Option<User>,
    /// It is a front proxy's.
    front: bool,
    /// There is one, and the CA of clients hasn't signed it.
    unknown: bool,
}

pub(crate) struct Authenticator {
    pub(crate) front: Option<FrontProxy>,
    /// By their digest, so that a lookup's time tells nothing of them.
    tokens: HashMap<[u8; 32], User>,
    pub(crate) keys: Keys,
    pub(crate) issuer: String,
    store: Store,
    /// Whose ID tokens count too.
    pub(crate) oidc: Arc<Issuers>,
}

impl Authenticator {
    pub(crate) fn new(
        tokens: &[Token],
        keys: Keys,
        issuer: &str,
        store: &Store,
        oidc: Arc<Issuers>,
        front: Option<FrontProxy>,
    ) -> Authenticator {
        let user = |t: &Token| User::new(t.user.clone(), t.groups.clone());
        Authenticator {
            front,
            tokens: tokens.iter().map(|t| (digest(&t.token), user(t))).collect(),
            keys,
            issuer: issuer.to_owned(),
            store: store.clone(),
            oidc,
        }
    }

    /// What a connection's certificates say, its own first.
    pub(crate) fn peer(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Peer {
        let Some((certificate, rest)) = chain.split_first() else {
            return Peer::default();
        };
        match &self.front {
            Some(front) => front.peer(certificate, rest, now),
            None => Peer {
                user: certificate_user(certificate),
                ..Peer::default()
            },
        }
    }

    /// The user of a request; `peer` is the connection's.
    pub(crate) async fn user(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<User, Status> {
        let front = self.front.as_ref().filter(|_| peer.front);
        if let Some(user) = front.and_then(|front| front.user(headers)) {
            return Ok(user);
        }
        if let Some(user) = &peer.user {
            return Ok(user.clone());
        }
        let Some(token) = bearer(headers)? else {
            return match peer.unknown {
                true => Err(Status::unauthorized()),
                false => Ok(User::anonymous()),
            };
        };
        self.token(token, &self.audiences(), now)
            .await
            .map(|proven| proven.user)
            .map_err(|why| {
                log::debug!("a bearer token was refused: {why}");
                Status::unauthorized()
            })
    }

    /// The audiences that this server is.
    pub(crate) fn audiences(&self) -> Vec<String> {
        vec![self.issuer.clone()]
    }

    /// Whom a bearer token proves to any of `audiences`, or why nobody.
    pub(crate) async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Proven, String> {
        if let Some(user) = self.tokens.get(&digest(token)) {
            return self.own(user.clone(), audiences);
        }
        if let Some(user) = bootstrap_token::user(&self.store, token, now) {
            return self.own(user, audiences);
        }
        match self.keys.verify(token) {
            Some(claims) if account::is_ours(&claims, &self.issuer) => {
                self.account(&claims, audiences, now)
            }
            _ => self.foreign(token, audiences, now).await,
        }
    }

    /// What names no audience of the API is meant for this server.
    fn own(&self, user: User, audiences: &[String]) -> Result<Proven, String> {
        match audiences.contains(&self.issuer) {
            true => Ok(Proven {
                user,
                audiences: self.audiences(),
            }),
            false => Err(INVALID.to_owned()),
        }
    }

    /// Of a token that somebody else issued.
    async fn foreign(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Proven, String> {
        for oidc in self.oidc.all().iter() {
            if let Some(proven) = oidc.user(token, now).await {
                return self.own(proven.map_err(refused)?, audiences);
            }
        }
        Err(INVALID.to_owned())
    }

    /// Of verified claims of a service account's token.
    fn account(
        &self,
        claims: &Value,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Proven, String> {
        let named = match account::audiences(claims) {
            none if none.is_empty() => self.audiences(),
            named => named,
        };
        let good: Vec<String> = audiences
            .iter()
            .filter(|a| named.contains(a))
            .cloned()
            .collect();
        if good.is_empty() {
            return Err(refused(format!(
                "token audiences {named:?} is invalid for the target audiences {audiences:?}"
            )));
        }
        let user = account::user(&self.store, claims, now).map_err(refused)?;
        Ok(Proven {
            user,
            audiences: good,
        })
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(header) = headers.get(http::header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = header.to_str().map_err(|_| Status::unauthorized())?.trim();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => match token.trim() {
            "" => Ok(None),
            token => Ok(Some(token)),
        },
        _ => Err(Status::unauthorized()),
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The user that a verified client certificate names.
fn certificate_user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    // The last one, as Go has it: who signs and who trusts have to agree.
    let name = subject.iter_common_name().last()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned);
    Some(User::new(name, groups))
}

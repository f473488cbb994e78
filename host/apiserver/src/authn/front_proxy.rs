//! Front proxies: servers between clients and this one, whose certificate is of
//! a CA of their own and who name the user in headers (upstream's
//! `headerrequest`). Others' headers of these names mean nothing.

use super::{Peer, certificate_user};
use crate::config::RequestHeader;
use crate::pki::{PkiError, read};
use crate::query::percent_decode;
use crate::tls;
use crate::user::{ANONYMOUS, User};
use http::{HeaderMap, HeaderName};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;

pub(crate) struct FrontProxy {
    /// PEM of whoever certifies front proxies.
    pub(crate) ca: String,
    pub(crate) config: RequestHeader,
    verifier: Arc<dyn ClientCertVerifier>,
    /// By the CA of clients.
    clients: Arc<dyn ClientCertVerifier>,
    /// The first with a value counts.
    user: Vec<HeaderName>,
    uid: Vec<HeaderName>,
    /// All values of all of them.
    group: Vec<HeaderName>,
    /// Lower case.
    extra: Vec<String>,
}

fn wrong(option: &str, message: String) -> PkiError {
    PkiError::Pem {
        what: option.to_owned(),
        message,
    }
}

fn names(option: &str, given: &[String]) -> Result<Vec<HeaderName>, PkiError> {
    let name = |text: &String| {
        let trimmed = text.trim();
        HeaderName::from_bytes(trimmed.as_bytes())
            .map_err(|_| wrong(option, format!("{text:?} is no name of a header")))
    };
    given.iter().map(name).collect()
}

impl FrontProxy {
    /// As configured; the error names the option.
    pub(crate) fn open(config: &RequestHeader, clients: &str) -> Result<FrontProxy, PkiError> {
        let file = &config.client_ca_file;
        let ca = read(file)?.ok_or_else(|| {
            let why = format!("{} isn't there", file.display());
            wrong("--requestheader-client-ca-file", why)
        })?;
        let prefixes = names(
            "--requestheader-extra-headers-prefix",
            &config.extra_headers_prefix,
        )?;
        Ok(FrontProxy {
            verifier: tls::verifier(&[&ca])?,
            clients: tls::verifier(&[clients])?,
            ca,
            config: config.clone(),
            user: names("--requestheader-username-headers", &config.username_headers)?,
            uid: names("--requestheader-uid-headers", &config.uid_headers)?,
            group: names("--requestheader-group-headers", &config.group_headers)?,
            extra: prefixes.iter().map(|p| p.as_str().to_owned()).collect(),
        })
    }

    /// What a connection's certificate says, with the rest of its chain.
    pub(super) fn peer(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Peer {
        let client = self.clients.verify_client_cert(certificate, chain, now);
        Peer {
            user: client
                .is_ok()
                .then(|| certificate_user(certificate))
                .flatten(),
            front: self.is_one(certificate, chain, now),
            unknown: client.is_err(),
        }
    }

    fn is_one(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        if let Err(e) = self.verifier.verify_client_cert(certificate, chain, now) {
            log::debug!("no front proxy: {e}");
            return false;
        }
        let name = certificate_user(certificate).map_or(String::new(), |user| user.name);
        let allowed = &self.config.allowed_names;
        allowed.is_empty() || allowed.contains(&name)
    }

    /// Whom a front proxy names, if anybody.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<User> {
        let text = |name: &HeaderName| -> Vec<String> {
            let values = headers.get_all(name).iter();
            let texts = values.map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
            texts.filter(|t| !t.is_empty()).collect()
        };
        let first = |names: &[HeaderName]| names.iter().find_map(|n| text(n).into_iter().next());
        let name = first(&self.user)?;
        let groups: Vec<String> = self.group.iter().flat_map(&text).collect();
        let mut user = match name.as_str() {
            ANONYMOUS => User {
                name,
                groups,
                ..User::default()
            },
            _ => User::new(name, groups),
        };
        user.uid = first(&self.uid).unwrap_or_default();
        for prefix in &self.extra {
            for name in headers.keys() {
                if let Some(key) = name.as_str().strip_prefix(prefix.as_str()) {
                    let key = percent_decode(key).unwrap_or_else(|| key.to_owned());
                    user.extra.entry(key).or_default().extend(text(name));
                }
            }
        }
        Some(user)
    }

    /// Takes away what only front proxies may say.
    pub(crate) fn clear(&self, headers: &mut HeaderMap) {
        let told = self.user.iter().chain(&self.uid).chain(&self.group);
        let extra = headers.keys().filter(|name| {
            let mut prefixes = self.extra.iter();
            prefixes.any(|p| name.as_str().starts_with(p.as_str()))
        });
        let all: Vec<HeaderName> = told.chain(extra).cloned().collect();
        for name in all {
            headers.remove(name);
        }
    }
}

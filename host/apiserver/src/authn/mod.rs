//! Authentication: client certificates (CN is the user, O its groups) and
//! static bearer tokens. Certificates are verified by TLS before this reads
//! them. Wrong credentials are refused, absent ones are anonymous.

pub(crate) mod impersonate;

use crate::config::Token;
use crate::user::User;
use api::status::Status;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use x509_parser::prelude::FromDer;

/// Tokens by their digest, so that a lookup's time tells nothing of them.
pub(crate) struct Authenticator {
    tokens: HashMap<[u8; 32], User>,
}

impl Authenticator {
    pub(crate) fn new(tokens: &[Token]) -> Authenticator {
        Authenticator {
            tokens: tokens
                .iter()
                .map(|t| {
                    (
                        digest(&t.token),
                        User::new(t.user.clone(), t.groups.clone()),
                    )
                })
                .collect(),
        }
    }

    /// The user of a request; `certificate` is the connection's.
    pub(crate) fn user(
        &self,
        headers: &HeaderMap,
        certificate: Option<&User>,
    ) -> Result<User, Status> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        let Some(header) = headers.get(http::header::AUTHORIZATION) else {
            return Ok(User::anonymous());
        };
        let token = header
            .to_str()
            .ok()
            .and_then(|h| {
                h.strip_prefix("Bearer ")
                    .or_else(|| h.strip_prefix("bearer "))
            })
            .map(str::trim)
            .ok_or_else(Status::unauthorized)?;
        self.tokens
            .get(&digest(token))
            .cloned()
            .ok_or_else(Status::unauthorized)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The user that a verified client certificate names.
pub(crate) fn certificate_user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned);
    Some(User::new(name, groups))
}

//! What the server is told of an issuer: upstream's `--oidc-*` options, and
//! their rules (`apis/apiserver/validation`).

use super::mapping::{Mapping, Source};
use crate::authn::jws::Signed;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Upstream's options.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcConfig {
    /// `https://HOST[:PORT][/PATH]`, as tokens have it in `iss`.
    pub issuer_url: String,
    /// What tokens have to have among their audiences.
    pub client_id: String,
    /// Vouches for the issuer, in PEM; by default this machine's authorities.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// `sub` by default.
    #[serde(default)]
    pub username_claim: Option<String>,
    /// `-`: none. By default `ISSUER#`, and none for the claim `email`.
    #[serde(default)]
    pub username_prefix: Option<String>,
    #[serde(default)]
    pub groups_claim: Option<String>,
    #[serde(default)]
    pub groups_prefix: String,
    /// Claims that have to be there with this very text.
    #[serde(default)]
    pub required_claims: BTreeMap<String, String>,
    /// JOSE names; RS256 by default.
    #[serde(default)]
    pub signing_algs: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("oidc: issuer URL {url:?}: {why}")]
    Issuer { url: String, why: &'static str },
    #[error("oidc: no client ID for issuer {0:?}")]
    NoClient(String),
    #[error("oidc: unsupported signing alg: {0:?}")]
    Algorithm(String),
    #[error("oidc: {path}: read: {source}")]
    Read { path: String, source: io::Error },
    #[error("oidc: {0}")]
    Ca(String),
    #[error("authentication configuration {path}: {why}")]
    Configuration { path: String, why: String },
}

impl OidcConfig {
    pub(super) fn mapping(&self) -> Mapping {
        let username = self.username_claim.clone();
        let username = username.unwrap_or_else(|| "sub".to_owned());
        let prefix = match self.username_prefix.as_deref() {
            Some("-") => String::new(),
            None | Some("") if username != "email" => format!("{}#", self.issuer_url),
            None => String::new(),
            Some(prefix) => prefix.to_owned(),
        };
        let groups = self.groups_claim.as_ref().filter(|g| !g.is_empty());
        Mapping {
            username: Source::Claim {
                name: username,
                prefix,
            },
            groups: groups.map(|name| Source::Claim {
                name: name.clone(),
                prefix: self.groups_prefix.clone(),
            }),
            uid: None,
            extra: Vec::new(),
            required: self.required_claims.clone(),
            claim_rules: Vec::new(),
            user_rules: Vec::new(),
        }
    }

    /// `own` is the issuer of service accounts' tokens: nobody else is it.
    pub(super) fn check(&self, own: &str) -> Result<(), OidcError> {
        check_url(&self.issuer_url, own).map_err(|why| OidcError::Issuer {
            url: self.issuer_url.clone(),
            why,
        })?;
        match self.client_id.is_empty() {
            true => Err(OidcError::NoClient(self.issuer_url.clone())),
            false => Ok(()),
        }
    }

    pub(super) fn algorithms(&self) -> Result<Vec<Signed>, OidcError> {
        if self.signing_algs.is_empty() {
            return Ok(vec![Signed::By(Algorithm::RS256)]);
        }
        let all = self.signing_algs.iter();
        all.map(|name| algorithm(name).ok_or_else(|| OidcError::Algorithm(name.clone())))
            .collect()
    }
}

/// Whether it can be an issuer's, and isn't `own`.
pub(super) fn check_url(url: &str, own: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("https://");
    let rest = rest.ok_or("URL scheme must be https")?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() {
        return Err("URL must have a host");
    }
    if host.contains('@') {
        return Err("URL must not contain a username or password");
    }
    if rest.contains('?') {
        return Err("URL must not contain a query");
    }
    if rest.contains('#') {
        return Err("URL must not contain a fragment");
    }
    match url == own {
        true => Err("URL must not overlap with disallowed issuers"),
        false => Ok(()),
    }
}

/// Upstream's list.
pub(super) const ALGORITHMS: [(&str, Signed); 9] = [
    ("RS256", Signed::By(Algorithm::RS256)),
    ("RS384", Signed::By(Algorithm::RS384)),
    ("RS512", Signed::By(Algorithm::RS512)),
    ("ES256", Signed::By(Algorithm::ES256)),
    ("ES384", Signed::By(Algorithm::ES384)),
    ("ES512", Signed::Es512),
    ("PS256", Signed::By(Algorithm::PS256)),
    ("PS384", Signed::By(Algorithm::PS384)),
    ("PS512", Signed::By(Algorithm::PS512)),
];

/// An algorithm by upstream's name for it.
pub(super) fn named(algorithm: Signed) -> String {
    match algorithm {
        Signed::By(algorithm) => format!("{algorithm:?}"),
        Signed::Es512 => "ES512".to_owned(),
    }
}

fn algorithm(name: &str) -> Option<Signed> {
    let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
    known.map(|(_, algorithm)| *algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> OidcConfig {
        OidcConfig {
            issuer_url: url.to_owned(),
            client_id: "c".to_owned(),
            ..OidcConfig::default()
        }
    }

    // Table: issuers and what is wrong with them.
    #[test]
    fn issuers_are_plain_https_urls() {
        for (url, why) in [
            ("https://a.example/x", ""),
            ("https://127.0.0.1:1", ""),
            ("http://a.example", "URL scheme must be https"),
            ("https:///x", "URL must have a host"),
            (
                "https://u@a.example",
                "URL must not contain a username or password",
            ),
            ("https://a.example?x", "URL must not contain a query"),
            ("https://a.example/#x", "URL must not contain a fragment"),
            (
                "https://own",
                "URL must not overlap with disallowed issuers",
            ),
        ] {
            let checked = config(url).check("https://own");
            let said = checked.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(
                said.ends_with(why) && said.is_empty() == why.is_empty(),
                "{url}: {said}"
            );
        }
    }

    // Table: claim, prefix as told, prefix as taken.
    #[test]
    fn names_are_prefixed_by_their_issuer_unless_told_otherwise() {
        for (claim, told, taken) in [
            (None, None, "https://i#"),
            (Some("name"), Some(""), "https://i#"),
            (Some("email"), None, ""),
            (Some("name"), Some("-"), ""),
            (Some("email"), Some("o:"), "o:"),
        ] {
            let config = OidcConfig {
                username_claim: claim.map(str::to_owned),
                username_prefix: told.map(str::to_owned),
                ..config("https://i")
            };
            let Source::Claim { prefix, .. } = config.mapping().username else {
                panic!("a claim");
            };
            assert_eq!(prefix, taken, "{claim:?} {told:?}");
        }
    }

    #[test]
    fn no_symmetric_key_and_no_lack_of_one_signs() {
        for name in ["none", "HS256", "rs256", "es512", ""] {
            let told = OidcConfig {
                signing_algs: vec!["ES256".to_owned(), name.to_owned()],
                ..config("https://i")
            };
            assert!(told.algorithms().is_err(), "{name}");
        }
        let usual = config("https://i").algorithms().ok();
        assert_eq!(usual, Some(vec![Signed::By(Algorithm::RS256)]));
    }
}

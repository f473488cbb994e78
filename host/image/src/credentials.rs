//! Credentials for registries, and their choice from Kubernetes Secrets.
//!
//! The choice follows the kubelet: of all entries of all Secrets, those whose
//! key fits the image are tried, longest key first; Docker Hub's own key
//! (`https://index.docker.io/v1/`) fits every image from Docker Hub.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::reference::{DOCKER_HUB, Reference};

const DOCKER_HUB_KEY: &str = "index.docker.io";

/// One way to log in to a registry.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// An OAuth2 refresh token, exchanged at the registry's token server.
    pub identity_token: String,
    /// Sent to the registry as it is.
    pub registry_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, secret not shown)", self.username)
    }
}

impl Credentials {
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials {
            username: username.into(),
            password: password.into(),
            ..Credentials::default()
        }
    }
}

/// A Secret's type decides how its bytes read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFormat {
    /// `kubernetes.io/dockerconfigjson`, key `.dockerconfigjson`.
    DockerConfigJson,
    /// `kubernetes.io/dockercfg`, key `.dockercfg`.
    DockerCfg,
}

/// Why a Secret can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("not a docker configuration: {0}")]
    Json(#[from] serde_json::Error),
    #[error("auths[{0:?}].auth is not base64 of username:password")]
    Auth(String),
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// The entries of the Secrets of a pod.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Vec<(String, Credentials)>);

impl Keyring {
    /// Adds the entries of a Secret's value, already freed of the API's
    /// base64.
    pub fn add(&mut self, format: SecretFormat, bytes: &[u8]) -> Result<(), SecretError> {
        let entries = match format {
            SecretFormat::DockerConfigJson => serde_json::from_slice::<DockerConfig>(bytes)?.auths,
            SecretFormat::DockerCfg => serde_json::from_slice(bytes)?,
        };
        for (key, entry) in entries {
            let credentials = entry.into_credentials(&key)?;
            self.0.push((normal_key(&key), credentials));
        }
        Ok(())
    }

    /// What to try for an image, in order; empty means anonymously.
    pub fn select(&self, reference: &Reference) -> Vec<Credentials> {
        let mut fitting: Vec<&(String, Credentials)> = self
            .0
            .iter()
            .filter(|(key, _)| key_fits(key, reference))
            .collect();
        fitting.sort_by(|(a, _), (b, _)| b.cmp(a));
        let mut chosen: Vec<Credentials> = Vec::new();
        for (_, credentials) in fitting {
            if !chosen.contains(credentials) {
                chosen.push(credentials.clone());
            }
        }
        chosen
    }
}

impl Entry {
    fn into_credentials(self, key: &str) -> Result<Credentials, SecretError> {
        let (mut username, mut password) = (self.username, self.password);
        if !self.auth.is_empty() {
            let bad = || SecretError::Auth(key.to_owned());
            let bytes = STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
            let text = String::from_utf8(bytes).map_err(|_| bad())?;
            let (user, pass) = text.split_once(':').ok_or_else(bad)?;
            username = user.to_owned();
            password = pass.trim_end_matches('\0').to_owned();
        }
        Ok(Credentials {
            username,
            password,
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
        })
    }
}

/// Without scheme, and without the API version that old clients wrote.
fn normal_key(key: &str) -> String {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path
        .strip_prefix("v1")
        .or_else(|| path.strip_prefix("v2"))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path)
        .trim_matches('/');
    match path {
        "" => host.to_owned(),
        path => format!("{host}/{path}"),
    }
}

fn key_fits(key: &str, reference: &Reference) -> bool {
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let on_hub = reference.registry() == DOCKER_HUB;
    if !(host_fits(host, reference.registry()) || on_hub && host == DOCKER_HUB_KEY) {
        return false;
    }
    path.is_empty() || reference.repository().starts_with(path)
}

/// Ports must be equal; each label of the key may hold `*` and `?`.
fn host_fits(pattern: &str, registry: &str) -> bool {
    let split = |s: &str| match s.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host.to_owned(), port.to_owned()),
        _ => (s.to_owned(), String::new()),
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(registry));
    let (globs, labels): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port
        && globs.len() == labels.len()
        && globs
            .iter()
            .zip(&labels)
            .all(|(g, l)| glob(g.as_bytes(), l.as_bytes()))
}

/// Iterative, so that a hostile pattern costs at most its length times the
/// label's.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    p = after;
                    t = from + 1;
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn names(secret: &str, image: &str) -> Vec<String> {
        let mut keyring = Keyring::default();
        keyring
            .add(SecretFormat::DockerConfigJson, secret.as_bytes())
            .unwrap();
        let chosen = keyring.select(&image.parse().unwrap());
        chosen.into_iter().map(|c| c.username).collect()
    }

    #[test]
    fn keys_are_chosen_as_the_kubelet_does() {
        let table: &[(&str, &str, bool)] = &[
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "a/b", true),
            ("index.docker.io", "quay.io/a/b", false),
            ("quay.io", "quay.io/a/b", true),
            ("https://quay.io/v2/", "quay.io/a/b", true),
            ("quay.io/a", "quay.io/a/b", true),
            ("quay.io/c", "quay.io/a/b", false),
            ("*.example.com", "r.example.com/a", true),
            ("*.example.com", "x.r.example.com/a", false),
            ("r.example.com:5000", "r.example.com/a", false),
            ("r.example.com:5000", "r.example.com:5000/a", true),
            ("10.0.0.?:5000", "10.0.0.9:5000/a", true),
        ];
        for (key, image, fits) in table {
            let secret = format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
            assert_eq!(
                names(&secret, image).len(),
                usize::from(*fits),
                "{key} {image}"
            );
        }
    }

    #[test]
    fn the_longest_key_is_tried_first() {
        let secret = r#"{"auths":{
            "quay.io":{"username":"host","password":"p"},
            "quay.io/a":{"username":"path","password":"p"}}}"#;
        assert_eq!(names(secret, "quay.io/a/b"), ["path", "host"]);
    }

    #[test]
    fn auth_is_decoded_and_preferred() {
        let auth = STANDARD.encode("me:pa:ss");
        let mut keyring = Keyring::default();
        let cfg = format!(r#"{{"quay.io":{{"auth":"{auth}","email":"x@y"}}}}"#);
        keyring
            .add(SecretFormat::DockerCfg, cfg.as_bytes())
            .unwrap();
        let chosen = keyring.select(&"quay.io/a".parse().unwrap());
        assert_eq!(chosen, [Credentials::basic("me", "pa:ss")]);
        assert!(!format!("{chosen:?}").contains("pa:ss"));
        let bad = br#"{"auths":{"q":{"auth":"!"}}}"#;
        assert!(keyring.add(SecretFormat::DockerConfigJson, bad).is_err());
        assert!(keyring.add(SecretFormat::DockerConfigJson, b"[").is_err());
    }
}

//! Image references: the one place that knows what `nginx` stands for.
//!
//! ```text
//! reference = [ registry "/" ] path { "/" path } [ ":" tag ] [ "@" digest ]
//! ```
//!
//! The grammar is that of the distribution project's reference package, as
//! the kubelet and containerd use it: a first part without a dot, a colon or
//! capitals that isn't `localhost` is no registry but part of the name; no
//! registry means Docker Hub; a single name there is in `library/`; neither
//! tag nor digest means `latest`. With both, the digest decides.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// Docker Hub's name in references.
pub const DOCKER_HUB: &str = "docker.io";

const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete reference: nothing in it is implied any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is no reference; the words are those that users know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format: the name is empty")]
    Empty,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid reference format: bad repository name {0:?}")]
    Repository(String),
    #[error("invalid reference format: bad registry {0:?}")]
    Registry(String),
    #[error("invalid reference format: bad tag {0:?}")]
    Tag(String),
    #[error("invalid reference format: {0}")]
    Digest(#[from] DigestError),
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    HexName(String),
}

impl Reference {
    /// The host, with its port if it has one: `docker.io`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// True if the kubelet's default policy for this reference is `Always`:
    /// the tag is `latest` and no digest is given.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some("latest")
    }

    /// What the registry is asked for: the digest, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Reference, ReferenceError> {
        if s.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::HexName(s.to_owned()));
        }
        let (rest, digest) = match s.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (s, None),
        };
        let (registry, rest) = split_registry(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_registry(registry)?;
        let repository = match path.contains('/') {
            false if registry == DOCKER_HUB => format!("library/{path}"),
            _ => path.to_owned(),
        };
        check_repository(path, &repository)?;
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        let registry = registry.to_owned();
        Ok(Reference {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

fn split_registry(s: &str) -> (&str, &str) {
    let Some((first, rest)) = s.split_once('/') else {
        return (DOCKER_HUB, s);
    };
    let is_host = first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase());
    match (is_host, first) {
        (false, _) => (DOCKER_HUB, s),
        (true, "index.docker.io") => (DOCKER_HUB, rest),
        (true, host) => (host, rest),
    }
}

fn check_registry(registry: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(v6) => {
            let (address, after) = v6.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            match after {
                "" => (None, None),
                _ => (None, Some(after.strip_prefix(':').ok_or_else(bad)?)),
            }
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.is_some_and(|h| !h.split('.').all(label)) {
        return Err(bad());
    }
    match port.map(str::parse::<u16>) {
        None => Ok(()),
        Some(Ok(port)) if port != 0 => Ok(()),
        Some(_) => Err(bad()),
    }
}

fn check_repository(path: &str, repository: &str) -> Result<(), ReferenceError> {
    if path.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(repository.to_owned()));
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ReferenceError::Repository(path.to_owned()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| match separator {
            "" | "." | "_" | "__" => true,
            other => other.bytes().all(|b| b == b'-'),
        })
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    match good {
        true => Ok(()),
        false => Err(ReferenceError::Tag(tag.to_owned())),
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(s: String) -> Result<Reference, ReferenceError> {
        s.parse()
    }
}

impl From<Reference> for String {
    fn from(r: Reference) -> String {
        r.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_names_are_completed() {
        let hex = "a".repeat(64);
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b:x", "localhost:5000/a/b:x"),
            ("quay.io/a/b/c", "quay.io/a/b/c:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (
                "127.0.0.1:5000/a__b/c-d--e.f",
                "127.0.0.1:5000/a__b/c-d--e.f:latest",
            ),
            ("Host/a", "Host/a:latest"),
        ];
        for (given, want) in table {
            let r: Reference = given.parse().unwrap();
            assert_eq!(r.to_string(), want, "{given}");
            assert_eq!(want.parse::<Reference>().unwrap(), r);
        }
        let both: Reference = format!("nginx:1@sha256:{hex}").parse().unwrap();
        assert_eq!(both.tag(), Some("1"));
        assert_eq!(both.identifier(), format!("sha256:{hex}"));
        let digest: Reference = format!("nginx@sha256:{hex}").parse().unwrap();
        assert_eq!(digest.tag(), None);
        assert!(!digest.is_latest());
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        type Expected = fn(&ReferenceError) -> bool;
        let table: &[(&str, Expected)] = &[
            ("", |e| matches!(e, ReferenceError::Empty)),
            ("docker.io/", |e| matches!(e, ReferenceError::Empty)),
            (
                "Nginx",
                |e| matches!(e, ReferenceError::Uppercase(n) if n == "library/Nginx"),
            ),
            ("nginx:", |e| matches!(e, ReferenceError::Tag(_))),
            ("nginx:-a", |e| matches!(e, ReferenceError::Tag(_))),
            ("nginx:a:b", |e| matches!(e, ReferenceError::Tag(_))),
            ("nginx@sha256:zz", |e| {
                matches!(e, ReferenceError::Digest(_))
            }),
            ("nginx@", |e| matches!(e, ReferenceError::Digest(_))),
            ("a..b/c", |e| matches!(e, ReferenceError::Registry(_))),
            ("host:0/c", |e| matches!(e, ReferenceError::Registry(_))),
            ("host:99999/c", |e| matches!(e, ReferenceError::Registry(_))),
            ("[::g]:1/c", |e| matches!(e, ReferenceError::Registry(_))),
            ("a//b", |e| matches!(e, ReferenceError::Repository(_))),
            ("/a", |e| matches!(e, ReferenceError::Repository(_))),
            ("a/b___c", |e| matches!(e, ReferenceError::Repository(_))),
            ("ngi nx", |e| matches!(e, ReferenceError::Repository(_))),
            ("x/../y", |e| matches!(e, ReferenceError::Repository(_))),
            (&"a".repeat(64), |e| matches!(e, ReferenceError::HexName(_))),
            (&"b".repeat(300), |e| matches!(e, ReferenceError::TooLong)),
        ];
        for (given, is_expected) in table {
            let e = given.parse::<Reference>().unwrap_err();
            assert!(is_expected(&e), "{given}: {e:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_stable_under_printing(s in "[a-zA-Z0-9./:@_\\[\\]-]{0,60}") {
            if let Ok(r) = s.parse::<Reference>() {
                prop_assert_eq!(r.to_string().parse::<Reference>().unwrap(), r);
            }
        }
    }
}

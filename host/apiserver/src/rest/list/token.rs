//! Continue tokens, as `apiserver/pkg/storage` has them: base64 of
//! `{"v":"meta.k8s.io/v1","rv":…,"start":…}`. A negative rv goes on at the
//! newest revision.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use store::Revision;

const VERSION: &str = "meta.k8s.io/v1";

/// Where the next page begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Continue {
    /// `None` is the newest.
    pub(super) revision: Option<Revision>,
    /// Relative to the list's prefix.
    pub(super) start: String,
}

impl Continue {
    pub(super) fn encode(&self) -> String {
        let rv = self.revision.map_or(json!(-1), |r| json!(r.0));
        let token = json!({"v": VERSION, "rv": rv, "start": self.start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    /// The error is why not.
    pub(super) fn decode(text: &str) -> Result<Continue, String> {
        let invalid = |why: &dyn std::fmt::Display| format!("continue key is not valid: {why}");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|e| match e {
            base64::DecodeError::InvalidByte(at, _) => {
                invalid(&format_args!("illegal base64 data at input byte {at}"))
            }
            _ => invalid(&format_args!(
                "illegal base64 data at input byte {}",
                text.len()
            )),
        })?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|e| invalid(&e))?;
        let version = token["v"].as_str().unwrap_or_default();
        if version != VERSION {
            return Err(format!(
                "continue key is not valid: server does not recognize this encoded version {version}"
            ));
        }
        let revision = match token["rv"].as_i64() {
            None | Some(0) => {
                return Err("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned());
            }
            Some(rv) => u64::try_from(rv).ok().map(Revision),
        };
        let start = token["start"].as_str().unwrap_or_default();
        if start.is_empty() {
            return Err(
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)"
                    .to_owned(),
            );
        }
        if !is_clean(start) {
            return Err(invalid(&start));
        }
        Ok(Continue {
            revision,
            start: start.to_owned(),
        })
    }
}

/// Whether a path can't lead out of the list's prefix.
fn is_clean(start: &str) -> bool {
    let inner = start.strip_prefix('/').unwrap_or(start);
    !inner.split('/').any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn tokens_survive_their_encoding_and_nothing_else_does() {
        for revision in [Some(Revision(9)), None] {
            let token = Continue {
                revision,
                start: "default/a\0".to_owned(),
            };
            assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
        }
        let made = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for (token, why) in [
            (String::new(), "EOF"),
            ("%".to_owned(), "illegal base64 data at input byte 0"),
            ("e30".to_owned(), "does not recognize"),
            (
                made(r#"{"v":"meta.k8s.io/v2","rv":1,"start":"x"}"#),
                "encoded version meta.k8s.io/v2",
            ),
            (
                made(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"x"}"#),
                "start resourceVersion",
            ),
            (made(r#"{"v":"meta.k8s.io/v1","rv":1}"#), "start key empty"),
            (
                made(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x"}"#),
                "not valid: ../x",
            ),
            (
                made(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a//x"}"#),
                "not valid: a//x",
            ),
        ] {
            let error = Continue::decode(&token).unwrap_err();
            assert!(error.contains(why), "{token}: {error}");
        }
    }
}

//! Bootstrap tokens: `ID.SECRET`, kept in Secrets `bootstrap-token-ID` of
//! `kube-system`.

use crate::lookup;
use crate::user::User;
use api::meta;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use store::Store;

const GROUP: &str = "system:bootstrappers";

/// The two parts of a text of this form.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let fits = |text: &str, length| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (fits(id, 6) && fits(secret, 16)).then_some((id, secret))
}

/// The user whom such a token proves at `now`; `None` for any other text.
pub(crate) fn user(store: &Store, token: &str, now: Timestamp) -> Option<User> {
    let (id, secret) = parts(token)?;
    let name = format!("bootstrap-token-{id}");
    let object = lookup::object(store, ("", "secrets"), "kube-system", &name).ok()?;
    proven(&object, id, secret, now)
}

/// Whether the Secret says the same; pure.
fn proven(object: &Value, id: &str, secret: &str, now: Timestamp) -> Option<User> {
    let data = |key: &str| {
        let text = meta::text(object, &["data", key]);
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    // Digests: how long the comparison takes tells nothing of the secret.
    let same = digest(&data("token-secret")?) == digest(secret) && data("token-id")? == id;
    let usable = meta::text(object, &["type"]) == "bootstrap.kubernetes.io/token"
        && !meta::is_deleting(object)
        && data("usage-bootstrap-authentication").as_deref() == Some("true");
    let live = match data("expiration") {
        None => true,
        Some(text) if text.is_empty() => true,
        Some(text) => text.parse::<Timestamp>().is_ok_and(|end| now < end),
    };
    if !(same && usable && live) {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    let more = data("auth-extra-groups").unwrap_or_default();
    for group in more.split(',').filter(|g| !g.is_empty()) {
        if !group.starts_with("system:bootstrappers:") {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(User::new(format!("system:bootstrap:{id}"), groups))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    // Table: Secrets and what they prove.
    #[test]
    fn a_token_proves_what_its_secret_says() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let b64 = |t: &str| STANDARD.encode(t);
        let secret = |changes: &[(&str, &str)]| {
            let mut data = json!({
                "token-id": b64("abcdef"),
                "token-secret": b64("0123456789abcdef"),
                "usage-bootstrap-authentication": b64("true"),
            });
            for (key, value) in changes {
                data[*key] = b64(value).into();
            }
            json!({"type": "bootstrap.kubernetes.io/token", "data": data})
        };
        for (changes, token, groups) in [
            (&[][..], "0123456789abcdef", Some(2)),
            (&[], "0123456789abcdee", None),
            (&[("token-id", "abcdeg")], "0123456789abcdef", None),
            (
                &[("usage-bootstrap-authentication", "false")],
                "0123456789abcdef",
                None,
            ),
            (
                &[("expiration", "2026-06-02T00:00:00Z")],
                "0123456789abcdef",
                Some(2),
            ),
            (
                &[("expiration", "2026-05-02T00:00:00Z")],
                "0123456789abcdef",
                None,
            ),
            (&[("expiration", "soon")], "0123456789abcdef", None),
            (
                &[(
                    "auth-extra-groups",
                    "system:bootstrappers:a,system:bootstrappers:b",
                )],
                "0123456789abcdef",
                Some(4),
            ),
            (
                &[("auth-extra-groups", "system:masters")],
                "0123456789abcdef",
                None,
            ),
        ] {
            let user = proven(&secret(changes), "abcdef", token, now);
            assert_eq!(user.map(|u| u.groups.len()), groups, "{changes:?}");
        }
        assert_eq!(
            parts("abcdef.0123456789abcdef"),
            Some(("abcdef", "0123456789abcdef"))
        );
        for other in [
            "abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "a.b.c",
        ] {
            assert_eq!(parts(other), None);
        }
    }
}

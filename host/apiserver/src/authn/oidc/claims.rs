//! From claims to a user. Pure (OpenID Connect Core 1.0, 3.1.3.7, as go-oidc
//! checks it; upstream's `plugin/pkg/authenticator/token/oidc`).

use super::config::Mapping;
use crate::authn::account::audiences;
use crate::user::User;
use jiff::Timestamp;
use serde_json::Value;

/// How far the issuer's clock may be ahead, in seconds.
const LEEWAY: f64 = 300.0;

/// Whether the claims are meant for this client, now.
pub(super) fn check(claims: &Value, client: &str, now: Timestamp) -> Result<(), String> {
    let named = audiences(claims);
    if !named.iter().any(|a| a == client) {
        return Err(format!("oidc: expected audience {client:?} got {named:?}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of our time are exact")]
    let second = now.as_second() as f64;
    let end = claims["exp"].as_f64();
    if end.is_none_or(|end| end < second) {
        let end = end.unwrap_or_default();
        return Err(format!("oidc: token is expired (Token Expiry: {end})"));
    }
    let from = claims["nbf"].as_f64().unwrap_or_default();
    if second + LEEWAY < from {
        return Err(format!(
            "oidc: current time {now} before the nbf (not before) time: {from}"
        ));
    }
    Ok(())
}

/// Whom checked claims name.
pub(super) fn user(claims: &Value, mapping: &Mapping) -> Result<User, String> {
    let name = username(claims, mapping)?;
    let groups = groups(claims, mapping)?;
    for (claim, wanted) in &mapping.required {
        let Some(found) = claims.get(claim) else {
            return Err(format!(
                "oidc: required claim {claim} not present in ID token"
            ));
        };
        let Some(found) = found.as_str() else {
            return Err(format!("oidc: parse claim {claim}: not a string"));
        };
        if found != wanted {
            return Err(format!(
                "oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"
            ));
        }
    }
    Ok(User::new(name, groups))
}

fn username(claims: &Value, mapping: &Mapping) -> Result<String, String> {
    let claim = &mapping.username;
    let wrong = |why| format!("oidc: parse username claims {claim:?}: {why}");
    let found = claims
        .get(claim)
        .ok_or_else(|| wrong("claim not present"))?;
    let name = found.as_str().ok_or_else(|| wrong("not a string"))?;
    if claim == "email" {
        match claims.get("email_verified") {
            None | Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
            Some(_) => {
                return Err("oidc: parse 'email_verified' claim: not a boolean".to_owned());
            }
        }
    }
    Ok(format!("{}{name}", mapping.username_prefix))
}

/// A text is a list of one.
fn groups(claims: &Value, mapping: &Mapping) -> Result<Vec<String>, String> {
    let Some((claim, found)) = mapping
        .groups
        .as_ref()
        .and_then(|claim| Some((claim, claims.get(claim)?)))
    else {
        return Ok(Vec::new());
    };
    let prefixed = |group: &str| format!("{}{group}", mapping.groups_prefix);
    let wrong = || format!("oidc: parse groups claim {claim:?}: not a string or strings");
    match found {
        Value::Null => Ok(Vec::new()),
        Value::String(one) => Ok(vec![prefixed(one)]),
        Value::Array(many) => many
            .iter()
            .map(|g| g.as_str().map(prefixed).ok_or_else(wrong))
            .collect(),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapping(username: &str) -> Mapping {
        Mapping {
            username: username.to_owned(),
            username_prefix: "u:".to_owned(),
            groups: Some("groups".to_owned()),
            groups_prefix: "g:".to_owned(),
            required: [("hd".to_owned(), "x".to_owned())].into(),
        }
    }

    // Table: claims, and the user or what is wrong.
    #[test]
    fn claims_name_a_user() {
        for (claim, claims, outcome) in [
            (
                "sub",
                json!({"sub": "a", "hd": "x", "groups": ["b", "c"]}),
                "u:a g:b,g:c",
            ),
            (
                "sub",
                json!({"sub": "a", "hd": "x", "groups": "b"}),
                "u:a g:b",
            ),
            ("sub", json!({"sub": "a", "hd": "x"}), "u:a "),
            (
                "sub",
                json!({"hd": "x"}),
                "oidc: parse username claims \"sub\": claim not present",
            ),
            (
                "sub",
                json!({"sub": 1, "hd": "x"}),
                "oidc: parse username claims \"sub\": not a string",
            ),
            (
                "sub",
                json!({"sub": "a"}),
                "oidc: required claim hd not present in ID token",
            ),
            (
                "sub",
                json!({"sub": "a", "hd": "y"}),
                "oidc: required claim hd value does not match. Got = y, want = x",
            ),
            (
                "sub",
                json!({"sub": "a", "hd": "x", "groups": [1]}),
                "oidc: parse groups claim \"groups\": not a string or strings",
            ),
            ("email", json!({"email": "a@b", "hd": "x"}), "u:a@b "),
            (
                "email",
                json!({"email": "a@b", "email_verified": false, "hd": "x"}),
                "oidc: email not verified",
            ),
            (
                "email",
                json!({"email": "a@b", "email_verified": "true", "hd": "x"}),
                "oidc: parse 'email_verified' claim: not a boolean",
            ),
        ] {
            let said = match user(&claims, &mapping(claim)) {
                Err(why) => why,
                Ok(user) => {
                    let own = user.groups.iter().filter(|g| g.starts_with("g:"));
                    let own: Vec<&str> = own.map(String::as_str).collect();
                    format!("{} {}", user.name, own.join(","))
                }
            };
            assert_eq!(said, outcome, "{claims}");
        }
    }

    // Table: claims of time and audience at second 1000, and the complaint.
    #[test]
    fn tokens_are_for_somebody_and_for_a_while() {
        let now = Timestamp::from_second(1000).expect("a time");
        for (claims, complaint) in [
            (json!({"aud": "c", "exp": 1001}), ""),
            (json!({"aud": ["x", "c"], "exp": 1000.5, "nbf": 1300}), ""),
            (json!({"aud": "d", "exp": 1001}), "expected audience"),
            (json!({"exp": 1001}), "expected audience"),
            (json!({"aud": "c"}), "expired"),
            (json!({"aud": "c", "exp": "never"}), "expired"),
            (json!({"aud": "c", "exp": 999}), "expired"),
            (
                json!({"aud": "c", "exp": 2000, "nbf": 1301}),
                "before the nbf",
            ),
        ] {
            let said = check(&claims, "c", now).err().unwrap_or_default();
            assert!(said.contains(complaint), "{claims}: {said}");
            assert_eq!(said.is_empty(), complaint.is_empty(), "{claims}: {said}");
        }
    }
}

//! Whom claims are meant for, and when. Pure (OpenID Connect Core 1.0, 3.1.3.7,
//! as go-oidc checks it).

use crate::authn::account::audiences;
use jiff::Timestamp;
use serde_json::Value;

/// How far the issuer's clock may be ahead, in seconds.
const LEEWAY: f64 = 300.0;

/// Whether the claims are meant for one of these audiences, now.
pub(super) fn check(claims: &Value, wanted: &[String], now: Timestamp) -> Result<(), String> {
    let named = audiences(claims);
    if !wanted.iter().any(|w| named.contains(w)) {
        return Err(match wanted {
            [one] => format!("oidc: expected audience {one:?} got {named:?}"),
            many => format!("oidc: expected audience in {many:?} got {named:?}"),
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
            let said = check(&claims, &["c".to_owned()], now)
                .err()
                .unwrap_or_default();
            assert!(said.contains(complaint), "{claims}: {said}");
            assert_eq!(said.is_empty(), complaint.is_empty(), "{claims}: {said}");
        }
    }
}

//! Compact JWS (RFC 7515) as bearer tokens have it: what one claims, and
//! whether a key signed it. Bounded in size; nothing in the claims is checked
//! here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::Value;

/// Longer ones are nobody's tokens.
const TOKEN_MAX: usize = 16 * 1024;

/// The header of a text that could be one.
pub(super) fn header(token: &str) -> Option<Header> {
    match token.len() > TOKEN_MAX {
        true => None,
        false => jsonwebtoken::decode_header(token).ok(),
    }
}

/// What a text claims, whoever signed it: good for nothing but to find who
/// could have.
pub(super) fn unverified(token: &str) -> Option<Value> {
    if token.len() > TOKEN_MAX {
        return None;
    }
    let mut parts = token.split('.');
    let payload = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(payload), Some(_), None) => payload,
        _ => return None,
    };
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    claims.is_object().then_some(claims)
}

/// The claims of a token that this key signed in this way.
pub(super) fn verified(token: &str, key: &DecodingKey, by: Algorithm) -> Option<Value> {
    if token.len() > TOKEN_MAX {
        return None;
    }
    let mut validation = Validation::new(by);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<Value>(token, key, &validation).ok()?;
    decoded.claims.is_object().then_some(decoded.claims)
}

//! Compact JWS (RFC 7515) as bearer tokens have it: what one claims, and
//! whether a key signed it. Bounded in size; nothing in the claims is checked
//! here.

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::Value;

/// Longer ones are nobody's tokens.
const TOKEN_MAX: usize = 16 * 1024;

/// The header of a text that could be one.
fn header(token: &str) -> Option<Header> {
    match token.len() > TOKEN_MAX {
        true => None,
        false => jsonwebtoken::decode_header(token).ok(),
    }
}

/// How a token is signed: by what the library verifies, or by ECDSA of P-521
/// and SHA-512, which it doesn't (RFC 7518, 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    By(Algorithm),
    Es512,
}

/// Which key is said to have signed a token, and how.
pub(super) fn signed(token: &str) -> Option<(Option<String>, Signed)> {
    if let Some(header) = header(token) {
        return Some((header.kid, Signed::By(header.alg)));
    }
    if token.len() > TOKEN_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&bytes).ok()?;
    let id = match header.get("kid") {
        Some(id) => Some(id.as_str()?.to_owned()),
        None => None,
    };
    (header["alg"] == "ES512").then_some((id, Signed::Es512))
}

/// A point of P-521, uncompressed.
#[derive(Clone, Debug)]
pub(super) struct P521(Vec<u8>);

impl P521 {
    /// The key that a JWK (RFC 7518, 6.2) describes, if it is one of this
    /// curve.
    pub(super) fn of(jwk: &Value) -> Option<P521> {
        if jwk["kty"] != "EC" || jwk["crv"] != "P-521" {
            return None;
        }
        let mut point = vec![4];
        for axis in ["x", "y"] {
            let bytes = URL_SAFE_NO_PAD.decode(jwk[axis].as_str()?).ok()?;
            if bytes.len() != 66 {
                return None;
            }
            point.extend(bytes);
        }
        Some(P521(point))
    }

    /// The claims of a token that it signed.
    pub(super) fn verified(&self, token: &str) -> Option<Value> {
        let (said, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if signed(token)?.1 != Signed::Es512 {
            return None;
        }
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, &self.0)
            .verify(said.as_bytes(), &signature)
            .ok()?;
        unverified(token)
    }
}

/// A key that verifies.
#[derive(Clone)]
pub(super) enum Verifier {
    Library(DecodingKey),
    P521(P521),
}

impl Verifier {
    /// Of a JWK, if it can be used.
    pub(super) fn of(jwk: &Value) -> Option<Verifier> {
        if let Some(point) = P521::of(jwk) {
            return Some(Verifier::P521(point));
        }
        let jwk: Jwk = serde_json::from_value(jwk.clone()).ok()?;
        DecodingKey::from_jwk(&jwk).ok().map(Verifier::Library)
    }

    /// The claims of a token that this key signed in this way.
    pub(super) fn verified(&self, token: &str, by: Signed) -> Option<Value> {
        match (self, by) {
            (Verifier::P521(point), Signed::Es512) => point.verified(token),
            // A key for another family of algorithms verifies nothing.
            (Verifier::Library(key), Signed::By(algorithm))
                if key.family() == algorithm.family() =>
            {
                verified(token, key, algorithm)
            }
            (Verifier::Library(_) | Verifier::P521(_), Signed::By(_) | Signed::Es512) => None,
        }
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
fn verified(token: &str, key: &DecodingKey, by: Algorithm) -> Option<Value> {
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

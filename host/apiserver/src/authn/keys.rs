//! The keys that sign service account tokens: ES256, one file each in
//! `pki/service-account/`. The last by name signs, all verify; so a key is
//! rotated by adding a file, and retired by removing the older one after the
//! longest life of a token.

use super::jws;
use crate::pki::{self, PkiError};
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

const FIRST: &str = "0001.key";
/// An uncompressed point: 4, then x and y.
const POINT: usize = 65;

struct Public {
    id: String,
    x: String,
    y: String,
    key: DecodingKey,
}

pub(crate) struct Keys {
    signer: EncodingKey,
    signer_id: String,
    public: Vec<Public>,
}

fn broken(what: &str, e: impl std::fmt::Display) -> PkiError {
    PkiError::Pem {
        what: what.to_owned(),
        message: e.to_string(),
    }
}

impl Keys {
    /// Reads every key in `dir`; makes the first if there is none.
    pub(crate) fn open(dir: &Path) -> Result<Keys, PkiError> {
        pki::make_dir(dir)?;
        let mut names = pki::names(dir, ".key")?;
        if names.is_empty() {
            let key = KeyPair::generate().map_err(|e| broken("a signing key", e))?;
            pki::write(&dir.join(FIRST), &key.serialize_pem())?;
            names.push(FIRST.to_owned());
        }
        let mut public = Vec::new();
        let mut signer = None;
        for name in names {
            let path = dir.join(&name);
            let pem = pki::read(&path)?.unwrap_or_default();
            let pair = KeyPair::from_pem(&pem).map_err(|e| broken(&name, e))?;
            let found = of(&pair, &name)?;
            let key = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|e| broken(&name, e))?;
            signer = Some((key, found.id.clone()));
            public.push(found);
        }
        let (signer, signer_id) = signer.ok_or_else(|| broken("signing keys", "none"))?;
        Ok(Keys {
            signer,
            signer_id,
            public,
        })
    }

    /// A compact JWS of `claims`.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, Status> {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = None;
        header.kid = Some(self.signer_id.clone());
        jsonwebtoken::encode(&header, claims, &self.signer).map_err(Status::internal)
    }

    /// The claims of a token that one of these keys signed; nothing in them is
    /// checked.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let header = jws::header(token).filter(|h| h.alg == Algorithm::ES256)?;
        self.public
            .iter()
            .filter(|p| header.kid.as_ref().is_none_or(|kid| *kid == p.id))
            .find_map(|p| jws::verified(token, &p.key, Algorithm::ES256))
    }

    /// `/openid/v1/jwks` (RFC 7517).
    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<Value> = self
            .public
            .iter()
            .map(|p| {
                json!({"use": "sig", "kty": "EC", "kid": p.id, "crv": "P-256",
                    "alg": "ES256", "x": p.x, "y": p.y})
            })
            .collect();
        json!({"keys": keys})
    }
}

fn of(pair: &KeyPair, name: &str) -> Result<Public, PkiError> {
    let point = pair.public_key_raw();
    let (Some(x), Some(y), POINT) = (point.get(1..33), point.get(33..POINT), point.len()) else {
        return Err(broken(name, "not a P-256 key"));
    };
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let key = DecodingKey::from_ec_components(&x, &y).map_err(|e| broken(name, e))?;
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
    Ok(Public { id, x, y, key })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_newer_key_signs_and_the_older_still_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::open(dir.path()).unwrap();
        let token = first.sign(&json!({"sub": "a"})).unwrap();
        let again = Keys::open(dir.path()).unwrap();
        assert_eq!(again.verify(&token).unwrap()["sub"], "a");
        let newer = KeyPair::generate().unwrap().serialize_pem();
        pki::write(&dir.path().join("0002.key"), &newer).unwrap();
        let both = Keys::open(dir.path()).unwrap();
        assert_eq!(both.verify(&token).unwrap()["sub"], "a");
        let token = both.sign(&json!({"sub": "b"})).unwrap();
        assert!(first.verify(&token).is_none());
        assert_eq!(both.jwks()["keys"].as_array().unwrap().len(), 2);
        for broken in [
            token.replace('.', ""),
            format!("{token}x"),
            token.split_once('.').unwrap().1.to_owned(),
            String::new(),
            "..".to_owned(),
        ] {
            assert!(both.verify(&broken).is_none(), "{broken}");
        }
        // "alg": "none" is nobody's signature.
        let none = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"sub":"a"}"#)
        );
        assert!(both.verify(&none).is_none());
    }

    #[test]
    fn no_bytes_but_the_signed_ones_verify() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        let token = keys.sign(&json!({"sub": "a", "aud": ["x"]})).unwrap();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let length = token.len();
        let strategy = (0..length, any::<u8>(), 0..length);
        runner
            .run(&strategy, |(at, byte, cut)| {
                let mut bytes = token.clone().into_bytes();
                bytes[at] = byte;
                bytes.truncate(length - cut % 7);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some(claims) = keys.verify(&text) {
                    // Only bits that base64 doesn't carry may differ.
                    prop_assert_eq!(&claims["sub"], "a");
                }
                Ok(())
            })
            .unwrap();
    }
}

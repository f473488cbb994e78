//! The keys that sign service account tokens: ES256, one file each in
//! `pki/service-account/`. The last by name signs, all verify; so a key is
//! rotated by adding a file, and retired by removing the older one after the
//! longest life of a token. Or files that are given, for servers that share an
//! etcd: one signs, it and the others verify.

use super::jws;
use crate::pki::{self, PkiError};
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

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
        let mut all: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
        let signs = all.pop().ok_or_else(|| broken("signing keys", "none"))?;
        Keys::of_files(&signs, &all)
    }

    /// What `signs`, in PEM, signs; it and `others`, private or public keys,
    /// verify.
    pub(crate) fn of_files(signs: &Path, others: &[PathBuf]) -> Result<Keys, PkiError> {
        let mut public: Vec<Public> = Vec::new();
        for path in others {
            let name = path.display().to_string();
            for found in of_pem(&given(path)?, &name)? {
                if public.iter().all(|known| known.id != found.id) {
                    public.push(found);
                }
            }
        }
        let name = signs.display().to_string();
        let pem = given(signs)?;
        let pair = KeyPair::from_pem(&pem).map_err(|e| broken(&name, e))?;
        let own = of(&pair.subject_public_key_info(), &name)?;
        let signer = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes());
        let signer = signer.map_err(|e| broken(&name, e))?;
        let signer_id = own.id.clone();
        public.retain(|known| known.id != own.id);
        public.push(own);
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

/// A file that has to be there.
fn given(path: &Path) -> Result<String, PkiError> {
    let name = path.display().to_string();
    pki::read(path)?.ok_or_else(|| broken(&name, "no such file"))
}

/// The public keys of a file: of its private key, or those that it has.
fn of_pem(pem: &str, name: &str) -> Result<Vec<Public>, PkiError> {
    if let Ok(pair) = KeyPair::from_pem(pem) {
        return Ok(vec![of(&pair.subject_public_key_info(), name)?]);
    }
    let keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes());
    let found = keys.map(|key| of(&key.map_err(|e| broken(name, e))?, name));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    match found.is_empty() {
        true => Err(broken(name, "no key of P-256 in PEM")),
        false => Ok(found),
    }
}

/// Of a SubjectPublicKeyInfo.
fn of(info: &[u8], name: &str) -> Result<Public, PkiError> {
    let (_, parsed) = SubjectPublicKeyInfo::from_der(info).map_err(|e| broken(name, e))?;
    let point = &parsed.subject_public_key.data;
    let (Some(x), Some(y), POINT) = (point.get(1..33), point.get(33..POINT), point.len()) else {
        return Err(broken(name, "not a P-256 key"));
    };
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let key = DecodingKey::from_ec_components(&x, &y).map_err(|e| broken(name, e))?;
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(info));
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
    fn given_files_sign_and_verify() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let signs = file("one.key", &one.serialize_pem());
        let public = file("two.pub", &two.public_key_pem());
        let private = file("two.key", &two.serialize_pem());
        let other = Keys::of_files(&private, &[]).unwrap();
        let token = other.sign(&json!({"sub": "b"})).unwrap();
        for others in [vec![public.clone()], vec![private.clone()]] {
            let keys = Keys::of_files(&signs, &others).unwrap();
            assert_eq!(keys.verify(&token).unwrap()["sub"], "b");
            let own = keys.sign(&json!({"sub": "a"})).unwrap();
            assert_eq!(keys.verify(&own).unwrap()["sub"], "a");
            assert!(other.verify(&own).is_none());
            assert_eq!(keys.jwks()["keys"].as_array().unwrap().len(), 2);
        }
        let empty = file("empty", "");
        let absent = dir.path().join("absent");
        for (signs, others, what) in [
            (&public, vec![], "two.pub"),
            (&signs, vec![empty], "empty"),
            (&signs, vec![absent], "absent"),
        ] {
            let refused = Keys::of_files(signs, &others).err().unwrap().to_string();
            assert!(refused.contains(what), "{refused}");
        }
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

//! The keys that sign service account tokens: one file each in
//! `pki/service-account/`, the first made for ES256. The last by name signs, all
//! verify; so a key is rotated by adding a file, and retired by removing the
//! older one after the longest life of a token. Or files that are given, for
//! servers that share an etcd: one signs, it and the others verify. What such a
//! file may hold is in `pem_keys`.

use super::jws;
use super::pem_keys::{Public, Signer};
use crate::pki::{self, PkiError};
use api::status::Status;
use rcgen::KeyPair;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FIRST: &str = "0001.key";

pub(crate) struct Keys {
    signer: Signer,
    /// The signer's last.
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
            for found in Public::of_pem(&given(path)?).map_err(|e| broken(&name, e))? {
                if public.iter().all(|known| known.id != found.id) {
                    public.push(found);
                }
            }
        }
        let name = signs.display().to_string();
        let signer = Signer::of_pem(&given(signs)?).map_err(|e| broken(&name, e))?;
        public.retain(|known| known.id != signer.public.id);
        public.push(signer.public.clone());
        Ok(Keys { signer, public })
    }

    /// A compact JWS of `claims`.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, Status> {
        self.signer.sign(claims).map_err(Status::internal)
    }

    /// The claims of a token that one of these keys signed; nothing in them is
    /// checked.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let (id, signed) = jws::signed(token)?;
        self.public
            .iter()
            .filter(|p| p.signed == signed && id.as_ref().is_none_or(|id| *id == p.id))
            .find_map(|p| p.verified(token))
    }

    /// `/openid/v1/jwks` (RFC 7517).
    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<&Value> = self.public.iter().map(|p| &p.jwk).collect();
        json!({"keys": keys})
    }

    /// How these keys sign, each way once.
    pub(crate) fn algorithms(&self) -> BTreeSet<&str> {
        let all = self.public.iter().map(|p| &p.jwk["alg"]);
        all.filter_map(Value::as_str).collect()
    }
}

/// A file that has to be there.
fn given(path: &Path) -> Result<String, PkiError> {
    let name = path.display().to_string();
    pki::read(path)?.ok_or_else(|| broken(&name, "no such file"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair,
    };
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use rcgen::PublicKeyData as _;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    }

    /// A private key of each kind in each form, and how it signs.
    fn every_kind() -> Vec<(String, &'static str)> {
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa = rsa.as_der().unwrap();
        // A version and an algorithm come before the key itself.
        let inner = rsa.as_ref().get(26..).unwrap();
        let mut all = vec![
            (pem("PRIVATE KEY", rsa.as_ref()), "RS256"),
            (pem("RSA PRIVATE KEY", inner), "RS256"),
            (KeyPair::generate().unwrap().serialize_pem(), "ES256"),
        ];
        for (curve, algorithm) in [
            (&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384"),
            (&ECDSA_P521_SHA512_FIXED_SIGNING, "ES512"),
        ] {
            let pair = EcdsaKeyPair::generate(curve).unwrap();
            let parameters = pem("EC PARAMETERS", &[6, 5, 43, 129, 4, 0, 34]);
            let key = pem(
                "EC PRIVATE KEY",
                pair.private_key().as_der().unwrap().as_ref(),
            );
            all.push((format!("{parameters}{key}"), algorithm));
            all.push((
                pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref()),
                algorithm,
            ));
        }
        all
    }

    #[test]
    fn every_kind_of_key_signs_and_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("key"), dir.path().join("pub"));
        let own = dir.path().join("own");
        std::fs::write(&own, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        for (text, algorithm) in every_kind() {
            std::fs::write(&private, &text).unwrap();
            let keys = Keys::of_files(&private, &[]).unwrap();
            assert_eq!(keys.algorithms(), BTreeSet::from([algorithm]));
            let token = keys.sign(&json!({"sub": "a"})).unwrap();
            assert_eq!(keys.verify(&token).unwrap()["sub"], "a", "{algorithm}");
            let header = URL_SAFE_NO_PAD
                .decode(token.split('.').next().unwrap())
                .unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            let jwk = keys.jwks()["keys"][0].clone();
            assert_eq!(header, json!({"alg": algorithm, "kid": jwk["kid"]}));
            // By its public half alone, and by nobody else's key.
            let info = Signer::of_pem(&text).unwrap().info().unwrap();
            std::fs::write(&public, pem("PUBLIC KEY", &info)).unwrap();
            let others = Keys::of_files(&own, std::slice::from_ref(&public)).unwrap();
            assert_eq!(others.verify(&token).unwrap()["sub"], "a", "{algorithm}");
            let (said, signature) = token.rsplit_once('.').unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
            bytes[9] ^= 1;
            let forged = format!("{said}.{}", URL_SAFE_NO_PAD.encode(bytes));
            assert!(keys.verify(&forged).is_none(), "{algorithm}");
            assert!(Keys::of_files(&own, &[]).unwrap().verify(&token).is_none());
        }
    }

    #[test]
    fn what_cannot_sign_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let info = other.subject_public_key_info();
        for text in [
            other.serialize_pem(),
            pem("PUBLIC KEY", &info),
            pem("RSA PRIVATE KEY", &[48, 0]),
            "key".to_owned(),
        ] {
            std::fs::write(&path, &text).unwrap();
            let refused = Keys::of_files(&path, &[]).err().unwrap().to_string();
            assert!(refused.contains("key: "), "{refused}");
        }
    }

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

//! Keys in PEM that sign tokens and verify them, as upstream reads them
//! (`client-go/util/keyutil`): RSA (PKCS #1, PKCS #8) and ECDSA on P-256, P-384
//! and P-521 (SEC 1, PKCS #8); public ones by themselves or in certificates. The
//! kind of the key says how it signs: RS256, ES256, ES384, ES512.

use super::jws::{Signed, Verifier};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

type Curve = (
    &'static EcdsaSigningAlgorithm,
    Signed,
    &'static str,
    &'static str,
    &'static str,
);

/// How a curve signs, its OID, and what a JWK calls it and the algorithm.
const CURVES: [Curve; 3] = [
    (
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        Signed::By(Algorithm::ES256),
        "1.2.840.10045.3.1.7",
        "P-256",
        "ES256",
    ),
    (
        &ECDSA_P384_SHA384_FIXED_SIGNING,
        Signed::By(Algorithm::ES384),
        "1.3.132.0.34",
        "P-384",
        "ES384",
    ),
    (
        &ECDSA_P521_SHA512_FIXED_SIGNING,
        Signed::Es512,
        "1.3.132.0.35",
        "P-521",
        "ES512",
    ),
];

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Pair {
    /// Of the public half, the SubjectPublicKeyInfo.
    fn info(&self) -> Result<Vec<u8>, String> {
        let info = match self {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ec(pair) => pair.public_key().as_der(),
        };
        info.map(|der| der.as_ref().to_vec())
            .map_err(|e| e.to_string())
    }
}

/// What signs.
pub(super) struct Signer {
    pair: Pair,
    pub(super) public: Public,
}

/// What verifies.
#[derive(Clone)]
pub(super) struct Public {
    pub(super) id: String,
    pub(super) signed: Signed,
    /// As `/openid/v1/jwks` has it (RFC 7517).
    pub(super) jwk: Value,
    verifier: Verifier,
}

impl Signer {
    /// The first private key of a file.
    pub(super) fn of_pem(pem: &str) -> Result<Signer, String> {
        let first = PrivateKeyDer::pem_slice_iter(pem.as_bytes()).next();
        let key = first.ok_or("no private key in PEM")?;
        Signer::of(&key.map_err(|e| e.to_string())?)
    }

    fn of(key: &PrivateKeyDer<'_>) -> Result<Signer, String> {
        let pair = pair(key).ok_or(
            "not a key of RSA with 2048 to 8192 bits, nor of ECDSA on P-256, P-384 or P-521",
        )?;
        let public = Public::of(&pair.info()?)?;
        Ok(Signer { pair, public })
    }

    #[cfg(test)]
    pub(super) fn info(&self) -> Result<Vec<u8>, String> {
        self.pair.info()
    }

    /// A compact JWS of `claims` (RFC 7515, 7.1).
    pub(super) fn sign(&self, claims: &Value) -> Result<String, String> {
        let header = json!({"alg": self.public.jwk["alg"], "kid": self.public.id});
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", encoded(&header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, said.as_bytes(), &mut out)
                    .map(|()| out)
            }
            Pair::Ec(pair) => pair
                .sign(&random, said.as_bytes())
                .map(|signature| signature.as_ref().to_vec()),
        };
        let signature = signature.map_err(|e| e.to_string())?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn pair(key: &PrivateKeyDer<'_>) -> Option<Pair> {
    let rsa = match key {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        _ => None,
    };
    let ec = |(algorithm, ..): &Curve| match key {
        PrivateKeyDer::Sec1(der) => {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).ok()
        }
        PrivateKeyDer::Pkcs8(der) => {
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).ok()
        }
        _ => None,
    };
    let ec = || CURVES.iter().find_map(ec).map(Pair::Ec);
    rsa.map(Pair::Rsa).or_else(ec)
}

impl Public {
    /// The keys of a file: of its private keys, or those that it has.
    pub(super) fn of_pem(pem: &str) -> Result<Vec<Public>, String> {
        let pem = pem.as_bytes();
        let mut found = Vec::new();
        for key in PrivateKeyDer::pem_slice_iter(pem) {
            found.push(Signer::of(&key.map_err(|e| e.to_string())?)?.public);
        }
        for key in SubjectPublicKeyInfoDer::pem_slice_iter(pem) {
            found.push(Public::of(&key.map_err(|e| e.to_string())?)?);
        }
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let der = certificate.map_err(|e| e.to_string())?;
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| e.to_string())?;
            found.push(Public::of(parsed.public_key().raw)?);
        }
        match found.is_empty() {
            true => Err("no key in PEM".to_owned()),
            false => Ok(found),
        }
    }

    /// Of a SubjectPublicKeyInfo; its digest is the key's name, as upstream's.
    fn of(info: &[u8]) -> Result<Public, String> {
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(info));
        let (_, parsed) = SubjectPublicKeyInfo::from_der(info).map_err(|e| e.to_string())?;
        let (signed, jwk) = described(&parsed, &id).ok_or("not a key of RSA or ECDSA")?;
        let verifier = Verifier::of(&jwk).ok_or("a key that can't verify")?;
        Ok(Public {
            id,
            signed,
            jwk,
            verifier,
        })
    }

    /// The claims of a token that this key signed.
    pub(super) fn verified(&self, token: &str) -> Option<Value> {
        self.verifier.verified(token, self.signed)
    }
}

/// How a public key signs, and its JWK (RFC 7518, 6.2, 6.3).
fn described(info: &SubjectPublicKeyInfo<'_>, id: &str) -> Option<(Signed, Value)> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match info.parsed().ok()? {
        PublicKey::RSA(key) => {
            // DER's integers have a sign.
            let plain = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|b| **b == 0).count();
                text(bytes.get(zeros..).unwrap_or_default())
            };
            let jwk = json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256",
                "n": plain(key.modulus), "e": plain(key.exponent)});
            Some((Signed::By(Algorithm::RS256), jwk))
        }
        PublicKey::EC(point) => {
            let oid = info
                .algorithm
                .parameters
                .as_ref()?
                .as_oid()
                .ok()?
                .to_id_string();
            let (_, signed, _, curve, algorithm) =
                CURVES.iter().find(|(_, _, known, ..)| *known == oid)?;
            // 4, x and y: uncompressed.
            let (first, axes) = point.data().split_first()?;
            let (x, y) = axes.split_at(axes.len() / 2);
            if *first != 4 || x.len() != y.len() {
                return None;
            }
            let jwk = json!({"use": "sig", "kty": "EC", "kid": id, "crv": curve,
                "alg": algorithm, "x": text(x), "y": text(y)});
            Some((*signed, jwk))
        }
        _ => None,
    }
}

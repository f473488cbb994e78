//! The cluster's certificate authority: makes X.509 certificates (RFC 5280) of
//! requests that somebody judged. It refuses nothing but to sign when it has
//! ended itself.
//!
//! Of a request it takes the key, the names and no extension. The subject is
//! written anew, in Go's order, as upstream does: one common name, and no
//! attribute that Go doesn't know.

use super::der;
use api::kinds::SigningRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{KeyPair, SigningKey};
use std::sync::Arc;
use std::time::Duration;
use x509_parser::extensions::ParsedExtension;

/// Clocks of machines that boot may be behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Certificates that live shorter are not shortened by `BACKDATE`.
const SHORT: Duration = Duration::from_secs(8 * 3600);
const LINE: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the CA's certificate: {0}")]
    Certificate(String),
    #[error("the CA's key: {0}")]
    Key(String),
    #[error("the signer has expired: NotAfter={0}")]
    Ended(Timestamp),
    #[error("a time that no certificate can say: {0}")]
    Time(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<Parts>);

struct Parts {
    key: KeyPair,
    /// DER of the key's signature algorithm.
    algorithm: &'static [u8],
    /// DER of the CA's name.
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
    end: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority {{ end: {} }}", self.0.end)
    }
}

/// What a certificate is good for: as much as the built-in signers give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    DigitalSignature,
    KeyEncipherment,
    ClientAuth,
    ServerAuth,
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: Timestamp,
    to: Timestamp,
}

impl Authority {
    /// From PEM.
    ///
    /// # Errors
    /// What doesn't parse, or a key of a kind that this can't sign with.
    pub fn open(certificate: &str, key: &str) -> Result<Authority, AuthorityError> {
        let bad = |e: &dyn std::fmt::Display| AuthorityError::Certificate(e.to_string());
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|e| bad(&e))?;
        let parsed = pem.parse_x509().map_err(|e| bad(&e))?;
        let key_id = parsed
            .extensions()
            .iter()
            .find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let end = Timestamp::from_second(parsed.validity().not_after.timestamp());
        let key = KeyPair::from_pem(key).map_err(|e| AuthorityError::Key(e.to_string()))?;
        let known = der::ALGORITHMS.iter().find(|(a, _)| *a == key.algorithm());
        let algorithm = known.map(|(_, der)| *der);
        Ok(Authority(Arc::new(Parts {
            algorithm: algorithm.ok_or(AuthorityError::Key("of an unknown kind".to_owned()))?,
            key,
            name: parsed.subject().as_raw().to_vec(),
            key_id,
            end: end.map_err(|e| bad(&e))?,
        })))
    }

    /// A certificate in PEM that lives for `life`, if the CA does. `serial` is
    /// drawn at random.
    pub(crate) fn sign(
        &self,
        request: &SigningRequest,
        usages: &[Usage],
        life: Duration,
        serial: [u8; 16],
        now: Timestamp,
    ) -> Result<String, AuthorityError> {
        let validity = validity(life, now, self.0.end)?;
        let body = self.body(request, usages, validity, serial)?;
        let signature =
            SigningKey::sign(&self.0.key, &body).map_err(|e| AuthorityError::Key(e.to_string()))?;
        let bits = der::bit_string(0, &signature);
        let certificate = der::sequence(&[&body, self.0.algorithm, &bits]);
        Ok(pem(&certificate))
    }

    /// RFC 5280, 4.1: `TBSCertificate`.
    fn body(
        &self,
        request: &SigningRequest,
        usages: &[Usage],
        validity: Validity,
        mut serial: [u8; 16],
    ) -> Result<Vec<u8>, AuthorityError> {
        // Positive, and of a length that doesn't depend on what was drawn.
        serial[0] = serial[0] & 0x7f | 0x40;
        let version = der::tagged(0xa0, &[&[der::INTEGER, 1, 2]]);
        let times = [validity.from, validity.to].map(der::time);
        let [from, to] = times;
        let times = der::sequence(&[&from?, &to?]);
        let extensions = extensions(request, usages, self.0.key_id.as_deref());
        Ok(der::sequence(&[
            &version,
            &der::tagged(der::INTEGER, &[&serial]),
            self.0.algorithm,
            &self.0.name,
            &times,
            &der::name(request),
            &request.public_key,
            &der::tagged(0xa3, &[&der::sequence(&[&extensions])]),
        ]))
    }
}

/// Upstream's `PermissiveSigningPolicy`.
fn validity(life: Duration, now: Timestamp, ca: Timestamp) -> Result<Validity, AuthorityError> {
    if now >= ca {
        return Err(AuthorityError::Ended(ca));
    }
    let late = |e: jiff::Error| AuthorityError::Time(e.to_string());
    let lasts = match life < SHORT {
        true => life,
        false => life - BACKDATE,
    };
    Ok(Validity {
        from: now.checked_sub(BACKDATE).map_err(late)?,
        to: now.checked_add(lasts).map_err(late)?.min(ca),
    })
}

/// RFC 5280, 4.2.1.
fn extensions(request: &SigningRequest, usages: &[Usage], key_id: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(value) = key_usage(usages) {
        out.extend(der::extension(der::KEY_USAGE, true, &value));
    }
    let purposes: Vec<u8> = usages.iter().flat_map(|u| purpose(*u)).collect();
    if !purposes.is_empty() {
        let value = der::sequence(&[&purposes]);
        out.extend(der::extension(der::EXTENDED_KEY_USAGE, false, &value));
    }
    // Empty: no CA.
    let value = der::sequence(&[]);
    out.extend(der::extension(der::BASIC_CONSTRAINTS, true, &value));
    if let Some(id) = key_id {
        let value = der::sequence(&[&der::tagged(0x80, &[id])]);
        out.extend(der::extension(der::AUTHORITY_KEY, false, &value));
    }
    let names = der::alternative_names(request);
    if !names.is_empty() {
        let nameless = der::name(request) == der::sequence(&[]);
        let value = der::sequence(&[&names]);
        out.extend(der::extension(der::ALTERNATIVE_NAMES, nameless, &value));
    }
    out
}

/// `None`: no bit is set, and an extension without one isn't valid (4.2.1.3).
fn key_usage(usages: &[Usage]) -> Option<Vec<u8>> {
    // Named bits from the left, the zeros after the last one cut off.
    let bits = usages.iter().fold(0_u8, |bits, usage| match usage {
        Usage::DigitalSignature => bits | 0x80,
        Usage::KeyEncipherment => bits | 0x20,
        Usage::ClientAuth | Usage::ServerAuth => bits,
    });
    let unused = bits.trailing_zeros().to_le_bytes()[0];
    (bits != 0).then(|| der::bit_string(unused, &[bits]))
}

fn purpose(usage: Usage) -> Vec<u8> {
    // 1.3.6.1.5.5.7.3, and which.
    let of = |last| der::tagged(der::OID, &[&[0x2b, 6, 1, 5, 5, 7, 3, last]]);
    match usage {
        Usage::ServerAuth => of(1),
        Usage::ClientAuth => of(2),
        Usage::DigitalSignature | Usage::KeyEncipherment => Vec::new(),
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;

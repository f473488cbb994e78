//! DER (X.690) as far as a certificate needs it.

use super::authority::AuthorityError;
use api::kinds::SigningRequest;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::SignatureAlgorithm;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const OCTETS: u8 = 0x04;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// `2.5.29`, and which.
pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(super) const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
pub(super) const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// `AlgorithmIdentifier` of what a key signs with (RFC 3279, 5758, 8410).
pub(super) static ALGORITHMS: [(&SignatureAlgorithm, &[u8]); 4] = [
    (
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
    ),
    (
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
    ),
    (&rcgen::PKCS_ED25519, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70]),
    (
        &rcgen::PKCS_RSA_SHA256,
        &[
            0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0,
        ],
    ),
];

/// Of `2.5.4`: what comes before the common name in Go's order, and after it.
const BEFORE: [u8; 7] = [6, 10, 11, 7, 8, 9, 17];
const ORGANIZATION: u8 = 10;
const COMMON_NAME: u8 = 3;
const SERIAL_NUMBER: u8 = 5;

pub(super) fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let start = bytes.iter().position(|b| *b != 0).unwrap_or(0);
            // At most eight of them.
            out.push(0x80 | (bytes.len() - start).to_le_bytes()[0]);
            out.extend(&bytes[start..]);
        }
    }
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, parts)
}

/// `unused` counts bits at the end.
pub(super) fn bit_string(unused: u8, bytes: &[u8]) -> Vec<u8> {
    tagged(BIT_STRING, &[&[unused], bytes])
}

pub(super) fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tagged(OID, &[id]), critical, &tagged(OCTETS, &[value])])
}

/// RFC 5280, 4.1.2.5: two digits of the year until 2049.
pub(super) fn time(at: Timestamp) -> Result<Vec<u8>, AuthorityError> {
    let zoned = at.to_zoned(TimeZone::UTC);
    let (tag, form) = match zoned.year() {
        1950..=2049 => (UTC_TIME, "%y%m%d%H%M%SZ"),
        0..=9999 => (GENERALIZED_TIME, "%Y%m%d%H%M%SZ"),
        _ => return Err(AuthorityError::Time(at.to_string())),
    };
    Ok(tagged(tag, &[zoned.strftime(form).to_string().as_bytes()]))
}

/// The subject: a set for each kind of attribute, with all its values.
pub(super) fn name(request: &SigningRequest) -> Vec<u8> {
    let mut sets = Vec::new();
    for id in BEFORE {
        let values: Vec<&str> = match id {
            ORGANIZATION => request.organizations.iter().map(String::as_str).collect(),
            id => others(request, id),
        };
        sets.extend(set(id, &values));
    }
    let common: Vec<&str> = match request.common_name.as_str() {
        "" => Vec::new(),
        name => vec![name],
    };
    sets.extend(set(COMMON_NAME, &common));
    let serial = others(request, SERIAL_NUMBER);
    sets.extend(set(
        SERIAL_NUMBER,
        serial.last().map_or(&[], std::slice::from_ref),
    ));
    sequence(&[&sets])
}

fn others(request: &SigningRequest, id: u8) -> Vec<&str> {
    let all = request.others.iter();
    let found = all.filter(|(of, _)| *of == [0x55, 4, id]);
    found.map(|(_, text)| text.as_str()).collect()
}

fn set(id: u8, values: &[&str]) -> Vec<u8> {
    if values.is_empty() {
        return Vec::new();
    }
    let id = tagged(OID, &[&[0x55, 4, id]]);
    let mut all: Vec<Vec<u8>> = values.iter().map(|v| sequence(&[&id, &text(v)])).collect();
    // X.690, 11.6: the elements of a set stand in order.
    all.sort();
    let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    tagged(SET, &all)
}

fn text(value: &str) -> Vec<u8> {
    let printable = value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
    let tag = if printable { PRINTABLE } else { UTF8 };
    tagged(tag, &[value.as_bytes()])
}

/// RFC 5280, 4.2.1.6, without the sequence around them.
pub(super) fn alternative_names(request: &SigningRequest) -> Vec<u8> {
    let texts = |tag, names: &[String]| -> Vec<u8> {
        let each = names.iter();
        each.flat_map(|n| tagged(tag, &[n.as_bytes()])).collect()
    };
    let mut out = texts(0x82, &request.dns_names);
    out.extend(texts(0x81, &request.emails));
    let addresses = request.addresses.iter();
    out.extend(addresses.flat_map(|a| tagged(0x87, &[a])));
    out.extend(texts(0x86, &request.uris));
    out
}

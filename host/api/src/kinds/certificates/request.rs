//! The PEM blocks of requests and certificates: the frame of both, and what a
//! request (PKCS #10, RFC 2986) asks for. Bounded by the size of an object.

use super::signature;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// What a request asks to be certified, in the fields that upstream keeps of
/// it (Go's `x509.CertificateRequest`). Whoever made it holds the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningRequest {
    /// The last one, if there are several.
    pub common_name: String,
    pub organizations: Vec<String>,
    /// The attributes of the subject that are neither: object identifier as
    /// DER has it, and text.
    pub others: Vec<(Vec<u8>, String)>,
    pub dns_names: Vec<String>,
    pub emails: Vec<String>,
    /// Of 4 or 16 bytes.
    pub addresses: Vec<Vec<u8>>,
    pub uris: Vec<String>,
    /// DER of the `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
}

/// `2.5.4.3` and `2.5.4.10`, as DER has them.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const MALFORMED: &str = "x509: malformed certificate request";

impl SigningRequest {
    /// Reads a PEM text, as `spec.request` has it once base64 is taken off.
    ///
    /// # Errors
    /// Why it is no request, or that its signature isn't its key's.
    pub fn parse(pem: &str) -> Result<SigningRequest, &'static str> {
        let blocks = blocks(pem);
        let block = match blocks.first() {
            Some(block) if block.label == "CERTIFICATE REQUEST" => block,
            _ => return Err("PEM block type must be CERTIFICATE REQUEST"),
        };
        match sequence_length(&block.der) {
            Some(length) if length == block.der.len() => {}
            Some(length) if length < block.der.len() => {
                return Err("asn1: syntax error: trailing data");
            }
            _ => return Err("asn1: structure error: tags don't match"),
        }
        let (_, request) = X509CertificationRequest::from_der(&block.der).map_err(|_| MALFORMED)?;
        if !signature::is_valid(&request) {
            return Err("x509: the request's signature isn't its key's");
        }
        let info = &request.certification_request_info;
        let mut read = SigningRequest {
            public_key: info.subject_pki.raw.to_vec(),
            ..SigningRequest::default()
        };
        read.name(&info.subject)?;
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    read.alternative(name)?;
                }
            }
        }
        Ok(read)
    }

    fn name(&mut self, subject: &X509Name<'_>) -> Result<(), &'static str> {
        for attribute in subject.iter_attributes() {
            let text = attribute.as_str().map_err(|_| MALFORMED)?.to_owned();
            match attribute.attr_type().as_bytes() {
                COMMON_NAME => self.common_name = text,
                ORGANIZATION => self.organizations.push(text),
                other => self.others.push((other.to_vec(), text)),
            }
        }
        Ok(())
    }

    /// Kinds of names that upstream doesn't know go unsaid.
    fn alternative(&mut self, name: &GeneralName<'_>) -> Result<(), &'static str> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => {
                self.addresses.push(bytes.to_vec());
            }
            GeneralName::IPAddress(_) => return Err("x509: cannot parse IP address"),
            GeneralName::Invalid(..) => return Err(MALFORMED),
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => {}
        }
        Ok(())
    }
}

/// One PEM block: its label and its bytes.
struct Block {
    label: String,
    headers: bool,
    der: Vec<u8>,
}

/// The blocks of a text; what stands between them is passed over, as Go does.
fn blocks(text: &str) -> Vec<Block> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = after.split_once("-----") else {
            break;
        };
        let Some((body, after)) = body.split_once(&format!("-----END {label}-----")) else {
            rest = body;
            continue;
        };
        rest = after;
        let headers = body.contains(':');
        let data = match body.split_once("\n\n") {
            Some((_, data)) if headers => data,
            _ => body,
        };
        let compact: String = data.split_ascii_whitespace().collect();
        if let Ok(der) = STANDARD.decode(compact) {
            out.push(Block {
                label: label.to_owned(),
                headers,
                der,
            });
        }
    }
    out
}

fn decoded(field: &str) -> String {
    let bytes = STANDARD.decode(field).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The length of a DER element, header and all, if it is a SEQUENCE.
fn sequence_length(der: &[u8]) -> Option<usize> {
    let (&tag, rest) = der.split_first()?;
    if tag != 0x30 {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    if first < 0x80 {
        return Some(2 + usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    let digits = rest.get(..count).filter(|d| (1..=4).contains(&d.len()))?;
    let length = digits
        .iter()
        .fold(0_usize, |n, digit| n << 8 | usize::from(*digit));
    Some(2 + count + length)
}

/// Whether `field`, base64 as JSON has it, holds one request.
pub(super) fn check(field: &str) -> Result<(), &'static str> {
    SigningRequest::parse(&decoded(field)).map(drop)
}

/// Whether `field` holds certificates, or nothing.
pub(super) fn check_certificates(field: &str) -> Result<(), String> {
    if field.is_empty() {
        return Ok(());
    }
    let blocks = blocks(&decoded(field));
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if block.headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        match sequence_length(&block.der) {
            None if block.der.is_empty() => {
                return Err("found CERTIFICATE PEM block containing 0 certificates".to_owned());
            }
            Some(length) if length <= block.der.len() => {}
            _ => return Err("x509: malformed certificate".to_owned()),
        }
    }
    Ok(())
}

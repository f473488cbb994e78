//! The PEM blocks of requests and certificates, as far as their frame goes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

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
    let text = decoded(field);
    let blocks = blocks(&text);
    let block = match blocks.first() {
        Some(block) if block.label == "CERTIFICATE REQUEST" => block,
        _ => return Err("PEM block type must be CERTIFICATE REQUEST"),
    };
    match sequence_length(&block.der) {
        Some(length) if length == block.der.len() => Ok(()),
        Some(length) if length < block.der.len() => Err("asn1: syntax error: trailing data"),
        _ => Err("asn1: structure error: tags don't match"),
    }
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

//! Answers: what the client accepts, and how a value becomes its body.

use api::print::Include;
use api::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use reconcile::Body;
use serde_json::Value;
use std::io::Write as _;

const JSON: &str = "application/json";
/// Bodies from this size on are compressed for clients that accept it
/// (upstream's threshold).
const GZIP_FROM: usize = 128 * 1024;

/// The shape in which the client wants its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table(Include),
    Partial,
}

/// What the request says of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) form: Form,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

impl Accepted {
    pub(crate) fn json() -> Accepted {
        Accepted {
            form: Form::Object,
            pretty: false,
            gzip: false,
        }
    }
}

/// Reads `Accept`: the first entry that can be served wins.
pub(crate) fn accepted(
    headers: &HeaderMap,
    query: &crate::query::Query,
) -> Result<Accepted, Status> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("*/*");
    let include = match query.text("includeObject") {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    };
    let gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().starts_with("gzip")));
    let browser = headers
        .get(header::USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|a| a.starts_with("curl") || a.starts_with("Mozilla"));
    let pretty = match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => browser,
    };
    let form = accept
        .split(',')
        .find_map(|entry| entry_form(entry, include))
        .ok_or_else(|| Status::not_acceptable(&[JSON]))?;
    Ok(Accepted { form, pretty, gzip })
}

fn entry_form(entry: &str, include: Include) -> Option<Form> {
    let mut words = entry.split(';').map(str::trim);
    if !matches!(words.next()?, JSON | "*/*" | "application/*" | "") {
        return None;
    }
    let parameter = |key: &str| {
        entry
            .split(';')
            .filter_map(|w| w.trim().split_once('='))
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v)
    };
    match (parameter("as"), parameter("g"), parameter("v")) {
        (None, ..) => Some(Form::Object),
        (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => Some(Form::Table(include)),
        (
            Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
            Some("meta.k8s.io"),
            Some("v1" | "v1beta1"),
        ) => Some(Form::Partial),
        _ => None,
    }
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of bytes that are JSON already.
pub(crate) fn json_bytes(code: u16, bytes: Vec<u8>, accepted: Accepted) -> Response<Body> {
    let compress = accepted.gzip && bytes.len() >= GZIP_FROM;
    let bytes = if compress { gzip(&bytes) } else { bytes };
    let mut response = Response::new(body(bytes));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    if compress {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

pub(crate) fn json(code: u16, value: &Value, accepted: Accepted) -> Response<Body> {
    let text = if accepted.pretty {
        serde_json::to_vec_pretty(value)
    } else {
        serde_json::to_vec(value)
    };
    // A `Value` has string keys and finite numbers: it always serializes.
    let mut bytes = text.unwrap_or_default();
    bytes.push(b'\n');
    json_bytes(code, bytes, accepted)
}

pub(crate) fn status(status: &Status, accepted: Accepted) -> Response<Body> {
    let mut response = json(status.code, &status.to_value(), accepted);
    if let Some(seconds) = status
        .details
        .as_ref()
        .and_then(|d| d.get("retryAfterSeconds"))
        && let Ok(value) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body(text));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Adds `Warning: 299 - "…"` headers (RFC 7234, 5.5).
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let clean: String = warning
            .chars()
            .map(|c| {
                if c.is_control() || !c.is_ascii() {
                    ' '
                } else {
                    c
                }
            })
            .collect();
        let escaped = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing into memory can't fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

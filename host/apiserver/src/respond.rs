//! Answers: how a value becomes the body that the client accepts.

pub(crate) use crate::negotiate::{Accepted, Form, Media, accepted};
use api::protobuf::{self, ProtobufError};
use api::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use reconcile::Body;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;

/// Bodies from this size on are compressed for clients that accept it
/// (upstream's threshold).
const GZIP_FROM: usize = 128 * 1024;

pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn headers(code: u16, content_type: &'static str, bytes: Body) -> Response<Body> {
    let mut response = Response::new(bytes);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

fn gzipped(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// A body of bytes that are in the accepted media type already.
pub(crate) fn bytes(
    code: u16,
    content_type: &'static str,
    bytes: Vec<u8>,
    accepted: Accepted,
) -> Response<Body> {
    let compress = accepted.gzip && bytes.len() >= GZIP_FROM;
    let bytes = if compress { gzip(&bytes) } else { bytes };
    let mut response = headers(code, content_type, body(bytes));
    if compress {
        gzipped(&mut response);
    }
    response
}

/// A body of bytes that are JSON already.
pub(crate) fn json_bytes(code: u16, text: Vec<u8>, accepted: Accepted) -> Response<Body> {
    bytes(code, Media::Json.content_type(), text, accepted)
}

/// A large body, made of `chunks` as the connection takes them; `size` is what
/// they will about be together.
pub(crate) fn chunked(
    content_type: &'static str,
    chunks: impl Iterator<Item = Bytes> + Send + 'static,
    size: usize,
    accepted: Accepted,
) -> Response<Body> {
    let compress = accepted.gzip && size >= GZIP_FROM;
    let whole = |bytes| Ok(Frame::data(bytes));
    if !compress {
        let stream = StreamBody::new(stream::iter(chunks.map(whole)));
        return headers(200, content_type, stream.boxed_unsync());
    }
    let stream = StreamBody::new(stream::iter(Gzipped::new(chunks).map(whole)));
    let mut response = headers(200, content_type, stream.boxed_unsync());
    gzipped(&mut response);
    response
}

/// Chunks of bytes, compressed as one stream.
struct Gzipped<I> {
    chunks: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzipped<I> {
    fn new(chunks: I) -> Gzipped<I> {
        Gzipped {
            chunks,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzipped<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        /// Compressed bytes that are worth a frame.
        const FRAME: usize = 16 * 1024;
        let encoder = self.encoder.as_mut()?;
        for chunk in self.chunks.by_ref() {
            // Writing into memory can't fail.
            let _ = encoder.write_all(&chunk);
            if encoder.get_ref().len() >= FRAME {
                return Some(std::mem::take(encoder.get_mut()).into());
            }
        }
        let rest = self.encoder.take()?.finish().unwrap_or_default();
        (!rest.is_empty()).then(|| rest.into())
    }
}

/// A value in the accepted media type; as JSON where it has no other form.
pub(crate) fn json(code: u16, value: &Value, accepted: Accepted) -> Response<Body> {
    match accepted.media {
        Media::Json => {}
        Media::Yaml => {
            let text = serde_yaml::to_string(&sorted(value)).unwrap_or_default();
            let content_type = Media::Yaml.content_type();
            return bytes(code, content_type, text.into_bytes(), accepted);
        }
        Media::Protobuf => match protobuf::encode(value) {
            Ok(encoded) => {
                let content_type = Media::Protobuf.content_type();
                return bytes(code, content_type, encoded, accepted);
            }
            Err(ProtobufError::UnknownType) => {}
            Err(e) => log::warn!("a {} has no protobuf form: {e}", value["kind"]),
        },
    }
    let text = if accepted.pretty {
        serde_json::to_vec_pretty(value)
    } else {
        serde_json::to_vec(value)
    };
    // A `Value` has string keys and finite numbers: it always serializes.
    let mut text = text.unwrap_or_default();
    text.push(b'\n');
    json_bytes(code, text, accepted)
}

/// Members by name, as Go's YAML has them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<_, _> = members.iter().collect();
            let copied = ordered.into_iter().map(|(k, v)| (k.clone(), sorted(v)));
            Value::Object(copied.collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
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

/// Upstream's answer to what there is no room for.
pub(crate) fn too_many() -> Response<Body> {
    let mut response = text(429, "Too many requests, please try again later.\n");
    for (name, value) in [
        (header::RETRY_AFTER, "1"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// What upstream lets all warnings of an answer have, and one of them where
/// that isn't enough (`apiserver/pkg/endpoints/filters/warning.go`).
const WARNINGS_CHARS_MAX: usize = 4096;
const WARNING_CHARS_MAX: usize = 256;

/// Adds `Warning: 299 - "…"` headers (RFC 7234, 5.5).
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in fitting(warnings) {
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

/// Whole where all of them fit; else cut, and the last ones left out.
fn fitting(warnings: &[String]) -> Vec<String> {
    let chars = |text: &String| text.chars().count();
    if warnings.iter().map(chars).sum::<usize>() <= WARNINGS_CHARS_MAX {
        return warnings.to_vec();
    }
    let cut = |text: &String| text.chars().take(WARNING_CHARS_MAX).collect::<String>();
    let mut left = WARNINGS_CHARS_MAX;
    let fits = |text: &String| {
        let rest = left.checked_sub(chars(text));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    warnings.iter().map(cut).take_while(fits).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing into memory can't fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn warnings_have_a_bound() {
        for (count, length, kept) in [(8, 512, (8, 512)), (9, 512, (9, 256)), (40, 300, (16, 256))]
        {
            let all = vec!["w".repeat(length); count];
            let found = fitting(&all);
            assert_eq!((found.len(), found[0].len()), kept);
        }
    }
}

//! Answers on their way to the client: what of them the log wants is kept, and
//! read off the request's path.

use super::event::Event;
use super::trail::Trail;
use api::{facts, meta, protobuf};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, header};
use hyper::body::{Frame, SizeHint};
use reconcile::{Body, TransportError};
use serde_json::Value;
use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Most bytes of an answer that are recorded, before and after decompression.
const MOST: usize = 16 << 20;
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Says that an answer is not recorded in whole, upstream's key.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// The bytes of an answer.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    content_type: String,
    gzip: bool,
    chunks: Vec<Bytes>,
    pub(super) size: usize,
    /// Whether the object is wanted, and not only a `Status`.
    wants_object: bool,
}

impl Captured {
    pub(super) fn new(headers: &HeaderMap, wants_object: bool) -> Captured {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
        let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
        Captured {
            content_type: content_type
                .split(';')
                .next()
                .unwrap_or_default()
                .to_owned(),
            gzip: text(header::CONTENT_ENCODING) == Some("gzip"),
            chunks: Vec::new(),
            size: 0,
            wants_object,
        }
    }

    fn take(&mut self, bytes: &Bytes) {
        self.size += bytes.len();
        if self.size <= MOST {
            self.chunks.push(bytes.clone());
        } else {
            self.chunks = Vec::new();
        }
    }

    /// Puts what the answer was into the event.
    pub(super) fn fill(self, event: &mut Event) {
        let read = self.value();
        let Some(value) = read else {
            if self.wants_object {
                let annotations = &mut event.annotations;
                annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
            }
            return;
        };
        let (version, kind) = (
            meta::text(&value, &["apiVersion"]),
            meta::text(&value, &["kind"]),
        );
        if (version, kind) == ("v1", "Status") {
            event.response_status = Some(bare(value.clone()));
        }
        if self.wants_object && !(version.is_empty() || kind.is_empty()) {
            event.response_object = Some(value);
        }
    }

    /// Whether it can be an object at all.
    pub(super) fn is_object(&self) -> bool {
        matches!(
            self.content_type.as_str(),
            "application/json" | "application/yaml" | PROTOBUF
        )
    }

    fn value(&self) -> Option<Value> {
        if self.size > MOST {
            return None;
        }
        let mut bytes = self.chunks.concat();
        if self.gzip {
            let mut plain = Vec::new();
            let limit = u64::try_from(MOST).unwrap_or(u64::MAX);
            let mut decoder = GzDecoder::new(bytes.as_slice()).take(limit);
            decoder.read_to_end(&mut plain).ok()?;
            bytes = plain;
        }
        match self.content_type.as_str() {
            "application/json" => serde_json::from_slice(&bytes).ok(),
            "application/yaml" => serde_yaml::from_slice(&bytes).ok(),
            PROTOBUF => from_protobuf(&bytes),
            _ => None,
        }
    }
}

/// The envelope names the kind, the kind its type.
fn from_protobuf(bytes: &[u8]) -> Option<Value> {
    let (version, kind) = envelope(bytes)?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let of = match (group, version, kind) {
        ("", "v1", "Status") => "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
        gvk => facts::of_gvk(gvk)?.name,
    };
    protobuf::decode(bytes, of).ok().map(|p| p.value)
}

/// apiVersion and kind of `runtime.Unknown` as this server writes it: its
/// first field is their message, both are short.
fn envelope(bytes: &[u8]) -> Option<(&str, &str)> {
    fn field(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
        let (head, rest) = bytes.split_at_checked(2)?;
        let size = usize::from(head[1]);
        (head[0] == tag && size < 0x80).then(|| rest.split_at_checked(size))?
    }
    let (types, _) = field(bytes.strip_prefix(b"k8s\0")?, 0x0a)?;
    let (version, rest) = field(types, 0x0a)?;
    let (kind, _) = field(rest, 0x12)?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some((text(version)?, text(kind)?))
}

/// A `Status` as events have it.
pub(super) fn bare(mut status: Value) -> Value {
    if let Some(members) = status.as_object_mut() {
        members.shift_remove("kind");
        members.shift_remove("apiVersion");
    }
    status
}

/// A body that tells the trail when it is over.
pub(super) struct Followed {
    pub(super) inner: Body,
    pub(super) kept: Option<Captured>,
    pub(super) trail: Trail,
}

impl hyper::body::Body for Followed {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Some(kept), Poll::Ready(Some(Ok(frame)))) = (&mut self.kept, &polled)
            && let Some(bytes) = frame.data_ref()
        {
            kept.take(bytes);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.trail.captured(kept);
        }
    }
}

//! The bodies of lists: pieces that are put together while they are sent, so
//! that no list stands in memory as a whole.

use super::super::{Answer, Call};
use super::page::Page;
use crate::registry;
use crate::respond::{self, Media};
use api::protobuf;
use api::status::Status;
use bytes::Bytes;
use http::Response;
use reconcile::Body;
use serde_json::Value;
use store::KeyValue;

/// Bytes that are handed to the connection at a time.
const CHUNK: usize = 64 * 1024;
/// Objects that are converted before others get their turn.
const TURN: usize = 64;

/// Lets other requests be served now and then.
pub(super) async fn give_way(i: usize) {
    if i % TURN == TURN - 1 {
        tokio::task::yield_now().await;
    }
}

/// A head, items, and a tail, gathered into chunks.
struct Chunks<I, W> {
    items: I,
    write: W,
    /// What goes before the next item.
    out: Vec<u8>,
    tail: Option<Vec<u8>>,
}

impl<T, I: Iterator<Item = T>, W: FnMut(&mut Vec<u8>, T)> Iterator for Chunks<I, W> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        // At once: growing copies what is there again and again.
        self.out.reserve(CHUNK + CHUNK / 8);
        while self.out.len() < CHUNK {
            match self.items.next() {
                Some(item) => (self.write)(&mut self.out, item),
                None => {
                    self.out.extend(self.tail.take()?);
                    break;
                }
            }
        }
        Some(std::mem::take(&mut self.out).into())
    }
}

/// The stored objects, one behind the other, each with its revision.
pub(super) fn concatenated(call: &Call, page: Page, metadata: &Value) -> Response<Body> {
    let size: usize = page.items.iter().map(|kv| kv.value.len() + 40).sum();
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        call.kind.list_kind(),
        call.kind.api_version()
    );
    let mut first = true;
    let chunks = Chunks {
        items: page.items.into_iter(),
        write: move |out: &mut Vec<u8>, kv: KeyValue| {
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            registry::splice(out, &kv.value, kv.mod_revision);
        },
        out: head.into_bytes(),
        tail: Some(b"]}\n".to_vec()),
    };
    sent(Media::Json.content_type(), chunks, size, call)
}

pub(super) async fn protobuf(call: &Call, page: Page, metadata: &Value) -> Answer {
    let mut messages = Vec::with_capacity(page.items.len());
    for (i, kv) in page.items.iter().enumerate() {
        give_way(i).await;
        let object = registry::decode(&call.kind, &kv.value, kv.mod_revision)?;
        let message = protobuf::message(&object, call.kind.type_name());
        messages.push(message.map_err(Status::internal)?);
    }
    let around = protobuf::list(
        &call.kind.api_version(),
        &call.kind.list_kind(),
        metadata,
        messages.iter().map(Vec::len),
    );
    let around = around.map_err(Status::internal)?;
    let size = messages.iter().map(Vec::len).sum();
    let chunks = Chunks {
        items: messages.into_iter(),
        write: |out: &mut Vec<u8>, message: Vec<u8>| protobuf::List::item(out, &message),
        out: around.head,
        tail: Some(around.tail),
    };
    Ok(sent(Media::Protobuf.content_type(), chunks, size, call))
}

/// Small lists in one piece, so that their length is known.
fn sent(
    content_type: &'static str,
    mut chunks: impl Iterator<Item = Bytes> + Send + 'static,
    size: usize,
    call: &Call,
) -> Response<Body> {
    if size >= CHUNK / 2 {
        return respond::chunked(content_type, chunks, size, call.accepted);
    }
    let mut out = Vec::with_capacity(size + 256);
    chunks
        .by_ref()
        .for_each(|chunk| out.extend_from_slice(&chunk));
    respond::bytes(200, content_type, out, call.accepted)
}

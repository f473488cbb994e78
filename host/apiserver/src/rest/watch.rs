//! Watch: the store's history of a range as a stream of events.
//!
//! ```text
//! [initial ADDED … bookmark] -> events, bookmarks … -> end (timeout, 410)
//! ```
//! Nothing is queued here: events are read from the store's history when the
//! connection takes more, so a slow client costs one buffer. One that falls
//! behind compaction gets an ERROR event with `Expired`, and the end.

use super::list::{Selection, not_yet_there, range_of, validate, version};
use super::socket::{self, Socket};
use super::{Answer, Call};
use crate::frames::FrameKey;
use crate::registry::{self, store_status};
use crate::respond::{self, Form, Media};
use api::kinds::KindRef;
use api::status::Status;
use api::{print, protobuf};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{Event, EventKind, KeyValue, Range, Revision, StoreError, Watch};
use tokio::time::Instant;

/// Between bookmarks, as upstream's watch cache sends them.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// For clients that name no timeout (upstream: 30 minutes at least).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const MAX_TIMEOUT: i64 = 24 * 60 * 60;
/// Bytes of initial events that are handed to the connection at a time.
const CHUNK: usize = 64 * 1024;

/// What exists when the watch begins, and is still to be sent.
struct Initial {
    items: std::vec::IntoIter<KeyValue>,
    revision: Revision,
    /// Whether a bookmark says that it was all.
    bookmark: bool,
}

struct Stream {
    call: Call,
    /// Group, version and plural: which view its frames are of.
    resource: Arc<str>,
    selection: Selection,
    watch: Watch,
    initial: Option<Initial>,
    /// A revision that the client has seen, though it hasn't happened yet.
    seen: Revision,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    columns_sent: bool,
    done: bool,
}

pub(crate) fn watch(mut call: Call) -> Answer {
    let socket = Socket::asked(&mut call, streams::Kind::Watch)?;
    let answer = answer(call)?;
    Ok(socket::carried(socket, answer))
}

fn answer(call: Call) -> Answer {
    let selection = Selection::of(&call)?;
    let timeout = match call.query.number("timeoutSeconds")? {
        Some(n) if n > 0 => Duration::from_secs(n.min(MAX_TIMEOUT).unsigned_abs()),
        _ => DEFAULT_TIMEOUT,
    };
    validate(&call, true)?;
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let text = call.query.text("resourceVersion");
    let wanted = version(text)?;
    let listed = call.query.get("sendInitialEvents").is_some();
    let everything = match listed {
        true => call.query.flag("sendInitialEvents"),
        false => wanted.is_none(),
    };
    let begun = match everything {
        true => {
            not_yet_there(&call, text)?;
            snapshot(&call, listed && bookmarks).map(|(watch, initial)| (watch, Some(initial)))
        }
        false => begin(&call, wanted).map(|watch| (watch, None)),
    };
    let (watch, initial) = match begun {
        Ok(begun) => begun,
        Err(StoreError::Compacted {
            requested,
            compacted,
        }) => {
            let why = format!("too old resource version: {requested} ({compacted})");
            return refusal(&call, &Status::expired(why));
        }
        Err(other) => return Err(store_status(other)),
    };
    let now = Instant::now();
    let kind = &call.kind;
    Ok(respond_with(Stream {
        resource: format!("{}/{}/{}", kind.group(), kind.version(), kind.plural()).into(),
        call,
        selection,
        watch,
        initial,
        seen: wanted.unwrap_or_default(),
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        end: now + timeout,
        columns_sent: false,
        done: false,
    }))
}

/// What exists, and a watch of what comes after it.
fn snapshot(call: &Call, bookmark: bool) -> Result<(Watch, Initial), StoreError> {
    let (start, end) = range_of(call);
    let found = call.store.range(&Range {
        start: start.clone(),
        end: end.clone(),
        ..Range::default()
    })?;
    let watch = call.store.watch(start, end, found.revision)?;
    let initial = Initial {
        items: found.items.into_iter(),
        revision: found.revision,
        bookmark,
    };
    Ok((watch, initial))
}

/// A watch after `wanted`; of what hasn't happened yet, from now on.
fn begin(call: &Call, wanted: Option<Revision>) -> Result<Watch, StoreError> {
    let (start, end) = range_of(call);
    let newest = call.store.revision();
    let after = wanted.map_or(newest, |wanted| wanted.min(newest));
    call.store.watch(start, end, after)
}

fn headers(response: &mut Response<reconcile::Body>, media: Media) {
    let content_type = match media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Media::Json | Media::Yaml => Media::Json.content_type(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
}

/// A stream of one ERROR event.
fn refusal(call: &Call, status: &Status) -> Answer {
    let out = event(call.accepted.media, None, "ERROR", &status.to_value())?;
    let mut response = Response::new(respond::body(out));
    headers(&mut response, call.accepted.media);
    Ok(response)
}

fn respond_with(stream: Stream) -> Response<reconcile::Body> {
    let media = stream.call.accepted.media;
    let frames = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok(Frame::data(bytes)), stream))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    headers(&mut response, media);
    response
}

/// One event's bytes. Without a kind, the object names its type itself.
fn event(
    media: Media,
    kind: Option<&KindRef>,
    name: &str,
    object: &Value,
) -> Result<Vec<u8>, Status> {
    if media != Media::Protobuf {
        return Ok(format!("{{\"type\":\"{name}\",\"object\":{object}}}\n").into_bytes());
    }
    let body = match kind {
        Some(kind) => protobuf::encode_as(object, kind.type_name()),
        None => protobuf::encode(object),
    };
    Ok(protobuf::watch_frame(
        name,
        &body.map_err(Status::internal)?,
    ))
}

/// The bytes of an event about a whole object.
fn whole(
    media: Media,
    kind: &KindRef,
    name: &str,
    stored: &Bytes,
    revision: Revision,
) -> Result<Bytes, Status> {
    if media == Media::Protobuf || !registry::is_direct(kind) {
        let object = registry::decode(kind, stored, revision)?;
        return event(media, Some(kind), name, &object).map(Bytes::from);
    }
    let mut out = Vec::with_capacity(stored.len() + 96);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    registry::splice(&mut out, stored, revision);
    out.extend_from_slice(b"}\n");
    Ok(out.into())
}

impl Stream {
    /// The next bytes, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.done {
                return None;
            }
            let outcome = match self.initial.take() {
                Some(initial) => self.begin(initial),
                None => self.wait().await,
            };
            match outcome {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some(bytes),
                Err(status) => {
                    self.done = true;
                    let media = self.call.accepted.media;
                    let last = event(media, None, "ERROR", &status.to_value()).ok()?;
                    return Some(last.into());
                }
            }
        }
    }

    /// A part of what exists.
    fn begin(&mut self, mut initial: Initial) -> Result<Bytes, Status> {
        let mut out = Vec::new();
        for kv in initial.items.by_ref() {
            if self.selection.matches_stored(&self.call.kind, &kv)? {
                let bytes = self.shaped("ADDED", &kv.value, kv.mod_revision)?;
                out.extend_from_slice(&bytes);
            }
            if out.len() >= CHUNK {
                self.initial = Some(initial);
                return Ok(out.into());
            }
        }
        if initial.bookmark {
            out.extend(self.bookmark(initial.revision, true)?);
        }
        Ok(out.into())
    }

    /// What happens next; nothing is fine.
    async fn wait(&mut self) -> Result<Bytes, Status> {
        tokio::select! {
            events = self.watch.next() => self.changes(&events.map_err(store_status)?),
            () = tokio::time::sleep_until(self.next_bookmark.min(self.end)) => {
                let now = Instant::now();
                self.done = now >= self.end;
                self.next_bookmark = now + BOOKMARK_EVERY;
                match self.bookmarks {
                    true => self.bookmark(self.watch.progress().max(self.seen), false).map(Bytes::from),
                    false => Ok(Bytes::new()),
                }
            }
        }
    }

    fn changes(&mut self, events: &[Event]) -> Result<Bytes, Status> {
        let mut out = Vec::new();
        for change in events {
            let Some(bytes) = self.change(change)? else {
                continue;
            };
            if events.len() == 1 {
                return Ok(bytes);
            }
            out.extend_from_slice(&bytes);
        }
        Ok(out.into())
    }

    /// One change, as it looks through the selection.
    fn change(&mut self, change: &Event) -> Result<Option<Bytes>, Status> {
        let revision = change.current.mod_revision;
        if revision <= self.seen {
            return Ok(None);
        }
        let kind = &self.call.kind;
        let selected = |kv: &KeyValue| self.selection.matches_stored(kind, kv);
        let before = match &change.previous {
            Some(previous) if selected(previous)? => Some(previous),
            _ => None,
        };
        let after = match change.kind {
            EventKind::Put if selected(&change.current)? => Some(&change.current),
            EventKind::Put | EventKind::Delete => None,
        };
        let (name, shown) = match (before, after) {
            (None, None) => return Ok(None),
            (None, Some(object)) => ("ADDED", object),
            (Some(_), Some(object)) => ("MODIFIED", object),
            (Some(object), None) => ("DELETED", object),
        };
        if self.call.accepted.form != Form::Object {
            return self.shaped(name, &shown.value, revision).map(Some);
        }
        let media = self.call.accepted.media;
        let key = FrameKey {
            revision: revision.0,
            key: shown.key.clone(),
            resource: self.resource.clone(),
            media,
            event: name,
        };
        let make = || whole(media, kind, name, &shown.value, revision);
        self.call.frames.get(key, make).map(Some)
    }

    /// An event in the form that the client wants.
    fn shaped(&mut self, name: &str, stored: &Bytes, revision: Revision) -> Result<Bytes, Status> {
        let columns = !std::mem::replace(&mut self.columns_sent, true);
        let kind = &self.call.kind;
        let media = self.call.accepted.media;
        let shaped = match self.call.accepted.form {
            Form::Object => return whole(media, kind, name, stored, revision),
            Form::Partial { version, .. } => {
                print::partial(&registry::decode(kind, stored, revision)?, version)
            }
            Form::Table(layout) => {
                let object = registry::decode(kind, stored, revision)?;
                let metadata = json!({"resourceVersion": revision.to_string()});
                let now = jiff::Timestamp::now();
                let layout = print::Layout { columns, ..layout };
                print::table(kind, vec![object], metadata, layout, now)
            }
        };
        event(media, None, name, &shaped).map(Bytes::from)
    }

    fn bookmark(&self, at: Revision, initial_end: bool) -> Result<Vec<u8>, Status> {
        let mut metadata = json!({"resourceVersion": at.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let kind = &self.call.kind;
        let (kind, object) = match self.call.accepted.form {
            Form::Object => {
                let object = json!({
                    "kind": kind.kind(), "apiVersion": kind.api_version(), "metadata": metadata,
                });
                (Some(kind), object)
            }
            Form::Partial { version, .. } => {
                let object = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": version.api_version(),
                    "metadata": metadata,
                });
                (None, object)
            }
            Form::Table(layout) => {
                // The row carries what says that it is a bookmark.
                let api_version = layout.version.api_version();
                let object = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": api_version,
                    "metadata": metadata,
                });
                let mut row = json!({"cells": [], "object": null});
                if initial_end || layout.include != print::Include::None {
                    row["object"] = object;
                }
                let table = json!({
                    "kind": "Table", "apiVersion": api_version,
                    "metadata": {"resourceVersion": at.to_string()},
                    "columnDefinitions": null, "rows": [row],
                });
                (None, table)
            }
        };
        event(self.call.accepted.media, kind, "BOOKMARK", &object)
    }
}

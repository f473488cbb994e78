//! Watch: the store's history of a range as a stream of events.
//!
//! ```text
//! [initial ADDED … bookmark] -> events, bookmarks … -> end (timeout, 410)
//! ```
//! Nothing is queued here: events are read from the store's history when the
//! connection takes more, so a slow client costs one buffer. One that falls
//! behind compaction gets an ERROR event with `Expired`, and the end.

use super::list::{Selection, range_of};
use super::{Answer, Call};
use crate::registry::{self, store_status};
use crate::respond::{self, Form};
use api::print;
use api::status::Status;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use std::time::Duration;
use store::{Event, EventKind, Range, Revision, StoreError, Watch};
use tokio::time::Instant;

/// Between bookmarks, as upstream's watch cache sends them.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// For clients that name no timeout (upstream: 30 minutes at least).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const MAX_TIMEOUT: i64 = 24 * 60 * 60;

struct Stream {
    call: Call,
    selection: Selection,
    watch: Watch,
    /// What is sent before the first event.
    first: Option<Vec<u8>>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    columns_sent: bool,
    done: bool,
}

pub(crate) fn watch(call: Call) -> Answer {
    let selection = Selection::of(&call)?;
    let timeout = match call.query.number("timeoutSeconds")? {
        Some(n) if n > 0 => Duration::from_secs(n.min(MAX_TIMEOUT).unsigned_abs()),
        _ => DEFAULT_TIMEOUT,
    };
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let initial = initial_wanted(&call)?;
    let (start, end) = range_of(&call);
    let version = call.query.text("resourceVersion").to_owned();
    let wanted = super::list::check_version(&call, &version);
    let now = Instant::now();
    let begin = |after: Revision| call.store.watch(start.clone(), end.clone(), after);
    let (watch, snapshot) = if initial {
        wanted?;
        let found = call
            .store
            .range(&Range {
                start: start.clone(),
                end: end.clone(),
                ..Range::default()
            })
            .map_err(store_status)?;
        (begin(found.revision), Some(found))
    } else {
        let at = wanted?;
        (begin(at.unwrap_or_else(|| call.store.revision())), None)
    };
    let watch = match watch {
        Ok(watch) => watch,
        Err(StoreError::Compacted {
            requested,
            compacted,
        }) => {
            let why = format!("too old resource version: {requested} ({compacted})");
            return Ok(refusal(&Status::expired(why)));
        }
        Err(other) => return Err(store_status(other)),
    };
    let mut stream = Stream {
        call,
        selection,
        watch,
        first: None,
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        end: now + timeout,
        columns_sent: false,
        done: false,
    };
    let mut first = Vec::new();
    if let Some(found) = snapshot {
        for kv in &found.items {
            stream.added(&kv.value, kv.mod_revision, &mut first)?;
        }
        if stream.call.query.flag("sendInitialEvents") {
            stream.bookmark(found.revision, true, &mut first);
        }
    }
    stream.first = Some(first);
    Ok(respond_with(stream))
}

/// Whether the stream begins with what exists.
fn initial_wanted(call: &Call) -> Result<bool, Status> {
    if call.query.get("sendInitialEvents").is_none() {
        return Ok(matches!(call.query.text("resourceVersion"), "" | "0"));
    }
    if call.query.text("resourceVersionMatch") != "NotOlderThan" {
        return Err(Status::new(
            422,
            "Invalid",
            format!(
                "{} \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                call.kind.list_kind()
            ),
        ));
    }
    Ok(call.query.flag("sendInitialEvents"))
}

fn content_type(response: &mut Response<reconcile::Body>) {
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
}

/// A stream of one ERROR event.
fn refusal(status: &Status) -> Response<reconcile::Body> {
    let mut out = Vec::new();
    event(&mut out, "ERROR", &status.to_value());
    let mut response = Response::new(respond::body(out));
    content_type(&mut response);
    response
}

fn respond_with(stream: Stream) -> Response<reconcile::Body> {
    let frames = stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((Ok(Frame::data(Bytes::from(bytes))), stream))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    content_type(&mut response);
    response
}

fn event(out: &mut Vec<u8>, kind: &str, object: &Value) {
    out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").as_bytes());
}

impl Stream {
    /// The next bytes, or the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            return Some(first);
        }
        let mut out = Vec::new();
        while out.is_empty() {
            if self.done {
                return None;
            }
            let bookmark = tokio::time::sleep_until(self.next_bookmark);
            tokio::select! {
                events = self.watch.next() => self.take(events, &mut out),
                () = bookmark => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    if self.bookmarks {
                        self.bookmark(self.watch.progress(), false, &mut out);
                    }
                }
                () = tokio::time::sleep_until(self.end) => {
                    self.done = true;
                    if self.bookmarks {
                        self.bookmark(self.watch.progress(), false, &mut out);
                    }
                }
            }
        }
        Some(out)
    }

    fn take(&mut self, events: Result<Vec<Event>, StoreError>, out: &mut Vec<u8>) {
        let outcome = events
            .map_err(store_status)
            .and_then(|events| events.iter().try_for_each(|event| self.one(event, out)));
        if let Err(status) = outcome {
            event(out, "ERROR", &status.to_value());
            self.done = true;
        }
    }

    /// One change, as it looks through the selection.
    fn one(&mut self, change: &Event, out: &mut Vec<u8>) -> Result<(), Status> {
        let kind = &self.call.kind;
        let revision = change.current.mod_revision;
        let direct = self.selection.is_everything()
            && self.call.accepted.form == Form::Object
            && registry::is_direct(kind);
        if direct {
            let (name, bytes) = match (change.kind, &change.previous) {
                (EventKind::Put, None) => ("ADDED", &change.current.value),
                (EventKind::Put, Some(_)) => ("MODIFIED", &change.current.value),
                (EventKind::Delete, Some(previous)) => ("DELETED", &previous.value),
                (EventKind::Delete, None) => return Ok(()),
            };
            out.extend_from_slice(format!("{{\"type\":\"{name}\",\"object\":").as_bytes());
            registry::splice(out, bytes, revision);
            out.extend_from_slice(b"}\n");
            return Ok(());
        }
        let read = |bytes: &Bytes| registry::decode(kind, bytes, revision);
        let before = change
            .previous
            .as_ref()
            .map(|kv| read(&kv.value))
            .transpose()?
            .filter(|o| self.selection.matches(o));
        let after = match change.kind {
            EventKind::Put => {
                Some(read(&change.current.value)?).filter(|o| self.selection.matches(o))
            }
            EventKind::Delete => None,
        };
        match (before, after) {
            (None, None) => {}
            (None, Some(object)) => self.shaped("ADDED", object, out),
            (Some(_), Some(object)) => self.shaped("MODIFIED", object, out),
            (Some(object), None) => self.shaped("DELETED", object, out),
        }
        Ok(())
    }

    fn added(
        &mut self,
        bytes: &Bytes,
        revision: Revision,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let object = registry::decode(&self.call.kind, bytes, revision)?;
        if self.selection.matches(&object) {
            self.shaped("ADDED", object, out);
        }
        Ok(())
    }

    fn shaped(&mut self, name: &str, object: Value, out: &mut Vec<u8>) {
        let shaped = match self.call.accepted.form {
            Form::Object => object,
            Form::Partial => print::partial(&object),
            Form::Table(include) => {
                let version = api::meta::resource_version(&object).to_owned();
                let metadata = json!({"resourceVersion": version});
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let now = jiff::Timestamp::now();
                print::table(
                    &self.call.kind,
                    vec![object],
                    metadata,
                    include,
                    columns,
                    now,
                )
            }
        };
        event(out, name, &shaped);
    }

    fn bookmark(&self, at: Revision, initial_end: bool, out: &mut Vec<u8>) {
        let mut metadata = json!({"resourceVersion": at.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.call.accepted.form {
            Form::Object => json!({
                "kind": self.call.kind.kind(), "apiVersion": self.call.kind.api_version(),
                "metadata": metadata,
            }),
            Form::Partial => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Form::Table(_) => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": at.to_string()},
                "columnDefinitions": null, "rows": [],
            }),
        };
        event(out, "BOOKMARK", &object);
    }
}

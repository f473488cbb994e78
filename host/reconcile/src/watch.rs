//! A watch's stream: lines of JSON cut out of body frames of any size.
//!
//! One event is buffered at a time, at most `MAX_EVENT` bytes; a longer one
//! ends the watch with an error. Lines are parsed as they are asked for, so a
//! slow reader holds the server back by flow control.

use crate::error::{ClientError, Status};
use crate::transport::Body;
use http_body_util::BodyExt;
use serde_json::Value;

/// Above the largest object that a store takes, as JSON may be escaped.
const MAX_EVENT: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    Added(Value),
    Modified(Value),
    /// The object's last state, with the deletion's resource version.
    Deleted(Value),
    /// Everything up to this resource version has been sent.
    Bookmark {
        resource_version: String,
        initial_events_end: bool,
    },
}

/// Splits bytes into lines; pure.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were already returned.
    taken: usize,
    /// Bytes of `buffer` known to have no line end.
    searched: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.searched = self.searched.saturating_sub(self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self) -> Option<&[u8]> {
        let from = self.searched.max(self.taken);
        let Some(found) = self.buffer[from..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let start = std::mem::replace(&mut self.taken, from + found + 1);
        Some(&self.buffer[start..from + found])
    }

    /// Bytes of an unfinished line.
    pub(crate) fn held(&self) -> usize {
        self.buffer.len() - self.taken
    }
}

pub struct WatchStream {
    operation: String,
    body: Body,
    lines: Lines,
}

impl WatchStream {
    pub(crate) fn new(operation: String, body: Body) -> WatchStream {
        WatchStream {
            operation,
            body,
            lines: Lines::default(),
        }
    }

    /// `None` when the server ended the watch in order. An event of type
    /// ERROR is an `Api` error. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        match self.next_line().await? {
            Some(line) => parse(&self.operation, &line).map(Some),
            None => Ok(None),
        }
    }

    /// An event as the server wrote it, for who wants little of it.
    pub async fn next_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            while let Some(line) = self.lines.next() {
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line.to_vec()));
                }
            }
            if self.lines.held() > MAX_EVENT {
                return Err(self.malformed(format!("an event of more than {MAX_EVENT} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.lines.push(data);
                    }
                }
                Some(Err(source)) => {
                    let operation = self.operation.clone();
                    return Err(ClientError::Transport { operation, source });
                }
                None if self.lines.held() == 0 => return Ok(None),
                None => return Err(self.malformed("ended within an event".into())),
            }
        }
    }

    fn malformed(&self, what: String) -> ClientError {
        ClientError::Malformed {
            operation: self.operation.clone(),
            what,
        }
    }
}

pub(crate) fn parse(operation: &str, line: &[u8]) -> Result<WatchEvent, ClientError> {
    let malformed = |what: String| ClientError::Malformed {
        operation: operation.to_owned(),
        what,
    };
    let mut event: Value =
        serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    let object = event.get_mut("object").map(Value::take);
    let object = object.ok_or_else(|| malformed("an event without an object".into()))?;
    match event.get("type").and_then(Value::as_str) {
        Some("ADDED") => Ok(WatchEvent::Added(object)),
        Some("MODIFIED") => Ok(WatchEvent::Modified(object)),
        Some("DELETED") => Ok(WatchEvent::Deleted(object)),
        Some("BOOKMARK") => {
            let metadata = object.get("metadata");
            let version = metadata
                .and_then(|m| m.get("resourceVersion"))
                .and_then(Value::as_str);
            let annotations = metadata.and_then(|m| m.get("annotations"));
            let end = annotations.and_then(|a| a.get("k8s.io/initial-events-end"));
            Ok(WatchEvent::Bookmark {
                resource_version: version.unwrap_or_default().to_owned(),
                initial_events_end: end.and_then(Value::as_str) == Some("true"),
            })
        }
        Some("ERROR") => {
            let status = Status::from_value(&object, 500).into();
            Err(ClientError::Api {
                operation: operation.to_owned(),
                status,
            })
        }
        other => Err(malformed(format!("an event of type {other:?}"))),
    }
}

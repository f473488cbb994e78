//! Exec and attach: the streams of one remote command.
//!
//! The client opens what its query asked for: with SPDY one stream each, named
//! by a header; with WebSocket channels of fixed numbers
//! (`cri/streaming/remotecommand`).

use crate::negotiate::{Framing, Version};
use crate::pipe::{Feed, Gone, Input, InputReader, OutputWriter, StreamId};
use crate::spdy::{self, Opened};
use crate::status::StatusWriter;
use crate::websocket::{self, Coding};
use crate::{CREATION_TIMEOUT, Kind, Negotiated, STREAMS_MAX, StreamError};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

const STDIN: StreamId = 0;
const STDOUT: StreamId = 1;
const STDERR: StreamId = 2;
const ERROR: StreamId = 3;
const RESIZE: StreamId = 4;
/// The largest message on the resize stream.
const SIZE_MAX: usize = 256;

/// Which streams the request's query asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamSet {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Then there is no stderr, and a resize stream.
    pub tty: bool,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// The streams that the client asked for, all open. Those that are there must
/// be read or dropped: one that is kept unread holds up the others.
pub struct RemoteCommand {
    pub stdin: Option<InputReader>,
    pub stdout: Option<OutputWriter>,
    pub stderr: Option<OutputWriter>,
    /// Sizes as they change; at the end of the channel there are no more.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    pub status: StatusWriter,
    /// Resolves when the client is gone.
    pub gone: Gone,
}

/// Opens the streams of a remote command on an upgraded connection.
///
/// # Errors
/// The client is gone, breaks the protocol, or does not open its streams
/// within [`crate::CREATION_TIMEOUT`].
pub async fn remote_command<IO>(
    io: IO,
    negotiated: Negotiated,
    wants: StreamSet,
) -> Result<RemoteCommand, StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if negotiated.kind != Kind::RemoteCommand {
        return Err(StreamError::Kind(negotiated.kind));
    }
    let wants = StreamSet {
        stderr: wants.stderr && !wants.tty,
        ..wants
    };
    let version = negotiated.version;
    match negotiated.framing {
        Framing::WebSocket { base64 } => {
            let coding = Coding { base64, version };
            over_websocket(io, coding, wants).await
        }
        Framing::Spdy | Framing::Tunnel => over_spdy(io, version, wants).await,
    }
}

async fn over_websocket<IO>(
    io: IO,
    coding: Coding,
    wants: StreamSet,
) -> Result<RemoteCommand, StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut feeds = HashMap::new();
    let mut input = |wanted: bool, channel: StreamId| {
        let (feed, input) = Feed::new(channel == RESIZE);
        wanted.then(|| {
            feeds.insert(channel, feed);
            input
        })
    };
    let stdin = input(wants.stdin, STDIN).and_then(data);
    let resize = input(wants.tty, RESIZE).and_then(sizes_of);
    let (outbox, gone) = websocket::serve(io, coding, feeds).await;
    let writer = |wanted: bool, channel: StreamId| {
        wanted.then(|| {
            outbox.table().enter(channel, STREAMS_MAX);
            outbox.writer(channel)
        })
    };
    let mut command = RemoteCommand {
        stdin,
        stdout: writer(wants.stdout, STDOUT),
        stderr: writer(wants.stderr, STDERR),
        resize,
        status: StatusWriter {
            version: coding.version,
            stream: writer(true, ERROR).ok_or(StreamError::Gone)?,
            held: Vec::new(),
        },
        gone,
    };
    // Upstream's sign that the connection is established.
    let first = command.stdout.as_mut().or(command.stderr.as_mut());
    let first = first.unwrap_or(&mut command.status.stream);
    first.piece(Bytes::new()).await?;
    Ok(command)
}

async fn over_spdy<IO>(
    io: IO,
    version: Version,
    wants: StreamSet,
) -> Result<RemoteCommand, StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut session = spdy::serve(io)?;
    let resize = wants.tty && version >= Version::V3;
    let mut streams = HashMap::new();
    let mut missing: Vec<&str> = [
        (true, "error"),
        (wants.stdin, "stdin"),
        (wants.stdout, "stdout"),
        (wants.stderr, "stderr"),
        (resize, "resize"),
    ]
    .into_iter()
    .filter_map(|(wanted, kind)| wanted.then_some(kind))
    .collect();
    let deadline = tokio::time::Instant::now() + CREATION_TIMEOUT;
    while !missing.is_empty() {
        let next = tokio::time::timeout_at(deadline, session.accepted.recv()).await;
        let opened = next.map_err(|_| StreamError::Timeout)?;
        let opened = opened.ok_or(StreamError::Gone)?;
        let kind = opened.kind().to_owned();
        let at = missing.iter().position(|wanted| *wanted == kind);
        let at = at.ok_or(StreamError::Protocol("a stream was not asked for"))?;
        missing.swap_remove(at);
        streams.insert(kind, opened);
    }
    let mut held = Vec::new();
    let mut input = |stream: Option<Opened>| {
        let Opened { input, output, .. } = stream?;
        held.push(output);
        Some(input)
    };
    let stdin = input(streams.remove("stdin")).and_then(data);
    let resize = input(streams.remove("resize")).and_then(sizes_of);
    let mut output = |kind: &str| streams.remove(kind).map(|opened| opened.output);
    Ok(RemoteCommand {
        stdin,
        stdout: output("stdout"),
        stderr: output("stderr"),
        resize,
        status: StatusWriter {
            version,
            stream: output("error").ok_or(StreamError::Gone)?,
            held,
        },
        gone: session.gone,
    })
}

fn data(input: Input) -> Option<InputReader> {
    match input {
        Input::Data(reader) => Some(reader),
        Input::Sizes(_) => None,
    }
}

fn sizes_of(input: Input) -> Option<mpsc::Receiver<TerminalSize>> {
    match input {
        Input::Sizes(receiver) => Some(receiver),
        Input::Data(_) => None,
    }
}

/// The whole objects of a stream of JSON objects; what is no size is dropped.
pub(crate) fn sizes(partial: &mut Vec<u8>, data: &[u8]) -> Vec<TerminalSize> {
    #[derive(Deserialize)]
    struct Size {
        #[serde(rename = "Width")]
        width: u16,
        #[serde(rename = "Height")]
        height: u16,
    }
    let mut found = Vec::new();
    for byte in data {
        partial.push(*byte);
        if *byte == b'}' {
            if let Ok(Size { width, height }) = serde_json::from_slice(partial) {
                found.push(TerminalSize {
                    columns: width,
                    rows: height,
                });
            }
            partial.clear();
        } else if partial.len() > SIZE_MAX {
            partial.clear();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_found_in_pieces() {
        let mut partial = Vec::new();
        let size = |columns, rows| TerminalSize { columns, rows };
        let text = "{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Heig";
        assert_eq!(sizes(&mut partial, text.as_bytes()), [size(80, 24)]);
        assert_eq!(
            sizes(&mut partial, b"ht\":2}{}{\"Width\":-1}"),
            [size(1, 2)]
        );
        assert!(sizes(&mut partial, &[b'x'; 100_000]).is_empty());
        assert!(partial.len() <= SIZE_MAX);
    }
}

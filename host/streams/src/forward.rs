//! Port-forward: each forwarded connection is a pair of streams, data and
//! error, opened by the client.
//!
//! ```text
//!   SPDY:       SYN_STREAM error, SYN_STREAM data with the same requestid
//!   WebSocket:  channels 2n and 2n+1 for the n-th port of the query
//! ```

use crate::negotiate::{Framing, Version};
use crate::pipe::{Feed, Gone, Input, InputReader, Outbox, OutputWriter};
use crate::spdy::{self, Opened, Session};
use crate::websocket::{self, Coding};
use crate::{CREATION_TIMEOUT, Kind, Negotiated, STREAMS_MAX, StreamError, tunnel};
use bytes::Bytes;
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncWrite, Join};
use tokio::time::Instant;

/// The most ports of a query; two channels each, and a channel is one byte.
const PORTS_MAX: usize = 100;

/// One forwarded connection.
pub struct Forward {
    pub port: u16,
    /// Bytes of the connection, with half-close both ways (`shutdown`, EOF).
    pub data: Join<InputReader, OutputWriter>,
    pub error: ErrorWriter,
}

/// Tells the client why a forwarded connection failed; dropped, it says that
/// nothing did.
pub struct ErrorWriter(OutputWriter);

impl ErrorWriter {
    /// Drop the data after this, so that the client sees the error first.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn fail(mut self, message: &str) -> Result<(), StreamError> {
        let message = Bytes::copy_from_slice(message.as_bytes());
        self.0.write(message).await
    }
}

enum Source {
    Spdy {
        session: Session,
        pairs: Pairs,
    },
    /// All are there from the beginning; the outbox keeps the connection.
    Channels {
        ready: std::vec::IntoIter<Forward>,
        gone: Gone,
        _outbox: Outbox,
    },
}

/// Gives the forwarded connections of one client, one after another.
pub struct PortForwardListener(Source);

impl PortForwardListener {
    /// The next connection, `None` when the client is gone.
    pub async fn accept(&mut self) -> Option<Forward> {
        match &mut self.0 {
            Source::Spdy { session, pairs } => loop {
                let opened = session.accepted.recv().await?;
                if let Some(forward) = pairs.add(opened, Instant::now()) {
                    return Some(forward);
                }
            },
            Source::Channels { ready, gone, .. } => {
                if let Some(forward) = ready.next() {
                    return Some(forward);
                }
                gone.wait().await;
                None
            }
        }
    }

    /// Resolves when the client is gone.
    #[must_use]
    pub fn gone(&self) -> Gone {
        match &self.0 {
            Source::Spdy { session, .. } => session.gone.clone(),
            Source::Channels { gone, .. } => gone.clone(),
        }
    }
}

/// Serves port-forward on an upgraded connection.
///
/// # Errors
/// The client is gone or breaks the protocol.
pub async fn port_forward<IO>(
    io: IO,
    negotiated: Negotiated,
) -> Result<PortForwardListener, StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if negotiated.kind != Kind::PortForward {
        return Err(StreamError::Kind(negotiated.kind));
    }
    let pairs = Pairs::default();
    let source = match negotiated.framing {
        Framing::Spdy => {
            let session = spdy::serve(io)?;
            Source::Spdy { session, pairs }
        }
        Framing::Tunnel => {
            let tunnel = tunnel::Tunnel::new(websocket::upgrade(io).await);
            let session = spdy::serve(tunnel)?;
            Source::Spdy { session, pairs }
        }
        Framing::WebSocket { base64 } => {
            let version = Version::V4;
            channels(io, Coding { base64, version }, &negotiated.ports).await?
        }
    };
    Ok(PortForwardListener(source))
}

async fn channels<IO>(io: IO, coding: Coding, ports: &[u16]) -> Result<Source, StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if ports.is_empty() || ports.len() > PORTS_MAX {
        return Err(StreamError::Protocol("1 to 100 ports are needed"));
    }
    let mut feeds = HashMap::new();
    let mut readers = Vec::new();
    for (channel, port) in (0_u32..).step_by(2).zip(ports) {
        let (feed, input) = Feed::new(false);
        feeds.insert(channel, feed);
        readers.push((channel, *port, input));
    }
    let (outbox, gone) = websocket::serve(io, coding, feeds).await;
    let mut ready = Vec::new();
    for (channel, port, input) in readers {
        let Input::Data(input) = input else {
            return Err(StreamError::Protocol("no data"));
        };
        let writer = |channel| {
            outbox.table().enter(channel, STREAMS_MAX);
            outbox.writer(channel)
        };
        let (mut output, mut error) = (writer(channel), writer(channel + 1));
        // Each channel begins with its port (`portforward/websocket.go`).
        let name = Bytes::copy_from_slice(&port.to_le_bytes());
        output.piece(name.clone()).await?;
        error.piece(name).await?;
        ready.push(Forward {
            port,
            data: tokio::io::join(input, output),
            error: ErrorWriter(error),
        });
    }
    Ok(Source::Channels {
        ready: ready.into_iter(),
        gone,
        _outbox: outbox,
    })
}

/// Streams that wait for their other half, by request.
#[derive(Default)]
struct Pairs(HashMap<String, Half>);

struct Half {
    port: u16,
    since: Instant,
    data: Option<Opened>,
    error: Option<Opened>,
}

impl Pairs {
    /// What makes no sense is dropped, which closes it.
    fn add(&mut self, opened: Opened, now: Instant) -> Option<Forward> {
        self.0.retain(|_, half| now - half.since < CREATION_TIMEOUT);
        let port = opened
            .header("port")?
            .parse()
            .ok()
            .filter(|port| *port > 0)?;
        let request = opened.header("requestid")?.to_owned();
        let is_data = match opened.kind() {
            "data" => true,
            "error" => false,
            _ => return None,
        };
        let half = self.0.entry(request.clone()).or_insert(Half {
            port,
            since: now,
            data: None,
            error: None,
        });
        let place = if is_data {
            &mut half.data
        } else {
            &mut half.error
        };
        if half.port != port || place.is_some() {
            return None;
        }
        *place = Some(opened);
        if half.data.is_none() || half.error.is_none() {
            return None;
        }
        let half = self.0.remove(&request)?;
        let (data, error) = (half.data?, half.error?);
        let Input::Data(input) = data.input else {
            return None;
        };
        Some(Forward {
            port,
            data: tokio::io::join(input, data.output),
            error: ErrorWriter(error.output),
        })
    }
}

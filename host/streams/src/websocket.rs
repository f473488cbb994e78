//! Channels in WebSocket messages (`apiserver/pkg/util/wsstream`).
//!
//! ```text
//!   binary:  channel byte, data        base64: digit, base64 of data, as text
//!   v5:      255, channel              closes one channel
//! ```
//!
//! Data for a channel that nobody reads is dropped, as upstream does. A server
//! does not close single channels; when all writers are dropped, the connection
//! is closed by the protocol's close handshake.

use crate::negotiate::Version;
use crate::pipe::{Feed, Gone, Outbox, Outgoing, StreamId};
use crate::{FRAME_MAX, StreamError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, Stream, StreamExt};
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

const CLOSE_CHANNEL: u8 = 255;

/// How a connection's messages are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) base64: bool,
    pub(crate) version: Version,
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
enum Incoming {
    Data(StreamId, Bytes),
    Close(StreamId),
    Nothing,
}

pub(crate) async fn upgrade<IO>(io: IO) -> WebSocketStream<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_MAX))
        .max_frame_size(Some(FRAME_MAX))
        .read_buffer_size(32 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * FRAME_MAX);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serves the channels that `feeds` reads and the outbox writes, in one task.
pub(crate) async fn serve<IO>(
    io: IO,
    coding: Coding,
    feeds: HashMap<StreamId, Feed>,
) -> (Outbox, Gone)
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (outbox, outgoing) = Outbox::new();
    let (present, gone) = Gone::new();
    let (sink, stream) = upgrade(io).await.split();
    tokio::spawn(async move {
        let reading = async move {
            if let Err(error) = read_all(stream, coding, feeds).await {
                log::debug!("WebSocket connection: {error}");
            }
            drop(present);
        };
        tokio::pin!(reading);
        let writing = write_all(sink, coding, outgoing);
        tokio::select! {
            () = &mut reading => return,
            _ = writing => {}
        }
        let _ = tokio::time::timeout(crate::spdy::LINGER, reading).await;
    });
    (outbox, gone)
}

async fn read_all(
    mut messages: impl Stream<Item = Result<Message, Error>> + Unpin,
    coding: Coding,
    mut feeds: HashMap<StreamId, Feed>,
) -> Result<(), StreamError> {
    while let Some(message) = messages.next().await {
        let message = message.map_err(failed)?;
        match decode(coding, message).map_err(StreamError::Protocol)? {
            Incoming::Data(channel, data) => {
                if let Some(feed) = feeds.get_mut(&channel)
                    && !feed.give(data).await
                {
                    feeds.remove(&channel);
                }
            }
            Incoming::Close(channel) => drop(feeds.remove(&channel)),
            Incoming::Nothing => {}
        }
    }
    Ok(())
}

pub(crate) fn failed(error: Error) -> StreamError {
    match error {
        Error::Io(error) => StreamError::Io(error),
        Error::ConnectionClosed | Error::AlreadyClosed => StreamError::Gone,
        Error::Capacity(_) => StreamError::Protocol("a message is too large"),
        _ => StreamError::Protocol("not WebSocket (RFC 6455)"),
    }
}

fn decode(coding: Coding, message: Message) -> Result<Incoming, &'static str> {
    let message = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => Bytes::from(text),
        _ => return Ok(Incoming::Nothing),
    };
    let Some((&first, rest)) = message.split_first() else {
        return Ok(Incoming::Nothing);
    };
    if coding.base64 {
        let channel = first.checked_sub(b'0').filter(|digit| *digit < 10);
        let channel = channel.ok_or("a channel is no digit")?;
        let data = STANDARD.decode(rest).map_err(|_| "data is not base64")?;
        return Ok(Incoming::Data(u32::from(channel), data.into()));
    }
    if coding.version >= Version::V5 && first == CLOSE_CHANNEL {
        let [channel] = *rest else {
            return Err("a close message names no channel");
        };
        return Ok(Incoming::Close(u32::from(channel)));
    }
    Ok(Incoming::Data(u32::from(first), message.slice(1..)))
}

fn encode(coding: Coding, channel: StreamId, data: &[u8]) -> Message {
    let channel = u8::try_from(channel).unwrap_or(u8::MAX);
    if coding.base64 {
        let text = format!("{channel}{}", STANDARD.encode(data));
        return Message::text(text);
    }
    let mut bytes = BytesMut::with_capacity(data.len() + 1);
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

/// kubectl takes any other code than 1000 for an error.
pub(crate) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::from_static(""),
    }))
}

/// Until nobody can write any more.
async fn write_all(
    mut sink: impl futures_util::Sink<Message, Error = Error> + Unpin,
    coding: Coding,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
) -> Result<(), StreamError> {
    while let Some(next) = outgoing.recv().await {
        if let Outgoing::Data { stream, data, .. } = &next {
            let message = encode(coding, *stream, data);
            sink.send(message).await.map_err(failed)?;
        }
    }
    sink.send(goodbye()).await.map_err(failed)?;
    sink.close().await.map_err(failed)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn coding(base64: bool, version: Version) -> Coding {
        Coding { base64, version }
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        for base64 in [false, true] {
            let coding = coding(base64, Version::V4);
            let message = encode(coding, 3, b"data");
            let expected = Incoming::Data(3, Bytes::from_static(b"data"));
            assert_eq!(decode(coding, message), Ok(expected));
        }
    }

    #[test]
    fn only_v5_closes_channels() {
        let message = || Message::Binary(Bytes::from_static(&[255, 0]));
        let close = decode(coding(false, Version::V5), message());
        assert_eq!(close, Ok(Incoming::Close(0)));
        let data = decode(coding(false, Version::V4), message());
        assert_eq!(data, Ok(Incoming::Data(255, Bytes::from_static(&[0]))));
    }

    #[test]
    fn malformed_messages_are_refused() {
        let text = |text: &str| Message::text(text.to_owned());
        assert!(decode(coding(true, Version::V4), text("xQQ==")).is_err());
        assert!(decode(coding(true, Version::V4), text("0!")).is_err());
        let long = Message::Binary(Bytes::from_static(&[255, 0, 0]));
        assert!(decode(coding(false, Version::V5), long).is_err());
        let empty = decode(coding(false, Version::V4), Message::Binary(Bytes::new()));
        assert_eq!(empty.unwrap(), Incoming::Nothing);
    }
}

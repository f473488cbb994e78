//! A SPDY/3.1 connection, the server's side, as kubectl uses it.
//!
//! ```text
//!   SYN_STREAM -> SYN_REPLY, Opened       DATA -> its feed     FIN -> end of input
//!   RST_STREAM -> both directions end     PING -> PING         rest: ignored
//!   writer: DATA, dropped: DATA with FIN; all dropped: GOAWAY, shutdown, linger
//! ```
//!
//! Windows are ignored in both directions, as moby/spdystream does: what bounds
//! a stream is that this side stops reading. One slow reader therefore holds up
//! the other streams of its connection.

mod frame;
mod header_block;

use crate::pipe::{Feed, Gone, Input, Outbox, Outgoing, OutputWriter, StreamId, Table};
use crate::{FRAME_MAX, STREAMS_MAX, StreamError};
use bytes::{Bytes, BytesMut};
use frame::{HEADER_LEN, Head};
use header_block::{Headers, Reader, Writer};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// How much of a data frame is given on at once.
const PIECE: usize = 32 << 10;
/// Streams that are open but not yet taken.
const ACCEPT_MAX: usize = 16;
/// How long what the peer still sends is read and dropped after the end, so
/// that closing does not destroy what was sent to it (RFC 1122, 4.2.2.13).
pub(crate) const LINGER: Duration = Duration::from_secs(5);
const HEADER_STREAM_TYPE: &str = "streamtype";

/// A stream that the client has opened.
pub(crate) struct Opened {
    pub(crate) headers: Headers,
    pub(crate) input: Input,
    pub(crate) output: OutputWriter,
}

impl Opened {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn kind(&self) -> &str {
        self.header(HEADER_STREAM_TYPE).unwrap_or_default()
    }
}

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let mut all = headers.iter();
    all.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.as_str()))
}

/// Streams as the client opens them, and the connection's handle.
pub(crate) struct Session {
    pub(crate) accepted: mpsc::Receiver<Opened>,
    pub(crate) gone: Gone,
    /// Keeps the connection open while no stream is.
    _outbox: Outbox,
}

/// Serves a connection in one task.
pub(crate) fn serve<IO>(io: IO) -> Result<Session, StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (outbox, outgoing) = Outbox::new();
    let (accept, accepted) = mpsc::channel(ACCEPT_MAX);
    let (present, gone) = Gone::new();
    let (read, write) = tokio::io::split(io);
    let table = outbox.table();
    let reading = Reading {
        io: read,
        accept,
        replies: outbox.weak(),
        table: table.clone(),
        feeds: HashMap::new(),
        headers: Reader::new(),
        answers: Writer::new().map_err(|_| StreamError::Protocol("zlib"))?,
    };
    tokio::spawn(async move {
        let reading = async move {
            if let Err(error) = reading.run().await {
                log::debug!("SPDY connection: {error}");
            }
            drop(present);
        };
        tokio::pin!(reading);
        let writing = write_all(write, outgoing, table);
        tokio::select! {
            () = &mut reading => return,
            _ = writing => {}
        }
        let _ = tokio::time::timeout(LINGER, reading).await;
    });
    Ok(Session {
        accepted,
        gone,
        _outbox: outbox,
    })
}

struct Reading<R> {
    io: R,
    accept: mpsc::Sender<Opened>,
    replies: crate::pipe::WeakOutbox,
    table: Table,
    feeds: HashMap<StreamId, Feed>,
    headers: Reader,
    answers: Writer,
}

impl<R: AsyncRead + Send + Unpin> Reading<R> {
    /// Until the peer is gone or breaks the protocol.
    async fn run(mut self) -> Result<(), StreamError> {
        let mut head = [0; HEADER_LEN];
        loop {
            self.io.read_exact(&mut head).await?;
            match Head::decode(head).map_err(StreamError::Protocol)? {
                Head::Data {
                    stream,
                    fin,
                    length,
                } => self.data(stream, fin, length).await?,
                Head::Control { kind, fin, length } => {
                    let mut payload = vec![0; length];
                    self.io.read_exact(&mut payload).await?;
                    self.control(kind, fin, &payload).await?;
                }
            }
        }
    }

    async fn data(&mut self, stream: u32, fin: bool, length: usize) -> Result<(), StreamError> {
        let mut left = length.min(FRAME_MAX);
        while left > 0 {
            let mut piece = BytesMut::zeroed(left.min(PIECE));
            self.io.read_exact(&mut piece).await?;
            left -= piece.len();
            let wanted = match self.feeds.get_mut(&stream) {
                Some(feed) => feed.give(piece.freeze()).await,
                // A stream that has gone away; its peer may not know yet.
                None => continue,
            };
            if !wanted {
                self.feeds.remove(&stream);
            }
        }
        if fin {
            self.feeds.remove(&stream);
            self.table.remote_end(stream);
        }
        Ok(())
    }

    async fn control(&mut self, kind: u16, fin: bool, payload: &[u8]) -> Result<(), StreamError> {
        let number = payload
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes));
        let short = StreamError::Protocol("a control frame is too short");
        let number = |error| number.ok_or(error);
        match kind {
            frame::SYN_STREAM => {
                let stream = number(short)? & 0x7fff_ffff;
                let block = payload.get(10..).unwrap_or_default();
                self.open(stream, fin, block).await
            }
            frame::HEADERS => {
                // Only for the sake of the zlib stream.
                let block = payload.get(4..).unwrap_or_default();
                self.read_block(block).map(drop)
            }
            frame::RST_STREAM => {
                let stream = number(short)? & 0x7fff_ffff;
                self.feeds.remove(&stream);
                self.table.reset(stream);
                Ok(())
            }
            frame::PING => self.reply(frame::ping(number(short)?)).await,
            _ => Ok(()),
        }
    }

    fn read_block(&mut self, block: &[u8]) -> Result<Headers, StreamError> {
        let headers = self.headers.read(block);
        headers.map_err(|_| StreamError::Protocol("a header block is wrong"))
    }

    async fn open(&mut self, stream: u32, fin: bool, block: &[u8]) -> Result<(), StreamError> {
        let headers = self.read_block(block)?;
        // 2.3.2: a client's streams are odd, and each is greater than the last.
        if stream.is_multiple_of(2) || !self.table.is_new(stream) {
            return Err(StreamError::Protocol("a stream's number is wrong"));
        }
        let Some(outbox) = self.replies.upgrade() else {
            return Ok(());
        };
        let entered = self.table.enter(stream, STREAMS_MAX);
        if !entered || self.accept.is_closed() {
            self.table.reset(stream);
            let refusal = frame::rst_stream(stream, frame::REFUSED_STREAM);
            return outbox.control(refusal).await;
        }
        let sizes = find(&headers, HEADER_STREAM_TYPE) == Some("resize");
        let (feed, input) = Feed::new(sizes);
        if fin {
            self.table.remote_end(stream);
        } else {
            self.feeds.insert(stream, feed);
        }
        let block = self.answers.write(&Headers::new());
        let block = block.map_err(|_| StreamError::Protocol("zlib"))?;
        outbox.control(frame::syn_reply(stream, &block)).await?;
        let opened = Opened {
            headers,
            input,
            output: outbox.writer(stream),
        };
        drop(outbox);
        // Nobody takes streams any more: dropping it closes it.
        let _ = self.accept.send(opened).await;
        Ok(())
    }

    async fn reply(&mut self, frame: Bytes) -> Result<(), StreamError> {
        match self.replies.upgrade() {
            Some(outbox) => outbox.control(frame).await,
            None => Ok(()),
        }
    }
}

/// Until nobody can write any more.
async fn write_all<W: AsyncWrite + Unpin>(
    mut io: W,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    table: Table,
) -> Result<(), StreamError> {
    let mut bytes = BytesMut::new();
    while let Some(next) = outgoing.recv().await {
        match &next {
            Outgoing::Data { stream, data, .. } => {
                frame::data(&mut bytes, *stream, false, data);
            }
            Outgoing::Close { stream } => {
                // After a reset there is nothing to close.
                if table.local_end(*stream) {
                    frame::data(&mut bytes, *stream, true, &[]);
                }
            }
            Outgoing::Control(frame) => bytes.extend_from_slice(frame),
        }
        io.write_all_buf(&mut bytes).await?;
        // Gives the data's room back.
        drop(next);
        if outgoing.is_empty() {
            io.flush().await?;
        }
    }
    io.write_all(&frame::go_away(table.last())).await?;
    io.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests;

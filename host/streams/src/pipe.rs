//! The two ends of one stream of a connection, whatever frames carry it.
//!
//! ```text
//!   connection --Feed--> mpsc (INPUT_MAX messages) --> InputReader
//!   OutputWriter --permits (OUTPUT_MAX bytes)--> Outgoing --> connection
//! ```
//!
//! Order among the streams of a connection is the order of the writes: a
//! status written after output arrives after it. Closing needs no permit, so
//! dropping a writer always closes its stream.

use crate::remote::TerminalSize;
pub(crate) use crate::table::Table;
use crate::{INPUT_MAX, OUTPUT_MAX, StreamError};
use bytes::{Buf, Bytes};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// The largest piece of one outgoing data frame.
const PIECE_MAX: usize = 32 << 10;

/// Names a stream within its connection.
pub(crate) type StreamId = u32;

/// What the connection's writer is to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Data {
        stream: StreamId,
        data: Bytes,
        /// Given back when the data is written.
        _room: OwnedSemaphorePermit,
    },
    /// No more data will follow on this stream.
    Close { stream: StreamId },
    /// An answer to the peer that the reader makes (a reply, a pong); there
    /// is at most one for each frame read.
    Control(Bytes),
}

/// Where all streams of one connection put what is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::UnboundedSender<Outgoing>,
    room: Arc<Semaphore>,
    table: Table,
}

/// An outbox that does not keep the connection open.
#[derive(Clone, Debug)]
pub(crate) struct WeakOutbox {
    queue: mpsc::WeakUnboundedSender<Outgoing>,
    room: Arc<Semaphore>,
    table: Table,
}

impl WeakOutbox {
    pub(crate) fn upgrade(&self) -> Option<Outbox> {
        Some(Outbox {
            queue: self.queue.upgrade()?,
            room: Arc::clone(&self.room),
            table: self.table.clone(),
        })
    }
}

impl Outbox {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Outgoing>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(OUTPUT_MAX));
        let table = Table::default();
        (Self { queue, room, table }, receiver)
    }

    pub(crate) fn table(&self) -> Table {
        self.table.clone()
    }

    pub(crate) fn weak(&self) -> WeakOutbox {
        WeakOutbox {
            queue: self.queue.downgrade(),
            room: Arc::clone(&self.room),
            table: self.table.clone(),
        }
    }

    pub(crate) fn writer(&self, stream: StreamId) -> OutputWriter {
        OutputWriter {
            stream,
            outbox: self.clone(),
            waiting: None,
            closed: false,
        }
    }

    /// Waits for room like data does, so that a peer that asks much and reads
    /// nothing is not read from any more.
    pub(crate) async fn control(&self, frame: Bytes) -> Result<(), StreamError> {
        let room = self.room.acquire_many(permits(frame.len())).await;
        drop(room.map_err(|_| StreamError::Gone)?);
        self.send(Outgoing::Control(frame))
    }

    fn send(&self, outgoing: Outgoing) -> Result<(), StreamError> {
        self.queue.send(outgoing).map_err(|_| StreamError::Gone)
    }
}

fn permits(length: usize) -> u32 {
    u32::try_from(length.clamp(1, PIECE_MAX)).unwrap_or(1)
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Sends on one stream; dropping it closes the stream.
pub struct OutputWriter {
    stream: StreamId,
    outbox: Outbox,
    waiting: Option<Acquire>,
    closed: bool,
}

impl OutputWriter {
    /// Queues all of `data`, waiting for room as needed.
    ///
    /// # Errors
    /// The connection is gone, or the stream was closed before.
    pub async fn write(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        if self.closed {
            return Err(StreamError::Gone);
        }
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE_MAX));
            self.piece(piece).await?;
        }
        Ok(())
    }

    fn is_writable(&self) -> bool {
        !self.closed && self.outbox.table.is_writable(self.stream)
    }

    /// Sends a message even if it is empty.
    pub(crate) async fn piece(&mut self, data: Bytes) -> Result<(), StreamError> {
        let room = Arc::clone(&self.outbox.room)
            .acquire_many_owned(permits(data.len()))
            .await
            .map_err(|_| StreamError::Gone)?;
        if !self.is_writable() {
            return Err(StreamError::Gone);
        }
        self.outbox.send(Outgoing::Data {
            stream: self.stream,
            data,
            _room: room,
        })
    }

    /// Closes the stream towards the peer; what was written before still goes.
    pub fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            // A connection that is gone needs no closing.
            let _ = self.outbox.send(Outgoing::Close {
                stream: self.stream,
            });
        }
    }
}

impl Drop for OutputWriter {
    fn drop(&mut self) {
        self.close();
    }
}

impl AsyncWrite for OutputWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_writable() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = Arc::clone(&self.outbox.room);
        // A permit for one whole piece: the buffer may differ at the next poll.
        let acquire = self
            .waiting
            .get_or_insert_with(|| Box::pin(room.acquire_many_owned(permits(PIECE_MAX))));
        let room = ready!(acquire.as_mut().poll(context));
        self.waiting = None;
        let data = Bytes::copy_from_slice(buffer.get(..PIECE_MAX).unwrap_or(buffer));
        let length = data.len();
        let stream = self.stream;
        let sent = room.map_err(|_| StreamError::Gone).and_then(|room| {
            self.outbox.send(Outgoing::Data {
                stream,
                data,
                _room: room,
            })
        });
        Poll::Ready(match sent {
            Ok(()) => Ok(length),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

/// The connection's end of a stream's input; dropping it is the end of input.
pub(crate) enum Feed {
    Data(mpsc::Sender<Bytes>),
    /// JSON objects, one size each.
    Sizes {
        partial: Vec<u8>,
        sizes: mpsc::Sender<TerminalSize>,
    },
}

/// The user's end of a feed.
pub(crate) enum Input {
    Data(InputReader),
    Sizes(mpsc::Receiver<TerminalSize>),
}

impl Feed {
    pub(crate) fn new(sizes: bool) -> (Self, Input) {
        if sizes {
            let (sizes, receiver) = mpsc::channel(INPUT_MAX);
            let partial = Vec::new();
            return (Self::Sizes { partial, sizes }, Input::Sizes(receiver));
        }
        let (sender, feed) = mpsc::channel(INPUT_MAX);
        let rest = Bytes::new();
        (Self::Data(sender), Input::Data(InputReader { feed, rest }))
    }

    /// Waits for room; false when nobody reads any more.
    pub(crate) async fn give(&mut self, data: Bytes) -> bool {
        match self {
            Self::Data(sender) => sender.send(data).await.is_ok(),
            Self::Sizes { partial, sizes } => {
                for size in crate::remote::sizes(partial, &data) {
                    if sizes.send(size).await.is_err() {
                        return false;
                    }
                }
                true
            }
        }
    }
}

/// Receives one stream; its end is the peer's half-close or its going.
pub struct InputReader {
    feed: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl InputReader {
    /// The next bytes, `None` at the end.
    pub async fn read(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        loop {
            let data = self.feed.recv().await?;
            if !data.is_empty() {
                return Some(data);
            }
        }
    }
}

impl AsyncRead for InputReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.feed.poll_recv(context)) {
                Some(data) => self.rest = data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(self.rest.get(..length).unwrap_or_default());
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Tells when the peer is gone, also while nobody reads or writes.
#[derive(Clone, Debug)]
pub struct Gone(watch::Receiver<()>);

impl Gone {
    /// The connection is over when the sender is dropped.
    pub(crate) fn new() -> (watch::Sender<()>, Self) {
        let (sender, receiver) = watch::channel(());
        (sender, Self(receiver))
    }

    /// Returns when the connection is over.
    pub async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

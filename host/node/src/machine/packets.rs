//! `SOCK_SEQPACKET` sockets in the async runtime.

use rustix::fd::{BorrowedFd, OwnedFd};
use std::io;
use sys::message::{Received, receive, send};
use tokio::io::unix::AsyncFd;

pub(crate) struct Packets(AsyncFd<OwnedFd>);

impl Packets {
    /// # Errors
    /// As registering with epoll.
    #[expect(
        deprecated,
        reason = "an OwnedFd stays open and the same for as long as it is registered"
    )]
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        AsyncFd::new(socket).map(Self)
    }

    /// Waits while the socket is full.
    ///
    /// # Errors
    /// As `sys::message::send`.
    pub(crate) async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|socket| send(socket.get_ref(), bytes, fds)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Waits for a message; `None` when the other end is closed. Cancelling
    /// loses nothing.
    ///
    /// # Errors
    /// As `sys::message::receive`.
    pub(crate) async fn receive(
        &self,
        buffer: &mut [u8],
    ) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref(), buffer, false)) {
                Ok(Ok(Received::Message { length, fds })) => return Ok(Some((length, fds))),
                Ok(Ok(Received::Closed)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

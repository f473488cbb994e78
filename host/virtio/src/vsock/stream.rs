//! The stream socket of one connection, and what epoll last said of it.

use super::connection::Connection;
use rustix::fd::OwnedFd;
use rustix::net::{SendFlags, Shutdown};
use std::io;
use sys::vectored;
use vm_memory::VolatileSlice;

pub(super) struct Stream {
    pub(super) socket: OwnedFd,
    pub(super) connection: Connection,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) hung_up: bool,
    /// The stream was told that the guest sends no more.
    shut: bool,
    /// In the list of those with something for the guest.
    pub(super) listed: bool,
    /// When to ask again, or to give up waiting; monotonic nanoseconds.
    pub(super) deadline: Option<u64>,
    /// When a connection that was never accepted is refused for good.
    pub(super) refuse_at: u64,
}

/// What reading for the guest gave.
pub(super) enum Filled {
    Bytes(u32),
    Nothing,
    Failed,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd, connection: Connection, refuse_at: u64) -> Self {
        Self {
            socket,
            connection,
            readable: true,
            writable: true,
            hung_up: false,
            shut: false,
            listed: false,
            deadline: None,
            refuse_at,
        }
    }

    /// Whether the guest would be sent something, were there room.
    pub(super) fn wants_room(&self) -> bool {
        self.connection.owes() || (self.readable && self.connection.credit() > 0)
    }

    /// Reads for the guest, straight into its memory.
    pub(super) fn fill(&mut self, slices: &[VolatileSlice<'_>]) -> Filled {
        match vectored::read(&self.socket, slices) {
            Ok(0) => {
                self.readable = false;
                self.connection.stream_ended(self.hung_up);
                Filled::Nothing
            }
            Ok(bytes) => Filled::Bytes(u32::try_from(bytes).unwrap_or(u32::MAX)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Filled::Nothing
            }
            Err(_) => Filled::Failed,
        }
    }

    /// Passes data of the guest on, and keeps what the stream doesn't take.
    /// False if the stream failed.
    pub(super) fn pass(&mut self, slices: &[VolatileSlice<'_>]) -> bool {
        let mut taken = 0;
        if self.connection.backlog().is_empty() && self.writable {
            match vectored::write(&self.socket, slices) {
                Ok(bytes) => taken = bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return false,
            }
            self.connection.passed(taken, false);
        }
        let mut skip = taken;
        for slice in slices {
            let start = skip.min(slice.len());
            skip -= start;
            if start == slice.len() {
                continue;
            }
            let mut bytes = vec![0; slice.len() - start];
            if let Ok(rest) = slice.offset(start) {
                rest.copy_to(&mut bytes[..]);
                self.connection.buffered(&bytes);
            }
        }
        true
    }

    /// Passes the backlog on as far as the stream takes it. False if it failed.
    pub(super) fn flush(&mut self) -> bool {
        while self.writable && !self.connection.backlog().is_empty() {
            let (front, _) = self.connection.backlog().as_slices();
            match rustix::net::send(
                &self.socket,
                front,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(bytes) => self.connection.passed(bytes, true),
                Err(rustix::io::Errno::AGAIN) => self.writable = false,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        if self.connection.drained() && !self.shut {
            self.shut = true;
            // A peer that is gone needs no telling.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        true
    }
}

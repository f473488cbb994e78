//! The control socket: requests in, replies and events out.
//!
//! A peer that is gone or slow costs messages, never the guest: nothing is kept
//! for it here, the socket's own buffer is the only queue.

use machine_spec::control::{Event, Failure, Family, FromVmm, MESSAGE_MAX, ToVmm, VERSION};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use sys::message::{self, Received};

pub struct Control {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

/// What the socket held.
pub enum Incoming {
    Request(ToVmm, Vec<OwnedFd>),
    /// Not a request; the peer that made it can't be told which.
    Nonsense(String),
    Nothing,
    Closed,
}

impl Control {
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: vec![0; MESSAGE_MAX].into(),
        }
    }

    /// Takes one message.
    pub fn receive(&mut self, wait: bool) -> Incoming {
        match message::receive(&self.socket, &mut self.buffer, wait) {
            Ok(Received::Closed) => Incoming::Closed,
            Ok(Received::Message { length, fds }) => {
                let bytes = self.buffer.get(..length).unwrap_or_default();
                match serde_json::from_slice::<ToVmm>(bytes) {
                    Ok(message) if message.version == VERSION => Incoming::Request(message, fds),
                    Ok(message) => Incoming::Nonsense(format!(
                        "protocol version {}, this is {VERSION}",
                        message.version
                    )),
                    Err(error) => Incoming::Nonsense(error.to_string()),
                }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Incoming::Nothing,
                io::ErrorKind::InvalidData => Incoming::Nonsense(error.to_string()),
                _ => Incoming::Closed,
            },
        }
    }

    /// Sends, or drops what there is no room or nobody for.
    pub fn send(&self, message: &FromVmm) {
        let sent = serde_json::to_vec(message)
            .map_err(io::Error::other)
            .and_then(|bytes| message::send(&self.socket, &bytes, &[]));
        if let Err(error) = sent {
            log::debug!("control: message dropped: {error}");
        }
    }

    pub fn event(&self, event: Event) {
        self.send(&FromVmm::Event(event));
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A failure by the peer's own request.
#[must_use]
pub fn user(message: impl ToString) -> Failure {
    Failure {
        family: Family::User,
        message: message.to_string(),
    }
}

/// A failure of this host.
#[must_use]
pub fn host(message: impl ToString) -> Failure {
    Failure {
        family: Family::Host,
        message: message.to_string(),
    }
}

//! Whole messages with descriptors, over `SOCK_SEQPACKET` sockets.
//!
//! A message that was cut, or whose descriptors were, is an error: half of a
//! message means nothing.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// The most descriptors of one message.
pub const FDS_MAX: usize = 64;

/// What a receiver found.
#[derive(Debug)]
pub enum Received {
    Message {
        length: usize,
        fds: Vec<OwnedFd>,
    },
    /// Every descriptor of the other end is closed.
    Closed,
}

/// A connected pair, close-on-exec and blocking.
///
/// # Errors
/// As `socketpair(2)`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message, never waiting.
///
/// # Errors
/// `WouldBlock` if the socket is full; EPIPE if nobody is there; EINVAL for more
/// than `FDS_MAX` descriptors.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Takes one message; waits for one only if `wait`.
///
/// # Errors
/// `WouldBlock` if there is none; `InvalidData` if it did not fit `buffer` or
/// carried more than `FDS_MAX` descriptors (which are closed then).
pub fn receive(socket: impl AsFd, buffer: &mut [u8], wait: bool) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    let result = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if result
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if result.bytes == 0 && fds.is_empty() {
        return Ok(Received::Closed);
    }
    Ok(Received::Message {
        length: result.bytes,
        fds,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_message_brings_its_descriptors() {
        let (a, b) = pair().unwrap();
        send(&a, b"hello", &[a.as_fd(), b.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let Received::Message { length, fds } = receive(&b, &mut buffer, false).unwrap() else {
            panic!("closed");
        };
        assert_eq!((&buffer[..length], fds.len()), (&b"hello"[..], 2));
        drop((a, fds));
        assert!(matches!(
            receive(&b, &mut buffer, false).unwrap(),
            Received::Closed
        ));
    }

    #[test]
    fn a_message_too_long_is_refused() {
        let (a, b) = pair().unwrap();
        send(&a, &[7; 32], &[]).unwrap();
        let error = receive(&b, &mut [0; 16], false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = receive(&b, &mut [0; 16], false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

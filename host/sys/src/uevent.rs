//! The kernel's announcements of devices, by netlink (kobject uevents).
//!
//! A message is `action@devpath`, then `KEY=value` strings, each ended by a
//! zero byte (lib/kobject_uevent.c). Messages of processes are ignored.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};
use std::io;

/// The multicast group of the kernel itself.
const KERNEL_GROUP: u32 = 1;

/// A subscription to the kernel's uevents.
#[derive(Debug)]
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn subscribe() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        // A boot announces hundreds of devices at once; a lost one is found by
        // the next scan of /sys.
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20)?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// The next message, if one is there; `ENOBUFS` (some were lost) is an error.
    ///
    /// # Errors
    /// What recvfrom(2) says.
    pub fn next(&self) -> io::Result<Option<Uevent>> {
        let mut buffer = vec![0; 8 << 10];
        loop {
            let received = rustix::net::recvfrom(&self.socket, &mut buffer[..], RecvFlags::empty());
            let (length, _, sender) = match received {
                Ok(received) => received,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            };
            let sender = sender.and_then(|any| netlink::SocketAddrNetlink::try_from(any).ok());
            if sender.is_some_and(|address| address.pid() == 0) {
                buffer.truncate(length);
                return Ok(Some(Uevent { bytes: buffer }));
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One announcement.
#[derive(Clone, Debug)]
pub struct Uevent {
    bytes: Vec<u8>,
}

impl Uevent {
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The value of a key such as `ACTION`, `MODALIAS`, `SUBSYSTEM`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.bytes
            .split(|byte| *byte == 0)
            .filter_map(|line| std::str::from_utf8(line).ok())
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_whole_keys() {
        let event = Uevent::new(b"add@/d\0ACTION=add\0MODALIAS=acpi:X=1\0\xff=\0END".to_vec());
        for (key, value) in [
            ("ACTION", Some("add")),
            ("MODALIAS", Some("acpi:X=1")),
            ("ACT", None),
            ("END", None),
            ("", None),
        ] {
            assert_eq!(event.value(key), value, "{key}");
        }
    }
}

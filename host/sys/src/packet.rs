//! A packet socket that sees only UDP datagrams to one port of one interface,
//! for protocols that run before there is an address (RFC 2131).

use nix::libc;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::io;

/// Sends and receives IPv4 packets, link headers apart.
#[derive(Debug)]
pub struct UdpPackets {
    socket: OwnedFd,
    interface: u32,
}

const ETHERTYPE_IPV4: u16 = 0x0800;

impl UdpPackets {
    /// Opens it non-blocking for the interface index.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`.
    pub fn open(interface: u32, port: u16) -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0 receives nothing until bind, when the filter is in place.
        // SAFETY: takes three numbers.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        attach(&socket, port)?;
        let address = link_address(interface, [0; 6]);
        // SAFETY: the address is a live `sockaddr_ll` of the length given.
        check(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                ADDRESS_LENGTH,
            )
        })?;
        Ok(Self { socket, interface })
    }

    /// Sends an IPv4 packet to everybody on the link.
    ///
    /// # Errors
    /// What sendto(2) says.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        let address = link_address(self.interface, [0xff; 6]);
        // SAFETY: both pointers are live for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                std::ptr::from_ref(&address).cast(),
                ADDRESS_LENGTH,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Receives one IPv4 packet; what doesn't fit is cut off.
    ///
    /// # Errors
    /// `WouldBlock` when none is there.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::empty();
        let (length, _) = rustix::net::recv(&self.socket, buffer, flags)?;
        Ok(length)
    }
}

impl AsFd for UdpPackets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for UdpPackets {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

fn link_address(interface: u32, to: [u8; 6]) -> libc::sockaddr_ll {
    let [a, b, c, d, e, f] = to;
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE_IPV4.to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Accepts whole IPv4 UDP datagrams to `port` (Documentation/networking/filter.rst).
fn attach(socket: &OwnedFd, port: u16) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load, jump) = (libc::BPF_LD | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_K);
    let mut program = [
        op(load | libc::BPF_B, 0, 0, 9),
        op(jump | libc::BPF_JEQ, 0, 6, libc::IPPROTO_UDP as u32),
        op(load | libc::BPF_H, 0, 0, 6),
        op(jump | libc::BPF_JSET, 4, 0, 0x1fff),
        op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 2),
        op(jump | libc::BPF_JEQ, 0, 1, port.into()),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0xffff),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program is live, of the length it names, and copied by the
    // kernel, which checks it.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

//! DHCP messages, by smoltcp's wire formats. Everything that arrives is
//! hostile: what doesn't parse, or makes no sense, is `None`.

use super::{CLIENT_PORT, INFINITE, Lease, SERVER_PORT, SHORTEST_LEASE};
use crate::config::Mac;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, IpAddress, IpProtocol,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};
use std::net::Ipv4Addr;

/// What we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Discover,
    /// For an offer, or without a server for a lease from before.
    Request {
        address: Ipv4Addr,
        server: Option<Ipv4Addr>,
    },
    /// For more time.
    Extend(Ipv4Addr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    Offer,
    Ack,
    Nak,
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) kind: AnswerKind,
    /// Of an offer or acknowledgement that can be used.
    pub(super) lease: Option<Lease>,
}

// Option codes (RFC 2132, RFC 3442).
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAMESERVERS: u8 = 6;
const DOMAIN: u8 = 15;
const MTU: u8 = 26;
const TIME_SERVERS: u8 = 42;
const RENEWAL: u8 = 58;
const REBINDING: u8 = 59;
const CLASSLESS_ROUTES: u8 = 121;

const WANTED: [u8; 9] = [
    CLASSLESS_ROUTES,
    SUBNET_MASK,
    ROUTER,
    NAMESERVERS,
    DOMAIN,
    MTU,
    TIME_SERVERS,
    RENEWAL,
    REBINDING,
];

/// The most servers or routes that are taken of one kind.
const ENTRIES_MAX: usize = 16;
const MESSAGE_MAX: u16 = 1472;

/// A DHCP message.
pub(super) fn build(ask: Ask, mac: Mac, xid: u32, secs: u16) -> Vec<u8> {
    let (message_type, client_ip, requested_ip, server) = match ask {
        Ask::Discover => (DhcpMessageType::Discover, Ipv4Addr::UNSPECIFIED, None, None),
        Ask::Request { address, server } => {
            let nobody = Ipv4Addr::UNSPECIFIED;
            (DhcpMessageType::Request, nobody, Some(address), server)
        }
        Ask::Extend(address) => (DhcpMessageType::Request, address, None, None),
    };
    let repr = DhcpRepr {
        message_type,
        transaction_id: xid,
        secs,
        client_hardware_address: EthernetAddress(mac.0),
        client_ip,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        // The packet socket hears unicast answers, too.
        broadcast: false,
        requested_ip,
        client_identifier: Some(EthernetAddress(mac.0)),
        server_identifier: server,
        parameter_request_list: Some(&WANTED),
        dns_servers: None,
        max_size: Some(MESSAGE_MAX),
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = DhcpPacket::new_unchecked(&mut bytes[..]);
    // Fails only for a buffer that is too small.
    let _written = repr.emit(&mut packet);
    bytes
}

/// Puts a message into an IPv4 packet from nobody to everybody.
pub(super) fn wrap(payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr {
        src_port: CLIENT_PORT,
        dst_port: SERVER_PORT,
    };
    let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + ip.payload_len];
    let checksums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &IpAddress::Ipv4(from),
        &IpAddress::Ipv4(to),
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &checksums,
    );
    bytes
}

/// The answer in an IPv4 packet, if it is one to this exchange.
pub(super) fn parse(bytes: &[u8], mac: Mac, xid: u32) -> Option<Answer> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    if !packet.verify_checksum() || packet.next_header() != IpProtocol::Udp {
        return None;
    }
    // The checksum of a sender on this machine may be left to its hardware.
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    if datagram.src_port() != SERVER_PORT || datagram.dst_port() != CLIENT_PORT {
        return None;
    }
    let message = DhcpPacket::new_checked(datagram.payload()).ok()?;
    let repr = DhcpRepr::parse(&message).ok()?;
    if repr.transaction_id != xid || repr.client_hardware_address.0 != mac.0 {
        return None;
    }
    let kind = match repr.message_type {
        DhcpMessageType::Offer => AnswerKind::Offer,
        DhcpMessageType::Ack => AnswerKind::Ack,
        DhcpMessageType::Nak => AnswerKind::Nak,
        _ => return None,
    };
    let lease = match kind {
        AnswerKind::Offer | AnswerKind::Ack => Some(lease(&message, &repr)?),
        AnswerKind::Nak => None,
    };
    Some(Answer { kind, lease })
}

fn lease(message: &DhcpPacket<&[u8]>, repr: &DhcpRepr<'_>) -> Option<Lease> {
    let address = usable(repr.your_ip)?;
    let server = usable(repr.server_identifier?)?;
    let prefix = match repr.subnet_mask {
        Some(mask) => prefix_of(mask)?,
        None => 24,
    };
    let duration = repr.lease_duration?.max(SHORTEST_LEASE);
    let share = |seconds: u32, of: u64, parts: u64| {
        if seconds == INFINITE {
            return INFINITE;
        }
        u32::try_from(u64::from(seconds) * of / parts).unwrap_or(seconds)
    };
    let rebind_after = match repr.rebind_duration {
        Some(given) if given < duration => given.max(SHORTEST_LEASE / 2 + 1),
        _ => share(duration, 7, 8),
    };
    let renew_after = match repr.renew_duration {
        Some(given) if given < rebind_after => given.max(SHORTEST_LEASE / 2),
        _ => share(duration, 1, 2).min(rebind_after),
    };
    let option = |kind: u8| message.options().find(|option| option.kind == kind);
    Some(Lease {
        address,
        prefix,
        routes: routes(option(CLASSLESS_ROUTES), repr.router),
        nameservers: addresses(option(NAMESERVERS)),
        time_servers: addresses(option(TIME_SERVERS)),
        domain: option(DOMAIN).and_then(|option| domain(option.data)),
        mtu: option(MTU).and_then(|option| mtu(option.data)),
        server,
        duration,
        renew_after,
        rebind_after,
    })
}

/// Classless routes replace the router (RFC 3442).
fn routes(
    classless: Option<DhcpOption<'_>>,
    router: Option<Ipv4Addr>,
) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    if let Some(routes) = classless.and_then(|option| classless_routes(option.data)) {
        return routes;
    }
    let router = router.and_then(usable);
    let all = |gateway| (Ipv4Addr::UNSPECIFIED, 0, gateway);
    router.map(all).into_iter().collect()
}

fn classless_routes(mut data: &[u8]) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        if *length > 32 || routes.len() >= ENTRIES_MAX {
            return None;
        }
        let significant = usize::from(length.div_ceil(8));
        let mut destination = [0; 4];
        destination
            .get_mut(..significant)?
            .copy_from_slice(rest.get(..significant)?);
        let gateway: [u8; 4] = rest.get(significant..significant + 4)?.try_into().ok()?;
        let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
        let destination = Ipv4Addr::from(u32::from_be_bytes(destination) & mask);
        routes.push((destination, *length, Ipv4Addr::from(gateway)));
        data = rest.get(significant + 4..)?;
    }
    Some(routes)
}

fn addresses(option: Option<DhcpOption<'_>>) -> Vec<Ipv4Addr> {
    let data = option.map(|option| option.data).unwrap_or_default();
    let (chunks, _) = data.as_chunks::<4>();
    let all = chunks.iter().map(|octets| Ipv4Addr::from(*octets));
    all.filter_map(usable).take(ENTRIES_MAX).collect()
}

fn usable(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let no = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    (!no).then_some(address)
}

/// The length of a mask that has one.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let length = bits.leading_ones();
    let rest = bits.checked_shl(length).unwrap_or(0);
    let length = u8::try_from(length).ok()?;
    (rest == 0 && length > 0).then_some(length)
}

/// Goes into resolv.conf: the characters of names only.
fn domain(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?.trim_end_matches('\0');
    let server: crate::config::Server = text.parse().ok()?;
    Some(server.as_str().to_owned())
}

fn mtu(data: &[u8]) -> Option<u16> {
    let mtu = u16::from_be_bytes(data.try_into().ok()?);
    (mtu >= 576).then_some(mtu)
}

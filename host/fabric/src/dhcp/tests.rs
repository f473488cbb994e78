//! The client against a server in the same test, by message; and against noise.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A server's answer as an IPv4 packet.
fn answer(kind: DhcpMessageType, xid: u32, options: &[DhcpOption<'_>]) -> Vec<u8> {
    let repr = DhcpRepr {
        message_type: kind,
        transaction_id: xid,
        secs: 0,
        client_hardware_address: EthernetAddress(MAC.0),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: ADDRESS,
        server_ip: SERVER,
        router: Some(SERVER),
        subnet_mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(SERVER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: Some(3600),
        renew_duration: None,
        rebind_duration: None,
        additional_options: options,
    };
    let mut payload = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut payload[..]))
        .unwrap();
    let udp = UdpRepr {
        src_port: SERVER_PORT,
        dst_port: CLIENT_PORT,
    };
    let ip = Ipv4Repr {
        src_addr: SERVER,
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20 + ip.payload_len];
    let checksums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    udp.emit(
        &mut datagram,
        &IpAddress::Ipv4(SERVER),
        &IpAddress::Ipv4(Ipv4Addr::BROADCAST),
        payload.len(),
        |buffer| buffer.copy_from_slice(&payload),
        &checksums,
    );
    bytes
}

/// What a broadcast asks: type, requested address, client address.
fn asked(actions: &[Action]) -> (DhcpMessageType, Option<Ipv4Addr>, Ipv4Addr) {
    let [Action::Broadcast(bytes)] = actions else {
        panic!("{actions:?}");
    };
    let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
    let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
    let message = DhcpPacket::new_checked(datagram.payload()).unwrap();
    let repr = DhcpRepr::parse(&message).unwrap();
    (repr.message_type, repr.requested_ip, repr.client_ip)
}

/// A client that has a lease since second 0.
fn bound() -> Client {
    let mut client = Client::new(MAC, 7, seconds(0));
    let (kind, ..) = asked(&client.on_time(seconds(0)));
    assert_eq!(kind, DhcpMessageType::Discover);
    let offer = answer(DhcpMessageType::Offer, client.xid, &[]);
    let (kind, requested, _) = asked(&client.on_packet(&offer, seconds(0)));
    assert_eq!((kind, requested), (DhcpMessageType::Request, Some(ADDRESS)));
    let ack = answer(DhcpMessageType::Ack, client.xid, &[]);
    let actions = client.on_packet(&ack, seconds(0));
    let [Action::Apply(lease)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((lease.address, lease.prefix), (ADDRESS, 24));
    assert_eq!(lease.routes, [(Ipv4Addr::UNSPECIFIED, 0, SERVER)]);
    assert_eq!(client.due(), seconds(1800));
    client
}

#[test]
fn a_lease_is_renewed_then_rebound_then_lost() {
    let mut client = bound();
    let renew = client.on_time(seconds(1800));
    assert!(
        matches!(renew[..], [Action::Unicast { to: SERVER, .. }]),
        "{renew:?}"
    );
    assert!(client.due() > seconds(1800) && client.due() <= seconds(3150));
    let (kind, requested, own) = asked(&client.on_time(seconds(3150)));
    assert_eq!(
        (kind, requested, own),
        (DhcpMessageType::Request, None, ADDRESS)
    );
    let lost = client.on_time(seconds(3600));
    assert!(
        matches!(lost[..], [Action::Withdraw(_), Action::Broadcast(_)]),
        "{lost:?}"
    );
}

#[test]
fn an_acknowledged_renewal_changes_nothing_and_counts_anew() {
    let mut client = bound();
    client.on_time(seconds(1800));
    let ack = answer(DhcpMessageType::Ack, client.xid, &[]);
    assert_eq!(client.on_packet(&ack, seconds(1801)), []);
    assert_eq!(client.due(), seconds(3601));
}

#[test]
fn a_refusal_withdraws_and_starts_over() {
    let mut client = bound();
    client.link_came_up(seconds(50));
    let (kind, requested, _) = asked(&client.on_time(seconds(50)));
    assert_eq!((kind, requested), (DhcpMessageType::Request, Some(ADDRESS)));
    let nak = answer(DhcpMessageType::Nak, client.xid, &[]);
    let actions = client.on_packet(&nak, seconds(51));
    assert!(matches!(
        actions[..],
        [Action::Withdraw(_), Action::Broadcast(_)]
    ));
}

#[test]
fn a_link_that_came_back_without_a_server_keeps_the_lease() {
    let mut client = bound();
    client.link_came_up(seconds(50));
    let mut now = seconds(50);
    while now < seconds(3600) {
        for action in client.on_time(now) {
            assert!(
                matches!(action, Action::Broadcast(_)),
                "{action:?} at {now:?}"
            );
        }
        now = client.due();
    }
    let lost = client.on_time(now);
    assert!(
        matches!(lost.first(), Some(Action::Withdraw(_))),
        "{lost:?}"
    );
}

#[test]
fn discovery_backs_off_to_a_minute() {
    let mut client = Client::new(MAC, 3, seconds(0));
    let mut now = seconds(0);
    for wanted in [1_u64, 2, 4, 8, 16, 32, 64, 64] {
        asked(&client.on_time(now));
        let wait = client.due() - now;
        let middle = seconds(wanted);
        let half = Duration::from_millis(500);
        assert!(
            wait >= middle.saturating_sub(half) && wait <= middle + half,
            "{wait:?}"
        );
        now = client.due();
    }
}

#[test]
fn options_are_taken_and_bounded() {
    let option = |kind, data| DhcpOption { kind, data };
    let routes = [24, 192, 168, 7, 10, 0, 2, 9, 0, 10, 0, 2, 3];
    let nameservers: Vec<u8> = (0..80).flat_map(|n| [10, 0, 3, n]).take(240).collect();
    let options = [
        option(121, &routes[..]),
        option(6, &nameservers),
        option(15, b"example.org\0"),
        option(26, &[0x05, 0x78]),
        option(42, &[10, 0, 2, 4, 255, 255, 255, 255]),
    ];
    let parsed = packet::parse(&answer(DhcpMessageType::Ack, 5, &options), MAC, 5).unwrap();
    let lease = parsed.lease.unwrap();
    let wanted = [
        (
            Ipv4Addr::new(192, 168, 7, 0),
            24,
            Ipv4Addr::new(10, 0, 2, 9),
        ),
        (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 2, 3)),
    ];
    assert_eq!(lease.routes, wanted);
    assert_eq!(lease.nameservers.len(), 16);
    assert_eq!(lease.domain.as_deref(), Some("example.org"));
    assert_eq!((lease.mtu, lease.time_servers.len()), (Some(1400), 1));
    let other = packet::parse(&answer(DhcpMessageType::Ack, 5, &[]), MAC, 6);
    assert_eq!(other, None);
    let hostile = [
        option(15, &b"a\nnameserver 6.6.6.6"[..]),
        option(121, &[33, 1][..]),
    ];
    let parsed = packet::parse(&answer(DhcpMessageType::Ack, 5, &hostile), MAC, 5).unwrap();
    let lease = parsed.lease.unwrap();
    assert_eq!((lease.domain, lease.routes.len()), (None, 1));
}

/// Mutated answers and plain noise, in every state.
#[test]
fn no_packet_harms_the_client() {
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for round in 0..fuzzing::rounds(20_000) {
        let mut client = if round % 2 == 0 {
            bound()
        } else {
            Client::new(MAC, 9, seconds(0))
        };
        client.on_time(seconds(round % 4000));
        let kinds = [
            DhcpMessageType::Offer,
            DhcpMessageType::Ack,
            DhcpMessageType::Nak,
        ];
        let mut bytes = answer(kinds[next() % 3], client.xid, &[]);
        for _ in 0..next() % 8 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        bytes.truncate(bytes.len() - next() % 32);
        // Half of them with a right header, to get behind its check.
        if round % 3 == 0 && bytes.len() > 20 {
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
            if usize::from(packet.header_len()) <= 20 && packet.header_len() >= 20 {
                packet.fill_checksum();
            }
        }
        for action in client.on_packet(&bytes, seconds(round % 4000)) {
            if let Action::Apply(lease) = action {
                assert!(lease.prefix <= 32 && lease.renew_after <= lease.rebind_after);
                assert!(
                    lease.rebind_after <= lease.duration,
                    "round {round}: {lease:?}"
                );
            }
        }
    }
}

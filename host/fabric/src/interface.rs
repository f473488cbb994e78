//! One interface: brought up, given its static addresses, and a DHCP client.

use crate::config::{Interface, Ipv6};
use crate::dhcp::{Action, CLIENT_PORT, Client, Lease, SERVER_PORT};
use crate::error::Error;
use crate::learned::Learned;
use crate::netlink::{Link, Netlink, Route};
use ipnet::{IpNet, Ipv4Net};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};
use sys::packet::UdpPackets;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// Told when something was learned or lost.
pub(crate) type Tell = mpsc::Sender<(String, Learned)>;

/// A packet of an Ethernet's usual size, and some.
const PACKET_MAX: usize = 4096;
/// Longer sleeps are cut, which costs nothing.
const SLEEP_MAX: Duration = Duration::from_secs(3600);
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the interface configured until its carrier channel closes.
pub(crate) async fn keep(
    link: Link,
    config: Interface,
    netlink: Netlink,
    carrier: watch::Receiver<bool>,
    tell: Tell,
) {
    let name = link.name.clone();
    let mut task = Task {
        link,
        config,
        netlink,
        carrier,
        tell,
        origin: Instant::now(),
    };
    loop {
        match task.run().await {
            Ok(()) => return,
            Err(error) => {
                log::error!("{name}: {error}; again in {} s", RETRY.as_secs());
                tokio::time::sleep(RETRY).await;
                if task.carrier.has_changed().is_err() {
                    return;
                }
            }
        }
    }
}

struct Task {
    link: Link,
    config: Interface,
    netlink: Netlink,
    carrier: watch::Receiver<bool>,
    tell: Tell,
    origin: Instant,
}

impl Task {
    async fn run(&mut self) -> Result<(), Error> {
        set_ipv6(&self.link.name, self.config.ipv6);
        self.netlink
            .set_up(self.link.index, self.config.mtu)
            .await?;
        for cidr in &self.config.addresses {
            self.netlink.add_address(self.link.index, cidr.0).await?;
        }
        for gateway in self.config.gateways() {
            self.netlink
                .add_route(default_route(gateway, self.link.index))
                .await?;
        }
        self.learned(Learned::default()).await;
        if self.config.dhcp {
            return self.lease().await;
        }
        // Addresses stay when the carrier goes; nothing to do but to end.
        while self.carrier.changed().await.is_ok() {}
        Ok(())
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The DHCP client's life.
    async fn lease(&mut self) -> Result<(), Error> {
        let socket = watched(self.link.index).map_err(Error::io("packet socket"))?;
        let mut client = Client::new(self.link.mac, seed(&self.link), self.now());
        let mut buffer = vec![0; PACKET_MAX];
        loop {
            let up = *self.carrier.borrow_and_update();
            let due = client.due().saturating_sub(self.now()).min(SLEEP_MAX);
            let actions = tokio::select! {
                changed = self.carrier.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    if *self.carrier.borrow() && !up {
                        client.link_came_up(self.now());
                    }
                    Vec::new()
                }
                received = receive(&socket, &mut buffer) => {
                    let length = received.map_err(Error::io("receive packet"))?;
                    client.on_packet(buffer.get(..length).unwrap_or_default(), self.now())
                }
                () = tokio::time::sleep(due), if up => client.on_time(self.now()),
            };
            for action in actions {
                self.act(action, &socket).await?;
            }
        }
    }

    async fn act(&self, action: Action, socket: &AsyncFd<UdpPackets>) -> Result<(), Error> {
        match action {
            Action::Broadcast(packet) => {
                if let Err(error) = socket.get_ref().broadcast(&packet) {
                    log::debug!("{}: DHCP: {error}", self.link.name);
                }
                Ok(())
            }
            Action::Unicast { to, payload } => {
                // A renewal that fails is tried again, later by broadcast.
                if let Err(error) = self.unicast(to, &payload).await {
                    log::debug!("{}: DHCP renewal: {error}", self.link.name);
                }
                Ok(())
            }
            Action::Apply(lease) => self.apply(lease).await,
            Action::Withdraw(lease) => {
                log::warn!("{}: lease of {} is lost", self.link.name, lease.address);
                let net = net_of(&lease);
                self.netlink.remove_address(self.link.index, net).await?;
                self.learned(Learned::default()).await;
                Ok(())
            }
        }
    }

    async fn unicast(&self, to: Ipv4Addr, payload: &[u8]) -> io::Result<()> {
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
        let socket = tokio::net::UdpSocket::bind(local).await?;
        socket.bind_device(Some(self.link.name.as_bytes()))?;
        socket.send_to(payload, (to, SERVER_PORT)).await?;
        Ok(())
    }

    async fn apply(&self, lease: Lease) -> Result<(), Error> {
        let index = self.link.index;
        if let (Some(mtu), None) = (lease.mtu, self.config.mtu) {
            self.netlink.set_mtu(index, mtu.into()).await?;
        }
        self.netlink.add_address(index, net_of(&lease)).await?;
        // Routes on the link first: gateways of others may be behind them.
        let mut routes = lease.routes.clone();
        routes.sort_by_key(|(_, _, gateway)| !gateway.is_unspecified());
        for (destination, length, gateway) in routes {
            let Ok(net) = Ipv4Net::new(destination, length) else {
                continue;
            };
            let has_gateway = self.config.gateways().any(|gateway| gateway.is_ipv4());
            if length == 0 && has_gateway {
                continue;
            }
            let route = Route {
                destination: IpNet::V4(net),
                gateway: IpAddr::V4(gateway),
                interface: index,
            };
            self.netlink.add_route(route).await?;
        }
        let text = format!("{}/{} from {}", lease.address, lease.prefix, lease.server);
        log::info!("{}: {text}, for {} s", self.link.name, lease.duration);
        self.learned(Learned {
            nameservers: lease.nameservers.into_iter().map(IpAddr::V4).collect(),
            search: lease.domain.into_iter().collect(),
            time_servers: lease.time_servers.into_iter().map(IpAddr::V4).collect(),
            leased: Some(text),
        })
        .await;
        Ok(())
    }

    async fn learned(&self, learned: Learned) {
        // The receiver is gone only when the role ends.
        drop(self.tell.send((self.link.name.clone(), learned)).await);
    }
}

/// The socket stays open and the same as long as tokio watches it.
#[expect(
    deprecated,
    reason = "its successor is unsafe; UdpPackets owns one descriptor"
)]
fn watched(interface: u32) -> io::Result<AsyncFd<UdpPackets>> {
    AsyncFd::new(UdpPackets::open(interface, CLIENT_PORT)?)
}

async fn receive(socket: &AsyncFd<UdpPackets>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| socket.get_ref().receive(buffer)) {
            Ok(Err(error)) if error.kind() == io::ErrorKind::NetworkDown => {
                // Told once when the link goes down.
            }
            Ok(result) => return result,
            Err(_would_block) => {}
        }
    }
}

fn net_of(lease: &Lease) -> IpNet {
    Ipv4Net::new(lease.address, lease.prefix).map_or_else(|_| lease_host(lease), IpNet::V4)
}

fn lease_host(lease: &Lease) -> IpNet {
    IpNet::from(IpAddr::V4(lease.address))
}

fn default_route(gateway: IpAddr, interface: u32) -> Route {
    let all: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let destination = IpNet::new(all, 0).unwrap_or_else(|_| IpNet::from(all));
    Route {
        destination,
        gateway,
        interface,
    }
}

/// Spreads clients that started together; the time is enough for that.
fn seed(link: &Link) -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let [a, b, c, d, e, f] = link.mac.0;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) ^ time.unwrap_or_default().as_nanos() as u64
}

/// The kernel's part of IPv6 (Documentation/networking/ip-sysctl.rst).
fn set_ipv6(name: &str, mode: Ipv6) {
    let settings: &[(&str, &str)] = match mode {
        // 2: also where the node forwards.
        Ipv6::Ra => &[("disable_ipv6", "0"), ("accept_ra", "2"), ("autoconf", "1")],
        Ipv6::Static => &[("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0")],
        Ipv6::Off => &[("disable_ipv6", "1")],
    };
    for (setting, value) in settings {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{setting}");
        if let Err(error) = std::fs::write(&path, value) {
            log::warn!("{path}: {error}");
        }
    }
}

//! The role's main loop: follows the kernel's links, keeps one task for each,
//! writes what was learned.

use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::interface;
use crate::learned::{self, All, Learned};
use crate::netlink::{Link, Netlink};
use crate::report::{InterfaceReport, Report, replace};
use crate::resolver::Resolver;
use futures_util::StreamExt;
use ipnet::IpNet;
use rtnetlink::MulticastGroup;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Tasks that tell something wait while this many are unread.
const TOLD_MAX: usize = 64;
/// Events come in bursts: look once for several.
const SETTLE: Duration = Duration::from_millis(50);
/// A lost event is made good by then.
const RESCAN: Duration = Duration::from_secs(30);

struct Running {
    carrier: watch::Sender<bool>,
    name: String,
}

struct Fabric {
    config: Config,
    directory: std::path::PathBuf,
    netlink: Netlink,
    tell: mpsc::Sender<(String, Learned)>,
    running: BTreeMap<u32, Running>,
    all: All,
    servers: watch::Sender<Vec<String>>,
    report: Option<Report>,
    resolv_conf: Option<String>,
    synchronized: watch::Receiver<bool>,
}

/// Runs until netlink fails, which doesn't happen while the kernel lives.
/// `directory` takes `resolv.conf` and `state.json`.
///
/// # Errors
/// Why netlink can't be used.
pub async fn run(config: Config, directory: &Path) -> Result<(), Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (connection, handle, mut events) =
        rtnetlink::new_multicast_connection(&groups).map_err(Error::io("netlink socket"))?;
    tokio::spawn(connection);
    let (tell, mut told) = mpsc::channel(TOLD_MAX);
    let (servers, servers_reader) = watch::channel(learned::time_servers(&config, &All::new()));
    let (synchronized_writer, synchronized) = watch::channel(false);
    let resolver = Resolver::new(&directory.join("resolv.conf"));
    tokio::spawn(clock::keep(servers_reader, resolver, synchronized_writer));
    let mut fabric = Fabric {
        config,
        directory: directory.to_owned(),
        netlink: Netlink::new(handle),
        tell,
        running: BTreeMap::new(),
        all: All::new(),
        servers,
        report: None,
        resolv_conf: None,
        synchronized,
    };
    fabric.publish();
    loop {
        fabric.look().await?;
        let mut synchronized = fabric.synchronized.clone();
        synchronized.mark_unchanged();
        tokio::select! {
            event = events.next() => {
                if event.is_none() {
                    return Err(Error::Io {
                        operation: "netlink events".into(),
                        source: std::io::ErrorKind::UnexpectedEof.into(),
                    });
                }
                tokio::time::sleep(SETTLE).await;
                while let Ok(Some(_)) = tokio::time::timeout(Duration::ZERO, events.next()).await {}
            }
            Some((name, learned)) = told.recv() => {
                fabric.all.insert(name, learned);
                fabric.publish();
            }
            Ok(()) = synchronized.changed() => {}
            () = tokio::time::sleep(RESCAN) => {}
        }
    }
}

impl Fabric {
    /// Starts tasks for new links, ends those of lost ones, reports.
    async fn look(&mut self) -> Result<(), Error> {
        let links = self.netlink.links().await?;
        self.running.retain(|index, running| {
            let there = links.iter().any(|link| link.index == *index);
            if !there {
                log::warn!("{}: is gone", running.name);
                self.all.remove(&running.name);
            }
            there
        });
        for link in &links {
            self.follow(link).await?;
        }
        let addresses = self.netlink.addresses().await?;
        let report = self.describe(&links, &addresses);
        if self.report.as_ref() != Some(&report) {
            let path = self.directory.join("state.json");
            report.write(&path).map_err(Error::io("write state.json"))?;
            self.report = Some(report);
        }
        Ok(())
    }

    async fn follow(&mut self, link: &Link) -> Result<(), Error> {
        if let Some(running) = self.running.get(&link.index) {
            running.carrier.send_if_modified(|carrier| {
                let changed = *carrier != link.carrier;
                if changed {
                    let state = if link.carrier { "up" } else { "down" };
                    log::info!("{}: link is {state}", link.name);
                }
                *carrier = link.carrier;
                changed
            });
            return Ok(());
        }
        if link.loopback {
            return self.netlink.set_up(link.index, None).await;
        }
        let explicit = !self.config.interfaces.is_empty();
        let Some(config) = self.config.for_interface(&link.name, link.mac) else {
            return Ok(());
        };
        if !explicit && !link.physical {
            return Ok(());
        }
        log::info!("{}: {}, MTU {}", link.name, link.mac, link.mtu);
        let (carrier, carrier_reader) = watch::channel(link.carrier);
        let name = link.name.clone();
        self.running.insert(link.index, Running { carrier, name });
        tokio::spawn(interface::keep(
            link.clone(),
            config,
            self.netlink.clone(),
            carrier_reader,
            self.tell.clone(),
        ));
        Ok(())
    }

    fn describe(&self, links: &[Link], addresses: &[(u32, IpNet)]) -> Report {
        let followed = links
            .iter()
            .filter(|link| self.running.contains_key(&link.index));
        let interfaces = followed.map(|link| InterfaceReport {
            name: link.name.clone(),
            mac: link.mac.to_string(),
            carrier: link.carrier,
            addresses: addresses
                .iter()
                .filter(|(index, net)| *index == link.index && !is_link_local(net))
                .map(|(_, net)| *net)
                .collect(),
            lease: self.all.get(&link.name).and_then(|one| one.leased.clone()),
        });
        Report {
            interfaces: interfaces.collect(),
            time_synchronized: *self.synchronized.borrow(),
        }
    }

    /// Passes on the servers of names and time.
    fn publish(&mut self) {
        let text = learned::resolv_conf(&self.config, &self.all);
        if self.resolv_conf.as_ref() != Some(&text) {
            let path = self.directory.join("resolv.conf");
            match replace(&path, text.as_bytes()) {
                Ok(()) => self.resolv_conf = Some(text),
                Err(error) => log::error!("{}: {error}", path.display()),
            }
        }
        let servers = learned::time_servers(&self.config, &self.all);
        self.servers.send_if_modified(|current| {
            let changed = *current != servers;
            *current = servers;
            changed
        });
    }
}

fn is_link_local(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == Ipv6Addr::LOCALHOST,
    }
}

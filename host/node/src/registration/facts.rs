//! Looks at the machine. What can't be read is absent or zero, and logged by
//! nobody: the next look is ten seconds away.

use guest_protocol::figures::meminfo;
use serde::Deserialize;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// Where `fabric` says what the network is like.
const FABRIC: &str = "/run/atoll/fabric";

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    data: PathBuf,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) cpus: u64,
    /// Bytes.
    pub(crate) memory: u64,
    /// Bytes of the file system that holds the data directory.
    pub(crate) disk: u64,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) nameservers: Vec<String>,
    pub(crate) kernel: String,
    pub(crate) machine_id: String,
    pub(crate) boot_id: String,
}

#[derive(Deserialize)]
struct Report {
    interfaces: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    addresses: Vec<String>,
}

impl Facts {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
        }
    }

    pub(crate) fn look(&self) -> Seen {
        let memory = read("/proc/meminfo");
        let disk = rustix::fs::statvfs(&self.data).ok();
        let boot_id = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
        let uuid = read("/sys/class/dmi/id/product_uuid").trim().to_lowercase();
        let own = read("/etc/machine-id").trim().to_owned();
        let machine_id = [own, uuid.replace('-', "")]
            .into_iter()
            .find(|id| !id.is_empty());
        Seen {
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory: meminfo(&memory, "MemTotal"),
            disk: disk
                .as_ref()
                .map_or(0, |d| d.f_blocks.saturating_mul(d.f_frsize)),
            addresses: addresses(),
            nameservers: nameservers(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            machine_id: machine_id.unwrap_or_else(|| boot_id.replace('-', "")),
            boot_id,
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// As `fabric` reports them, or else the address of the default route.
fn addresses() -> Vec<IpAddr> {
    let report = std::fs::read(format!("{FABRIC}/state.json")).ok();
    let report = report.and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
    let mut found: Vec<IpAddr> = report
        .map(|report| report.interfaces)
        .into_iter()
        .flatten()
        .flat_map(|interface| interface.addresses)
        .filter_map(|address| address.split('/').next()?.parse().ok())
        .filter(|address: &IpAddr| !address.is_loopback())
        .collect();
    found.sort_by_key(IpAddr::is_ipv6);
    if found.is_empty() {
        found.extend(routed("0.0.0.0:0", "192.0.2.1:9"));
        found.extend(routed("[::]:0", "[2001:db8::1]:9"));
    }
    found
}

/// The source address of a datagram that is never sent (RFC 5737, RFC 3849).
fn routed(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// Those that a guest could reach.
fn nameservers() -> Vec<String> {
    let mut text = read(&format!("{FABRIC}/resolv.conf"));
    if text.is_empty() {
        text = read("/etc/resolv.conf");
    }
    text.lines()
        .filter_map(|line| {
            line.strip_prefix("nameserver ")?
                .trim()
                .parse::<IpAddr>()
                .ok()
        })
        .filter(|address| !address.is_loopback())
        .take(3)
        .map(|address| address.to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cpus_memory_and_disk() {
        let seen = Facts::new(Path::new("/")).look();
        assert!(
            seen.cpus > 0 && seen.memory > 0 && seen.disk > 0,
            "{seen:?}"
        );
        assert_eq!(meminfo("MemTotal:  7 kB\n", "MemTotal"), 7168);
    }
}

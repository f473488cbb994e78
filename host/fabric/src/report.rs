//! What other roles may know of the network: a file, replaced whole.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Where `fabric` writes its report.
pub const STATE_FILE: &str = "/run/atoll/fabric/state.json";

/// The state of the machine's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub interfaces: Vec<InterfaceReport>,
    /// The clock agreed with a time server since this boot.
    pub time_synchronized: bool,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceReport {
    pub name: String,
    pub mac: String,
    pub carrier: bool,
    /// Without link-local ones.
    pub addresses: Vec<IpNet>,
    /// `10.0.2.15/24 from 10.0.2.2`, if there is a lease.
    pub lease: Option<String>,
}

impl Report {
    /// Reads what `fabric` wrote last.
    ///
    /// # Errors
    /// `NotFound` until `fabric` has written it.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    /// The addresses under which the node is known, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all = self.interfaces.iter().flat_map(|one| &one.addresses);
        let mut all: Vec<IpAddr> = all.map(IpNet::addr).collect();
        all.sort_by_key(IpAddr::is_ipv6);
        all
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        replace(path, &bytes)
    }
}

/// Writes beside, then renames: a reader sees the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_report_is_read_as_written() {
        let report = Report {
            interfaces: vec![InterfaceReport {
                name: "eth0".into(),
                mac: "52:54:00:12:34:56".into(),
                carrier: true,
                addresses: vec![
                    "fd00::5/64".parse().unwrap(),
                    "10.0.2.15/24".parse().unwrap(),
                ],
                lease: None,
            }],
            time_synchronized: true,
        };
        let path = std::env::temp_dir().join(format!("fabric-{}.json", std::process::id()));
        report.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), report);
        std::fs::remove_file(&path).unwrap();
        let v4: IpAddr = [10, 0, 2, 15].into();
        assert_eq!(report.addresses().first(), Some(&v4));
    }
}

//! Ranges of addresses as ServiceCIDRs write them (upstream's
//! `pkg/api/servicecidr`).

use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    base: u128,
    host_bits: u32,
    v6: bool,
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Option<Prefix> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits): (IpAddr, u32) = (ip.parse().ok()?, bits.parse().ok()?);
        let v6 = ip.is_ipv6();
        let host_bits = (if v6 { 128u32 } else { 32 }).checked_sub(bits)?;
        let base = number(ip) & !low(host_bits);
        Some(Prefix {
            base,
            host_bits,
            v6,
        })
    }

    /// Whether a Service can have the address of this range: not the network's
    /// own, and not the broadcast address.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let ip_number = number(ip);
        let last = self.base | low(self.host_bits);
        let inside = ip.is_ipv6() == self.v6 && ip_number & !low(self.host_bits) == self.base;
        inside && ip_number != self.base && (self.v6 || ip_number != last)
    }

    /// Whether all of `other` is in this.
    pub(super) fn covers(&self, other: &Prefix) -> bool {
        self.v6 == other.v6
            && self.host_bits >= other.host_bits
            && other.base & !low(self.host_bits) == self.base
    }
}

fn low(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |n| n - 1)
}

pub(super) fn prefixes(cidr: &ServiceCIDR) -> Vec<Prefix> {
    let spec = cidr.spec.as_ref().and_then(|s| s.cidrs.as_ref());
    let all = spec.into_iter().flatten();
    all.filter_map(|text| Prefix::parse(text)).collect()
}

pub(super) fn name(cidr: &ServiceCIDR) -> &str {
    cidr.metadata.name.as_deref().unwrap_or_default()
}

/// The ranges with an address.
pub(super) fn containing(all: &[Arc<ServiceCIDR>], ip: IpAddr) -> Vec<&str> {
    let with = |c: &&Arc<ServiceCIDR>| prefixes(c).iter().any(|p| p.contains(ip));
    all.iter().filter(with).map(|c| name(c)).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ranges_contain_addresses_and_ranges() {
        for (range, ip, wanted) in [
            ("10.0.0.0/24", "10.0.0.1", true),
            ("10.0.0.0/24", "10.0.0.0", false),
            ("10.0.0.0/24", "10.0.0.255", false),
            ("10.0.0.0/24", "10.0.1.1", false),
            ("10.0.0.0/24", "::a00:1", false),
            ("fd00::/112", "fd00::ffff", true),
            ("fd00::/112", "fd00::", false),
            ("::/0", "ff::", true),
        ] {
            let found = Prefix::parse(range).unwrap().contains(ip.parse().unwrap());
            assert_eq!(found, wanted, "{range} {ip}");
        }
        for (large, small, wanted) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.1.0.0/16", "10.1.0.0/16", true),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "10.1.0.0/16", false),
        ] {
            let (large_, small_) = (Prefix::parse(large).unwrap(), Prefix::parse(small).unwrap());
            assert_eq!(large_.covers(&small_), wanted, "{large} {small}");
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/1", "::/129"] {
            assert_eq!(Prefix::parse(bad), None, "{bad}");
        }
    }
}

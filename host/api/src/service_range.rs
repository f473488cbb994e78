//! Ranges that Services have their addresses from (upstream's
//! `pkg/api/servicecidr` and `ipallocator`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Larger ranges are used in part: more Services than that there are not.
const SIZE_MAX: u64 = 1 << 32;

/// A range of addresses of one family, as ServiceCIDRs write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    base: u128,
    bits: u8,
    v6: bool,
}

impl ServiceRange {
    /// `10.96.0.0/16`, host bits cleared.
    pub fn parse(text: &str) -> Option<ServiceRange> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
        let v6 = ip.is_ipv6();
        let width: u8 = if v6 { 128 } else { 32 };
        let host = width.checked_sub(bits)?;
        let base = number(ip) & !low(host);
        Some(ServiceRange { base, bits, v6 })
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        family(self.v6)
    }

    fn host_bits(&self) -> u8 {
        (if self.v6 { 128 } else { 32 }) - self.bits
    }

    /// How many addresses Services can have: not the network's own, and not
    /// the broadcast address.
    pub fn size(&self) -> u64 {
        let all = match self.host_bits() {
            n if n >= 64 => u64::MAX,
            n => 1u64 << n,
        };
        let usable = all.saturating_sub(if self.v6 { 1 } else { 2 });
        usable.min(SIZE_MAX)
    }

    /// The address at `offset`, from 0.
    pub fn at(&self, offset: u64) -> IpAddr {
        address(self.base + 1 + u128::from(offset), self.v6)
    }

    /// Whether a Service can have the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let offset = number(ip).wrapping_sub(self.base);
        let last = low(self.host_bits());
        ip.is_ipv6() == self.v6 && offset >= 1 && offset <= last && (self.v6 || offset < last)
    }

    /// Whether all of `other` is in this.
    pub fn covers(&self, other: &ServiceRange) -> bool {
        self.v6 == other.v6
            && self.bits <= other.bits
            && other.base & !low(self.host_bits()) == self.base
    }

    pub fn is_ipv6(&self) -> bool {
        self.v6
    }

    /// The part that is left for addresses that clients choose.
    pub fn static_band(&self) -> u64 {
        match self.size() {
            small if small < 16 => 0,
            n => (n / 16).clamp(16, 256),
        }
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", address(self.base, self.v6), self.bits)
    }
}

/// So many bits, all set.
fn low(bits: u8) -> u128 {
    1u128
        .checked_shl(u32::from(bits))
        .map_or(u128::MAX, |n| n - 1)
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(number: u128, v6: bool) -> IpAddr {
    match v6 {
        true => Ipv6Addr::from_bits(number).into(),
        false => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
    }
}

/// As Services name it.
pub fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ranges_know_their_addresses() {
        for (text, size, band, first, inside, outside) in [
            (
                "10.96.0.7/16",
                65_534,
                256,
                "10.96.0.1",
                "10.96.255.254",
                "10.96.255.255",
            ),
            ("10.0.0.0/24", 254, 16, "10.0.0.1", "10.0.0.9", "10.0.0.0"),
            ("10.0.0.0/29", 6, 0, "10.0.0.1", "10.0.0.6", "10.0.0.7"),
            (
                "fd00::/112",
                65_535,
                256,
                "fd00::1",
                "fd00::ffff",
                "fd00::1:0",
            ),
            ("::/0", SIZE_MAX, 256, "::1", "ffff::", "1.2.3.4"),
        ] {
            let cidr = ServiceRange::parse(text).unwrap();
            assert_eq!(cidr.size(), size, "{text}");
            assert_eq!(cidr.static_band(), band, "{text}");
            assert_eq!(cidr.at(0).to_string(), first, "{text}");
            assert!(cidr.contains(inside.parse().unwrap()), "{text}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{text}");
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "x/8",
            "::/129",
            "10.0.0.0/-1",
        ] {
            assert_eq!(ServiceRange::parse(bad), None, "{bad}");
        }
        assert_eq!(
            ServiceRange::parse("10.1.2.3/8").unwrap().to_string(),
            "10.0.0.0/8"
        );
    }

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
            let found = ServiceRange::parse(range)
                .unwrap()
                .contains(ip.parse().unwrap());
            assert_eq!(found, wanted, "{range} {ip}");
        }
        for (large, small, wanted) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.1.0.0/16", "10.1.0.0/16", true),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "10.1.0.0/16", false),
        ] {
            let (large_, small_) = (
                ServiceRange::parse(large).unwrap(),
                ServiceRange::parse(small).unwrap(),
            );
            assert_eq!(large_.covers(&small_), wanted, "{large} {small}");
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "x/1", "::/129"] {
            assert_eq!(ServiceRange::parse(bad), None, "{bad}");
        }
    }
}

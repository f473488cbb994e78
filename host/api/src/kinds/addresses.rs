//! Addresses and prefixes in objects, in upstream's words
//! (`apimachinery/pkg/util/validation/ip.go`). Only the canonical way to write
//! one is taken: what Go reads as decimal others read as octal.

use crate::field::{Errors, Path};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// As lenient as Go once was: leading zeros are dropped.
fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let mut bytes = [0; 4];
    let mut parts = text.split('.');
    for byte in &mut bytes {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *byte = match part.trim_start_matches('0') {
            "" => 0,
            digits => digits.parse().ok()?,
        };
    }
    match parts.next() {
        None => Some(Ipv4Addr::from(bytes).into()),
        Some(_) => None,
    }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address whichever way it is written; refuses what is ambiguous.
fn parse_strict(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if is_mapped(ip) => Err("must not be an IPv4-mapped IPv6 address".to_owned()),
        Ok(ip) => Ok(ip),
        Err(_) if parse_sloppy(text).is_some() => Err("must not have leading 0s".to_owned()),
        Err(_) => Err(NOT_AN_ADDRESS.to_owned()),
    }
}

/// As a name has to be: canonical too.
pub(super) fn canonical(text: &str) -> Vec<String> {
    match parse_strict(text) {
        Err(why) => vec![why],
        Ok(ip) if ip.to_string() != text => {
            vec![format!("must be in canonical form ({:?})", ip.to_string())]
        }
        Ok(_) => Vec::new(),
    }
}

/// An address in a field that has long been there: any way to write it.
pub(super) fn validate_ip(text: &str, path: &Path, errors: &mut Errors) -> Option<IpAddr> {
    match parse_strict(text) {
        Ok(ip) => Some(ip),
        Err(why) => {
            errors.invalid(path, text, why);
            None
        }
    }
}

/// An address and the number of its leading bits that name the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) ip: IpAddr,
    pub(super) bits: u8,
}

impl Cidr {
    fn number(ip: IpAddr) -> u128 {
        match ip {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    fn mask(bits: u8) -> u128 {
        match bits {
            0 => 0,
            n => u128::MAX << (128 - u32::from(n.min(128))),
        }
    }

    /// The network's first address.
    pub(super) fn network(self) -> IpAddr {
        let masked = Self::number(self.ip) & Self::mask(self.bits);
        match self.ip {
            IpAddr::V4(_) => Ipv4Addr::from((masked >> 96) as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from(masked).into(),
        }
    }

    pub(super) fn contains(self, ip: IpAddr) -> bool {
        self.ip.is_ipv4() == ip.is_ipv4()
            && Self::number(ip) & Self::mask(self.bits)
                == Self::number(self.ip) & Self::mask(self.bits)
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    let (ip, bits) = text.split_once('/').ok_or(NOT_A_CIDR)?;
    if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_A_CIDR.to_owned());
    }
    let lenient = parse_sloppy(ip).ok_or(NOT_A_CIDR)?;
    let most = if lenient.is_ipv4() { 32 } else { 128 };
    let length = bits.parse::<u8>().ok().filter(|n| *n <= most);
    let cidr = Cidr {
        ip: lenient,
        bits: length.ok_or(NOT_A_CIDR)?,
    };
    if ip.parse::<IpAddr>().is_err() || cidr.bits.to_string() != bits {
        return Err("must not have leading 0s in IP or prefix length".to_owned());
    }
    if is_mapped(cidr.ip) {
        return Err("must not have an IPv4-mapped IPv6 address".to_owned());
    }
    if cidr.network() != cidr.ip {
        return Err("must not have bits set beyond the prefix length".to_owned());
    }
    Ok(cidr)
}

/// A prefix in a field that has long been there.
pub(super) fn validate_cidr(text: &str, path: &Path, errors: &mut Errors) -> Option<Cidr> {
    match parse_cidr(text) {
        Ok(cidr) => Some(cidr),
        Err(why) => {
            errors.invalid(path, text, why);
            None
        }
    }
}

/// A prefix that has to be canonical.
pub(super) fn validate_canonical_cidr(
    text: &str,
    path: &Path,
    errors: &mut Errors,
) -> Option<Cidr> {
    let cidr = validate_cidr(text, path, errors)?;
    let canonical = format!("{}/{}", cidr.ip, cidr.bits);
    if canonical != text {
        errors.invalid(
            path,
            text,
            format!("must be in canonical form ({canonical:?})"),
        );
        return None;
    }
    Some(cidr)
}

/// An address that a Service's traffic may go to.
pub(super) fn validate_endpoint_ip(ip: IpAddr, text: &str, path: &Path, errors: &mut Errors) {
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    for (is, why) in [
        (
            ip.is_unspecified(),
            "may not be unspecified (0.0.0.0 or ::)",
        ),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ] {
        if is {
            errors.invalid(path, text, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_way_to_be_written() {
        for (text, wanted) in [
            ("10.0.0.1", ""),
            ("2001:db8::1", ""),
            ("10.0.0.01", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("2001:DB8::1", "must be in canonical form (\"2001:db8::1\")"),
            ("10.0.0", NOT_AN_ADDRESS),
            ("10.0.0.256", NOT_AN_ADDRESS),
            ("", NOT_AN_ADDRESS),
        ] {
            assert_eq!(canonical(text).join(";"), wanted, "{text}");
        }
    }

    #[test]
    fn prefixes_are_checked() {
        for (text, wanted) in [
            ("10.0.0.0/8", None),
            ("::/0", None),
            ("0.0.0.0/0", None),
            ("10.0.0.0", Some(NOT_A_CIDR)),
            ("10.0.0.0/33", Some(NOT_A_CIDR)),
            ("10.0.0.0/+8", Some(NOT_A_CIDR)),
            (
                "10.0.0.0/08",
                Some("must not have leading 0s in IP or prefix length"),
            ),
            (
                "10.0.0.1/8",
                Some("must not have bits set beyond the prefix length"),
            ),
        ] {
            assert_eq!(parse_cidr(text).err().as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_prefix_holds_what_lies_in_it() {
        for (cidr, ip, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::", true),
        ] {
            let found = parse_cidr(cidr).map(|c| ip.parse().is_ok_and(|ip| c.contains(ip)));
            assert_eq!(found, Ok(inside), "{cidr} {ip}");
        }
    }
}

//! The `network` section of the machine config; every value is checked when it
//! is parsed, with a message that says what is expected.

use ipnet::IpNet;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

/// Without interfaces, every Ethernet interface gets its address by DHCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    pub interfaces: Vec<Interface>,
    /// Before those that DHCP gives.
    pub nameservers: Vec<IpAddr>,
    /// Domains for names without dots.
    pub search: Vec<Server>,
    /// Before those that DHCP gives; without any, the clock is left alone.
    pub ntp: Vec<Server>,
}

/// How one interface is set up. Named by `name` or `mac`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    pub name: Option<String>,
    pub mac: Option<Mac>,
    pub dhcp: bool,
    pub addresses: Vec<Cidr>,
    pub gateway: Option<IpAddr>,
    /// The second one, if `gateway` is of the other family.
    pub gateway6: Option<IpAddr>,
    pub mtu: Option<u32>,
    pub ipv6: Ipv6,
}

/// Where IPv6 addresses come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// Router advertisements (RFC 4861, RFC 4862).
    #[default]
    Ra,
    /// Only what `addresses` says.
    Static,
    Off,
}

/// An address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cidr(pub IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{text:?}: {why} (CIDR notation, RFC 4632)"));
        let Some((address, length)) = text.split_once('/') else {
            return match text.parse::<IpAddr>() {
                Ok(_) => refuse("prefix length missing"),
                Err(_) => refuse("not an IP address"),
            };
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return refuse("not an IP address");
        };
        let Some(net) = length
            .parse()
            .ok()
            .and_then(|n| IpNet::new(address, n).ok())
        else {
            return refuse("the prefix length is not a number of its bits");
        };
        if address.is_unspecified() || address.is_multicast() {
            return refuse("no interface can have this address");
        }
        Ok(Self(net))
    }
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("{text:?}: six pairs of hexadecimal digits with colons are expected");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(refuse()),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A host name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Server(String);

impl Server {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=63).contains(&label.len()) && label.chars().all(inner)
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = name.len() <= 253 && name.split('.').all(label);
        if is_name || text.parse::<IpAddr>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?}: neither a host name (RFC 1123) nor an IP address"
        ))
    }
}

/// Parses inside of the visitor, so that a format's error names the very value.
struct FromText<T>(PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    deserializer.deserialize_str(FromText(PhantomData))
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer)
    }
}

impl Config {
    /// What single values can't show. The error begins with the field's path,
    /// relative to this section.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), String> {
        for (index, interface) in self.interfaces.iter().enumerate() {
            interface
                .check()
                .map_err(|error| format!("interfaces[{index}]{error}"))?;
            let same = |other: &Interface| {
                (other.name.is_some() && other.name == interface.name)
                    || (other.mac.is_some() && other.mac == interface.mac)
            };
            if self.interfaces.iter().take(index).any(same) {
                return Err(format!("interfaces[{index}]: the same interface is above"));
            }
        }
        if self.nameservers.len() > 8 {
            return Err("nameservers: at most 8 are used".into());
        }
        Ok(())
    }

    /// The section for an interface; a DHCP client if nothing is configured.
    #[must_use]
    pub fn for_interface(&self, name: &str, mac: Mac) -> Option<Interface> {
        if self.interfaces.is_empty() {
            return Some(Interface {
                dhcp: true,
                ..Interface::default()
            });
        }
        let is_it = |interface: &&Interface| {
            interface.name.as_deref() == Some(name) || interface.mac == Some(mac)
        };
        self.interfaces.iter().find(is_it).cloned()
    }
}

impl Interface {
    fn check(&self) -> Result<(), String> {
        match (&self.name, self.mac) {
            (None, None) => return Err(": name or mac is required".into()),
            (Some(_), Some(_)) => return Err(": name and mac exclude each other".into()),
            (Some(name), None) => {
                let fits = (1..=15).contains(&name.len());
                let plain = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
                if !fits || !name.chars().all(plain) || name.starts_with('.') {
                    return Err(format!(".name: {name:?} is no name of an interface"));
                }
            }
            (None, Some(_)) => {}
        }
        if let Some(mtu) = self.mtu
            && !(576..=65_535).contains(&mtu)
        {
            return Err(format!(".mtu: {mtu} is not between 576 and 65535"));
        }
        let v6 = self
            .addresses
            .iter()
            .position(|cidr| cidr.0.addr().is_ipv6());
        if let (Some(index), Ipv6::Off) = (v6, self.ipv6) {
            return Err(format!(
                ".addresses[{index}]: an IPv6 address, but ipv6 is off"
            ));
        }
        if let (Some(gateway), Some(second)) = (self.gateway, self.gateway6)
            && gateway.is_ipv6() == second.is_ipv6()
        {
            return Err(".gateway6: gateway is of the same family".into());
        }
        Ok(())
    }

    /// Both gateways.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway.into_iter().chain(self.gateway6)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn check(yaml: &str) -> String {
        match serde_yaml::from_str::<Config>(yaml) {
            Ok(config) => config.check().err().unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (yaml, wanted) in [
            ("interfaces: [{name: eth0, dhcp: true}]", ""),
            (
                "interfaces: [{name: eth0, addresses: [\"10.0.0.1\"]}]",
                "interfaces[0].addresses[0]: \"10.0.0.1\": prefix length missing (CIDR notation, RFC 4632)",
            ),
            (
                "interfaces: [{name: e, addresses: [\"10.0.0.1/33\"]}]",
                "the prefix length",
            ),
            (
                "interfaces: [{name: e, addresses: [\"x/8\"]}]",
                "not an IP address",
            ),
            (
                "interfaces: [{name: e, addresses: [\"0.0.0.0/0\"]}]",
                "no interface can",
            ),
            (
                "interfaces: [{mac: \"52:54:0\"}]",
                "interfaces[0].mac: \"52:54:0\": six pairs",
            ),
            ("interfaces: [{mac: \"52:54:00:12:34:56:78\"}]", "six pairs"),
            (
                "interfaces: [{dhcp: true}]",
                "interfaces[0]: name or mac is required",
            ),
            ("interfaces: [{name: a/b}]", "interfaces[0].name"),
            (
                "interfaces: [{name: a}, {name: a}]",
                "interfaces[1]: the same",
            ),
            (
                "interfaces: [{name: a, mtu: 5}]",
                "interfaces[0].mtu: 5 is not",
            ),
            (
                "interfaces: [{name: a, ipv6: off, addresses: [\"fd00::1/64\"]}]",
                "interfaces[0].addresses[0]: an IPv6 address",
            ),
            ("interfaces: [{name: a, typo: 1}]", "unknown field `typo`"),
            ("nameservers: [example]", "nameservers[0]: "),
            (
                "ntp: [\"bad name\"]",
                "ntp[0]: \"bad name\": neither a host name",
            ),
        ] {
            let found = check(yaml);
            assert!(found.contains(wanted), "{yaml}: {found}");
            assert_eq!(found.is_empty(), wanted.is_empty(), "{yaml}: {found}");
        }
    }

    #[test]
    fn json_keeps_everything() {
        let yaml = "interfaces: [{mac: \"52:54:00:12:34:56\", addresses: [\"fd00::1/64\"], ipv6: static}]\nntp: [a.example]";
        let config: Config = serde_yaml::from_str(yaml).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
        let mac = config.interfaces[0].mac.unwrap();
        assert!(config.for_interface("eth9", mac).is_some());
        assert!(config.for_interface("eth9", Mac([0; 6])).is_none());
        let default = Config::default().for_interface("eth0", mac).unwrap();
        assert!(default.dhcp);
    }
}

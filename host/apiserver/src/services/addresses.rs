//! Cluster addresses: each held one is an IPAddress object, whose name it is.

use super::{cluster_ips, random};
use crate::registry::{Along, store_status};
use api::field::{Errors, Path};
use api::kinds;
use api::meta;
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use store::{Compare, Op, Range, Revision, Store};

/// Where ServiceCIDRs and IPAddresses are.
pub(crate) const CIDRS: &str = "/registry/networking.k8s.io/servicecidrs/";
const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";

/// Random tries before all held addresses are looked at.
const TRIES: usize = 32;
/// Larger ranges are used in part: more Services than that there are not.
const SIZE_MAX: u64 = 1 << 32;

/// A range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    base: u128,
    bits: u8,
    v6: bool,
}

impl Cidr {
    /// `10.96.0.0/16`, host bits cleared.
    pub(super) fn parse(text: &str) -> Option<Cidr> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
        let v6 = ip.is_ipv6();
        let width: u8 = if v6 { 128 } else { 32 };
        let host = width.checked_sub(bits)?;
        let low = match host {
            128 => u128::MAX,
            n => (1u128 << n) - 1,
        };
        let base = number(ip) & !low;
        Some(Cidr { base, bits, v6 })
    }

    pub(super) fn family(&self) -> &'static str {
        family(self.v6)
    }

    fn host_bits(&self) -> u8 {
        (if self.v6 { 128 } else { 32 }) - self.bits
    }

    /// How many addresses Services can have: not the network's own, and not
    /// the broadcast address.
    fn size(&self) -> u64 {
        let all = match self.host_bits() {
            n if n >= 64 => u64::MAX,
            n => 1u64 << n,
        };
        let usable = all.saturating_sub(if self.v6 { 1 } else { 2 });
        usable.min(SIZE_MAX)
    }

    /// The address at `offset`, from 0.
    fn at(&self, offset: u64) -> IpAddr {
        address(self.base + 1 + u128::from(offset), self.v6)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let offset = number(ip).wrapping_sub(self.base);
        let all = 1u128.checked_shl(u32::from(self.host_bits()));
        let last = all.map_or(u128::MAX, |n| n - 1);
        ip.is_ipv6() == self.v6 && offset >= 1 && offset <= last && (self.v6 || offset < last)
    }

    /// The part that is left for addresses that clients choose.
    fn static_band(&self) -> u64 {
        match self.size() {
            small if small < 16 => 0,
            n => (n / 16).clamp(16, 256),
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", address(self.base, self.v6), self.bits)
    }
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

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

/// The first address of a range: that of the `kubernetes` Service.
pub(crate) fn first_address(cidr: &str) -> Option<IpAddr> {
    Cidr::parse(cidr).map(|c| c.at(0))
}

/// Whether addresses may be given out of a range: one of which nobody says
/// anything is as good as ready.
fn is_ready(cidr: &Value) -> bool {
    let conditions = meta::list(cidr, &["status", "conditions"]);
    let ready = conditions
        .iter()
        .find(|c| meta::text(c, &["type"]) == "Ready");
    !meta::is_deleting(cidr) && ready.is_none_or(|c| meta::text(c, &["status"]) == "True")
}

/// The ranges of all ServiceCIDRs that are ready, the cluster's own first.
pub(super) fn ranges(store: &Store) -> Result<Vec<Cidr>, Status> {
    let found = store.range(&Range::prefix(CIDRS)).map_err(store_status)?;
    let mut all: Vec<(bool, Cidr)> = Vec::new();
    for item in found.items {
        let object: Value = serde_json::from_slice(&item.value).map_err(Status::internal)?;
        if !is_ready(&object) {
            continue;
        }
        let own = meta::name(&object) == "kubernetes";
        for cidr in meta::list(&object, &["spec", "cidrs"]) {
            all.extend(cidr.as_str().and_then(Cidr::parse).map(|c| (!own, c)));
        }
    }
    all.sort_by_key(|(foreign, _)| *foreign);
    Ok(all.into_iter().map(|(_, cidr)| cidr).collect())
}

fn key(ip: IpAddr) -> String {
    format!("{ADDRESSES}{ip}")
}

fn is_free(store: &Store, ip: IpAddr) -> Result<bool, Status> {
    let found = store.range(&Range::key(key(ip))).map_err(store_status)?;
    Ok(found.items.is_empty())
}

/// Holds for `new` the addresses that it names, and as many more as it has
/// families.
pub(super) fn claim(
    store: &Store,
    new: &mut Value,
    old: Option<&Value>,
    ranges: &[Cidr],
    now: Timestamp,
    along: &mut Along,
    errors: &mut Errors,
) -> Result<(), Status> {
    if !kinds::needs_cluster_ip(new) || kinds::is_headless(new) {
        return Ok(());
    }
    let held = old.map(cluster_ips).unwrap_or_default();
    let mut ips = cluster_ips(new);
    let asked = ips.len();
    for ip in ips.iter().filter(|ip| !held.contains(ip)) {
        if let Some(why) = unavailable(store, ip, ranges)? {
            let at = Path::new("spec").child("clusterIPs");
            let shown = new["spec"]["clusterIPs"].clone();
            errors.invalid(&at, shown, format!("failed to allocate IP {ip}: {why}"));
        }
    }
    if !errors.is_empty() {
        return Ok(());
    }
    let families: Vec<&str> = meta::list(new, &["spec", "ipFamilies"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for family in families.into_iter().skip(asked) {
        ips.push(choose(store, family, ranges)?.to_string());
    }
    for ip in ips.iter().filter(|ip| !held.contains(ip)) {
        if let Ok(parsed) = ip.parse::<IpAddr>() {
            hold(parsed, new, now, along)?;
        }
    }
    let spec = meta::ensure(new, "spec");
    if let Some(first) = ips.first() {
        spec.insert("clusterIP".to_owned(), first.as_str().into());
        spec.insert("clusterIPs".to_owned(), json!(ips));
    }
    Ok(())
}

/// Why a client can't have the address, if it can't.
fn unavailable(store: &Store, ip: &str, ranges: &[Cidr]) -> Result<Option<String>, Status> {
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        // Validation says what is wrong with it.
        return Ok(None);
    };
    if !ranges.iter().any(|r| r.contains(parsed)) {
        let valid: Vec<String> = ranges
            .iter()
            .filter(|r| r.v6 == parsed.is_ipv6())
            .map(ToString::to_string)
            .collect();
        return Ok(Some(format!(
            "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
            valid.join(",")
        )));
    }
    Ok(match is_free(store, parsed)? {
        true => None,
        false => Some("provided IP is already allocated".to_owned()),
    })
}

/// A free address, out of the part that clients don't choose from while
/// there is one.
fn choose(store: &Store, family: &str, ranges: &[Cidr]) -> Result<IpAddr, Status> {
    let ours: Vec<&Cidr> = ranges.iter().filter(|r| r.family() == family).collect();
    for range in &ours {
        let band = range.static_band();
        for _ in 0..TRIES {
            let ip = range.at(band + random(range.size() - band));
            if range.contains(ip) && is_free(store, ip)? {
                return Ok(ip);
            }
        }
    }
    let found = store
        .range(&Range::prefix(ADDRESSES))
        .map_err(store_status)?;
    let held: HashSet<&[u8]> = found.items.iter().map(|i| i.key.as_ref()).collect();
    for range in ours {
        let (size, band) = (range.size(), range.static_band());
        // A range with more addresses than are held has a free one soon.
        let most = size.min(held.len() as u64 + 1 + band);
        let free = (0..most)
            .map(|i| range.at((band + i).checked_rem(size).unwrap_or(0)))
            .find(|ip| !held.contains(key(*ip).as_bytes()));
        if let Some(ip) = free.filter(|_| size > 0) {
            return Ok(ip);
        }
    }
    Err(Status::internal(
        "failed to allocate a serviceIP: range is full",
    ))
}

/// The IPAddress that says who holds `ip`, absent until now.
fn hold(ip: IpAddr, service: &Value, now: Timestamp, along: &mut Along) -> Result<(), Status> {
    let object = json!({
        "metadata": {
            "name": ip.to_string(),
            "uid": uuid::Uuid::new_v4().hyphenated().to_string(),
            "creationTimestamp": api::time::rfc3339(now),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family(ip.is_ipv6()),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "spec": {"parentRef": {
            "resource": "services",
            "namespace": meta::namespace(service),
            "name": meta::name(service),
        }},
    });
    let value = serde_json::to_vec(&object).map_err(Status::internal)?;
    along.compare.push(Compare {
        key: key(ip).into(),
        mod_revision: Revision(0),
    });
    along.then.push(Op::Put {
        key: key(ip).into(),
        value: value.into(),
    });
    Ok(())
}

/// Gives back what `old` held and `new` doesn't.
pub(super) fn release(
    store: &Store,
    old: &Value,
    new: Option<&Value>,
    along: &mut Along,
) -> Result<(), Status> {
    let kept = new.map(cluster_ips).unwrap_or_default();
    for ip in cluster_ips(old).into_iter().filter(|ip| !kept.contains(ip)) {
        let Ok(parsed) = ip.parse::<IpAddr>() else {
            continue;
        };
        let range = Range::key(key(parsed));
        let Some(item) = store.range(&range).map_err(store_status)?.items.pop() else {
            continue;
        };
        let object: Value = serde_json::from_slice(&item.value).map_err(Status::internal)?;
        let parent = |part| meta::text(&object, &["spec", "parentRef", part]);
        if parent("namespace") == meta::namespace(old) && parent("name") == meta::name(old) {
            along.compare.push(Compare {
                key: item.key.clone(),
                mod_revision: item.mod_revision,
            });
            along.then.push(Op::Delete { key: item.key });
        }
    }
    Ok(())
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
            let cidr = Cidr::parse(text).unwrap();
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
            assert_eq!(Cidr::parse(bad), None, "{bad}");
        }
        assert_eq!(Cidr::parse("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    }
}

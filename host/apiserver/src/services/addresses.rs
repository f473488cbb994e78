//! Cluster addresses: each held one is an IPAddress object, whose name it is.

use super::{cluster_ips, random};
use crate::registry::{Along, store_status};
use api::field::{Errors, Path};
use api::kinds;
use api::meta;
use api::service_range::{ServiceRange, family};
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::IpAddr;
use store::{Compare, Op, Range, Revision, Store};

/// Where ServiceCIDRs and IPAddresses are.
pub(crate) const CIDRS: &str = "/registry/networking.k8s.io/servicecidrs/";
const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";

/// Random tries before all held addresses are looked at.
const TRIES: usize = 32;
/// The first address of a range: that of the `kubernetes` Service.
pub(crate) fn first_address(cidr: &str) -> Option<IpAddr> {
    ServiceRange::parse(cidr).map(|c| c.at(0))
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
pub(super) fn ranges(store: &Store) -> Result<Vec<ServiceRange>, Status> {
    let found = store.range(&Range::prefix(CIDRS)).map_err(store_status)?;
    let mut all: Vec<(bool, ServiceRange)> = Vec::new();
    for item in found.items {
        let object: Value = serde_json::from_slice(&item.value).map_err(Status::internal)?;
        if !is_ready(&object) {
            continue;
        }
        let own = meta::name(&object) == "kubernetes";
        for cidr in meta::list(&object, &["spec", "cidrs"]) {
            all.extend(
                cidr.as_str()
                    .and_then(ServiceRange::parse)
                    .map(|c| (!own, c)),
            );
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
    ranges: &[ServiceRange],
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
fn unavailable(store: &Store, ip: &str, ranges: &[ServiceRange]) -> Result<Option<String>, Status> {
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        // Validation says what is wrong with it.
        return Ok(None);
    };
    if !ranges.iter().any(|r| r.contains(parsed)) {
        let valid: Vec<String> = ranges
            .iter()
            .filter(|r| r.is_ipv6() == parsed.is_ipv6())
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
fn choose(store: &Store, family: &str, ranges: &[ServiceRange]) -> Result<IpAddr, Status> {
    let ours: Vec<&ServiceRange> = ranges.iter().filter(|r| r.family() == family).collect();
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

//! The Endpoints object of a Service with a selector: addresses by the ports
//! at which they serve, of one family, at most `MOST`.

use super::members::{self, Member, Port};
use super::{ENDPOINTS, HEADLESS};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service,
};
use reconcile::Write;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Addresses that an Endpoints object has at most; slices have them all.
const MOST: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Upstream's controller marks its own since 1.33.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// Made here, as its label says.
pub(super) fn is_own(found: &Endpoints) -> bool {
    let labels = found.metadata.labels.as_ref();
    labels.and_then(|l| l.get(MANAGED_BY)).map(String::as_str) == Some(MANAGER)
}

/// The write that brings the Endpoints into line, if it isn't.
pub(super) fn plan(
    service: &Service,
    members: &[Member],
    found: Option<&Endpoints>,
) -> Option<Write> {
    let (subsets, truncated) = truncate(subsets(service, members));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    match members::is_headless(service) {
        true => labels.insert(HEADLESS.to_owned(), String::new()),
        false => labels.remove(HEADLESS),
    };
    let had = found.map(|f| f.metadata.annotations.clone().unwrap_or_default());
    let mut annotations = had.clone().unwrap_or_default();
    match truncated {
        true => annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned()),
        false => annotations.remove(OVER_CAPACITY),
    };
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": service.metadata.name, "namespace": service.metadata.namespace},
    });
    if let Some(found) = found {
        let same = found.subsets.clone().unwrap_or_default() == subsets
            && found.metadata.labels.as_ref() == Some(&labels)
            && had.as_ref() == Some(&annotations);
        if same {
            return None;
        }
        object["metadata"] = serde_json::to_value(&found.metadata).unwrap_or(Value::Null);
    }
    object["metadata"]["labels"] = json!(labels);
    object["metadata"]["annotations"] = json!(annotations);
    object["subsets"] = json!(subsets);
    let namespace = service.metadata.namespace.clone();
    Some(match found {
        None => Write::Create {
            resource: ENDPOINTS,
            namespace,
            object,
        },
        Some(_) => Write::Update {
            resource: ENDPOINTS,
            namespace,
            object,
        },
    })
}

/// An address as it is sorted: by its text, then by its pod.
type Place = (String, Option<String>);

/// Addresses and whether they are ready, for each port; then ports that the
/// same addresses have are put together.
fn subsets(service: &Service, members: &[Member]) -> Vec<EndpointSubset> {
    let headless = members::is_headless(service);
    let mut by_port: BTreeMap<Option<&Port>, BTreeMap<(Place, bool), &Member>> = BTreeMap::new();
    for member in members {
        if member.terminating && !member.published {
            continue;
        }
        let Some(ip) = address(service, member) else {
            continue;
        };
        let place = ((ip, member.target.uid.clone()), member.ready());
        let none = service.spec.as_ref().is_none_or(|s| s.ports.is_none());
        let portless = (none && headless).then_some(None);
        for port in member.ports.iter().map(Some).chain(portless) {
            by_port
                .entry(port)
                .or_default()
                .insert(place.clone(), member);
        }
    }
    let mut by_places: BTreeMap<BTreeSet<(Place, bool)>, Vec<&Port>> = BTreeMap::new();
    let mut of_place = BTreeMap::new();
    for (port, places) in by_port {
        let ports = by_places
            .entry(places.keys().cloned().collect())
            .or_default();
        ports.extend(port);
        of_place.extend(places);
    }
    let mut subsets: Vec<EndpointSubset> = by_places
        .into_iter()
        .map(|(places, ports)| {
            let pick = |ready: bool| {
                let of = places.iter().filter(|(_, is)| *is == ready);
                let of: Vec<EndpointAddress> = of
                    .filter_map(|place| Some(shown(&place.0.0, of_place.get(place)?)))
                    .collect();
                (!of.is_empty()).then_some(of)
            };
            let ports: Vec<EndpointPort> = ports.into_iter().map(port).collect();
            EndpointSubset {
                addresses: pick(true),
                not_ready_addresses: pick(false),
                ports: (!ports.is_empty()).then_some(ports),
            }
        })
        .collect();
    subsets.sort_by_cached_key(|s| json!(s.ports).to_string());
    subsets
}

/// The pod's address of the Service's first family.
fn address(service: &Service, member: &Member) -> Option<String> {
    let families = service.spec.as_ref().and_then(|s| s.ip_families.as_ref());
    let v6 = families
        .and_then(|f| f.first())
        .is_some_and(|f| f == "IPv6");
    let ip = member.ips.iter().find(|ip| ip.is_ipv6() == v6);
    ip.map(ToString::to_string)
}

fn shown(ip: &str, member: &Member) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        hostname: member.hostname.clone(),
        node_name: member.node.clone(),
        target_ref: Some(member.target.clone()),
    }
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()).filter(|n| !n.is_empty()),
        port: port.port,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

/// Ready addresses first; whether something was left out.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let mut left = MOST;
    let mut truncated = false;
    for ready in [true, false] {
        for subset in &mut subsets {
            let addresses = match ready {
                true => &mut subset.addresses,
                false => &mut subset.not_ready_addresses,
            };
            let count = addresses.as_ref().map_or(0, Vec::len);
            if count > left {
                truncated = true;
                if let Some(addresses) = addresses {
                    addresses.truncate(left);
                }
            }
            left = left.saturating_sub(count);
            if addresses.as_ref().is_some_and(Vec::is_empty) {
                *addresses = None;
            }
        }
    }
    let empty = |s: &EndpointSubset| s.addresses.is_none() && s.not_ready_addresses.is_none();
    subsets.retain(|s| !empty(s));
    (subsets, truncated)
}

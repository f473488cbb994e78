//! Slices that mirror Endpoints which somebody keeps by hand for a Service
//! without a selector.

use super::packing::{Frame, Group, Wanted};
use super::{MANAGED_BY, SERVICE_NAME};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use reconcile::ObjectKey;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// Endpoints in a slice, as upstream's
/// `--mirroring-max-endpoints-per-subset`; of a subset no more are mirrored.
const MOST: usize = 1000;

/// No groups where nothing is to be mirrored.
pub(super) fn wanted(
    key: &ObjectKey,
    service: Option<&Service>,
    endpoints: Option<&Endpoints>,
) -> Wanted {
    let mirrored = endpoints.filter(|e| is_mirrored(service, e));
    Wanted {
        frame: frame(key, mirrored),
        groups: mirrored.map(groups).unwrap_or_default(),
        most: MOST,
    }
}

fn is_mirrored(service: Option<&Service>, endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skipped = metadata.labels.iter().flatten();
    let skipped = skipped.into_iter().any(|(k, v)| k == SKIP && v == "true");
    let elects = metadata
        .annotations
        .iter()
        .flatten()
        .any(|(k, _)| k == LEADER);
    let without = |s: &Service| {
        let selector = s.spec.as_ref().and_then(|s| s.selector.as_ref());
        selector.is_none_or(BTreeMap::is_empty)
    };
    !skipped && !elects && service.is_some_and(without)
}

fn groups(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let not_ready = subset.not_ready_addresses.iter().flatten();
        let all = ready.chain(not_ready.map(|a| (a, false)));
        for (address, ready) in all.take(MOST) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                continue;
            };
            let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            let endpoint = endpoint(ip, address, ready);
            let same = |g: &&mut Group| g.address_type == family && g.ports == ports;
            match groups.iter_mut().find(same) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group {
                    address_type: family.to_owned(),
                    ports: ports.clone(),
                    endpoints: vec![endpoint],
                }),
            }
        }
    }
    groups
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let ports = subset.ports.iter().flatten();
    ports
        .map(|p| EndpointPort {
            name: Some(p.name.clone().unwrap_or_default()),
            port: Some(p.port),
            protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: p.app_protocol.clone(),
        })
        .collect()
}

fn endpoint(ip: IpAddr, address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn frame(key: &ObjectKey, endpoints: Option<&Endpoints>) -> Frame {
    let metadata = endpoints.map(|e| e.metadata.clone()).unwrap_or_default();
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    Frame {
        namespace: key.namespace.clone(),
        prefix: format!("{}-", key.name),
        labels,
        annotations: Some(annotations),
        owner: json!({"apiVersion": "v1", "kind": "Endpoints", "name": key.name,
            "uid": metadata.uid, "controller": true, "blockOwnerDeletion": true}),
    }
}

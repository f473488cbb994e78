//! The EndpointSlices that a Service with a selector ought to have: for each
//! family the pods by the ports at which they serve.

use super::members::{self, Member, Port};
use super::packing::{Frame, Group, Wanted};
use super::{HEADLESS, MANAGED_BY, SERVICE_NAME};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use serde_json::json;
use std::collections::BTreeMap;

pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Endpoints in a slice, as upstream's `--max-endpoints-per-slice`.
const MOST: usize = 100;

pub(super) fn wanted(service: &Service, members: &[Member]) -> Wanted {
    let families = service.spec.as_ref().and_then(|s| s.ip_families.clone());
    let families = families.unwrap_or_else(|| vec!["IPv4".to_owned()]);
    let mut groups: Vec<Group> = Vec::new();
    for family in families {
        let mut by_ports: BTreeMap<&[Port], Vec<Endpoint>> = BTreeMap::new();
        for member in members {
            if let Some(endpoint) = endpoint(member, family == "IPv6") {
                let of = by_ports.entry(&member.ports).or_default();
                of.push(endpoint);
            }
        }
        // A Service always has a slice: nobody there is news, too.
        if by_ports.is_empty() {
            by_ports.insert(&[], Vec::new());
        }
        groups.extend(by_ports.into_iter().map(|(ports, endpoints)| Group {
            address_type: family.clone(),
            ports: ports.iter().map(port).collect(),
            endpoints,
        }));
    }
    Wanted {
        frame: frame(service),
        groups,
        most: MOST,
    }
}

fn endpoint(member: &Member, v6: bool) -> Option<Endpoint> {
    let of_family = member.ips.iter().filter(|ip| ip.is_ipv6() == v6);
    let addresses: Vec<String> = of_family.map(ToString::to_string).collect();
    (!addresses.is_empty()).then(|| Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(member.ready()),
            serving: Some(member.serving),
            terminating: Some(member.terminating),
        }),
        hostname: member.hostname.clone(),
        node_name: member.node.clone(),
        target_ref: Some(member.target.clone()),
        zone: member.zone.clone(),
        ..Endpoint::default()
    })
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn frame(service: &Service) -> Frame {
    let metadata = &service.metadata;
    let mut labels = metadata.labels.clone().unwrap_or_default();
    match members::is_headless(service) {
        true => labels.insert(HEADLESS.to_owned(), String::new()),
        false => labels.remove(HEADLESS),
    };
    let name = metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Frame {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        prefix: format!("{name}-"),
        labels,
        annotations: None,
        owner: json!({"apiVersion": "v1", "kind": "Service", "name": name, "uid": metadata.uid,
            "controller": true, "blockOwnerDeletion": true}),
    }
}

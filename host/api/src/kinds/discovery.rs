//! EndpointSlice: addresses behind a Service.

use super::{Kind, PROTOCOLS, addresses, domains, strategy};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    type_name: "io.k8s.api.discovery.v1.EndpointSlice",
    storage: "discovery.k8s.io/endpointslices",
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_update: |new, old, errors| {
        errors.immutable(new, old, "addressType", &Path::default());
    },
    prepare_create: strategy::first_generation,
    prepare_update,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("AddressType", 0, "What its addresses are."),
    text("Ports", 0, "The ports of every endpoint."),
    text("Endpoints", 0, "The addresses."),
    AGE,
];

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;
const MAX_TOPOLOGY: usize = 16;

/// The first three, and how many more there are.
fn first_three(all: &[String]) -> String {
    const SHOWN: usize = 3;
    match all.len() {
        n if n > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), n - SHOWN),
        _ => match all.join(",") {
            text if text.is_empty() => "<unset>".to_owned(),
            text => text,
        },
    }
}

fn cells(object: &Value, now: Timestamp) -> Cells {
    let ports: Vec<String> = meta::list(object, &["ports"])
        .iter()
        .map(|p| {
            match (
                meta::int(p, &["port"]),
                p.get("name").and_then(Value::as_str),
            ) {
                (Some(number), _) => number.to_string(),
                (None, None) => "*".to_owned(),
                (None, Some(name)) => name.to_owned(),
            }
        })
        .collect();
    let endpoints: Vec<String> = meta::list(object, &["endpoints"])
        .iter()
        .flat_map(|e| meta::list(e, &["addresses"]))
        .filter_map(|a| a.as_str().map(str::to_owned))
        .collect();
    vec![
        meta::name(object).into(),
        meta::text(object, &["addressType"]).into(),
        first_three(&ports).into(),
        first_three(&endpoints).into(),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    let ports = object.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            meta::default(port, "name", "");
            meta::default(port, "protocol", "TCP");
        }
    }
}

/// Everything but metadata counts, and of metadata the labels.
fn prepare_update(new: &mut Value, old: &Value) {
    let changed = ["addressType", "endpoints", "ports"]
        .iter()
        .any(|key| new.get(*key) != old.get(*key))
        || meta::at(new, &["metadata", "labels"]) != meta::at(old, &["metadata", "labels"]);
    strategy::next_generation(new, old, changed);
}

fn validate(object: &Value, errors: &mut Errors) {
    const TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
    let kind = meta::text(object, &["addressType"]);
    let path = Path::new("addressType");
    if kind.is_empty() {
        errors.required(&path, "");
    } else if !TYPES.contains(&kind) {
        errors.not_supported(&path, kind, TYPES);
    }
    let endpoints = meta::list(object, &["endpoints"]);
    let path = Path::new("endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        errors.too_many(&path, endpoints.len(), MAX_ENDPOINTS);
    } else {
        for (i, endpoint) in endpoints.iter().enumerate() {
            validate_endpoint(endpoint, kind, &path.index(i), errors);
        }
    }
    validate_ports(object, errors);
}

fn validate_endpoint(endpoint: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let listed = meta::list(endpoint, &["addresses"]);
    let at = path.child("addresses");
    if listed.is_empty() {
        errors.required(&at, "must contain at least 1 address");
    } else if listed.len() > MAX_ADDRESSES {
        errors.too_many(&at, listed.len(), MAX_ADDRESSES);
    }
    for (i, address) in listed.iter().enumerate() {
        validate_address(
            address.as_str().unwrap_or_default(),
            kind,
            &at.index(i),
            errors,
        );
    }
    if let Some(node) = endpoint.get("nodeName").and_then(Value::as_str) {
        errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    let topology = path.child("deprecatedTopology");
    let labels = meta::members(endpoint, &["deprecatedTopology"]).count();
    if labels > MAX_TOPOLOGY {
        errors.too_many(&topology, labels, MAX_TOPOLOGY);
    }
    super::validate_labels(&endpoint["deprecatedTopology"], &topology, errors);
    if let Some(host) = endpoint.get("hostname").and_then(Value::as_str) {
        errors.invalid_each(&path.child("hostname"), host, names::dns_label(host));
    }
    validate_hints(endpoint, &path.child("hints").child("forZones"), errors);
}

fn validate_address(address: &str, kind: &str, path: &Path, errors: &mut Errors) {
    match kind {
        "IPv4" | "IPv6" => {
            let Some(ip) = addresses::validate_ip(address, path, errors) else {
                return;
            };
            if ip.is_ipv4() && kind == "IPv6" {
                errors.invalid(path, address, "must be an IPv6 address");
            } else if ip.is_ipv6() && kind == "IPv4" {
                errors.invalid(path, address, "must be an IPv4 address");
            }
            addresses::validate_endpoint_ip(ip, address, path, errors);
        }
        "FQDN" => domains::fully_qualified_domain(address, path, errors),
        _ => {}
    }
}

fn validate_hints(endpoint: &Value, path: &Path, errors: &mut Errors) {
    let zones = meta::list(endpoint, &["hints", "forZones"]);
    if zones.len() > MAX_HINTS {
        return errors.too_many(path, zones.len(), MAX_HINTS);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, zone) in zones.iter().enumerate() {
        let name = meta::text(zone, &["name"]);
        let at = path.index(i).child("name");
        if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        seen.push(name);
        errors.invalid_each(&at, name, names::label_value(name));
    }
}

fn validate_ports(object: &Value, errors: &mut Errors) {
    let ports = meta::list(object, &["ports"]);
    let path = Path::new("ports");
    if ports.len() > MAX_PORTS {
        return errors.too_many(&path, ports.len(), MAX_PORTS);
    }
    let mut seen = std::collections::HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        let name = meta::text(port, &["name"]);
        if !name.is_empty() {
            errors.invalid_each(&at.child("name"), name, names::dns_label(name));
        }
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        let protocol = meta::text(port, &["protocol"]);
        if !PROTOCOLS.contains(&protocol) {
            errors.not_supported(&at.child("protocol"), protocol, PROTOCOLS);
        }
        if let Some(application) = port.get("appProtocol").and_then(Value::as_str) {
            let wrong = names::qualified_name(application);
            errors.invalid_each(&at.child("appProtocol"), application, wrong);
        }
    }
}

//! Endpoints.

use super::Kind;
use super::service_validate::{valid_ip, validate_number_and_protocol, validate_ordinary_ip};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    type_name: "io.k8s.api.core.v1.Endpoints",
    storage: "core/endpoints",
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_update,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[NAME, text("Endpoints", 0, "Addresses and ports."), AGE];

/// At most so many endpoints are shown.
const SHOWN: usize = 3;

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        shown(object).into(),
        age(object, now),
    ]
}

fn shown(object: &Value) -> String {
    let subsets = meta::list(object, &["subsets"]);
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ports = meta::list(subset, &["ports"]);
        let addresses = meta::list(subset, &["addresses"]);
        let ip = |a: &Value| meta::text(a, &["ip"]).to_owned();
        if ports.is_empty() {
            all.extend(addresses.iter().map(ip));
        }
        for port in ports {
            let number = meta::int(port, &["port"]).unwrap_or(0);
            all.extend(addresses.iter().map(|a| match ip(a) {
                v6 if v6.contains(':') => format!("[{v6}]:{number}"),
                v4 => format!("{v4}:{number}"),
            }));
        }
    }
    let count = all.len();
    all.truncate(SHOWN);
    let text = all.join(",");
    match count {
        more if more > SHOWN => format!("{text} + {} more...", more - SHOWN),
        _ => text,
    }
}

fn default(object: &mut Value) {
    let subsets = object.get_mut("subsets").and_then(Value::as_array_mut);
    for subset in subsets.into_iter().flatten() {
        let ports = subset.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                meta::default_text(port, "protocol", "TCP");
            }
        }
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    for (i, subset) in meta::list(object, &["subsets"]).iter().enumerate() {
        let at = Path::new("subsets").index(i);
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|l| meta::list(subset, &[l]).is_empty()) {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in lists {
            for (i, address) in meta::list(subset, &[list]).iter().enumerate() {
                validate_address(address, &at.child(list).index(i), errors);
            }
        }
        let ports = meta::list(subset, &["ports"]);
        for (i, port) in ports.iter().enumerate() {
            validate_port(port, ports.len() > 1, &at.child("ports").index(i), errors);
        }
    }
}

fn validate_address(address: &Value, at: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    let ip = meta::text(address, &["ip"]);
    valid_ip(ip, &at.child("ip"), errors);
    let hostname = meta::text(address, &["hostname"]);
    if !hostname.is_empty() {
        errors.invalid_each(&at.child("hostname"), hostname, names::dns_label(hostname));
    }
    if let Some(node) = address.get("nodeName").and_then(Value::as_str) {
        errors.invalid_each(&at.child("nodeName"), node, names::dns_subdomain(node));
    }
    if errors.0.len() == before {
        validate_ordinary_ip(ip, &at.child("ip"), errors);
    }
}

fn validate_port(port: &Value, name_required: bool, at: &Path, errors: &mut Errors) {
    match meta::text(port, &["name"]) {
        "" if name_required => errors.required(&at.child("name"), ""),
        "" => {}
        name => errors.invalid_each(&at.child("name"), name, names::dns_label(name)),
    }
    validate_number_and_protocol(port, at, errors);
    if let Some(app) = port.get("appProtocol").and_then(Value::as_str) {
        errors.invalid_each(&at.child("appProtocol"), app, names::qualified_name(app));
    }
}

/// An address stays on its node.
fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let lists = ["addresses", "notReadyAddresses"];
    let mut nodes: Vec<(&str, &str)> = Vec::new();
    for subset in meta::list(old, &["subsets"]) {
        for address in lists.iter().flat_map(|l| meta::list(subset, &[l])) {
            if let Some(node) = address.get("nodeName").and_then(Value::as_str) {
                nodes.push((meta::text(address, &["ip"]), node));
            }
        }
    }
    for (i, subset) in meta::list(new, &["subsets"]).iter().enumerate() {
        for list in lists {
            for (j, address) in meta::list(subset, &[list]).iter().enumerate() {
                let ip = meta::text(address, &["ip"]);
                let was = nodes.iter().find(|(a, _)| *a == ip).map(|(_, n)| *n);
                let is = address.get("nodeName").and_then(Value::as_str);
                if let (Some(was), Some(is)) = (was, is)
                    && was != is
                {
                    let at = Path::new("subsets").index(i).child(list).index(j);
                    let why = format!("Cannot change NodeName for {ip} to {is}");
                    errors.forbidden(&at.child("nodeName"), why);
                }
            }
        }
    }
}

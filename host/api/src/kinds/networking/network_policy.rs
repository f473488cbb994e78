//! NetworkPolicy: which traffic pods may send and receive.

use crate::field::{Errors, Path};
use crate::kinds::{Kind, addresses, strategy};
use crate::label_selector;
use crate::print::{AGE, Cells, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    type_name: "io.k8s.api.networking.v1.NetworkPolicy",
    storage: "networking.k8s.io/networkpolicies",
    columns: &[NAME, text("Pod-Selector", 0, "The pods it is about."), AGE],
    cells,
    default,
    validate,
    prepare_create: strategy::first_generation,
    prepare_update: strategy::update_spec,
    ..Kind::BASE
};

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        selector(object).into(),
        age(object, now),
    ]
}

fn selector(object: &Value) -> String {
    match label_selector::text(&object["spec"]["podSelector"]) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
    }
}

/// The two directions: where the rules stand, and where their peers do.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn default(object: &mut Value) {
    let spec = meta::ensure(object, "spec");
    meta::default(spec, "podSelector", json!({}));
    for (direction, _) in DIRECTIONS {
        let rules = spec.get_mut(direction).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            let ports = rule.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                if let Some(port) = port.as_object_mut() {
                    meta::default(port, "protocol", "TCP");
                }
            }
        }
    }
    let listed = |key: &str| {
        spec.get(key)
            .and_then(Value::as_array)
            .is_some_and(|l| !l.is_empty())
    };
    if !listed("policyTypes") {
        let types = match listed("egress") {
            true => json!(["Ingress", "Egress"]),
            false => json!(["Ingress"]),
        };
        spec.insert("policyTypes".to_owned(), types);
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    label_selector::validate(&spec["podSelector"], &path.child("podSelector"), errors);
    for (direction, peers) in DIRECTIONS {
        for (i, rule) in meta::list(spec, &[direction]).iter().enumerate() {
            let at = path.child(direction).index(i);
            for (i, port) in meta::list(rule, &["ports"]).iter().enumerate() {
                validate_port(port, &at.child("ports").index(i), errors);
            }
            for (i, peer) in meta::list(rule, &[peers]).iter().enumerate() {
                validate_peer(peer, &at.child(peers).index(i), errors);
            }
        }
    }
    const TYPES: &[&str] = &["Ingress", "Egress"];
    let types = meta::list(spec, &["policyTypes"]);
    if types.len() > TYPES.len() {
        let why = "may not specify more than two policyTypes";
        errors.invalid(&path.child("policyTypes"), types, why);
        return;
    }
    for (i, of) in types.iter().enumerate() {
        let of = of.as_str().unwrap_or_default();
        if !TYPES.contains(&of) {
            errors.not_supported(&path.child("policyTypes").index(i), of, TYPES);
        }
    }
}

fn validate_port(port: &Value, path: &Path, errors: &mut Errors) {
    const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
    let protocol = meta::text(port, &["protocol"]);
    if !PROTOCOLS.contains(&protocol) {
        errors.not_supported(&path.child("protocol"), protocol, PROTOCOLS);
    }
    let end = meta::int(port, &["endPort"]);
    let end_path = path.child("endPort");
    let (at, number) = (path.child("port"), meta::int(port, &["port"]));
    match (port.get("port"), number, end) {
        (None, _, Some(end)) => errors.invalid(
            &end_path,
            end,
            "may not be specified when `port` is not specified",
        ),
        (None, _, None) => {}
        (Some(_), Some(number), _) => {
            for why in names::port_number(number) {
                errors.invalid(&at, number, why);
            }
            if let Some(end) = end {
                if end < number {
                    errors.invalid(&end_path, end, "must be greater than or equal to `port`");
                }
                for why in names::port_number(end) {
                    errors.invalid(&end_path, end, why);
                }
            }
        }
        (Some(name), None, _) => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                errors.invalid(&end_path, end, why);
            }
            let name = name.as_str().unwrap_or_default();
            errors.invalid_each(&at, name, names::port_name(name));
        }
    }
}

fn validate_peer(peer: &Value, path: &Path, errors: &mut Errors) {
    let mut peers = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.get(key) {
            peers += 1;
            label_selector::validate(selector, &path.child(key), errors);
        }
    }
    let block = peer.get("ipBlock");
    if let Some(block) = block {
        peers += 1;
        validate_block(block, &path.child("ipBlock"), errors);
    }
    if peers == 0 {
        errors.required(path, "must specify a peer");
    } else if peers > 1 && block.is_some() {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn validate_block(block: &Value, path: &Path, errors: &mut Errors) {
    let text = meta::text(block, &["cidr"]);
    if text.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    let Some(cidr) = addresses::validate_cidr(text, &path.child("cidr"), errors) else {
        return;
    };
    for (i, except) in meta::list(block, &["except"]).iter().enumerate() {
        let (at, text) = (
            path.child("except").index(i),
            except.as_str().unwrap_or_default(),
        );
        let Some(except) = addresses::validate_cidr(text, &at, errors) else {
            continue;
        };
        if !cidr.contains(except.ip) || cidr.bits >= except.bits {
            errors.invalid(&at, text, "must be a strict subset of `cidr`");
        }
    }
}

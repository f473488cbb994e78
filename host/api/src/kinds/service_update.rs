//! What an update of a Service keeps, fills in and lets go: upstream's
//! `pkg/registry/core/service/strategy.go`.

use super::service::{
    is_externally_accessible, needs_cluster_ip, needs_health_check_port, needs_node_port,
};
use crate::meta;
use serde_json::{Map, Value, json};

pub(super) fn prepare(new: &mut Value, old: &Value) {
    meta::keep(new, old, "status");
    normalize(new, Some(old));
    keep_allocated(new, old);
    drop_unneeded(new, old);
}

fn spec(object: &mut Value) -> &mut Map<String, Value> {
    meta::ensure(object, "spec")
}

fn ips(object: &Value) -> &[Value] {
    meta::list(object, &["spec", "clusterIPs"])
}

/// Brings `clusterIP` and `clusterIPs` together where a client set one.
pub(super) fn normalize(new: &mut Value, old: Option<&Value>) {
    let ip = meta::text(new, &["spec", "clusterIP"]).to_owned();
    let Some(old) = old else {
        if !ip.is_empty() && ips(new).is_empty() {
            spec(new).insert("clusterIPs".to_owned(), json!([ip]));
        }
        return;
    };
    if ip == meta::text(old, &["spec", "clusterIP"]) || ips(new) != ips(old) {
        return;
    }
    if ip.is_empty() {
        spec(new).shift_remove("clusterIPs");
    } else {
        let mut all = ips(new).to_vec();
        match all.first_mut() {
            Some(first) => *first = ip.into(),
            None => all.push(ip.into()),
        }
        spec(new).insert("clusterIPs".to_owned(), all.into());
    }
}

/// What was given out stays, where the client left it out.
fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        let was = meta::text(old, &["spec", "clusterIP"]).to_owned();
        if meta::text(new, &["spec", "clusterIP"]).is_empty() && !was.is_empty() {
            spec(new).insert("clusterIP".to_owned(), was.clone().into());
        }
        let same = meta::text(new, &["spec", "clusterIP"]) == was;
        if same && ips(new).is_empty() && !ips(old).is_empty() {
            let all = ips(old).to_vec();
            spec(new).insert("clusterIPs".to_owned(), all.into());
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        keep_node_ports(new, old);
    }
    if needs_health_check_port(old) && needs_health_check_port(new) {
        let port = health_port(old);
        if health_port(new) == 0 && port != 0 {
            spec(new).insert("healthCheckNodePort".to_owned(), port.into());
        }
    }
}

fn health_port(object: &Value) -> i64 {
    meta::int(object, &["spec", "healthCheckNodePort"]).unwrap_or(0)
}

fn node_port(port: &Value) -> i64 {
    meta::int(port, &["nodePort"]).unwrap_or(0)
}

/// By name: other properties of a port may have changed.
fn keep_node_ports(new: &mut Value, old: &Value) {
    let was = meta::list(old, &["spec", "ports"]);
    let taken: Vec<i64> = meta::list(new, &["spec", "ports"])
        .iter()
        .map(node_port)
        .filter(|n| *n != 0 && was.iter().any(|p| node_port(p) == *n))
        .collect();
    let ports = spec(new).get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        if node_port(port) != 0 {
            continue;
        }
        let name = meta::text(port, &["name"]).to_owned();
        let before = was.iter().find(|p| meta::text(p, &["name"]) == name);
        if let Some(n) = before
            .map(node_port)
            .filter(|n| *n != 0 && !taken.contains(n))
        {
            port["nodePort"] = n.into();
        }
    }
}

/// What only the former type needed goes, unless the client changed it.
fn drop_unneeded(new: &mut Value, old: &Value) {
    let same = |new: &Value, key: &str| new["spec"].get(key) == old["spec"].get(key);
    let mut drop: Vec<&str> = Vec::new();
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same(new, "clusterIP") && same(new, "clusterIPs") {
            drop.extend(["clusterIP", "clusterIPs"]);
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(new, key) {
                drop.push(key);
            }
        }
    }
    let local = |o: &Value| meta::text(o, &["spec", "type"]) == "LoadBalancer";
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if local(old) && !local(new) && same(new, key) {
            drop.push(key);
        }
    }
    if needs_health_check_port(old)
        && !needs_health_check_port(new)
        && same(new, "healthCheckNodePort")
    {
        drop.push("healthCheckNodePort");
    }
    if is_externally_accessible(old)
        && !is_externally_accessible(new)
        && same(new, "externalTrafficPolicy")
    {
        drop.push("externalTrafficPolicy");
    }
    if meta::text(new, &["spec", "type"]) == "ExternalName" && same(new, "internalTrafficPolicy") {
        drop.push("internalTrafficPolicy");
    }
    let ports_go = needs_node_port(old) && !needs_node_port(new) && same_node_ports(new, old);
    let map = spec(new);
    for key in drop {
        map.shift_remove(key);
    }
    if ports_go {
        let ports = map.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            port.shift_remove("nodePort");
        }
    }
}

fn same_node_ports(new: &Value, old: &Value) -> bool {
    let all = |o: &Value| -> Vec<i64> {
        let mut ports: Vec<i64> = meta::list(o, &["spec", "ports"])
            .iter()
            .map(node_port)
            .filter(|n| *n != 0)
            .collect();
        ports.sort_unstable();
        ports
    };
    all(new) == all(old)
}

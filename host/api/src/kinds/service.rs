//! Service: the row, its defaults, and what its type asks for. Addresses and
//! node ports are given out where objects are written, not here.

use super::{Kind, Subresource, service_update, service_validate, workload};
use crate::meta::{self, default, default_text};
use crate::names;
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    type_name: "io.k8s.api.core.v1.Service",
    storage: "core/services",
    subresources: &[Subresource::ServiceProxy, Subresource::Status],
    name: names::dns1035_label,
    selectable: &["spec.clusterIP", "spec.type"],
    columns: COLUMNS,
    cells,
    default: default_service,
    validate: service_validate::validate,
    validate_update: service_validate::validate_update,
    validate_status: service_validate::validate_status,
    prepare_create: |object| {
        object["status"] = json!({"loadBalancer": {}});
        service_update::normalize(object, None);
    },
    prepare_update: service_update::prepare,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Type", 0, "How the service can be reached."),
    text("Cluster-IP", 0, "Its address inside the cluster."),
    text("External-IP", 0, "Its addresses outside."),
    text("Port(s)", 0, "Its ports, with node ports."),
    AGE,
    text("Selector", 1, "Which pods serve it."),
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let cluster_ip = meta::list(object, &["spec", "clusterIPs"])
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default();
    vec![
        meta::name(object).into(),
        meta::text(object, &["spec", "type"]).into(),
        or_none(cluster_ip),
        external(object).into(),
        or_none(&ports(object)),
        age(object, now),
        workload::labels_cell(meta::at(object, &["spec", "selector"])),
    ]
}

/// Where a load balancer answers for the object, in order.
pub(in crate::kinds) fn balancers(object: &Value) -> Vec<&str> {
    let mut all: Vec<&str> = meta::list(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|i| match meta::text(i, &["ip"]) {
            "" => meta::text(i, &["hostname"]),
            ip => ip,
        })
        .filter(|a| !a.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn external(object: &Value) -> String {
    let ips: Vec<&str> = meta::list(object, &["spec", "externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match meta::text(object, &["spec", "type"]) {
        "ClusterIP" | "NodePort" if ips.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => ips.join(","),
        "LoadBalancer" => {
            let mut all = balancers(object);
            all.extend(ips);
            match all.is_empty() {
                true => "<pending>".to_owned(),
                false => all.join(","),
            }
        }
        "ExternalName" => meta::text(object, &["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(object: &Value) -> String {
    let all: Vec<String> = meta::list(object, &["spec", "ports"])
        .iter()
        .map(|p| {
            let port = meta::int(p, &["port"]).unwrap_or(0);
            let protocol = meta::text(p, &["protocol"]);
            match meta::int(p, &["nodePort"]) {
                Some(node) if node > 0 => format!("{port}:{node}/{protocol}"),
                _ => format!("{port}/{protocol}"),
            }
        })
        .collect();
    all.join(",")
}

fn default_service(object: &mut Value) {
    let spec = workload::spec_of(object);
    default_text(spec, "sessionAffinity", "None");
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("None") => {
            spec.shift_remove("sessionAffinityConfig");
        }
        Some("ClientIP") => {
            let config = workload::part(spec, "sessionAffinityConfig");
            if let Some(client) = config.and_then(|c| workload::part(c, "clientIP")) {
                default(client, "timeoutSeconds", 10_800);
            }
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        default_text(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|t| t == 0 || t == "") {
            let number = port.get("port").cloned().unwrap_or(0.into());
            port.insert("targetPort".to_owned(), number);
        }
        if port.get("nodePort").is_some_and(|n| n == 0) {
            port.shift_remove("nodePort");
        }
    }
    default_policies(object);
}

fn default_policies(object: &mut Value) {
    let external = is_externally_accessible(object);
    let kind = meta::text(object, &["spec", "type"]).to_owned();
    let spec = workload::spec_of(object);
    if external {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Whether it can be reached from outside the cluster.
pub(super) fn is_externally_accessible(object: &Value) -> bool {
    match meta::text(object, &["spec", "type"]) {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !meta::list(object, &["spec", "externalIPs"]).is_empty(),
        _ => false,
    }
}

/// Whether a port tells load balancers of the local endpoints' health.
pub fn needs_health_check_port(object: &Value) -> bool {
    meta::text(object, &["spec", "type"]) == "LoadBalancer"
        && meta::text(object, &["spec", "externalTrafficPolicy"]) == "Local"
}

pub fn needs_cluster_ip(object: &Value) -> bool {
    matches!(
        meta::text(object, &["spec", "type"]),
        "ClusterIP" | "NodePort" | "LoadBalancer"
    )
}

/// Whether its ports are open on every node.
pub fn needs_node_port(object: &Value) -> bool {
    match meta::text(object, &["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => meta::at(object, &["spec", "allocateLoadBalancerNodePorts"])
            .and_then(Value::as_bool)
            .unwrap_or(true),
        _ => false,
    }
}

pub fn is_headless(object: &Value) -> bool {
    let ips = meta::list(object, &["spec", "clusterIPs"]);
    ips.len() == 1 && ips[0] == "None"
}

//! What a Service has to be, in upstream's words.

use super::service::{is_externally_accessible, is_headless, needs_health_check_port};
use super::{PROTOCOLS, validate_labels};
use crate::field::{Errors, Path};
use crate::{meta, names};
use serde_json::{Value, json};
use std::net::IpAddr;

const AFFINITIES: &[&str] = &["ClientIP", "None"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameNode", "PreferSameZone"];
const AFFINITY_MAX: i64 = 86_400;
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub(super) fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    let kind = meta::text(spec, &["type"]);
    let headless = is_headless(object);
    let ports = meta::list(spec, &["ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", why);
        }
        "ExternalName" => validate_external_name(spec, &path, errors),
        _ => {}
    }
    validate_ports(ports, kind, &path.child("ports"), errors);
    validate_labels(&spec["selector"], &path.child("selector"), errors);
    validate_affinity(spec, &path, errors);
    validate_cluster_ips(object, errors);
    for (i, ip) in meta::list(spec, &["externalIPs"]).iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        let at = path.child("externalIPs").index(i);
        if valid_ip(ip, &at, errors) {
            validate_ordinary_ip(ip, &at, errors);
        }
    }
    match kind {
        "" => errors.required(&path.child("type"), ""),
        known if TYPES.contains(&known) => {}
        other => errors.not_supported(&path.child("type"), other, TYPES),
    }
    validate_source_ranges(object, kind, errors);
    validate_balancer(spec, kind, &path, errors);
    validate_policies(object, kind, &path, errors);
}

fn validate_external_name(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if spec.get(key).is_some() {
            let why = "may not be set for ExternalName services";
            errors.forbidden(&path.child(key), why);
        }
    }
    let name = meta::text(spec, &["externalName"]);
    let at = path.child("externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&at, ""),
        cname => errors.invalid_each(&at, cname, names::dns_subdomain(cname)),
    }
}

fn validate_ports(ports: &[Value], kind: &str, path: &Path, errors: &mut Errors) {
    let mut names_seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.index(i);
        match meta::text(port, &["name"]) {
            "" if ports.len() > 1 => errors.required(&at.child("name"), ""),
            "" => {}
            name => {
                errors.invalid_each(&at.child("name"), name, names::dns_label(name));
                if names_seen.contains(&name) {
                    errors.duplicate(&at.child("name"), name);
                }
                names_seen.push(name);
            }
        }
        validate_port(port, &at, errors);
    }
    let node_port = |p: &Value| meta::int(p, &["nodePort"]).unwrap_or(0);
    let protocol = |p: &Value| meta::text(p, &["protocol"]).to_owned();
    for (i, port) in ports.iter().enumerate() {
        if kind == "ClusterIP" && node_port(port) != 0 {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(&path.index(i).child("nodePort"), why);
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let twice = |p: &&Value| node_port(p) == node_port(port) && protocol(p) == protocol(port);
        if node_port(port) != 0 && ports.iter().take(i).any(|p| twice(&p)) {
            errors.duplicate(&path.index(i).child("nodePort"), node_port(port));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let same = |p: &Value| p.get("port") == port.get("port") && protocol(p) == protocol(port);
        if ports.iter().take(i).any(same) {
            let shown = json!({"protocol": protocol(port), "port": port["port"]});
            errors.duplicate(&path.index(i), shown);
        }
    }
}

/// Of a port of a Service or of its endpoints.
pub(super) fn validate_number_and_protocol(port: &Value, at: &Path, errors: &mut Errors) {
    let number = meta::int(port, &["port"]).unwrap_or(0);
    for why in names::port_number(number) {
        errors.invalid(&at.child("port"), number, why);
    }
    match meta::text(port, &["protocol"]) {
        "" => errors.required(&at.child("protocol"), ""),
        known if PROTOCOLS.contains(&known) => {}
        other => errors.not_supported(&at.child("protocol"), other, PROTOCOLS),
    }
}

fn validate_port(port: &Value, at: &Path, errors: &mut Errors) {
    validate_number_and_protocol(port, at, errors);
    let target = at.child("targetPort");
    match port.get("targetPort") {
        Some(Value::String(name)) => errors.invalid_each(&target, name, names::port_name(name)),
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or(0);
            for why in names::port_number(number) {
                errors.invalid(&target, number, why);
            }
        }
    }
    if let Some(app) = port.get("appProtocol").and_then(Value::as_str) {
        errors.invalid_each(&at.child("appProtocol"), app, names::qualified_name(app));
    }
}

fn validate_affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    let affinity = meta::text(spec, &["sessionAffinity"]);
    let at = path.child("sessionAffinity");
    match affinity {
        "" => errors.required(&at, ""),
        known if AFFINITIES.contains(&known) => {}
        other => errors.not_supported(&at, other, AFFINITIES),
    }
    let config = path.child("sessionAffinityConfig");
    if affinity == "None" && spec.get("sessionAffinityConfig").is_some() {
        errors.forbidden(&config, "must not be set when session affinity is None");
    }
    if affinity == "ClientIP" {
        let at = config.child("clientIP").child("timeoutSeconds");
        let path = ["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
        match meta::int(spec, &path) {
            None => errors.required(&at, "when session affinity type is ClientIP"),
            Some(n) if !(1..=AFFINITY_MAX).contains(&n) => {
                let why = format!("must be greater than 0 and less than {AFFINITY_MAX}");
                errors.invalid(&at, n, why);
            }
            Some(_) => {}
        }
    }
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` agree.
pub(super) fn validate_cluster_ips(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    if meta::text(spec, &["type"]) == "ExternalName" {
        return;
    }
    let path = Path::new("spec");
    let at = path.child("clusterIPs");
    let all = meta::list(spec, &["clusterIPs"]);
    let ips: Vec<&str> = all.iter().map(|v| v.as_str().unwrap_or_default()).collect();
    match (meta::text(spec, &["clusterIP"]), ips.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            let why = "must be empty when `clusterIP` is not specified";
            errors.invalid(&at, all.to_vec(), why);
        }
        (_, None) => errors.required(&at, ""),
        (ip, Some(first)) if ip != *first => {
            errors.invalid(&at, all.to_vec(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    validate_families(spec, &path, errors);
    let mut fine = true;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                fine = false;
                let why = "'None' must be the first and only value";
                errors.invalid(&at, all.to_vec(), why);
            }
            continue;
        }
        fine &= valid_ip(ip, &at.index(i), errors);
    }
    if ips.len() > 2 {
        errors.invalid(&at, all.to_vec(), "may only hold up to 2 values");
    }
    if !fine {
        return;
    }
    let is_v6 = |ip: &str| ip.contains(':');
    if let [first, second, ..] = ips.as_slice()
        && is_v6(first) == is_v6(second)
    {
        let why = "may specify no more than one IP for each IP family";
        errors.invalid(&at, all.to_vec(), why);
    }
    if is_headless(object) {
        return;
    }
    let families = meta::list(spec, &["ipFamilies"]);
    for (i, (ip, family)) in ips.iter().zip(families).enumerate() {
        let wanted = if is_v6(ip) { "IPv6" } else { "IPv4" };
        if let Some(family) = family
            .as_str()
            .filter(|f| FAMILIES.contains(f) && *f != wanted)
        {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&at.index(i), *ip, why);
        }
    }
}

fn validate_families(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, family) in meta::list(spec, &["ipFamilies"]).iter().enumerate() {
        let family = family.as_str().unwrap_or_default();
        let at = path.child("ipFamilies").index(i);
        if !FAMILIES.contains(&family) {
            errors.not_supported(&at, family, FAMILIES);
        }
        if seen.contains(&family) {
            errors.duplicate(&at, family);
        }
        seen.push(family);
    }
    if let Some(policy) = spec.get("ipFamilyPolicy").and_then(Value::as_str)
        && !FAMILY_POLICIES.contains(&policy)
    {
        errors.not_supported(&path.child("ipFamilyPolicy"), policy, FAMILY_POLICIES);
    }
}

fn validate_source_ranges(object: &Value, kind: &str, errors: &mut Errors) {
    let ranges = meta::list(object, &["spec", "loadBalancerSourceRanges"]);
    let annotation = meta::at(object, &["metadata", "annotations", SOURCE_RANGES]);
    let (at, all): (Path, Vec<&str>) = match (ranges.is_empty(), annotation) {
        (true, None) => return,
        (true, Some(text)) => (
            Path::new("metadata")
                .child("annotations")
                .key(SOURCE_RANGES),
            text.as_str().unwrap_or_default().split(',').collect(),
        ),
        (false, _) => (
            Path::new("spec").child("LoadBalancerSourceRanges"),
            ranges.iter().filter_map(Value::as_str).collect(),
        ),
    };
    if kind != "LoadBalancer" {
        let why = "may only be used when `type` is 'LoadBalancer'";
        errors.forbidden(&at, why);
    }
    for (i, range) in all.iter().map(|r| r.trim()).enumerate() {
        if !range.is_empty() && !is_cidr(range) {
            let at = if ranges.is_empty() {
                at.clone()
            } else {
                at.index(i)
            };
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&at, range, why);
        }
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((ip, bits)) = text.split_once('/') else {
        return false;
    };
    let most = if ip.contains(':') { 128 } else { 32 };
    ip.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok_and(|b| b <= most)
}

fn validate_balancer(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let why = "may only be used when `type` is 'LoadBalancer'";
    if kind != "LoadBalancer" {
        for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(key).is_some() {
                errors.forbidden(&path.child(key), why);
            }
        }
        return;
    }
    if spec.get("allocateLoadBalancerNodePorts").is_none() {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    if let Some(class) = spec.get("loadBalancerClass").and_then(Value::as_str) {
        let at = path.child("loadBalancerClass");
        errors.invalid_each(&at, class, names::qualified_name(class));
    }
}

fn validate_policies(object: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let spec = &object["spec"];
    let external = meta::text(spec, &["externalTrafficPolicy"]);
    let at = path.child("externalTrafficPolicy");
    match (is_externally_accessible(object), external) {
        (false, "") => {}
        (false, other) => {
            let why = "may only be set for externally-accessible services";
            errors.invalid(&at, other, why);
        }
        (true, "") => errors.required(&at, ""),
        (true, known) if POLICIES.contains(&known) => {}
        (true, other) => errors.not_supported(&at, other, POLICIES),
    }
    let port = meta::int(spec, &["healthCheckNodePort"]).unwrap_or(0);
    let at = path.child("healthCheckNodePort");
    if needs_health_check_port(object) {
        match port {
            0 => errors.required(&at, ""),
            n => {
                for why in names::port_number(n) {
                    errors.invalid(&at, n, why);
                }
            }
        }
    } else if port != 0 {
        let why =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&at, port, why);
    }
    let at = path.child("internalTrafficPolicy");
    match spec.get("internalTrafficPolicy").and_then(Value::as_str) {
        None if kind != "ExternalName" => errors.required(&at, ""),
        Some(other) if !POLICIES.contains(&other) => errors.not_supported(&at, other, POLICIES),
        None | Some(_) => {}
    }
    if let Some(other) = spec.get("trafficDistribution").and_then(Value::as_str)
        && !DISTRIBUTIONS.contains(&other)
    {
        errors.not_supported(&path.child("trafficDistribution"), other, DISTRIBUTIONS);
    }
}

pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let kind = |o: &Value| meta::text(o, &["spec", "type"]).to_owned();
    let path = Path::new("spec");
    if kind(new) != "ExternalName" && kind(old) != "ExternalName" {
        validate_ips_update(new, old, &path, errors);
    }
    let class = |o: &Value| meta::text(o, &["spec", "loadBalancerClass"]).to_owned();
    if kind(new) == "LoadBalancer" && kind(old) == "LoadBalancer" && class(new) != class(old) {
        let why = "may not change once set";
        errors.invalid(&path.child("loadBalancerClass"), class(new), why);
    }
    if needs_health_check_port(old)
        && needs_health_check_port(new)
        && old["spec"].get("healthCheckNodePort") != new["spec"].get("healthCheckNodePort")
    {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
}

/// The first address and family stay; the second may come and go.
fn validate_ips_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    if is_headless(new) && is_headless(old) {
        return;
    }
    for (key, what) in [("clusterIPs", "clusterIP"), ("ipFamilies", "ipFamily")] {
        if key == "ipFamilies" && is_headless(new) != is_headless(old) {
            continue;
        }
        let (is, was) = (
            meta::list(new, &["spec", key]),
            meta::list(old, &["spec", key]),
        );
        let at = path.child(key);
        match (was.first(), is.first()) {
            (Some(_), None) => {
                let why = format!("primary {what} can not be unset");
                errors.invalid(&at.index(0), json!([]), why);
            }
            (Some(a), Some(b)) if a != b => {
                errors.invalid(&at.index(0), is.to_vec(), "may not change once set");
            }
            _ => {}
        }
        if let (Some(a), Some(b)) = (was.get(1), is.get(1))
            && a != b
        {
            let at = if what == "clusterIP" {
                at.index(1)
            } else {
                at.index(0)
            };
            errors.invalid(&at, is.to_vec(), "may not change once set");
        }
        let policy = meta::text(new, &["spec", "ipFamilyPolicy"]);
        if was.len() > 1 && is.len() == 1 && policy != "SingleStack" {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {what}");
            errors.invalid(&path.child("ipFamilyPolicy"), policy, why);
        }
    }
}

pub(super) fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let ingress = meta::list(new, &["status", "loadBalancer", "ingress"]);
    let balancer = meta::text(new, &["spec", "type"]) == "LoadBalancer";
    if !ingress.is_empty() && !balancer {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.forbidden(&path, why);
        return;
    }
    for (i, entry) in ingress.iter().enumerate() {
        let at = path.index(i);
        let (ip, host) = (meta::text(entry, &["ip"]), meta::text(entry, &["hostname"]));
        if !ip.is_empty() {
            valid_ip(ip, &at.child("ip"), errors);
        }
        let mode = entry.get("ipMode").and_then(Value::as_str);
        if let Some(mode) = mode {
            if ip.is_empty() {
                errors.forbidden(
                    &at.child("ipMode"),
                    "may not be specified when `ip` is not set",
                );
            }
            if !matches!(mode, "VIP" | "Proxy") {
                errors.not_supported(&at.child("ipMode"), mode, &["Proxy", "VIP"]);
            }
        }
        if !host.is_empty() {
            errors.invalid_each(&at.child("hostname"), host, names::dns_subdomain(host));
            if host.parse::<IpAddr>().is_ok() {
                let why = "must be a DNS name, not an IP address";
                errors.invalid(&at.child("hostname"), host, why);
            }
        }
    }
}

/// Whether the text is an address; says so in `errors` if not.
pub(super) fn valid_ip(ip: &str, at: &Path, errors: &mut Errors) -> bool {
    if ip.parse::<IpAddr>().is_ok() {
        return true;
    }
    let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    errors.invalid(at, ip, why);
    false
}

/// Not one that means something else on every node.
pub(super) fn validate_ordinary_ip(ip: &str, at: &Path, errors: &mut Errors) {
    let Ok(parsed) = ip.parse::<IpAddr>() else {
        return;
    };
    if parsed.is_unspecified() {
        errors.invalid(at, ip, format!("may not be unspecified ({ip})"));
    }
    if parsed.is_loopback() {
        let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.invalid(at, ip, why);
    }
    let (unicast, multicast) = match parsed {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if unicast {
        let why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.invalid(at, ip, why);
    }
    if multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid(at, ip, why);
    }
}

//! Where a pod may run, and how it resolves names: affinity, spreading, gates,
//! DNS, host aliases.

use crate::field::{Errors, Path};
use crate::{label_selector, meta, names};
use serde_json::{Value, json};
use std::net::IpAddr;

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    validate_affinity(spec, &path.child("affinity"), errors);
    validate_spreading(spec, &path.child("topologySpreadConstraints"), errors);
    validate_gates(spec, path, errors);
    validate_dns(spec, &path.child("dnsConfig"), errors);
    for (i, alias) in meta::list(spec, &["hostAliases"]).iter().enumerate() {
        let at = path.child("hostAliases").index(i);
        let ip = meta::text(alias, &["ip"]);
        super::service_validate::valid_ip(ip, &at.child("ip"), errors);
        for (i, name) in meta::list(alias, &["hostnames"]).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let at = at.child("hostnames").index(i);
            errors.invalid_each(&at, name, names::dns_subdomain(name));
        }
    }
    one_of(
        spec,
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
        path,
        errors,
    );
    if let Some(os) = spec.get("os") {
        match meta::text(os, &["name"]) {
            "" => errors.required(&path.child("os").child("name"), "cannot be empty"),
            "linux" | "windows" => {}
            other => {
                let at = path.child("os").child("name");
                errors.not_supported(&at, other, &["linux", "windows"]);
            }
        }
    }
    let class = meta::text(spec, &["runtimeClassName"]);
    if !class.is_empty() {
        errors.invalid_each(
            &path.child("runtimeClassName"),
            class,
            names::dns_subdomain(class),
        );
    }
}

/// The text at `key`, where it is there, is one of these.
pub(super) fn one_of(value: &Value, key: &str, allowed: &[&str], at: &Path, errors: &mut Errors) {
    let found = meta::text(value, &[key]);
    if !found.is_empty() && !allowed.contains(&found) {
        errors.not_supported(&at.child(key), found, allowed);
    }
}

fn validate_gates(spec: &Value, path: &Path, errors: &mut Errors) {
    for (i, gate) in meta::list(spec, &["readinessGates"]).iter().enumerate() {
        let at = path.child("readinessGates").index(i).child("conditionType");
        let kind = meta::text(gate, &["conditionType"]);
        errors.invalid_each(&at, kind, names::qualified_name(kind));
    }
    let gates = meta::list(spec, &["schedulingGates"]);
    for (i, gate) in gates.iter().enumerate() {
        let at = path.child("schedulingGates").index(i);
        let name = meta::text(gate, &["name"]);
        errors.invalid_each(&at.child("name"), name, names::qualified_name(name));
        if gates
            .iter()
            .take(i)
            .any(|g| meta::text(g, &["name"]) == name)
        {
            errors.duplicate(&at, name);
        }
    }
}

const SCHEDULE: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];

fn validate_spreading(spec: &Value, path: &Path, errors: &mut Errors) {
    let all = meta::list(spec, &["topologySpreadConstraints"]);
    for (i, constraint) in all.iter().enumerate() {
        let at = path.index(i);
        let skew = meta::int(constraint, &["maxSkew"]).unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        let key = meta::text(constraint, &["topologyKey"]);
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        let action = meta::text(constraint, &["whenUnsatisfiable"]);
        if !SCHEDULE.contains(&action) {
            errors.not_supported(&at.child("whenUnsatisfiable"), action, SCHEDULE);
        }
        let same = |c: &Value| {
            meta::text(c, &["topologyKey"]) == key
                && meta::text(c, &["whenUnsatisfiable"]) == action
        };
        if all.iter().take(i).any(same) {
            let at = at.child("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&at, format!("{{{key}, {action}}}"));
        }
        if let Some(least) = meta::int(constraint, &["minDomains"]) {
            let at = at.child("minDomains");
            if least <= 0 {
                errors.invalid(&at, least, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.invalid(&at, least, why);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(constraint, key, &["Honor", "Ignore"], &at, errors);
        }
        if let Some(selector) = constraint.get("labelSelector") {
            label_selector::validate(selector, &at.child("labelSelector"), errors);
        } else if !meta::list(constraint, &["matchLabelKeys"]).is_empty() {
            let why = "must not be specified when labelSelector is not set";
            errors.forbidden(&at.child("matchLabelKeys"), why);
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn validate_affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    let affinity = spec.get("affinity").unwrap_or(&Value::Null);
    if let Some(node) = affinity.get("nodeAffinity") {
        let at = path.child("nodeAffinity");
        if let Some(required) = node.get(REQUIRED) {
            validate_node_selector(required, &at.child(REQUIRED), errors);
        }
        for (i, term) in meta::list(node, &[PREFERRED]).iter().enumerate() {
            let at = at.child(PREFERRED).index(i);
            validate_weight(term, &at, errors);
            validate_term(&term["preference"], &at.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(kind) else {
            continue;
        };
        let at = path.child(kind);
        for (i, term) in meta::list(pods, &[REQUIRED]).iter().enumerate() {
            validate_pod_term(term, &at.child(REQUIRED).index(i), errors);
        }
        for (i, term) in meta::list(pods, &[PREFERRED]).iter().enumerate() {
            let at = at.child(PREFERRED).index(i);
            validate_weight(term, &at, errors);
            validate_pod_term(
                &term["podAffinityTerm"],
                &at.child("podAffinityTerm"),
                errors,
            );
        }
    }
}

fn validate_weight(term: &Value, at: &Path, errors: &mut Errors) {
    let weight = meta::int(term, &["weight"]).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Also a volume's.
pub(super) fn validate_node_selector(selector: &Value, at: &Path, errors: &mut Errors) {
    let terms = meta::list(selector, &["nodeSelectorTerms"]);
    let path = at.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&path, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        validate_term(term, &path.index(i), errors);
    }
}

fn validate_term(term: &Value, at: &Path, errors: &mut Errors) {
    for (i, rule) in meta::list(term, &["matchExpressions"]).iter().enumerate() {
        let at = at.child("matchExpressions").index(i);
        let values = meta::list(rule, &["values"]);
        let path = at.child("values");
        match meta::text(rule, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.forbidden(
                &path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "Gt" | "Lt" if values.len() != 1 => errors.required(
                &path,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                let why = "not a valid selector operator";
                errors.invalid(&at.child("operator"), other, why);
            }
        }
        let key = meta::text(rule, &["key"]);
        errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
    }
    for (i, rule) in meta::list(term, &["matchFields"]).iter().enumerate() {
        let at = at.child("matchFields").index(i);
        let values = meta::list(rule, &["values"]);
        match meta::text(rule, &["operator"]) {
            "In" | "NotIn" if values.len() != 1 => errors.required(
                &at.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ),
            "In" | "NotIn" => {}
            other => {
                let why = "not a valid selector operator";
                errors.invalid(&at.child("operator"), other, why);
            }
        }
        let key = meta::text(rule, &["key"]);
        if key != "metadata.name" {
            errors.invalid(&at.child("key"), key, "not a valid field selector key");
        }
    }
}

fn validate_pod_term(term: &Value, at: &Path, errors: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(key) {
            label_selector::validate(selector, &at.child(key), errors);
        }
    }
    for (i, namespace) in meta::list(term, &["namespaces"]).iter().enumerate() {
        let name = namespace.as_str().unwrap_or_default();
        let at = at.child("namespaces").index(i);
        errors.invalid_each(&at, name, names::dns_label(name));
    }
    match meta::text(term, &["topologyKey"]) {
        "" => errors.required(&at.child("topologyKey"), "can not be empty"),
        key => errors.invalid_each(&at.child("topologyKey"), key, names::qualified_name(key)),
    }
}

fn validate_dns(spec: &Value, at: &Path, errors: &mut Errors) {
    let none = meta::text(spec, &["dnsPolicy"]) == "None";
    let Some(config) = spec.get("dnsConfig") else {
        if none {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.required(at, why);
        }
        return;
    };
    let servers = meta::list(config, &["nameservers"]);
    let path = at.child("nameservers");
    if none && servers.is_empty() {
        let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.required(&path, why);
    }
    if servers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&path, servers.to_vec(), why);
    }
    for (i, server) in servers.iter().enumerate() {
        let ip = server.as_str().unwrap_or_default();
        if ip.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.invalid(&path.index(i), ip, why);
        }
    }
    let searches = meta::list(config, &["searches"]);
    let path = at.child("searches");
    if searches.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&path, searches.to_vec(), why);
    }
    let texts: Vec<&str> = searches.iter().filter_map(Value::as_str).collect();
    if texts.join(" ").len() > SEARCH_CHARS_MAX {
        let why = format!(
            "must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list"
        );
        errors.invalid(&path, json!(texts), why);
    }
    for (i, search) in texts.iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search);
        errors.invalid_each(&path.index(i), name, names::dns_subdomain(name));
    }
    for (i, option) in meta::list(config, &["options"]).iter().enumerate() {
        if meta::text(option, &["name"]).is_empty() {
            errors.required(&at.child("options").index(i), "must not be empty");
        }
    }
}

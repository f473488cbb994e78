//! Ingress: HTTP hosts and paths to Services.

use crate::field::{Errors, Path};
use crate::kinds::{Kind, Subresource, addresses, service, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::net::IpAddr;

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    type_name: "io.k8s.api.networking.v1.Ingress",
    storage: "networking.k8s.io/ingresses",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default,
    validate,
    validate_create,
    validate_status,
    prepare_create: strategy::create_spec_status,
    prepare_update: strategy::update_spec_status,
    prepare_status: strategy::keep_spec,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Class", 0, "The class whose controller serves it."),
    text("Hosts", 0, "The hosts that it answers for."),
    text("Address", 0, "Where the load balancer listens."),
    text("Ports", 0, "The ports that are open."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let rules = meta::list(object, &["spec", "rules"]);
    let ports = match meta::list(object, &["spec", "tls"]) {
        [] => "80",
        _ => "80, 443",
    };
    vec![
        meta::name(object).into(),
        or_none(meta::text(object, &["spec", "ingressClassName"])),
        hosts(rules).into(),
        service::balancers(object).join(",").into(),
        ports.into(),
        age(object, now),
    ]
}

fn hosts(rules: &[Value]) -> String {
    const SHOWN: usize = 3;
    let mut named: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= named.len() == SHOWN;
        let host = meta::text(rule, &["host"]);
        if !more && !host.is_empty() {
            named.push(host);
        }
    }
    match (named.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, false) => named.join(","),
        (false, true) => format!("{} + {} more...", named.join(","), rules.len() - SHOWN),
    }
}

fn default(object: &mut Value) {
    meta::ensure(object, "spec");
    let status = meta::ensure(object, "status");
    meta::default(status, "loadBalancer", json!({}));
}

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

fn validate_create(object: &Value, errors: &mut Errors) {
    let class = meta::at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
    let annotation = meta::at(object, &["metadata", "annotations", CLASS_ANNOTATION]);
    if let (Some(class), Some(Value::String(annotation))) = (class, annotation)
        && class != annotation
    {
        errors.invalid(
            &Path::new("annotations").child(CLASS_ANNOTATION),
            annotation.as_str(),
            "must match `ingressClassName` when both are specified",
        );
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let rules = meta::list(spec, &["rules"]);
    let backend = spec.get("defaultBackend");
    if rules.is_empty() && backend.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, rules, why);
    }
    if let Some(backend) = backend {
        validate_backend(backend, &path.child("defaultBackend"), errors);
    }
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, &path.child("rules").index(i), errors);
    }
    for (i, tls) in meta::list(spec, &["tls"]).iter().enumerate() {
        let at = path.child("tls").index(i);
        for (i, host) in meta::list(tls, &["hosts"]).iter().enumerate() {
            let host = host.as_str().unwrap_or_default();
            errors.invalid_each(&at.child("hosts").index(i), host, host_name(host));
        }
        let secret = meta::text(tls, &["secretName"]);
        if !secret.is_empty() {
            errors.invalid_each(
                &at.child("secretName"),
                secret,
                names::dns_subdomain(secret),
            );
        }
    }
    if let Some(class) = spec.get("ingressClassName").and_then(Value::as_str) {
        errors.invalid_each(
            &path.child("ingressClassName"),
            class,
            names::dns_subdomain(class),
        );
    }
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns_subdomain(host)
    }
}

fn validate_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let host = meta::text(rule, &["host"]);
    if !host.is_empty() {
        let at = path.child("host");
        if host.parse::<IpAddr>().is_ok() {
            errors.invalid(&at, host, "must be a DNS name, not an IP address");
        }
        errors.invalid_each(&at, host, host_name(host));
    }
    let Some(http) = rule.get("http") else {
        return;
    };
    let at = path.child("http").child("paths");
    let paths = meta::list(http, &["paths"]);
    if paths.is_empty() {
        errors.required(&at, "");
    }
    for (i, path) in paths.iter().enumerate() {
        validate_path(path, &at.index(i), errors);
    }
}

fn validate_path(of: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
    const SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
    const SUFFIXES: &[&str] = &["/..", "/."];
    let text = meta::text(of, &["path"]);
    let at = path.child("path");
    let Some(kind) = of.get("pathType").and_then(Value::as_str) else {
        return errors.required(&path.child("pathType"), "pathType must be specified");
    };
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&at, text, "must be an absolute path");
            }
            for bad in SEQUENCES.iter().filter(|s| text.contains(**s)) {
                errors.invalid(&at, text, format!("must not contain '{bad}'"));
            }
            for bad in SUFFIXES.iter().filter(|s| text.ends_with(**s)) {
                errors.invalid(&at, text, format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&at, text, "must be an absolute path");
            }
        }
        other => errors.not_supported(&path.child("pathType"), other, TYPES),
    }
    validate_backend(&of["backend"], &path.child("backend"), errors);
}

fn validate_backend(backend: &Value, path: &Path, errors: &mut Errors) {
    match (backend.get("resource"), backend.get("service")) {
        (Some(_), Some(_)) => {
            errors.invalid(path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => {
            super::ingress_class::validate_reference(resource, &path.child("resource"), errors);
        }
        (None, Some(service)) => validate_service(service, path, errors),
        (None, None) => errors.invalid(path, "", "resource or service backend is required"),
    }
}

fn validate_service(service: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("service");
    match meta::text(service, &["name"]) {
        "" => errors.required(&at.child("name"), ""),
        name => errors.invalid_each(&at.child("name"), name, names::dns1035_label(name)),
    }
    let name = meta::text(service, &["port", "name"]);
    let number = meta::int(service, &["port", "number"]).unwrap_or(0);
    let at = at.child("port");
    match (name, number) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => {
            for why in names::port_number(number) {
                errors.invalid(&at.child("number"), number, why);
            }
        }
        (name, 0) => errors.invalid_each(&at.child("name"), name, names::port_name(name)),
        _ => errors.invalid(path, "", "cannot set both port name & port number"),
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let found = meta::list(new, &["status", "loadBalancer", "ingress"]);
    for (i, ingress) in found.iter().enumerate() {
        let at = path.index(i);
        let ip = meta::text(ingress, &["ip"]);
        if !ip.is_empty() {
            addresses::validate_ip(ip, &at.child("ip"), errors);
        }
        let host = meta::text(ingress, &["hostname"]);
        if !host.is_empty() {
            let at = at.child("hostname");
            errors.invalid_each(&at, host, names::dns_subdomain(host));
            if host.parse::<IpAddr>().is_ok() {
                errors.invalid(&at, host, "must be a DNS name, not an IP address");
            }
        }
    }
}

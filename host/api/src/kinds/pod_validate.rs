//! What a pod has to be, in upstream's words, and what Atoll refuses: a pod is
//! a micro-VM, so it shares no namespace with the host.

use super::{PROTOCOLS, pod_placement, pod_restart, pod_security, pod_volumes};
use crate::field::{Errors, Path};
use crate::{meta, names, resources};
use serde_json::Value;

const RESTART: &[&str] = &["Always", "OnFailure", "Never"];
const DNS: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
pub(super) const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE: &[&str] = &["FallbackToLogsOnError", "File"];

const HOST_SHARING: &[(&str, &str)] = &[
    ("hostNetwork", "network"),
    ("hostPID", "processes"),
    ("hostIPC", "IPC namespace"),
];

pub(super) fn validate(pod: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    validate_spec(&pod["spec"], &spec, errors);
    pod_volumes::validate_references(&pod["spec"], &spec, errors);
}

/// A new pod has no ephemeral containers.
pub(super) fn validate_create(pod: &Value, errors: &mut Errors) {
    let gated = !meta::list(pod, &["spec", "schedulingGates"]).is_empty();
    if gated && !meta::text(pod, &["spec", "nodeName"]).is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&Path::new("spec").child("nodeName"), why);
    }
    if !meta::list(pod, &["spec", "ephemeralContainers"]).is_empty() {
        let at = Path::new("spec").child("ephemeralContainers");
        errors.forbidden(&at, "cannot be set on create");
    }
}

/// Ephemeral containers: named apart from all others, without ports, probes
/// and resources.
pub(super) fn validate_ephemeral(spec: &Value, path: &Path, errors: &mut Errors) {
    const FORBIDDEN: &[&str] = &[
        "ports",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
    ];
    let volumes = pod_volumes::validate(spec, path, &mut Errors::default());
    let mut seen: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|part| meta::list(spec, &[part]))
        .map(|c| meta::text(c, &["name"]))
        .collect();
    for (i, container) in meta::list(spec, &["ephemeralContainers"])
        .iter()
        .enumerate()
    {
        let at = path.child("ephemeralContainers").index(i);
        let name = meta::text(container, &["name"]);
        if seen.contains(&name) && !name.is_empty() {
            errors.duplicate(&at.child("name"), name);
        }
        seen.push(name);
        validate_container(spec, container, &at, &volumes, errors);
        for key in FORBIDDEN.iter().filter(|k| container.get(**k).is_some()) {
            let why = "cannot be set for an Ephemeral Container";
            errors.forbidden(&at.child(key), why);
        }
        if container
            .get("resources")
            .is_some_and(|r| *r != serde_json::json!({}))
        {
            let why = "cannot be set for an Ephemeral Container";
            errors.forbidden(&at.child("resources"), why);
        }
        let target = meta::text(container, &["targetContainerName"]);
        let known = meta::list(spec, &["containers"])
            .iter()
            .any(|c| meta::text(c, &["name"]) == target);
        if !target.is_empty() && !known {
            errors.not_found(&at.child("targetContainerName"), target);
        }
    }
}

/// The spec of a pod, or of a template of pods.
pub(super) fn validate_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let volumes = pod_volumes::validate(spec, path, errors);
    let containers = meta::list(spec, &["containers"]);
    if containers.is_empty() {
        errors.required(&path.child("containers"), "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for part in ["containers", "initContainers"] {
        for (i, container) in meta::list(spec, &[part]).iter().enumerate() {
            let at = path.child(part).index(i);
            let name = meta::text(container, &["name"]);
            if seen.contains(&name) && !name.is_empty() {
                errors.duplicate(&at.child("name"), name);
            }
            seen.push(name);
            validate_container(spec, container, &at, &volumes, errors);
            pod_restart::validate(container, &at, errors);
            if part == "initContainers" && meta::text(container, &["restartPolicy"]) != "Always" {
                for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                    if container.get(probe).is_some() {
                        let why = "may not be set for init containers without restartPolicy=Always";
                        errors.forbidden(&at.child(probe), why);
                    }
                }
            }
        }
    }
    validate_policies(spec, path, errors);
    validate_names(spec, path, errors);
    pod_placement::validate(spec, path, errors);
    pod_security::validate_pod(spec, path, errors);
}

fn one_of(spec: &Value, key: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    match meta::text(spec, &[key]) {
        "" => errors.required(&path.child(key), ""),
        value if allowed.contains(&value) => {}
        value => errors.not_supported(&path.child(key), value, allowed),
    }
}

fn validate_policies(spec: &Value, path: &Path, errors: &mut Errors) {
    one_of(spec, "restartPolicy", RESTART, path, errors);
    one_of(spec, "dnsPolicy", DNS, path, errors);
    for (key, what) in HOST_SHARING {
        if meta::flag(spec, &[key]) {
            errors.forbidden(
                &path.child(key),
                format!("pods are micro-VMs and cannot share the {what} of the host"),
            );
        }
    }
    if let Some(n) = meta::int(spec, &["terminationGracePeriodSeconds"]).filter(|n| *n < 0) {
        let at = path.child("terminationGracePeriodSeconds");
        errors.invalid(&at, n, "must be greater than or equal to 0");
    }
    let deadline = meta::int(spec, &["activeDeadlineSeconds"]);
    if let Some(n) = deadline.filter(|n| !(1..=i64::from(i32::MAX)).contains(n)) {
        let at = path.child("activeDeadlineSeconds");
        errors.invalid(&at, n, "must be between 1 and 2147483647, inclusive");
    }
    for (i, toleration) in meta::list(spec, &["tolerations"]).iter().enumerate() {
        self::toleration(toleration, &path.child("tolerations").index(i), errors);
    }
}

pub(super) fn toleration(toleration: &Value, at: &Path, errors: &mut Errors) {
    let field = |key| meta::text(toleration, &[key]);
    let key = field("key");
    if !key.is_empty() {
        errors.invalid_each(&at.child("key"), key, names::qualified_name(key));
    }
    match field("operator") {
        "" | "Equal" if key.is_empty() => errors.invalid(
            &at.child("operator"),
            field("operator"),
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        "" | "Equal" => {
            errors.invalid_each(&at.child("value"), field("value"), names::label_value(field("value")));
        }
        "Exists" if field("value").is_empty() => {}
        "Exists" => errors.invalid(
            &at.child("operator"),
            "Exists",
            "value must be empty when `operator` is 'Exists'",
        ),
        other => errors.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
    }
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let effect = field("effect");
    if !effect.is_empty() && !effects.contains(&effect) {
        errors.not_supported(&at.child("effect"), effect, &effects);
    }
}

fn validate_names(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["hostname", "subdomain"] {
        let value = meta::text(spec, &[key]);
        if !value.is_empty() {
            errors.invalid_each(&path.child(key), value, names::dns_label(value));
        }
    }
    validate_override(spec, path, errors);
    for key in ["nodeName", "serviceAccountName", "priorityClassName"] {
        let value = meta::text(spec, &[key]);
        if !value.is_empty() {
            errors.invalid_each(&path.child(key), value, names::dns_subdomain(value));
        }
    }
    super::validate_labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    for (i, secret) in meta::list(spec, &["imagePullSecrets"]).iter().enumerate() {
        if meta::text(secret, &["name"]).is_empty() {
            errors.required(&path.child("imagePullSecrets").index(i).child("name"), "");
        }
    }
}

/// KEP-4762.
fn validate_override(spec: &Value, path: &Path, errors: &mut Errors) {
    const MAX: usize = 64;
    let value = meta::text(spec, &["hostnameOverride"]);
    if value.is_empty() {
        return;
    }
    let at = path.child("hostnameOverride");
    errors.invalid_each(&at, value, names::dns_subdomain(value));
    if value.len() > MAX {
        errors.too_long(&at, MAX);
    }
    if meta::flag(spec, &["setHostnameAsFQDN"]) {
        errors.forbidden(&at, "may not be set when `setHostnameAsFQDN` is true");
    }
}

fn validate_container(spec: &Value, c: &Value, at: &Path, volumes: &[String], errors: &mut Errors) {
    match meta::text(c, &["name"]) {
        "" => errors.required(&at.child("name"), ""),
        name => errors.invalid_each(&at.child("name"), name, names::dns_label(name)),
    }
    match meta::text(c, &["image"]) {
        "" => errors.required(&at.child("image"), ""),
        image if image.trim() != image => {
            let why = "must not have leading or trailing whitespace";
            errors.invalid(&at.child("image"), image, why);
        }
        _ => {}
    }
    one_of(c, "imagePullPolicy", PULL, at, errors);
    one_of(c, "terminationMessagePolicy", MESSAGE, at, errors);
    validate_ports(c, &at.child("ports"), errors);
    validate_env(c, at, errors);
    pod_volumes::validate_mounts(c, &at.child("volumeMounts"), volumes, errors);
    validate_resources(&c["resources"], &at.child("resources"), errors);
    pod_security::validate_container(spec, c, at, errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = c.get(probe) {
            validate_probe(p, &at.child(probe), probe != "readinessProbe", errors);
        }
    }
}

fn validate_ports(c: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in meta::list(c, &["ports"]).iter().enumerate() {
        let at = path.index(i);
        let name = meta::text(port, &["name"]);
        if !name.is_empty() {
            errors.invalid_each(&at.child("name"), name, names::port_name(name));
            if seen.contains(&name) {
                errors.duplicate(&at.child("name"), name);
            }
            seen.push(name);
        }
        match meta::int(port, &["containerPort"]).unwrap_or(0) {
            0 => errors.required(&at.child("containerPort"), ""),
            n => {
                for why in names::port_number(n) {
                    errors.invalid(&at.child("containerPort"), n, why);
                }
            }
        }
        if let Some(n) = meta::int(port, &["hostPort"]).filter(|n| *n != 0) {
            for why in names::port_number(n) {
                errors.invalid(&at.child("hostPort"), n, why);
            }
        }
        one_of(port, "protocol", PROTOCOLS, &at, errors);
    }
}

fn validate_env(c: &Value, at: &Path, errors: &mut Errors) {
    const SOURCES: &[&str] = &[
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    for (i, env) in meta::list(c, &["env"]).iter().enumerate() {
        let at = at.child("env").index(i);
        match meta::text(env, &["name"]) {
            "" => errors.required(&at.child("name"), ""),
            name => errors.invalid_each(&at.child("name"), name, names::env_name(name)),
        }
        let Some(from) = env.get("valueFrom") else {
            continue;
        };
        let at = at.child("valueFrom");
        if !meta::text(env, &["value"]).is_empty() {
            errors.invalid(&at, "", "may not be specified when `value` is not empty");
        }
        let given: Vec<&&str> = SOURCES.iter().filter(|s| from.get(**s).is_some()).collect();
        match given.as_slice() {
            [] => errors.invalid(&at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
            [_] => {}
            _ => errors.invalid(&at, "", "may not have more than one field specified at a time"),
        }
        for source in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(r) = from.get(source) {
                for key in ["name", "key"] {
                    if meta::text(r, &[key]).is_empty() {
                        errors.required(&at.child(source).child(key), "");
                    }
                }
            }
        }
        if let Some(r) = from.get("fieldRef")
            && meta::text(r, &["fieldPath"]).is_empty()
        {
            errors.required(&at.child("fieldRef").child("fieldPath"), "");
        }
    }
    validate_env_from(c, at, errors);
}

fn validate_env_from(c: &Value, at: &Path, errors: &mut Errors) {
    for (i, from) in meta::list(c, &["envFrom"]).iter().enumerate() {
        let at = at.child("envFrom").index(i);
        let sources = ["configMapRef", "secretRef"];
        match sources.iter().filter(|s| from.get(**s).is_some()).count() {
            0 => errors.invalid(
                &at,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => errors.invalid(
                &at,
                "",
                "may not have more than one field specified at a time",
            ),
        }
        for source in sources {
            if from.get(source).is_some() && meta::text(from, &[source, "name"]).is_empty() {
                errors.required(&at.child(source).child("name"), "");
            }
        }
    }
}

fn validate_resources(list: &Value, at: &Path, errors: &mut Errors) {
    for part in ["limits", "requests"] {
        for (name, value) in meta::members(list, &[part]) {
            let path = at.child(part).key(name);
            resources::validate_container_name(name, &path, errors);
            resources::validate_quantity(name, value, &path, errors);
        }
    }
    for (name, request) in meta::members(list, &["requests"]) {
        let strict = !resources::may_overcommit(name);
        let Some(limit) = meta::at(list, &["limits", name]) else {
            if strict {
                let why = "Limit must be set for non overcommitable resources";
                errors.required(&at.child("limits"), why);
            }
            continue;
        };
        let (Some(r), Some(l)) = (resources::parse(request), resources::parse(limit)) else {
            continue;
        };
        if strict && r != l {
            errors.invalid(
                &at.child("requests"),
                request.clone(),
                format!("must be equal to {name} limit of {l}"),
            );
        } else if r > l {
            errors.invalid(
                &at.child("requests"),
                request.clone(),
                format!("must be less than or equal to {name} limit of {l}"),
            );
        }
    }
}

fn validate_probe(probe: &Value, at: &Path, success_is_one: bool, errors: &mut Errors) {
    const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
    let given: Vec<&&str> = HANDLERS
        .iter()
        .filter(|h| probe.get(**h).is_some())
        .collect();
    match given.as_slice() {
        [] => errors.required(at, "must specify a handler type"),
        [_] => {}
        [_, more @ ..] => {
            for handler in more {
                let why = "may not specify more than 1 handler type";
                errors.forbidden(&at.child(handler), why);
            }
        }
    }
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "failureThreshold",
    ] {
        if let Some(n) = meta::int(probe, &[key]).filter(|n| *n < 0) {
            errors.invalid(&at.child(key), n, "must be greater than or equal to 0");
        }
    }
    if let Some(n) = meta::int(probe, &["successThreshold"]).filter(|n| success_is_one && *n != 1) {
        errors.invalid(&at.child("successThreshold"), n, "must be 1");
    }
    if probe.get("exec").is_some() && meta::list(probe, &["exec", "command"]).is_empty() {
        errors.required(&at.child("exec").child("command"), "");
    }
    for handler in ["httpGet", "tcpSocket"] {
        let Some(port) = meta::at(probe, &[handler, "port"]) else {
            continue;
        };
        let path = at.child(handler).child("port");
        match port {
            Value::String(name) => errors.invalid_each(&path, name, names::port_name(name)),
            other => {
                for why in names::port_number(other.as_i64().unwrap_or(0)) {
                    errors.invalid(&path, other.clone(), why);
                }
            }
        }
    }
}

//! A pod's defaults: upstream's `pkg/apis/core/v1/defaults.go`, and those that
//! its admission sets (priority, tolerations), which only pods get, not templates
//! of pods.

use crate::meta::{self, default, default_text, ensure};
use serde_json::{Map, Value, json};

pub(super) fn default_pod_spec(spec: &mut Map<String, Value>) {
    default_text(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "securityContext", json!({}));
    default_text(spec, "schedulerName", "default-scheduler");
    // One field, by its newer and its older name.
    for (from, to) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        if let Some(account) = spec.get(from).filter(|a| **a != "").cloned() {
            spec.insert(to.to_owned(), account);
        }
    }
    for part in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, part) {
            default_container(container);
        }
    }
    for volume in items(spec, "volumes") {
        default_volume(volume);
    }
}

pub(super) fn default_pod(object: &mut Value) {
    let spec = ensure(object, "spec");
    default_pod_spec(spec);
    default(spec, "enableServiceLinks", true);
    for part in ["initContainers", "containers"] {
        for container in items(spec, part) {
            default_requests(container);
        }
    }
    tolerate(spec, "node.kubernetes.io/not-ready");
    tolerate(spec, "node.kubernetes.io/unreachable");
}

/// The objects of the list at `key`.
fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

fn member<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_object_mut)
}

/// Five minutes for a node to come back, as upstream's admission grants.
fn tolerate(spec: &mut Map<String, Value>, key: &str) {
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    let covered = list.iter().any(|t| {
        let effect = meta::text(t, &["effect"]);
        let its_key = meta::text(t, &["key"]);
        (its_key == key || its_key.is_empty()) && matches!(effect, "" | "NoExecute")
    });
    if !covered {
        list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
    }
}

fn default_container(c: &mut Map<String, Value>) {
    default_text(c, "terminationMessagePath", "/dev/termination-log");
    default_text(c, "terminationMessagePolicy", "File");
    let image = c.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    default_text(c, "imagePullPolicy", policy);
    for port in items(c, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for env in items(c, "env") {
        if let Some(field) = member(env, "valueFrom").and_then(|v| member(v, "fieldRef")) {
            default_text(field, "apiVersion", "v1");
        }
        if let Some(r) = member(env, "valueFrom").and_then(|v| member(v, "resourceFieldRef")) {
            default(r, "divisor", "0");
        }
    }
    default(c, "resources", json!({}));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = member(c, probe) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        let get = member(c, "lifecycle")
            .and_then(|l| member(l, hook))
            .and_then(|h| member(h, "httpGet"));
        if let Some(get) = get {
            default_http_get(get);
        }
    }
}

/// What is limited and not requested is requested up to its limit.
fn default_requests(c: &mut Map<String, Value>) {
    if let Some(resources) = member(c, "resources")
        && let Some(Value::Object(limits)) = resources.get("limits").cloned()
    {
        let requests = resources.entry("requests").or_insert_with(|| json!({}));
        if let Some(requests) = requests.as_object_mut() {
            for (name, limit) in limits {
                requests.entry(name).or_insert(limit);
            }
        }
    }
}

/// `Always` for a moving tag, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') {
        return "IfNotPresent";
    }
    match name.rsplit_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

fn default_probe(probe: &mut Map<String, Value>) {
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 {
            probe.insert(key.to_owned(), value.into());
        }
    }
    if let Some(get) = member(probe, "httpGet") {
        default_http_get(get);
    }
    if let Some(grpc) = member(probe, "grpc") {
        default(grpc, "service", "");
    }
}

fn default_http_get(get: &mut Map<String, Value>) {
    default_text(get, "path", "/");
    default_text(get, "scheme", "HTTP");
}

fn default_volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|k| k == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = member(volume, source) {
            default(source, "defaultMode", 0o644);
        }
    }
    if let Some(down) = member(volume, "downwardAPI") {
        default_field_refs(down);
    }
    if let Some(path) = member(volume, "hostPath") {
        default(path, "type", "");
    }
    if let Some(image) = member(volume, "image") {
        let reference = image.get("reference").and_then(Value::as_str);
        let policy = pull_policy(reference.unwrap_or_default());
        default_text(image, "pullPolicy", policy);
    }
    let Some(projected) = member(volume, "projected") else {
        return;
    };
    for source in items(projected, "sources") {
        if let Some(token) = member(source, "serviceAccountToken") {
            default(token, "expirationSeconds", 3600);
        }
        if let Some(down) = member(source, "downwardAPI") {
            default_field_refs(down);
        }
    }
}

fn default_field_refs(down: &mut Map<String, Value>) {
    for item in items(down, "items") {
        if let Some(field) = member(item, "fieldRef") {
            default_text(field, "apiVersion", "v1");
        }
    }
}

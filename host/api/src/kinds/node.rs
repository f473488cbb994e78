//! Node.

use super::{Kind, Subresource};
use crate::field::{Errors, Path};
use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    type_name: "io.k8s.api.core.v1.Node",
    storage: "core/nodes",
    subresources: &[Subresource::NodeProxy, Subresource::Status],
    selectable: &["spec.unschedulable"],
    columns: COLUMNS,
    cells,
    default,
    validate,
    prepare_update: |new, old| meta::keep(new, old, "status"),
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Status", 0, "Whether the node is ready."),
    text("Roles", 0, "The roles of the node."),
    AGE,
    text("Version", 0, "The version of the node's agent."),
    text("Internal-IP", 1, "An address inside the cluster."),
    text("External-IP", 1, "An address from outside."),
    text("OS-Image", 1, "What the node runs."),
    text("Kernel-Version", 1, "The version of its kernel."),
    text("Container-Runtime", 1, "What runs the containers."),
];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

fn cells(object: &Value, now: Timestamp) -> Cells {
    let info = |key| match meta::text(object, &["status", "nodeInfo", key]) {
        "" => "<unknown>",
        v => v,
    };
    let mut kernel = info("kernelVersion").to_owned();
    let architecture = meta::text(object, &["status", "nodeInfo", "architecture"]);
    if !architecture.is_empty() {
        kernel = format!("{kernel} ({architecture})");
    }
    vec![
        meta::name(object).into(),
        status(object).into(),
        or_none(&roles(object)),
        age(object, now),
        meta::text(object, &["status", "nodeInfo", "kubeletVersion"]).into(),
        or_none(address(object, "InternalIP")),
        or_none(address(object, "ExternalIP")),
        info("osImage").into(),
        kernel.into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn status(object: &Value) -> String {
    let ready = meta::list(object, &["status", "conditions"])
        .iter()
        .rfind(|c| meta::text(c, &["type"]) == "Ready");
    let mut words = vec![match ready {
        Some(c) if meta::text(c, &["status"]) == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if meta::flag(object, &["spec", "unschedulable"]) {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = meta::members(object, &["metadata", "labels"])
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => value.as_str().filter(|_| key == ROLE_LABEL),
        })
        .filter(|r| !r.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    meta::list(object, &["status", "addresses"])
        .iter()
        .find(|a| meta::text(a, &["type"]) == kind)
        .map_or("", |a| meta::text(a, &["address"]))
}

/// `allocatable` is the capacity unless the node says otherwise.
fn default(object: &mut Value) {
    let capacity = meta::at(object, &["status", "capacity"]).cloned();
    if let Some(capacity) = capacity {
        meta::default(meta::ensure(object, "status"), "allocatable", capacity);
    }
    if object.get("spec").is_none() {
        object["spec"] = json!({});
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("taints");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in meta::list(object, &["spec", "taints"]).iter().enumerate() {
        let at = path.index(i);
        let (key, effect) = (meta::text(taint, &["key"]), meta::text(taint, &["effect"]));
        errors.invalid_each(&at.child("key"), key, crate::names::qualified_name(key));
        let value = meta::text(taint, &["value"]);
        errors.invalid_each(&at.child("value"), value, crate::names::label_value(value));
        if effect.is_empty() {
            errors.required(&at.child("effect"), "");
        } else if !EFFECTS.contains(&effect) {
            errors.not_supported(&at.child("effect"), effect, EFFECTS);
        }
        if seen.contains(&(key, effect)) {
            errors.duplicate(&at, taint.clone());
        }
        seen.push((key, effect));
    }
}

const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];

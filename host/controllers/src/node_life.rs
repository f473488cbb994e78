//! Nodes that fell silent: their conditions become Unknown; and the taints
//! that say what a node's conditions and `spec.unschedulable` mean for pods.
//!
//! A node is alive as long as its Lease or its Ready condition's heartbeat
//! changes, by this process's own clock: the node's clock may be wrong. Nobody
//! is evicted here.
//!
//! Owns on a node: the taints in `OWNED`, and conditions only of silent nodes.

use crate::Config;
use crate::recorder::{Report, Reporter};
use crate::scheduler::{NOT_READY, UNSCHEDULABLE, condition, no_schedule};
use api::time::rfc3339;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use reconcile::resource::core::NODES;
use reconcile::{Cache, Client, ObjectKey, Patch, Reflector, Target, Write};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
const LOOK: Duration = Duration::from_secs(1);

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const MEMORY: &str = "node.kubernetes.io/memory-pressure";
const DISK: &str = "node.kubernetes.io/disk-pressure";
const PID: &str = "node.kubernetes.io/pid-pressure";
const NETWORK: &str = "node.kubernetes.io/network-unavailable";
/// Taint keys, with effect NoSchedule, that nobody else decides.
const OWNED: [&str; 7] = [
    NOT_READY,
    UNREACHABLE,
    MEMORY,
    DISK,
    PID,
    NETWORK,
    UNSCHEDULABLE,
];
/// Conditions that a silent node can't vouch for.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What was last seen of each node, and when it last changed.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats(HashMap<String, (Sign, Instant)>);

/// Renewal and heartbeat, as the node wrote them.
#[derive(Clone, Debug, PartialEq)]
struct Sign(Option<Timestamp>, Option<Timestamp>);

impl Heartbeats {
    /// For how long the node has shown no sign.
    pub(crate) fn silence(&mut self, node: &Node, lease: Option<&Lease>, now: Instant) -> Duration {
        let name = node.metadata.name.clone().unwrap_or_default();
        let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref());
        let heartbeat = ready(node).and_then(|c| c.last_heartbeat_time.as_ref());
        let sign = Sign(renewed.map(|time| time.0), heartbeat.map(|time| time.0));
        let entry = self.0.entry(name).or_insert_with(|| (sign.clone(), now));
        if entry.0 != sign {
            *entry = (sign, now);
        }
        now - entry.1
    }

    fn keep(&mut self, nodes: &[ObjectKey]) {
        self.0
            .retain(|name, _| nodes.iter().any(|key| key.name == *name));
    }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "Ready")
}

pub(crate) fn plan(node: &Node, silent: bool, reporter: &Reporter, now: Timestamp) -> Vec<Write> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let target = Target {
        resource: NODES,
        namespace: None,
        name: name.clone(),
    };
    let mut writes = Vec::new();
    if silent && condition(node, "Ready") != Some("Unknown") {
        let conditions = unknown(node, now);
        let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
        writes.push(Write::Patch {
            target: target.clone(),
            subresource: Some("status"),
            patch,
        });
        if condition(node, "Ready") == Some("True") {
            let message = format!("Node {name} status is now: NodeNotReady");
            let report = Report {
                api_version: "v1",
                kind: "Node",
                object: &node.metadata,
                warning: false,
                reason: "NodeNotReady",
                action: "NodeNotReady",
                message: &message,
            };
            writes.push(reporter.event(&report, now));
        }
    }
    if let Some(taints) = taints(node, silent, now) {
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": taints},
        }));
        // First, as the status patch makes a new resource version.
        writes.insert(
            0,
            Write::Patch {
                target,
                subresource: None,
                patch,
            },
        );
    }
    writes
}

fn unknown(node: &Node, now: Timestamp) -> Vec<Value> {
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let found = |kind: &str| conditions.into_iter().flatten().find(|c| c.type_ == kind);
    let unknown = |kind: &&str| {
        let (reason, message) = match found(kind) {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => (
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
            ),
        };
        let heartbeat = found(kind).and_then(|c| c.last_heartbeat_time.as_ref());
        json!({
            "type": kind,
            "status": "Unknown",
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": heartbeat.map(|time| rfc3339(time.0)),
            "lastTransitionTime": rfc3339(now),
        })
    };
    REPORTED.iter().map(unknown).collect()
}

/// All taints of the node as they should be, or `None` if they are.
fn taints(node: &Node, silent: bool, now: Timestamp) -> Option<Vec<Value>> {
    let spec = node.spec.as_ref();
    let current = spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let is = |kind, status| condition(node, kind) == Some(status);
    let lost = silent || is("Ready", "Unknown");
    let wanted = [
        (NOT_READY, !lost && !is("Ready", "True")),
        (UNREACHABLE, lost),
        (MEMORY, is("MemoryPressure", "True")),
        (DISK, is("DiskPressure", "True")),
        (PID, is("PIDPressure", "True")),
        (NETWORK, is("NetworkUnavailable", "True")),
        (
            UNSCHEDULABLE,
            spec.and_then(|s| s.unschedulable) == Some(true),
        ),
    ];
    let wants = |key: &str| wanted.iter().any(|(k, wanted)| *k == key && *wanted);
    let owned = |taint: &Taint| OWNED.contains(&&*taint.key) && taint.effect == "NoSchedule";
    let has = |key: &str| current.iter().any(|t| owned(t) && t.key == key);
    if OWNED.iter().all(|key| wants(key) == has(key)) {
        return None;
    }
    let kept = current
        .iter()
        .filter(|t| !owned(t) || wants(&t.key))
        .cloned();
    let added = OWNED.iter().filter(|key| wants(key) && !has(key));
    let added = added.map(|key| no_schedule(key));
    let stamp = |(taint, new): (Taint, bool)| {
        let mut value = json!(taint);
        if new {
            value["timeAdded"] = json!(rfc3339(now));
        }
        value
    };
    Some(
        kept.map(|t| (t, false))
            .chain(added.map(|t| (t, true)))
            .map(stamp)
            .collect(),
    )
}

/// Wakes `run` when a node changes: what its conditions mean shall not wait.
pub(crate) fn feed(nodes: Reflector<Node>, changed: &Arc<Notify>) -> Reflector<Node> {
    let changed = changed.clone();
    nodes.on_change(move |_| changed.notify_one())
}

pub(crate) async fn run(
    client: &Client,
    config: &Config,
    nodes: &Cache<Node>,
    leases: &Cache<Lease>,
    changed: &Notify,
) {
    tokio::join!(nodes.synced(), leases.synced());
    let reporter = Reporter {
        component: "node-controller",
        instance: config.instance.clone(),
    };
    let mut heartbeats = Heartbeats::default();
    loop {
        heartbeats.keep(&nodes.keys());
        for node in nodes.list() {
            let name = node.metadata.name.clone().unwrap_or_default();
            let lease = leases.get(&ObjectKey::new(LEASE_NAMESPACE, name));
            let silence = heartbeats.silence(&node, lease.as_deref(), Instant::now());
            let silent = silence > config.node_grace;
            for write in plan(&node, silent, &reporter, Timestamp::now()) {
                match client.write(&write).await {
                    Ok(_) => {}
                    // The cache will show the newer one; the next look decides.
                    Err(error) if error.is_conflict() || error.is_not_found() => break,
                    Err(error) => {
                        log::warn!("node life cycle: {error}");
                        break;
                    }
                }
            }
        }
        // Or at the latest then, as silence makes no change.
        let _ = tokio::time::timeout(LOOK, changed.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::time::parse;

    fn node(ready: Option<&str>, unschedulable: bool, taints: &[&str]) -> Node {
        let condition = |status: &str| json!([{"type": "Ready", "status": status, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
        let taint = |key: &&str| json!({"key": key, "effect": "NoSchedule"});
        let taints: Vec<_> = taints.iter().map(taint).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n", "resourceVersion": "5"},
            "spec": {"unschedulable": unschedulable, "taints": taints},
            "status": {"conditions": ready.map(condition)},
        }))
        .expect("a fixture")
    }

    /// Taint keys written, conditions made Unknown, events.
    fn outline(writes: &[Write]) -> String {
        let part = |write: &Write| match write {
            Write::Patch {
                patch: Patch::Merge(body),
                ..
            } => {
                assert_eq!(body["metadata"]["resourceVersion"], "5");
                let taints = body["spec"]["taints"].as_array().expect("taints");
                let keys: Vec<_> = taints.iter().filter_map(|t| t["key"].as_str()).collect();
                let keys: Vec<_> = keys
                    .iter()
                    .filter_map(|k| k.split('/').next_back())
                    .collect();
                format!("taints[{}]", keys.join(" "))
            }
            Write::Patch {
                patch: Patch::Strategic(body),
                ..
            } => {
                let first = &body["status"]["conditions"][0];
                format!("{}={} {}", first["type"], first["status"], first["reason"])
            }
            Write::Create { object, .. } => format!("event {}", object["reason"]),
            other => format!("{other:?}"),
        };
        writes
            .iter()
            .map(part)
            .collect::<Vec<_>>()
            .join(", ")
            .replace('"', "")
    }

    #[test]
    fn conditions_become_taints_and_silence_unknown() {
        let now = parse("2026-01-01T00:01:00Z").expect("a time");
        let reporter = Reporter {
            component: "node-controller",
            instance: "x".into(),
        };
        for (node, silent, expected) in [
            (node(Some("True"), false, &[]), false, ""),
            (node(Some("True"), false, &["mine"]), false, ""),
            (
                node(Some("False"), false, &["mine"]),
                false,
                "taints[mine not-ready]",
            ),
            (node(Some("False"), false, &[NOT_READY]), false, ""),
            (
                node(Some("True"), false, &[NOT_READY, "mine"]),
                false,
                "taints[mine]",
            ),
            (node(Some("True"), true, &[UNSCHEDULABLE]), false, ""),
            (
                node(Some("True"), true, &[]),
                false,
                "taints[unschedulable]",
            ),
            (
                node(Some("True"), false, &[UNSCHEDULABLE]),
                false,
                "taints[]",
            ),
            (
                node(Some("True"), false, &[]),
                true,
                "taints[unreachable], Ready=Unknown NodeStatusUnknown, event NodeNotReady",
            ),
            (
                node(None, false, &[NOT_READY]),
                true,
                "taints[unreachable], Ready=Unknown NodeStatusNeverUpdated",
            ),
            (node(Some("Unknown"), false, &[UNREACHABLE]), true, ""),
        ] {
            assert_eq!(
                outline(&plan(&node, silent, &reporter, now)),
                expected,
                "{node:?}"
            );
        }
    }

    #[test]
    fn silence_is_measured_by_the_own_clock() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let node = node(Some("True"), false, &[]);
        let lease = |second: u32| -> Lease {
            let time = format!("2001-01-01T00:00:{second:02}.000000Z");
            serde_json::from_value(json!({"spec": {"renewTime": time}})).expect("a fixture")
        };
        let mut heartbeats = Heartbeats::default();
        for (now, renewed, silence) in [(0, 1, 0), (10, 1, 10), (12, 2, 0), (60, 2, 48)] {
            let found = heartbeats.silence(&node, Some(&lease(renewed)), at(now));
            assert_eq!(found.as_secs(), silence, "at {now}");
        }
        assert_eq!(
            heartbeats.silence(&node, None, at(61)).as_secs(),
            0,
            "a lost lease is a change"
        );
        heartbeats.keep(&[]);
        assert!(heartbeats.0.is_empty());
    }
}

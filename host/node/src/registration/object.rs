//! What the Node object says, from what was seen. Pure.

use super::{Identity, Seen};
use crate::eviction::Pressure;
use crate::pod::observed::Note;
use crate::pod::resources::Amount;
use crate::pod::runtime_class::HANDLER;
use crate::pod::status::time;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the Node's conditions come from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) pressure: Pressure,
    pub(super) ending: bool,
}

/// What pods may have of a machine.
pub(crate) fn allocatable(seen: &Seen, reserve: Amount) -> Amount {
    Amount {
        cpu_milli: (seen.cpus * 1000).saturating_sub(reserve.cpu_milli),
        memory: seen.memory.saturating_sub(reserve.memory),
    }
}

pub(super) fn labels(identity: &Identity) -> BTreeMap<String, String> {
    let mut labels = identity.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", identity.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", "amd64"),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

pub(super) fn status(
    identity: &Identity,
    seen: &Seen,
    state: State,
    images: Vec<ContainerImage>,
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let all = Amount {
        cpu_milli: seen.cpus * 1000,
        memory: seen.memory,
    };
    NodeStatus {
        addresses: Some(addresses(identity, seen)),
        allocatable: Some(amounts(identity, seen, allocatable(seen, identity.reserve))),
        capacity: Some(amounts(identity, seen, all)),
        conditions: Some(conditions(state, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: i32::from(identity.port),
            }),
        }),
        images: Some(images),
        node_info: Some(NodeSystemInfo {
            architecture: "amd64".to_owned(),
            boot_id: seen.boot_id.clone(),
            container_runtime_version: format!("atoll://{VERSION}"),
            kernel_version: seen.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: format!("v1.36.0-atoll.{VERSION}"),
            machine_id: seen.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: format!("Atoll {VERSION}"),
            system_uuid: seen.machine_id.clone(),
            swap: None,
        }),
        features: Some(NodeFeatures {
            supplemental_groups_policy: Some(true),
        }),
        runtime_handlers: Some(["", HANDLER].map(handler).into()),
        ..NodeStatus::default()
    }
}

fn handler(name: &str) -> NodeRuntimeHandler {
    NodeRuntimeHandler {
        name: Some(name.to_owned()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(true),
            user_namespaces: Some(false),
        }),
    }
}

/// Whether more than heartbeats and what is free at the moment differ.
pub(super) fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let settled = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    settled(old) != settled(new)
}

fn addresses(identity: &Identity, seen: &Seen) -> Vec<NodeAddress> {
    let of = |type_: &str, address: String| NodeAddress {
        type_: type_.to_owned(),
        address,
    };
    let internal = seen
        .addresses
        .iter()
        .map(|a| of("InternalIP", a.to_string()));
    internal
        .chain([of("Hostname", identity.name.clone())])
        .collect()
}

fn amounts(identity: &Identity, seen: &Seen, amount: Amount) -> BTreeMap<String, Quantity> {
    let cpu = if amount.cpu_milli.is_multiple_of(1000) {
        (amount.cpu_milli / 1000).to_string()
    } else {
        format!("{}m", amount.cpu_milli)
    };
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu)),
        (
            "memory".to_owned(),
            Quantity(format!("{}Ki", amount.memory / 1024)),
        ),
        (
            "ephemeral-storage".to_owned(),
            Quantity(format!("{}Ki", seen.disk / 1024)),
        ),
        ("pods".to_owned(), Quantity(identity.max_pods.to_string())),
    ])
}

fn conditions(state: State, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let old = before
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let own = own_conditions(state);
    // Conditions of others stay where they are.
    let foreign = old.iter().filter(|c| own.iter().all(|p| p.0 != c.type_));
    let mut list: Vec<NodeCondition> = foreign.cloned().collect();
    for (name, is, yes, no) in own {
        let status = if is { "True" } else { "False" };
        let (reason, message) = if is { yes } else { no };
        let same = old.iter().find(|c| c.type_ == name && c.status == status);
        let since = same.and_then(|c| c.last_transition_time.clone());
        list.push(NodeCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(time(now)),
            last_transition_time: Some(since.unwrap_or_else(|| time(now))),
        });
    }
    list
}

/// Events of conditions that have turned, in upstream's words.
pub(super) fn turns(node: &str, before: Option<&NodeStatus>, now: &NodeStatus) -> Vec<Note> {
    const TOLD: [(&str, &str, &str); 4] = [
        (
            "MemoryPressure",
            "NodeHasInsufficientMemory",
            "NodeHasSufficientMemory",
        ),
        (
            "DiskPressure",
            "NodeHasDiskPressure",
            "NodeHasNoDiskPressure",
        ),
        (
            "PIDPressure",
            "NodeHasInsufficientPID",
            "NodeHasSufficientPID",
        ),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    let holds = |status: &NodeStatus, name: &str| {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition.type_ == name);
        found.map(|condition| condition.status == "True")
    };
    let turned = TOLD.into_iter().filter_map(|(name, yes, no)| {
        let is = holds(now, name)?;
        let was = before.and_then(|before| holds(before, name));
        let reason = if is { yes } else { no };
        let text = format!("Node {node} status is now: {reason}");
        (was != Some(is)).then(|| Note::normal(reason, text))
    });
    turned.collect()
}

/// Reason and message.
type Words = (&'static str, &'static str);

/// This node's conditions: type, whether it holds, the words if so and if not.
fn own_conditions(state: State) -> [(&'static str, bool, Words, Words); 4] {
    let State { pressure, ending } = state;
    [
        (
            "MemoryPressure",
            pressure.memory,
            (
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
            (
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
        ),
        (
            "DiskPressure",
            pressure.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        (
            "PIDPressure",
            pressure.pids,
            (
                "KubeletHasInsufficientPID",
                "kubelet has insufficient PID available",
            ),
            (
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
        ),
        (
            "Ready",
            !ending,
            ("KubeletReady", "atoll node is posting ready status"),
            ("KubeletNotReady", "node is shutting down"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn seen() -> Seen {
        Seen {
            cpus: 2,
            memory: 4 << 30,
            disk: 100 << 30,
            addresses: vec!["10.0.2.15".parse().expect("an address")],
            ..Seen::default()
        }
    }

    fn made(state: State, before: Option<&NodeStatus>, second: i64) -> NodeStatus {
        let identity = Identity {
            name: "n1".to_owned(),
            labels: BTreeMap::new(),
            port: 10250,
            max_pods: 110,
            reserve: Amount {
                cpu_milli: 100,
                memory: 256 * MIB,
            },
        };
        let now = Timestamp::from_second(second).expect("in range");
        status(&identity, &seen(), state, Vec::new(), before, now)
    }

    #[test]
    fn a_status_says_what_is_left_over() {
        let status = made(State::default(), None, 1);
        let allocatable = status.allocatable.expect("is there");
        assert_eq!(allocatable["cpu"].0, "1900m");
        assert_eq!(
            allocatable["memory"].0,
            format!("{}Ki", (4096 - 256) * 1024)
        );
        let capacity = status.capacity.expect("is there");
        assert_eq!(
            (capacity["cpu"].0.as_str(), capacity["pods"].0.as_str()),
            ("2", "110")
        );
    }

    #[test]
    fn conditions_remember_when_they_changed() {
        let first = made(State::default(), None, 1);
        let same = made(State::default(), Some(&first), 2);
        assert!(!differs(&first, &same), "a heartbeat is no news");
        let full = State {
            pressure: Pressure {
                disk: true,
                ..Pressure::default()
            },
            ..State::default()
        };
        let full = made(full, Some(&same), 3);
        assert!(differs(&same, &full));
        let turned = turns("n1", Some(&same), &full);
        let reasons: Vec<_> = turned.iter().map(|note| note.reason).collect();
        assert_eq!(reasons, ["NodeHasDiskPressure"]);
        assert_eq!(
            turned[0].message,
            "Node n1 status is now: NodeHasDiskPressure"
        );
        let conditions = full.conditions.expect("is there");
        let at = |name: &str| {
            let found = conditions
                .iter()
                .find(|c| c.type_ == name)
                .expect("is there");
            let since = found.last_transition_time.as_ref().map(|t| t.0.as_second());
            (found.status.clone(), since)
        };
        assert_eq!(at("DiskPressure"), ("True".to_owned(), Some(3)));
        assert_eq!(at("Ready"), ("True".to_owned(), Some(1)));
    }
}

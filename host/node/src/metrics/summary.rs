//! `/stats/summary`: upstream's `staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1`.
//!
//! What isn't known is absent. `cpu` and `memory` of a pod are the host's figures
//! of its machine; all else of it is what its guest says.

use super::sample::{ContainerFigures, NodeFigures, PodFigures, Sample, Usage};
use guest_protocol::{Filesystem, InterfaceStats};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    CpuAndMemory,
}

pub(crate) fn document(sample: &Sample, extent: Extent) -> Value {
    let pods: Vec<Value> = sample
        .pods
        .iter()
        .map(|one| pod(one, sample, extent))
        .collect();
    json!({"node": node(&sample.node, extent), "pods": pods})
}

fn node(node: &NodeFigures, extent: Extent) -> Value {
    let system = [("kubelet", &node.own), ("pods", &node.vmms)];
    let system = system.into_iter().filter_map(|(name, usage)| {
        let usage = usage.as_ref()?;
        Some(object([
            ("name", json!(name)),
            ("startTime", time(node.booted_at)),
            ("cpu", cpu(usage)),
            ("memory", memory(usage)),
        ]))
    });
    let mut out = vec![
        ("nodeName", json!(node.name)),
        ("systemContainers", system.collect()),
        ("startTime", time(node.booted_at)),
        ("cpu", cpu(&node.usage)),
        ("memory", memory(&node.usage)),
    ];
    if extent == Extent::All {
        let at = node.usage.at;
        let disk = node.disk.as_ref();
        let disk = disk.map_or(Value::Null, |disk| filesystem(disk, at, None));
        out.push(("network", network(&node.interfaces, at)));
        out.push(("runtime", json!({"imageFs": disk, "containerFs": disk})));
        out.push(("fs", disk));
        let processes = node.processes.map(|processes| {
            json!({"time": time(at), "maxpid": processes.max, "curproc": processes.now})
        });
        out.push(("rlimit", processes.unwrap_or_default()));
    }
    object(out)
}

fn pod(pod: &PodFigures, sample: &Sample, extent: Extent) -> Value {
    let of_containers = pod.containers.iter();
    let containers: Vec<Value> = of_containers
        .filter(|one| one.usage.is_some())
        .map(|one| container(one, sample, extent))
        .collect();
    let of = |show: fn(&Usage) -> Value| pod.usage.as_ref().map(show).unwrap_or_default();
    let mut out = vec![
        (
            "podRef",
            json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}),
        ),
        ("startTime", pod.started_at.map_or(Value::Null, time)),
        ("containers", containers.into()),
        ("cpu", of(cpu)),
        ("memory", of(memory)),
    ];
    if let (Extent::All, Some(at)) = (extent, pod.told_at) {
        let volumes = pod.volumes.iter().map(|volume| {
            let mut one = filesystem(&volume.filesystem, at, None);
            one["name"] = json!(volume.name);
            one
        });
        let processes = pod.containers.iter().filter_map(|one| one.usage.as_ref());
        let processes = processes
            .map(|usage| usage.pids)
            .fold(0, u64::saturating_add);
        out.push(("network", network(&pod.interfaces, at)));
        out.push(("volume", volumes.collect()));
        out.push(("ephemeral-storage", ephemeral(pod, sample, at)));
        out.push(("process_stats", json!({"process_count": processes})));
    }
    object(out)
}

fn container(container: &ContainerFigures, sample: &Sample, extent: Extent) -> Value {
    let usage = container.usage.as_ref();
    let mut out = vec![
        ("name", json!(container.name)),
        ("startTime", time(container.started_at)),
        ("cpu", usage.map(cpu).unwrap_or_default()),
        ("memory", usage.map(memory).unwrap_or_default()),
    ];
    if let (Extent::All, Some(usage)) = (extent, usage) {
        let layer = container.layer.as_ref();
        let layer = layer.map(|layer| filesystem(layer, usage.at, None));
        out.push(("rootfs", layer.unwrap_or_default()));
        let disk = sample.node.disk.as_ref();
        let logs = disk.map(|disk| filesystem(disk, usage.at, Some(container.logs)));
        out.push(("logs", logs.unwrap_or_default()));
    }
    object(out)
}

fn cpu(usage: &Usage) -> Value {
    object([
        ("time", time(usage.at)),
        ("usageNanoCores", json!(usage.cpu_rate)),
        ("usageCoreNanoSeconds", json!(usage.cpu_ns)),
    ])
}

fn memory(usage: &Usage) -> Value {
    object([
        ("time", time(usage.at)),
        ("availableBytes", json!(usage.available())),
        ("usageBytes", json!(usage.memory.usage)),
        ("workingSetBytes", json!(usage.working_set)),
        ("rssBytes", json!(usage.memory.rss)),
        ("pageFaults", json!(usage.memory.page_faults)),
        ("majorPageFaults", json!(usage.memory.major_page_faults)),
    ])
}

/// A file system, or so many bytes of it.
fn filesystem(of: &Filesystem, at: Timestamp, part: Option<u64>) -> Value {
    let inodes = part
        .is_none()
        .then_some(of.inodes.saturating_sub(of.inodes_free));
    object([
        ("time", time(at)),
        ("availableBytes", json!(of.available)),
        ("capacityBytes", json!(of.capacity)),
        ("usedBytes", json!(part.unwrap_or(of.used))),
        ("inodesFree", json!(of.inodes_free)),
        ("inodes", json!(of.inodes)),
        ("inodesUsed", json!(inodes)),
    ])
}

/// Of layers, logs and volumes together.
fn ephemeral(pod: &PodFigures, sample: &Sample, at: Timestamp) -> Value {
    let layers = pod.containers.iter().filter_map(|one| one.layer);
    let volumes = pod.volumes.iter().map(|volume| volume.filesystem);
    let (used, inodes) = layers
        .chain(volumes)
        .fold((pod.logs, 0_u64), |(used, inodes), one| {
            let own = one.inodes.saturating_sub(one.inodes_free);
            (used.saturating_add(one.used), inodes.saturating_add(own))
        });
    let Some(disk) = &sample.node.disk else {
        return Value::Null;
    };
    let mut out = filesystem(disk, at, Some(used));
    out["inodesUsed"] = json!(inodes);
    out
}

/// The first interface stands for all, too, as upstream has it.
fn network(interfaces: &[InterfaceStats], at: Timestamp) -> Value {
    let one = |interface: &InterfaceStats| {
        json!({
            "name": interface.name,
            "rxBytes": interface.rx_bytes, "rxErrors": interface.rx_errors,
            "txBytes": interface.tx_bytes, "txErrors": interface.tx_errors,
        })
    };
    let Some(first) = interfaces.first() else {
        return Value::Null;
    };
    let mut out = one(first);
    out["time"] = time(at);
    out["interfaces"] = interfaces.iter().map(one).collect();
    out
}

/// Whole seconds, as upstream writes times.
fn time(at: Timestamp) -> Value {
    let whole = Timestamp::from_second(at.as_second()).unwrap_or(at);
    json!(whole.to_string())
}

/// An object without what isn't known.
fn object(members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let known = members.into_iter().filter(|(_, value)| !value.is_null());
    let members: Map<String, Value> = known.map(|(key, value)| (key.to_owned(), value)).collect();
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::sample;

    #[test]
    fn the_document_is_upstreams() {
        let sample = sample::samples::sample();
        let whole = document(&sample, Extent::All);
        for (pointer, wanted) in [
            ("/node/nodeName", json!("n1")),
            ("/node/cpu/usageCoreNanoSeconds", json!(100_000_000_000_u64)),
            ("/node/cpu/time", json!("2023-11-14T22:13:30Z")),
            ("/node/fs/usedBytes", json!(400)),
            ("/node/runtime/imageFs/inodesUsed", json!(10)),
            ("/node/rlimit/curproc", json!(7)),
            ("/node/systemContainers/0/name", json!("kubelet")),
            ("/pods/0/podRef/name", json!("web")),
            ("/pods/0/cpu/usageNanoCores", json!(250_000_000)),
            ("/pods/0/memory/availableBytes", json!(16384)),
            ("/pods/0/containers/0/memory/workingSetBytes", json!(4096)),
            ("/pods/0/containers/0/rootfs/usedBytes", json!(400)),
            ("/pods/0/containers/0/logs/usedBytes", json!(10)),
            ("/pods/0/containers/1", Value::Null),
            ("/pods/0/network/interfaces/0/rxBytes", json!(5)),
            ("/pods/0/network/name", json!("eth0")),
            ("/pods/0/volume/0/name", json!("data")),
            ("/pods/0/ephemeral-storage/usedBytes", json!(820)),
            ("/pods/0/process_stats/process_count", json!(4)),
        ] {
            let found = whole.pointer(pointer).cloned().unwrap_or_default();
            assert_eq!(found, wanted, "{pointer} in {whole:#}");
        }
        let part = document(&sample, Extent::CpuAndMemory);
        assert!(part.pointer("/pods/0/containers/0/memory").is_some());
        for pointer in ["/node/fs", "/pods/0/volume", "/pods/0/containers/0/rootfs"] {
            assert_eq!(part.pointer(pointer), None, "{pointer}");
        }
    }
}

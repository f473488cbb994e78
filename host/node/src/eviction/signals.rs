//! What the host says of its memory, its disk and its processes.

use super::Resource;
use crate::kubelet::Signal;
use crate::metrics::Sources;
use std::collections::BTreeMap;
use std::path::Path;

/// Of a signal: what is left, of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) available: u64,
    pub(super) capacity: u64,
}

/// What can't be observed is absent, and decides nothing.
pub(super) type Observations = BTreeMap<Signal, Observation>;

pub(super) fn observe(sources: &Sources, data: &Path) -> Observations {
    let mut found = Observations::new();
    let mut add = |signal, available, capacity| {
        if capacity > 0 {
            let observation = Observation {
                available,
                capacity,
            };
            found.insert(signal, observation);
        }
    };
    let memory = sources.node();
    if let (Some(available), Some(capacity)) = (memory.available(), memory.memory_limit) {
        add(Signal::MemoryAvailable, available, capacity);
    }
    if let Some(disk) = sources.disk(data) {
        for (bytes, inodes) in [
            (Signal::NodeFsAvailable, Signal::NodeFsInodesFree),
            (Signal::ImageFsAvailable, Signal::ImageFsInodesFree),
        ] {
            add(bytes, disk.available, disk.capacity);
            add(inodes, disk.inodes_free, disk.inodes);
        }
    }
    if let Some(processes) = sources.processes() {
        let left = processes.max.saturating_sub(processes.now);
        add(Signal::PidAvailable, left, processes.max);
    }
    found
}

/// A figure of a resource in upstream's form.
pub(super) fn figure(resource: Resource, amount: u64) -> String {
    match resource {
        Resource::Memory | Resource::Storage => crate::kubelet::quantity(amount),
        Resource::Inodes | Resource::Pids => crate::kubelet::count(amount),
    }
}

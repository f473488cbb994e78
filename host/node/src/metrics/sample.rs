//! One look at the node: plain figures, with the time at which each was taken.

use guest_protocol::{Filesystem, InterfaceStats, IoStats, MemoryStats, Throttling, VolumeStats};
use jiff::Timestamp;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) node: NodeFigures,
    /// In the order of namespaces and names.
    pub(crate) pods: Vec<Arc<PodFigures>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFigures {
    pub(crate) name: String,
    pub(crate) booted_at: Timestamp,
    pub(crate) cpus: u64,
    pub(crate) memory: u64,
    pub(crate) kernel: String,
    pub(crate) machine_id: String,
    pub(crate) boot_id: String,
    pub(crate) usage: Usage,
    /// Of the role that this process is, and of all vmms.
    pub(crate) own: Option<Usage>,
    pub(crate) vmms: Option<Usage>,
    pub(crate) interfaces: Vec<InterfaceStats>,
    /// Of the data directory: images, logs, everything.
    pub(crate) disk: Option<Filesystem>,
    pub(crate) processes: Option<Processes>,
}

/// Of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) max: u64,
    pub(crate) now: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PodFigures {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The name of its machine's cgroup.
    pub(crate) group: String,
    pub(crate) started_at: Option<Timestamp>,
    /// Of the cgroup around its machine; `None` while there is none.
    pub(crate) usage: Option<Usage>,
    /// When its guest said what follows; `None` if it didn't.
    pub(crate) told_at: Option<Timestamp>,
    pub(crate) interfaces: Vec<InterfaceStats>,
    pub(crate) volumes: Vec<VolumeStats>,
    /// Those that run, in the pod's order.
    pub(crate) containers: Vec<ContainerFigures>,
    /// The bytes of its containers' logs.
    pub(crate) logs: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerFigures {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    /// Without the scheme.
    pub(crate) id: String,
    pub(crate) image: String,
    pub(crate) started_at: Timestamp,
    pub(crate) spec: Spec,
    /// What its guest claims, bounded.
    pub(crate) usage: Option<Usage>,
    pub(crate) layer: Option<Filesystem>,
    pub(crate) logs: u64,
}

/// What a container asks for and may have at most; 0 where the pod says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) cpu_request_milli: u64,
    pub(crate) cpu_limit_milli: u64,
    pub(crate) memory_request: u64,
    pub(crate) memory_limit: u64,
}

/// Of one cgroup. Counters go on for as long as the group is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) at: Timestamp,
    pub(crate) cpu_ns: u64,
    pub(crate) cpu_user_ns: Option<u64>,
    pub(crate) cpu_system_ns: Option<u64>,
    /// Billionths of a CPU, since the sample before.
    pub(crate) cpu_rate: Option<u64>,
    pub(crate) throttling: Option<Throttling>,
    pub(crate) memory: MemoryStats,
    /// Memory without pages of files that were not used lately.
    pub(crate) working_set: u64,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
    pub(crate) io: Option<IoStats>,
    pub(crate) pids: u64,
}

impl Usage {
    /// With the rate since an earlier look at the same group.
    pub(crate) fn since(self, before: Option<&Usage>) -> Usage {
        let rate = before.and_then(|before| {
            let passed = self.at.as_nanosecond() - before.at.as_nanosecond();
            let used = self.cpu_ns.checked_sub(before.cpu_ns)?;
            let rate = i128::from(used) * 1_000_000_000 / (passed > 0).then_some(passed)?;
            u64::try_from(rate).ok()
        });
        Usage {
            cpu_rate: rate,
            ..self
        }
    }

    pub(crate) fn available(&self) -> Option<u64> {
        Some(self.memory_limit?.saturating_sub(self.working_set))
    }
}

/// A sample for tests of those who show one.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod samples {
    use super::*;

    fn usage(cpu_seconds: u64, working_set: u64) -> Usage {
        Usage {
            at: Timestamp::from_second(1_700_000_010).unwrap(),
            cpu_ns: cpu_seconds * 1_000_000_000,
            cpu_user_ns: Some(1),
            cpu_system_ns: Some(2),
            cpu_rate: Some(250_000_000),
            throttling: Some(Throttling::default()),
            memory: MemoryStats {
                usage: working_set * 2,
                rss: working_set,
                ..MemoryStats::default()
            },
            working_set,
            memory_limit: Some(working_set * 3),
            oom_kills: Some(0),
            io: Some(IoStats::default()),
            pids: 4,
        }
    }

    const DISK: Filesystem = Filesystem {
        capacity: 1000,
        available: 600,
        used: 400,
        inodes: 50,
        inodes_free: 40,
    };

    fn container(name: &str, usage: Option<Usage>) -> ContainerFigures {
        ContainerFigures {
            name: name.to_owned(),
            attempt: 2,
            id: format!("{name}-id"),
            image: "registry.test/a:1".to_owned(),
            started_at: Timestamp::from_second(1_700_000_000).unwrap(),
            spec: Spec {
                cpu_request_milli: 250,
                cpu_limit_milli: 500,
                memory_request: 1 << 20,
                memory_limit: 1 << 21,
            },
            layer: usage.is_some().then_some(DISK),
            usage,
            logs: 10,
        }
    }

    /// One pod with a container that has figures and one that has none.
    pub(crate) fn sample() -> Sample {
        let eth0 = InterfaceStats {
            name: "eth0".to_owned(),
            rx_bytes: 5,
            ..InterfaceStats::default()
        };
        let node = NodeFigures {
            name: "n1".to_owned(),
            booted_at: Timestamp::from_second(1_600_000_000).unwrap(),
            cpus: 2,
            memory: 1 << 30,
            usage: usage(100, 1 << 20),
            own: Some(usage(1, 1)),
            vmms: Some(usage(2, 2)),
            interfaces: vec![eth0.clone()],
            disk: Some(DISK),
            processes: Some(Processes { max: 100, now: 7 }),
            ..NodeFigures::default()
        };
        let pod = PodFigures {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: "11111111-2222-3333-4444-555555555555".to_owned(),
            group: "11111111222233334444555555555555".to_owned(),
            started_at: Timestamp::from_second(1_690_000_000).ok(),
            usage: Some(usage(3, 8192)),
            told_at: Timestamp::from_second(1_700_000_010).ok(),
            interfaces: vec![eth0],
            volumes: vec![VolumeStats {
                name: "data".to_owned(),
                filesystem: DISK,
            }],
            containers: vec![
                container("main", Some(usage(2, 4096))),
                container("silent", None),
            ],
            logs: 20,
        };
        Sample {
            node,
            pods: vec![Arc::new(pod)],
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks_at_the_same_counter() {
        let at = |second, cpu_ns| Usage {
            at: Timestamp::from_second(second).unwrap(),
            cpu_ns,
            ..Usage::default()
        };
        let half = at(12, 6_000_000_000).since(Some(&at(10, 5_000_000_000)));
        assert_eq!(half.cpu_rate, Some(500_000_000));
        for before in [
            None,
            Some(at(12, 0)),
            Some(at(10, u64::MAX)),
            Some(at(13, 0)),
        ] {
            assert_eq!(
                at(12, 7).since(before.as_ref()).cpu_rate,
                None,
                "{before:?}"
            );
        }
    }
}

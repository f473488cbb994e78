//! What a guest says of its containers, volumes and interfaces, held to what
//! the host knows: which containers run, which volumes there are, how much time
//! and memory the machine has had. Pure.
//!
//! A guest decides what is said of its own parts within these bounds and can't
//! do more: counters never go back, nothing exceeds the machine, names come
//! from the pod. What isn't believable is left out.

use super::sample::{ContainerFigures, PodFigures, Usage};
use guest_protocol::{
    ContainerStats, Filesystem, InterfaceStats, IoStats, MemoryStats, Stats, Throttling,
};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// More interfaces than a pod has.
const INTERFACES_MAX: usize = 16;
/// The longest name of an interface (linux/if.h).
const INTERFACE_NAME_MAX: usize = 15;
/// Above every figure that is no counter, and exact in a float.
const MOST: u64 = 1 << 53;

/// Adds what a guest says to what is known of a pod. `before` is the pod in the
/// sample before; `volumes` are the names of its volumes.
pub(super) fn take(
    pod: &mut PodFigures,
    said: &Stats,
    at: Timestamp,
    volumes: &BTreeSet<&str>,
    before: Option<&PodFigures>,
) {
    pod.told_at = Some(at);
    let host = pod.usage.clone();
    for container in &mut pod.containers {
        let old = before.and_then(|pod| same_attempt(pod, container));
        let claim = said.containers.iter().find(|one| {
            let attempt = one.attempt.is_none_or(|number| number == container.attempt);
            one.name == container.name && attempt
        });
        let Some(claim) = claim else { continue };
        let usage = usage(claim, at, host.as_ref(), old);
        container.usage = Some(usage.since(old));
        container.layer = claim.layer.map(filesystem);
    }
    let mut seen = BTreeSet::new();
    for volume in &said.volumes {
        if volumes.contains(volume.name.as_str()) && seen.insert(volume.name.as_str()) {
            let mut volume = volume.clone();
            volume.filesystem = filesystem(volume.filesystem);
            pod.volumes.push(volume);
        }
    }
    pod.interfaces = interfaces(&said.interfaces, before);
}

fn same_attempt<'a>(pod: &'a PodFigures, container: &ContainerFigures) -> Option<&'a Usage> {
    let same =
        |one: &&ContainerFigures| (&one.name, one.attempt) == (&container.name, container.attempt);
    pod.containers.iter().find(same)?.usage.as_ref()
}

fn usage(
    claim: &ContainerStats,
    at: Timestamp,
    host: Option<&Usage>,
    before: Option<&Usage>,
) -> Usage {
    // What the whole machine has used is the most that one container can have.
    let most_ns = host.map_or(u64::MAX >> 1, |host| host.cpu_ns);
    let old = before.cloned().unwrap_or_default();
    let ns = |now: u64, old: u64| now.min(most_ns).max(old);
    let cpu_ns = ns(claim.cpu_ns, old.cpu_ns);
    let most = host.and_then(|host| host.memory_limit).unwrap_or(MOST);
    let memory = memory(claim, most.min(MOST), old.memory);
    Usage {
        at,
        cpu_ns,
        cpu_user_ns: claim
            .cpu_user_ns
            .map(|now| ns(now, old.cpu_user_ns.unwrap_or(0)).min(cpu_ns)),
        cpu_system_ns: claim
            .cpu_system_ns
            .map(|now| ns(now, old.cpu_system_ns.unwrap_or(0)).min(cpu_ns)),
        cpu_rate: None,
        throttling: claim
            .throttling
            .map(|now| throttling(now, old.throttling.unwrap_or_default())),
        working_set: claim.memory_working_set.min(memory.usage),
        memory,
        memory_limit: None,
        oom_kills: claim
            .oom_kills
            .map(|now| counter(now, old.oom_kills.unwrap_or(0))),
        io: claim.io.map(|now| io(now, old.io.unwrap_or_default())),
        pids: claim.pids.min(u64::from(u32::MAX)),
    }
}

/// A counter: never back, and exact in a float.
fn counter(now: u64, before: u64) -> u64 {
    now.min(MOST).max(before)
}

fn memory(claim: &ContainerStats, most: u64, old: MemoryStats) -> MemoryStats {
    // A guest that says no more has used what it works with.
    let said = claim.memory.unwrap_or(MemoryStats {
        usage: claim.memory_working_set,
        ..MemoryStats::default()
    });
    let usage = said.usage.min(most);
    MemoryStats {
        usage,
        rss: said.rss.min(usage),
        cache: said.cache.min(usage),
        mapped_file: said.mapped_file.min(usage),
        active_file: said.active_file.min(usage),
        inactive_file: said.inactive_file.min(usage),
        page_faults: counter(said.page_faults, old.page_faults),
        major_page_faults: counter(said.major_page_faults, old.major_page_faults),
    }
}

fn throttling(now: Throttling, old: Throttling) -> Throttling {
    let periods = counter(now.periods, old.periods);
    Throttling {
        periods,
        throttled_periods: counter(now.throttled_periods, old.throttled_periods).min(periods),
        throttled_ns: counter(now.throttled_ns, old.throttled_ns),
    }
}

fn io(now: IoStats, old: IoStats) -> IoStats {
    IoStats {
        read_bytes: counter(now.read_bytes, old.read_bytes),
        write_bytes: counter(now.write_bytes, old.write_bytes),
        reads: counter(now.reads, old.reads),
        writes: counter(now.writes, old.writes),
    }
}

fn filesystem(said: Filesystem) -> Filesystem {
    let (capacity, inodes) = (said.capacity.min(MOST), said.inodes.min(MOST));
    Filesystem {
        capacity,
        available: said.available.min(capacity),
        used: said.used.min(capacity),
        inodes,
        inodes_free: said.inodes_free.min(inodes),
    }
}

fn interfaces(said: &[InterfaceStats], before: Option<&PodFigures>) -> Vec<InterfaceStats> {
    let mut out: Vec<InterfaceStats> = Vec::new();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    for one in said {
        let fits = (1..=INTERFACE_NAME_MAX).contains(&one.name.len());
        let known = out.iter().any(|other| other.name == one.name);
        if known || !fits || !one.name.bytes().all(plain) || out.len() == INTERFACES_MAX {
            continue;
        }
        let old = before.and_then(|pod| pod.interfaces.iter().find(|old| old.name == one.name));
        let old = old.cloned().unwrap_or_default();
        out.push(InterfaceStats {
            name: one.name.clone(),
            rx_bytes: counter(one.rx_bytes, old.rx_bytes),
            rx_packets: counter(one.rx_packets, old.rx_packets),
            rx_errors: counter(one.rx_errors, old.rx_errors),
            rx_dropped: counter(one.rx_dropped, old.rx_dropped),
            tx_bytes: counter(one.tx_bytes, old.tx_bytes),
            tx_packets: counter(one.tx_packets, old.tx_packets),
            tx_errors: counter(one.tx_errors, old.tx_errors),
            tx_dropped: counter(one.tx_dropped, old.tx_dropped),
        });
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use guest_protocol::VolumeStats;

    fn pod(cpu_ns: u64) -> PodFigures {
        PodFigures {
            usage: Some(Usage {
                cpu_ns,
                memory_limit: Some(1000),
                ..Usage::default()
            }),
            containers: vec![ContainerFigures {
                name: "main".to_owned(),
                attempt: 1,
                ..ContainerFigures::default()
            }],
            ..PodFigures::default()
        }
    }

    fn said(attempt: Option<u32>, cpu_ns: u64, memory: u64) -> Stats {
        Stats {
            containers: vec![ContainerStats {
                name: "main".to_owned(),
                attempt,
                cpu_ns,
                memory_working_set: memory,
                ..ContainerStats::default()
            }],
            ..Stats::default()
        }
    }

    fn taken(mut pod: PodFigures, said: &Stats, before: Option<&PodFigures>) -> PodFigures {
        take(
            &mut pod,
            said,
            Timestamp::UNIX_EPOCH,
            &BTreeSet::from(["data"]),
            before,
        );
        pod
    }

    #[test]
    fn a_guest_claims_no_more_than_its_machine_has_had() {
        for (claimed, wanted) in [((50, 900), (50, 900)), ((5000, 5000), (100, 1000))] {
            let pod = taken(pod(100), &said(Some(1), claimed.0, claimed.1), None);
            let usage = pod.containers[0].usage.clone().unwrap();
            assert_eq!((usage.cpu_ns, usage.working_set), wanted);
        }
    }

    #[test]
    fn counters_never_go_back_within_an_attempt() {
        let before = taken(pod(100), &said(None, 80, 1), None);
        let after = taken(pod(200), &said(None, 10, 1), Some(&before));
        assert_eq!(after.containers[0].usage.as_ref().unwrap().cpu_ns, 80);
        let mut next = pod(200);
        next.containers[0].attempt = 2;
        let next = taken(next, &said(Some(2), 10, 1), Some(&before));
        assert_eq!(next.containers[0].usage.as_ref().unwrap().cpu_ns, 10);
    }

    #[test]
    fn only_what_the_pod_has_is_taken() {
        let mut stats = said(Some(7), 1, 1);
        let volume = |name: &str| VolumeStats {
            name: name.to_owned(),
            filesystem: Filesystem {
                capacity: 10,
                used: u64::MAX,
                ..Filesystem::default()
            },
        };
        stats.volumes = vec![volume("data"), volume("data"), volume("other")];
        stats.interfaces = ["eth0", "eth0", "", "a\"b", "far-too-long-name"]
            .map(|name| InterfaceStats {
                name: name.to_owned(),
                rx_bytes: u64::MAX,
                ..InterfaceStats::default()
            })
            .to_vec();
        stats.containers.push(ContainerStats {
            name: "ghost".to_owned(),
            ..ContainerStats::default()
        });
        let pod = taken(pod(100), &stats, None);
        assert_eq!(pod.containers.len(), 1);
        assert_eq!(pod.containers[0].usage, None, "of another attempt");
        assert_eq!(pod.volumes.len(), 1);
        assert_eq!(pod.volumes[0].filesystem.used, 10);
        assert_eq!(pod.interfaces.len(), 1);
        assert_eq!(pod.interfaces[0].rx_bytes, MOST);
    }
}

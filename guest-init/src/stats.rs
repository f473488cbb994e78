//! Figures of the guest and its containers, read from proc and cgroup files.
//!
//! Nothing here waits for a container: a file system that one of its programs
//! could serve is not asked.

use crate::attempt::Attempt;
use crate::guest::{Guest, Place};
use crate::volume;
use guest_protocol::figures::{field, meminfo, nanoseconds};
use guest_protocol::{
    ContainerStats, Filesystem, InterfaceStats, IoStats, MemoryStats, Phase, Pod, Stats,
    Throttling, VolumeStats,
};
use std::fs;
use std::path::Path;

/// More interfaces than a pod ever has.
const INTERFACES_MAX: usize = 16;

pub(crate) fn collect(guest: &Guest) -> Stats {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cpu = fs::read_to_string("/proc/stat").unwrap_or_default();
    let network = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let running = guest.all_running();
    Stats {
        memory_total: meminfo(&memory, "MemTotal"),
        memory_available: meminfo(&memory, "MemAvailable"),
        cpu_ns: cpu_ns(&cpu),
        containers: running.iter().map(|attempt| container(attempt)).collect(),
        interfaces: InterfaceStats::read(&network, INTERFACES_MAX),
        volumes: guest
            .pod()
            .map(|pod| volumes(&guest.place, &pod))
            .unwrap_or_default(),
    }
}

fn container(attempt: &Attempt) -> ContainerStats {
    let of_group = of_group(&attempt.group.0);
    let state = attempt.state();
    ContainerStats {
        name: state.name,
        attempt: Some(state.attempt),
        layer: match state.phase {
            Phase::Running { pid } => layer(pid),
            Phase::Ended { .. } => None,
        },
        ..of_group
    }
}

/// What the files of a cgroup say.
fn of_group(group: &Path) -> ContainerStats {
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let number = |file: &str| read(file).trim().parse::<u64>().ok();
    let (cpu, memory) = (read("cpu.stat"), read("memory.stat"));
    let ns = |name: &str| nanoseconds(&cpu, name);
    let usage = number("memory.current");
    ContainerStats {
        name: String::new(),
        cpu_ns: ns("usage_usec").unwrap_or(0),
        memory_working_set: usage
            .unwrap_or(0)
            .saturating_sub(field(&memory, "inactive_file").unwrap_or(0)),
        pids: number("pids.current").unwrap_or(0),
        attempt: None,
        cpu_user_ns: ns("user_usec"),
        cpu_system_ns: ns("system_usec"),
        throttling: Throttling::read(&cpu),
        memory: usage.map(|usage| MemoryStats::read(usage, &memory)),
        oom_kills: field(&read("memory.events"), "oom_kill"),
        io: fs::read_to_string(group.join("io.stat"))
            .ok()
            .map(|text| IoStats::read(&text)),
        layer: None,
    }
}

/// The writable layer of a process's root: what the overlay says is what lies
/// above. A root that is anything else (its program has changed it) isn't asked,
/// because a FUSE server could keep the question.
fn layer(pid: u32) -> Option<Filesystem> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let root = format!("/proc/{pid}/root");
    is_overlay(&mounts)
        .then(|| filesystem(Path::new(&root)))
        .flatten()
}

/// Whether `/` in a mountinfo (proc_pid_mountinfo(5)) is an overlay, in the
/// last line that tells of it.
fn is_overlay(mounts: &str) -> bool {
    let of_root = |line: &&str| line.split(' ').nth(4) == Some("/");
    let kind = |line: &str| {
        let (_, rest) = line.split_once(" - ")?;
        rest.split(' ').next().map(|kind| kind == "overlay")
    };
    mounts
        .lines()
        .rfind(of_root)
        .and_then(kind)
        .unwrap_or(false)
}

fn filesystem(path: &Path) -> Option<Filesystem> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Filesystem {
        capacity: bytes(found.f_blocks),
        available: bytes(found.f_bavail),
        used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

fn volumes(place: &Place, pod: &Pod) -> Vec<VolumeStats> {
    let base = volume::base(place);
    let one = |name: &String| {
        let filesystem = filesystem(&base.join(name))?;
        let name = name.clone();
        Some(VolumeStats { name, filesystem })
    };
    let names = pod.volumes.iter().map(|volume| &volume.name);
    names.filter_map(one).collect()
}

/// Busy time of all processors: the first line's ticks of 10 ms (USER_HZ) but
/// idle and iowait, which stand at the fourth and fifth place; guest time is
/// in user time already (proc_stat(5)).
fn cpu_ns(text: &str) -> u64 {
    let line = text.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8).enumerate();
    let busy = ticks.filter(|(place, _)| !matches!(place, 3 | 4));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum::<u64>()
        * 10_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_what_is_neither_idle_nor_waiting() {
        assert_eq!(cpu_ns("cpu  1 2 3 100 100 4 5 6 7 8\n"), 21 * 10_000_000);
    }

    #[test]
    fn only_an_overlay_is_a_layer() {
        let overlay = "21 20 0:30 / / rw,relatime - overlay overlay rw\n22 21 0:5 / /proc rw - proc proc rw\n";
        assert!(is_overlay(overlay));
        let other = format!("{overlay}23 21 0:40 / / rw - fuse evil rw\n");
        for text in [other.as_str(), "", "1 2 3", "21 20 0:30 / / rw"] {
            assert!(!is_overlay(text), "{text}");
        }
    }
}

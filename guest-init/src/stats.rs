//! Figures of the guest and its containers, read from proc and cgroup files.
//!
//! Nothing here waits for a container: a file system that one of its programs
//! could serve is not asked.

use crate::attempt::Attempt;
use crate::cgroup::field;
use crate::guest::{Guest, Place};
use crate::volume;
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
        interfaces: interfaces(&network),
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
    let ns = |name: &str| field(&cpu, name).map(|us| us.saturating_mul(1000));
    let of = |name: &str| field(&memory, name).unwrap_or(0);
    let usage = number("memory.current");
    ContainerStats {
        name: String::new(),
        cpu_ns: ns("usage_usec").unwrap_or(0),
        memory_working_set: usage.unwrap_or(0).saturating_sub(of("inactive_file")),
        pids: number("pids.current").unwrap_or(0),
        attempt: None,
        cpu_user_ns: ns("user_usec"),
        cpu_system_ns: ns("system_usec"),
        throttling: field(&cpu, "nr_periods").map(|periods| Throttling {
            periods,
            throttled_periods: field(&cpu, "nr_throttled").unwrap_or(0),
            throttled_ns: ns("throttled_usec").unwrap_or(0),
        }),
        memory: usage.map(|usage| MemoryStats {
            usage,
            rss: of("anon"),
            cache: of("file"),
            mapped_file: of("file_mapped"),
            active_file: of("active_file"),
            inactive_file: of("inactive_file"),
            page_faults: of("pgfault"),
            major_page_faults: of("pgmajfault"),
        }),
        oom_kills: field(&read("memory.events"), "oom_kill"),
        io: fs::read_to_string(group.join("io.stat"))
            .ok()
            .map(|text| io(&text)),
        layer: None,
    }
}

/// `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ...` a line, summed up.
fn io(text: &str) -> IoStats {
    let mut sum = IoStats::default();
    for word in text.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else {
            continue;
        };
        let counter = match key {
            "rbytes" => &mut sum.read_bytes,
            "wbytes" => &mut sum.write_bytes,
            "rios" => &mut sum.reads,
            "wios" => &mut sum.writes,
            _ => continue,
        };
        *counter = counter.saturating_add(value.parse().unwrap_or(0));
    }
    sum
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

/// Of `/proc/net/dev`: a name, eight figures received, eight sent.
fn interfaces(text: &str) -> Vec<InterfaceStats> {
    let one = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures = figures.split_whitespace().map(|text| text.parse().ok());
        let figures: Vec<u64> = figures.collect::<Option<_>>()?;
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = figures[..]
        else {
            return None;
        };
        Some(InterfaceStats {
            name: name.trim().to_owned(),
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
        })
    };
    let all = text.lines().filter_map(one).filter(|one| one.name != "lo");
    all.take(INTERFACES_MAX).collect()
}

/// In bytes; 0 if it is not there.
pub(crate) fn meminfo(text: &str, name: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
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
    fn figures_are_read_from_their_lines() {
        let memory = "MemTotal:  2048 kB\nMemAvailable:    1 kB\n";
        assert_eq!(meminfo(memory, "MemTotal"), 2 << 20);
        assert_eq!(meminfo(memory, "MemFree"), 0);
        assert_eq!(cpu_ns("cpu  1 2 3 100 100 4 5 6 7 8\n"), 21 * 10_000_000);
    }

    #[test]
    fn devices_are_summed_up() {
        let text = "253:0 rbytes=10 wbytes=2 rios=3 wios=1 dbytes=9 dios=9\n\
                    253:16 rbytes=5 wbytes=x rios\n";
        let wanted = IoStats {
            read_bytes: 15,
            write_bytes: 2,
            reads: 3,
            writes: 1,
        };
        assert_eq!(io(text), wanted);
        assert_eq!(io(""), IoStats::default());
    }

    #[test]
    fn interfaces_but_the_loopback_are_read() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes packets\n\
            lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n\
            eth0: 10 11 12 13 0 0 0 0 20 21 22 23 0 0 0 0\n broken: 1 x\n";
        let [eth0] = &interfaces(text)[..] else {
            panic!("one interface");
        };
        assert_eq!((eth0.name.as_str(), eth0.rx_bytes), ("eth0", 10));
        assert_eq!((eth0.rx_dropped, eth0.tx_bytes), (13, 20));
        assert_eq!((eth0.tx_packets, eth0.tx_dropped), (21, 23));
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

//! The host's own figures: `/proc`, the root cgroup, and the cgroups around
//! machines (`machine_spec::launch::GROUPS`), which `init` makes and everybody
//! may read.

use super::sample::{Processes, Usage};
use guest_protocol::figures::{field, meminfo, nanoseconds};
use guest_protocol::{Filesystem, InterfaceStats, IoStats, MemoryStats, Throttling};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// More interfaces than a machine has.
const INTERFACES_MAX: usize = 64;

/// Where to look.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) proc: PathBuf,
    /// The root of cgroup v2.
    pub(crate) cgroup: PathBuf,
    /// One group for each machine, named by its id.
    pub(crate) machines: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            machines: machine_spec::launch::GROUPS.into(),
        }
    }
}

impl Sources {
    fn proc(&self, file: &str) -> String {
        text(&self.proc.join(file))
    }

    /// Of everything: the root group has no `memory.current`, so what is used
    /// is what isn't free, as cadvisor has it.
    pub(crate) fn node(&self) -> Usage {
        let mut usage = group(&self.cgroup).unwrap_or_default();
        let text = self.proc("meminfo");
        let (total, free) = (meminfo(&text, "MemTotal"), meminfo(&text, "MemFree"));
        let used = total.saturating_sub(free);
        usage.memory.usage = used;
        usage.working_set = used.saturating_sub(usage.memory.inactive_file);
        usage.memory_limit = (total > 0).then_some(total);
        usage
    }

    /// Of the file system that holds a directory.
    pub(crate) fn disk(&self, path: &Path) -> Option<Filesystem> {
        disk(path)
    }

    pub(super) fn memory(&self) -> u64 {
        meminfo(&self.proc("meminfo"), "MemTotal")
    }

    /// Of one machine, by the name of its group.
    pub(super) fn machine(&self, name: &str) -> Option<Usage> {
        group(&self.machines.join(name))
    }

    pub(super) fn machines(&self) -> Option<Usage> {
        group(&self.machines)
    }

    /// Of the group that this process is in.
    pub(super) fn own(&self) -> Option<Usage> {
        let of_self = self.proc("self/cgroup");
        let path = of_self.lines().find_map(|line| line.strip_prefix("0::/"))?;
        group(&self.cgroup.join(path))
    }

    pub(super) fn interfaces(&self) -> Vec<InterfaceStats> {
        InterfaceStats::read(&self.proc("net/dev"), INTERFACES_MAX)
    }

    pub(super) fn booted_at(&self) -> Timestamp {
        let stat = self.proc("stat");
        let seconds = line_of(&stat, "btime ").unwrap_or(0);
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .unwrap_or_default()
    }

    pub(crate) fn processes(&self) -> Option<Processes> {
        let max = self.proc("sys/kernel/pid_max").trim().parse().ok()?;
        let loadavg = self.proc("loadavg");
        let (_, now) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
        Some(Processes {
            max,
            now: now.parse().ok()?,
        })
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The figures of a cgroup; `None` if it isn't there.
fn group(path: &Path) -> Option<Usage> {
    let cpu = std::fs::read_to_string(path.join("cpu.stat")).ok()?;
    let read = |file: &str| text(&path.join(file));
    let number = |file: &str| read(file).trim().parse::<u64>().ok();
    let memory = read("memory.stat");
    let ns = |name: &str| nanoseconds(&cpu, name);
    let usage = number("memory.current").unwrap_or(0);
    let figures = MemoryStats::read(usage, &memory);
    Some(Usage {
        at: Timestamp::now(),
        cpu_ns: ns("usage_usec").unwrap_or(0),
        cpu_user_ns: ns("user_usec"),
        cpu_system_ns: ns("system_usec"),
        cpu_rate: None,
        throttling: Throttling::read(&cpu),
        working_set: usage.saturating_sub(figures.inactive_file),
        memory: figures,
        memory_limit: number("memory.max"),
        oom_kills: field(&read("memory.events"), "oom_kill"),
        io: std::fs::read_to_string(path.join("io.stat"))
            .ok()
            .map(|text| IoStats::read(&text)),
        pids: number("pids.current").unwrap_or(0),
    })
}

fn line_of(text: &str, start: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn disk(path: &Path) -> Option<Filesystem> {
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_as_far_as_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, content: &str| {
            std::fs::write(directory.path().join(file), content).unwrap();
        };
        assert_eq!(group(directory.path()), None);
        write("cpu.stat", "usage_usec 12\nuser_usec 7\nsystem_usec 5\n");
        let usage = group(directory.path()).unwrap();
        assert_eq!((usage.cpu_ns, usage.cpu_user_ns), (12_000, Some(7_000)));
        assert_eq!((usage.memory_limit, usage.io), (None, None));
        write("memory.current", "1000\n");
        write("memory.stat", "anon 600\nfile 300\ninactive_file 100\n");
        write("memory.max", "4096\n");
        write(
            "io.stat",
            "8:0 rbytes=3 wbytes=4 rios=1 wios=2 dbytes=0\n8:16 rbytes=1\n",
        );
        let usage = group(directory.path()).unwrap();
        assert_eq!((usage.memory.usage, usage.working_set), (1000, 900));
        assert_eq!((usage.memory.rss, usage.available()), (600, Some(3196)));
        assert_eq!(usage.io.unwrap().read_bytes, 4);
        write("memory.max", "max\n");
        assert_eq!(group(directory.path()).unwrap().memory_limit, None);
    }

    #[test]
    fn the_node_uses_what_is_not_free() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["proc/net", "proc/self", "proc/sys/kernel", "cgroup/node"] {
            std::fs::create_dir_all(at(path)).unwrap();
        }
        for (path, content) in [
            ("proc/meminfo", "MemTotal: 100 kB\nMemFree: 40 kB\n"),
            ("proc/stat", "cpu 1 2\nbtime 1700000000\n"),
            ("proc/loadavg", "0.1 0.2 0.3 2/77 1234\n"),
            ("proc/self/cgroup", "1:name=x:/other\n0::/node\n"),
            ("proc/sys/kernel/pid_max", "32768\n"),
            (
                "proc/net/dev",
                "h|h\nh\n lo: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\neth0: 5 6 7 8 0 0 0 0 9 10 11 12 0 0 0 0\n",
            ),
            ("cgroup/cpu.stat", "usage_usec 3\n"),
            ("cgroup/memory.stat", "inactive_file 1024\n"),
            ("cgroup/node/cpu.stat", "usage_usec 2\n"),
        ] {
            std::fs::write(at(path), content).unwrap();
        }
        let sources = Sources {
            proc: at("proc"),
            cgroup: at("cgroup"),
            machines: at("cgroup/vmm"),
        };
        let node = sources.node();
        assert_eq!((node.cpu_ns, node.memory.usage), (3_000, 60 << 10));
        assert_eq!(
            (node.working_set, node.available()),
            (59 << 10, Some(41 << 10))
        );
        assert_eq!(sources.own().map(|own| own.cpu_ns), Some(2_000));
        assert_eq!(sources.machines(), None);
        assert_eq!(sources.booted_at().as_second(), 1_700_000_000);
        let processes = sources.processes().unwrap();
        assert_eq!((processes.max, processes.now), (32768, 77));
        let [eth0] = &sources.interfaces()[..] else {
            panic!("one interface");
        };
        assert_eq!((eth0.rx_bytes, eth0.tx_dropped), (5, 12));
    }
}

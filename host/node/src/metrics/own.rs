//! `/metrics`: of this process, and what it runs.

use super::exposition::{Kind, Line, Text, Value};
use super::sample::Sample;
use std::collections::BTreeMap;

/// Ticks of a second (USER_HZ), and bytes of a page, as on x86-64.
const TICK_NS: u64 = 10_000_000;
const PAGE: u64 = 4096;

/// Of `/proc/self`.
struct Process {
    cpu_ns: u64,
    started_ns: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    open_files: u64,
    most_files: u64,
}

pub(crate) fn text(sample: Option<&Sample>) -> String {
    let mut text = Text::default();
    if let Some(sample) = sample {
        kubelet(&mut text, sample);
    }
    if let Some(process) = look() {
        of_process(&mut text, &process);
    }
    text.done()
}

fn kubelet(text: &mut Text, sample: &Sample) {
    let line = |labels, value| Line {
        labels,
        value: Value::Count(value),
        at: None,
    };
    let node = line(vec![("node", sample.node.name.as_str())], 1);
    text.family(
        "kubelet_node_name",
        Kind::Gauge,
        "Always 1; the label names the node",
        [node],
    );
    let pods = sample
        .pods
        .iter()
        .filter(|pod| pod.usage.is_some() || pod.told_at.is_some());
    let pods = line(Vec::new(), pods.count() as u64);
    text.family(
        "kubelet_running_pods",
        Kind::Gauge,
        "Pods that have a machine",
        [pods],
    );
    let containers: usize = sample.pods.iter().map(|pod| pod.containers.len()).sum();
    let containers = line(vec![("container_state", "running")], containers as u64);
    text.family(
        "kubelet_running_containers",
        Kind::Gauge,
        "Containers that run",
        [containers],
    );
    let version = line(
        vec![
            ("git_version", env!("CARGO_PKG_VERSION")),
            ("platform", "linux/amd64"),
        ],
        1,
    );
    text.family(
        "kubernetes_build_info",
        Kind::Gauge,
        "Always 1; the labels say what runs",
        [version],
    );
}

fn of_process(text: &mut Text, process: &Process) {
    let seconds = Value::Seconds;
    let count = Value::Count;
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time used, in seconds",
            seconds(process.cpu_ns),
        ),
        (
            "process_max_fds",
            Kind::Gauge,
            "Descriptors that may be open",
            count(process.most_files),
        ),
        (
            "process_open_fds",
            Kind::Gauge,
            "Descriptors that are open",
            count(process.open_files),
        ),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory, in bytes",
            count(process.resident_bytes),
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, in seconds since the epoch",
            seconds(process.started_ns),
        ),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory, in bytes",
            count(process.virtual_bytes),
        ),
    ] {
        let line = Line {
            labels: Vec::new(),
            value,
            at: None,
        };
        text.family(name, kind, help, [line]);
    }
}

fn look() -> Option<Process> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let boot = read("stat");
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "));
    parse(
        &read("self/stat"),
        &read("self/limits"),
        boot?.trim().parse().ok()?,
        open_files as u64,
    )
}

/// proc_pid_stat(5): fields after the name, which may hold anything, begin with
/// the third.
fn parse(stat: &str, limits: &str, booted: u64, open_files: u64) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: BTreeMap<usize, u64> = rest
        .split_whitespace()
        .enumerate()
        .filter_map(|(place, text)| Some((place + 3, text.parse().ok()?)))
        .collect();
    let field = |number: usize| fields.get(&number).copied();
    let ticks = |count: u64| count.saturating_mul(TICK_NS);
    let most = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    Some(Process {
        cpu_ns: ticks(field(14)?.saturating_add(field(15)?)),
        started_ns: booted
            .saturating_mul(1_000_000_000)
            .saturating_add(ticks(field(22)?)),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.saturating_mul(PAGE),
        open_files,
        most_files: most
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::metrics::{exposition, sample};

    #[test]
    fn this_process_is_described() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 9 0 300 8192 2 0";
        let limits = "Limit Soft Hard\nMax open files            1024   4096   files\n";
        let process = parse(stat, limits, 1000, 3).unwrap();
        assert_eq!(process.cpu_ns, 2_000_000_000);
        assert_eq!(process.started_ns, 1_003_000_000_000);
        assert_eq!(
            (process.virtual_bytes, process.resident_bytes),
            (8192, 8192)
        );
        assert_eq!((process.open_files, process.most_files), (3, 1024));
        let text = text(Some(&sample::samples::sample()));
        exposition::check(&text);
        for part in [
            "kubelet_node_name{node=\"n1\"} 1",
            "kubelet_running_pods 1",
            "process_open_fds ",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

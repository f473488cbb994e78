//! `/metrics/cadvisor`: cadvisor's names and labels (its `metrics/prometheus.go`)
//! for the node, each machine's cgroup and each container in it.
//!
//! `id` is the path of the cgroup: on the host down to the machine's, within the
//! guest below it. Figures that cadvisor gives for each block device are the sum
//! of all here, with an empty `device`.

use super::exposition::{Kind, Labels, Line, Text, Value};
use super::sample::{ContainerFigures, NodeFigures, PodFigures, Sample, Spec, Usage};
use guest_protocol::{Filesystem, InterfaceStats};
use jiff::Timestamp;

/// cgroup's default, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Whose figures they are.
#[derive(Clone, Copy)]
enum Of<'a> {
    Node(&'a NodeFigures),
    Machine(&'a PodFigures),
    Container(&'a PodFigures, &'a ContainerFigures),
}

/// Somebody with figures.
struct Subject<'a> {
    of: Of<'a>,
    id: String,
    usage: &'a Usage,
}

type Simple = (
    &'static str,
    Kind,
    &'static str,
    fn(&Usage) -> Option<Value>,
);

/// Those that have no label of their own.
const SIMPLE: &[Simple] = &[
    (
        "container_cpu_user_seconds_total",
        Kind::Counter,
        "CPU time in user mode, in seconds",
        |u| u.cpu_user_ns.map(Value::Seconds),
    ),
    (
        "container_cpu_system_seconds_total",
        Kind::Counter,
        "CPU time in the kernel, in seconds",
        |u| u.cpu_system_ns.map(Value::Seconds),
    ),
    (
        "container_cpu_cfs_periods_total",
        Kind::Counter,
        "Periods of the CPU limit that have passed",
        |u| Some(Value::Count(u.throttling?.periods)),
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        Kind::Counter,
        "Periods in which the CPU limit was reached",
        |u| Some(Value::Count(u.throttling?.throttled_periods)),
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        Kind::Counter,
        "Time that the CPU limit has cost, in seconds",
        |u| Some(Value::Seconds(u.throttling?.throttled_ns)),
    ),
    (
        "container_last_seen",
        Kind::Gauge,
        "When it was last seen, in seconds since the epoch",
        |u| Some(Value::time(u.at)),
    ),
    (
        "container_memory_usage_bytes",
        Kind::Gauge,
        "Memory in use, in bytes",
        |u| Some(Value::Count(u.memory.usage)),
    ),
    (
        "container_memory_working_set_bytes",
        Kind::Gauge,
        "Working set of memory, in bytes",
        |u| Some(Value::Count(u.working_set)),
    ),
    (
        "container_memory_rss",
        Kind::Gauge,
        "Anonymous memory, in bytes",
        |u| Some(Value::Count(u.memory.rss)),
    ),
    (
        "container_memory_cache",
        Kind::Gauge,
        "Cached pages of files, in bytes",
        |u| Some(Value::Count(u.memory.cache)),
    ),
    (
        "container_memory_mapped_file",
        Kind::Gauge,
        "Mapped pages of files, in bytes",
        |u| Some(Value::Count(u.memory.mapped_file)),
    ),
    (
        "container_memory_total_active_file_bytes",
        Kind::Gauge,
        "Pages of files used lately, in bytes",
        |u| Some(Value::Count(u.memory.active_file)),
    ),
    (
        "container_memory_total_inactive_file_bytes",
        Kind::Gauge,
        "Pages of files not used lately, in bytes",
        |u| Some(Value::Count(u.memory.inactive_file)),
    ),
    (
        "container_memory_swap",
        Kind::Gauge,
        "Swap in use, in bytes: there is none",
        |_| Some(Value::Count(0)),
    ),
    (
        "container_oom_events_total",
        Kind::Counter,
        "Processes killed for want of memory",
        |u| u.oom_kills.map(Value::Count),
    ),
    ("container_threads", Kind::Gauge, "Threads", |u| {
        Some(Value::Count(u.pids))
    }),
];

/// The text; without a sample it says so.
pub(crate) fn text(sample: Option<&Sample>) -> String {
    let mut text = Text::default();
    let failed = Line {
        labels: Vec::new(),
        value: Value::Count(u64::from(sample.is_none())),
        at: None,
    };
    let help = "1 if figures could not be had, 0 otherwise";
    text.family("container_scrape_error", Kind::Gauge, help, [failed]);
    let Some(sample) = sample else {
        return text.done();
    };
    machine(&mut text, &sample.node);
    let all = subjects(sample);
    cpu(&mut text, &all);
    for (name, kind, help, value) in SIMPLE {
        let lines = all
            .iter()
            .filter_map(|one| Some(one.line(Vec::new(), value(one.usage)?)));
        text.family(name, *kind, help, lines);
    }
    faults(&mut text, &all);
    storage(&mut text, &all);
    network(&mut text, &all);
    specs(&mut text, &all);
    text.done()
}

/// Of the host as such.
fn machine(text: &mut Text, node: &NodeFigures) {
    let labels = || {
        vec![
            ("boot_id", node.boot_id.as_str()),
            ("machine_id", &node.machine_id),
        ]
    };
    let version = Line {
        labels: vec![
            ("cadvisorRevision", ""),
            ("cadvisorVersion", ""),
            ("dockerVersion", ""),
            ("kernelVersion", &node.kernel),
            ("osVersion", "Atoll"),
        ],
        value: Value::Count(1),
        at: None,
    };
    let help = "Always 1; the labels say what runs here";
    text.family("cadvisor_version_info", Kind::Gauge, help, [version]);
    for (name, help, value) in [
        ("machine_cpu_cores", "Logical CPUs", node.cpus),
        ("machine_memory_bytes", "Memory, in bytes", node.memory),
    ] {
        let line = Line {
            labels: labels(),
            value: Value::Count(value),
            at: None,
        };
        text.family(name, Kind::Gauge, help, [line]);
    }
}

fn subjects(sample: &Sample) -> Vec<Subject<'_>> {
    let node = Subject {
        of: Of::Node(&sample.node),
        id: "/".to_owned(),
        usage: &sample.node.usage,
    };
    let mut out = vec![node];
    for pod in sample.pods.iter().map(AsRef::as_ref) {
        let id = format!("/vmm/{}", pod.group);
        let of_containers = pod.containers.iter().filter_map(|container| {
            Some(Subject {
                of: Of::Container(pod, container),
                id: format!("{id}/{}.{}", container.name, container.attempt),
                usage: container.usage.as_ref()?,
            })
        });
        out.extend(of_containers);
        out.extend(pod.usage.as_ref().map(|usage| Subject {
            of: Of::Machine(pod),
            id,
            usage,
        }));
    }
    out
}

impl<'a> Subject<'a> {
    fn labels(&self, own: Labels<'a>) -> Labels<'_> {
        let (container, image, name, namespace, pod) = match self.of {
            Of::Node(_) => ("", "", "", "", ""),
            Of::Machine(pod) => ("", "", "", pod.namespace.as_str(), pod.name.as_str()),
            Of::Container(pod, container) => (
                container.name.as_str(),
                container.image.as_str(),
                container.id.as_str(),
                pod.namespace.as_str(),
                pod.name.as_str(),
            ),
        };
        let mut labels = vec![
            ("container", container),
            ("id", &self.id),
            ("image", image),
            ("name", name),
            ("namespace", namespace),
            ("pod", pod),
        ];
        labels.extend(own);
        labels.sort_unstable_by_key(|(label, _)| *label);
        labels
    }

    fn line(&self, own: Labels<'a>, value: Value) -> Line<'_> {
        self.line_at(own, value, Some(self.usage.at))
    }

    fn line_at(&self, own: Labels<'a>, value: Value, at: Option<Timestamp>) -> Line<'_> {
        Line {
            labels: self.labels(own),
            value,
            at,
        }
    }

    fn started_at(&self) -> Option<Timestamp> {
        match self.of {
            Of::Node(node) => Some(node.booted_at),
            Of::Machine(pod) => pod.started_at,
            Of::Container(_, container) => Some(container.started_at),
        }
    }

    fn disk(&self) -> Option<Filesystem> {
        match self.of {
            Of::Node(node) => node.disk,
            Of::Machine(_) => None,
            Of::Container(_, container) => container.layer,
        }
    }

    fn interfaces(&self) -> &'a [InterfaceStats] {
        match self.of {
            Of::Node(node) => &node.interfaces,
            Of::Machine(pod) => &pod.interfaces,
            Of::Container(..) => &[],
        }
    }

    fn spec(&self) -> Option<Spec> {
        match self.of {
            Of::Node(_) | Of::Machine(_) => None,
            Of::Container(_, container) => Some(container.spec),
        }
    }
}

fn cpu(text: &mut Text, all: &[Subject<'_>]) {
    let lines = all
        .iter()
        .map(|one| one.line(vec![("cpu", "total")], Value::Seconds(one.usage.cpu_ns)));
    let help = "CPU time used, in seconds";
    text.family(
        "container_cpu_usage_seconds_total",
        Kind::Counter,
        help,
        lines,
    );
}

fn faults(text: &mut Text, all: &[Subject<'_>]) {
    let lines = all.iter().flat_map(|one| {
        let memory = one.usage.memory;
        let kinds = [
            ("pgfault", memory.page_faults),
            ("pgmajfault", memory.major_page_faults),
        ];
        kinds.into_iter().flat_map(move |(kind, count)| {
            // A group is all that is below it.
            ["container", "hierarchy"].map(|scope| {
                let own = vec![("failure_type", kind), ("scope", scope)];
                one.line(own, Value::Count(count))
            })
        })
    });
    let help = "Page faults";
    text.family(
        "container_memory_failures_total",
        Kind::Counter,
        help,
        lines,
    );
}

fn storage(text: &mut Text, all: &[Subject<'_>]) {
    type OfIo = fn(&guest_protocol::IoStats) -> u64;
    let io: [(&str, &str, OfIo); 4] = [
        ("container_fs_reads_bytes_total", "Bytes read", |io| {
            io.read_bytes
        }),
        ("container_fs_reads_total", "Reads", |io| io.reads),
        ("container_fs_writes_bytes_total", "Bytes written", |io| {
            io.write_bytes
        }),
        ("container_fs_writes_total", "Writes", |io| io.writes),
    ];
    for (name, help, value) in io {
        let lines = all.iter().filter_map(|one| {
            let value = Value::Count(value(one.usage.io.as_ref()?));
            Some(one.line(vec![("device", "")], value))
        });
        text.family(name, Kind::Counter, help, lines);
    }
    type OfDisk = fn(&Filesystem) -> u64;
    let disk: [(&str, &str, OfDisk); 4] = [
        ("container_fs_inodes_free", "Inodes left", |disk| {
            disk.inodes_free
        }),
        ("container_fs_inodes_total", "Inodes", |disk| disk.inodes),
        (
            "container_fs_limit_bytes",
            "Bytes that there can be",
            |disk| disk.capacity,
        ),
        ("container_fs_usage_bytes", "Bytes in use", |disk| disk.used),
    ];
    for (name, help, value) in disk {
        let lines = all.iter().filter_map(|one| {
            let value = Value::Count(value(&one.disk()?));
            Some(one.line(vec![("device", "")], value))
        });
        text.family(name, Kind::Gauge, help, lines);
    }
}

fn network(text: &mut Text, all: &[Subject<'_>]) {
    type Of = fn(&InterfaceStats) -> u64;
    let counters: [(&str, &str, Of); 8] = [
        ("receive_bytes", "Bytes received", |i| i.rx_bytes),
        ("receive_errors", "Errors while receiving", |i| i.rx_errors),
        (
            "receive_packets_dropped",
            "Packets dropped while receiving",
            |i| i.rx_dropped,
        ),
        ("receive_packets", "Packets received", |i| i.rx_packets),
        ("transmit_bytes", "Bytes sent", |i| i.tx_bytes),
        ("transmit_errors", "Errors while sending", |i| i.tx_errors),
        (
            "transmit_packets_dropped",
            "Packets dropped while sending",
            |i| i.tx_dropped,
        ),
        ("transmit_packets", "Packets sent", |i| i.tx_packets),
    ];
    for (name, help, value) in counters {
        let lines = all.iter().flat_map(|one| {
            let interfaces = one.interfaces().iter();
            interfaces.map(move |interface| {
                let own = vec![("interface", interface.name.as_str())];
                one.line(own, Value::Count(value(interface)))
            })
        });
        text.family(
            &format!("container_network_{name}_total"),
            Kind::Counter,
            help,
            lines,
        );
    }
}

fn specs(text: &mut Text, all: &[Subject<'_>]) {
    let starts = all
        .iter()
        .filter_map(|one| Some(one.line_at(Vec::new(), Value::time(one.started_at()?), None)));
    let help = "When it started, in seconds since the epoch";
    text.family("container_start_time_seconds", Kind::Gauge, help, starts);
    type Of = fn(Spec) -> Option<u64>;
    let gauges: [(&str, &str, Of); 6] = [
        (
            "cpu_period",
            "Period of the CPU limit, in microseconds",
            |_| Some(CPU_PERIOD),
        ),
        (
            "cpu_quota",
            "CPU time in a period, in microseconds",
            |spec| {
                let limit = (spec.cpu_limit_milli > 0).then_some(spec.cpu_limit_milli)?;
                Some(limit.saturating_mul(CPU_PERIOD) / 1000)
            },
        ),
        ("cpu_shares", "Share of the CPU: 1024 for one", |spec| {
            Some((spec.cpu_request_milli.saturating_mul(1024) / 1000).max(2))
        }),
        (
            "memory_limit_bytes",
            "Most memory, in bytes; 0 is no limit",
            |spec| Some(spec.memory_limit),
        ),
        (
            "memory_reservation_limit_bytes",
            "Memory kept, in bytes",
            |_| Some(0),
        ),
        ("memory_swap_limit_bytes", "Most swap, in bytes", |_| {
            Some(0)
        }),
    ];
    for (name, help, value) in gauges {
        let lines = all.iter().filter_map(|one| {
            let value = Value::Count(value(one.spec()?)?);
            Some(one.line_at(Vec::new(), value, None))
        });
        text.family(&format!("container_spec_{name}"), Kind::Gauge, help, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{exposition, sample};

    #[test]
    fn names_and_labels_are_cadvisors() {
        let text = text(Some(&sample::samples::sample()));
        exposition::check(&text);
        const GROUP: &str = "/vmm/11111111222233334444555555555555";
        let machine = format!(
            "container=\"\",id=\"{GROUP}\",image=\"\",name=\"\",namespace=\"default\",pod=\"web\""
        );
        let main = format!(
            "container=\"main\",id=\"{GROUP}/main.2\",image=\"registry.test/a:1\",name=\"main-id\",namespace=\"default\",pod=\"web\""
        );
        let cpu = |labels: &str| labels.replacen(",id=", ",cpu=\"total\",id=", 1);
        for line in [
            format!(
                "container_cpu_usage_seconds_total{{{}}} 2 1700000010000",
                cpu(&main)
            ),
            format!(
                "container_cpu_usage_seconds_total{{{}}} 3 1700000010000",
                cpu(&machine)
            ),
            format!("container_memory_working_set_bytes{{{main}}} 4096 1700000010000"),
            format!("container_memory_usage_bytes{{{machine}}} 16384 1700000010000"),
            format!("container_spec_cpu_quota{{{main}}} 50000"),
            format!("container_spec_cpu_shares{{{main}}} 256"),
            format!("container_spec_memory_limit_bytes{{{main}}} 2097152"),
            format!("container_start_time_seconds{{{main}}} 1700000000"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        for part in [
            "container_fs_usage_bytes{container=\"main\",device=\"\",",
            "container_network_receive_bytes_total{container=\"\",id=\"/vmm/",
            "container_memory_failures_total{container=\"\",failure_type=\"pgfault\",id=\"/\"",
            "\nmachine_memory_bytes{boot_id=\"\",machine_id=\"\"} 1073741824\n",
            "\ncontainer_scrape_error 0\n",
        ] {
            assert!(
                text.contains(part) || text.starts_with(part.trim_start()),
                "{part} in {text}"
            );
        }
    }
}

//! `/metrics/resource`: what metrics-server reads (upstream's
//! `pkg/kubelet/metrics/collectors/resource_metrics.go`). Each value carries the
//! time at which it was measured.

use super::exposition::{Kind, Line, Text, Value};
use super::sample::{ContainerFigures, PodFigures, Sample, Usage};

/// The text; without a sample it says so.
pub(crate) fn text(sample: Option<&Sample>) -> String {
    let mut text = Text::default();
    if let Some(sample) = sample {
        containers(&mut text, sample);
        node(&mut text, sample);
        pods(&mut text, sample);
    }
    let failed = Value::Count(u64::from(sample.is_none()));
    for name in ["resource_scrape_error", "scrape_error"] {
        let line = Line {
            labels: Vec::new(),
            value: failed,
            at: None,
        };
        let help = "[STABLE] 1 if the figures of pods could not be had, 0 otherwise";
        text.family(name, Kind::Gauge, help, [line]);
    }
    text.done()
}

const CPU: (&str, Kind, fn(&Usage) -> Value) =
    ("cpu_usage_seconds_total", Kind::Counter, |usage| {
        Value::Seconds(usage.cpu_ns)
    });
const MEMORY: (&str, Kind, fn(&Usage) -> Value) =
    ("memory_working_set_bytes", Kind::Gauge, |usage| {
        Value::Count(usage.working_set)
    });

fn help(name: &str, of: &str) -> String {
    let what = match name.starts_with("cpu") {
        true => "CPU time used, in core-seconds",
        false => "Working set of memory, in bytes",
    };
    format!("[STABLE] {what}: the {of}")
}

fn containers(text: &mut Text, sample: &Sample) {
    for (name, kind, value) in [CPU, MEMORY] {
        let lines = all(sample).filter_map(|(pod, container)| {
            let usage = container.usage.as_ref()?;
            Some(Line {
                labels: labels(pod, container),
                value: value(usage),
                at: Some(usage.at),
            })
        });
        text.family(
            &format!("container_{name}"),
            kind,
            &help(name, "container's"),
            lines,
        );
    }
    let starts = all(sample).map(|(pod, container)| Line {
        labels: labels(pod, container),
        value: Value::time(container.started_at),
        at: None,
    });
    let help = "[STABLE] When the container started, in seconds since the epoch";
    text.family("container_start_time_seconds", Kind::Gauge, help, starts);
}

fn node(text: &mut Text, sample: &Sample) {
    let usage = &sample.node.usage;
    for (name, kind, value) in [CPU, MEMORY] {
        let line = Line {
            labels: Vec::new(),
            value: value(usage),
            at: Some(usage.at),
        };
        text.family(&format!("node_{name}"), kind, &help(name, "node's"), [line]);
    }
}

fn pods(text: &mut Text, sample: &Sample) {
    for (name, kind, value) in [CPU, MEMORY] {
        let lines = sample.pods.iter().filter_map(|pod| {
            let usage = pod.usage.as_ref()?;
            Some(Line {
                labels: vec![("namespace", pod.namespace.as_str()), ("pod", &pod.name)],
                value: value(usage),
                at: Some(usage.at),
            })
        });
        text.family(
            &format!("pod_{name}"),
            kind,
            &help(name, "pod's, its machine's included"),
            lines,
        );
    }
}

/// Containers of which something is known.
fn all(sample: &Sample) -> impl Iterator<Item = (&PodFigures, &ContainerFigures)> {
    sample.pods.iter().flat_map(|pod| {
        let known = pod.containers.iter().filter(|one| one.usage.is_some());
        known.map(move |container| (pod.as_ref(), container))
    })
}

fn labels<'a>(
    pod: &'a PodFigures,
    container: &'a ContainerFigures,
) -> Vec<(&'static str, &'a str)> {
    vec![
        ("container", container.name.as_str()),
        ("namespace", &pod.namespace),
        ("pod", &pod.name),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{exposition, sample};

    #[test]
    fn what_metrics_server_reads_is_there() {
        let text = text(Some(&sample::samples::sample()));
        exposition::check(&text);
        for line in [
            "container_cpu_usage_seconds_total{container=\"main\",namespace=\"default\",pod=\"web\"} 2 1700000010000",
            "container_memory_working_set_bytes{container=\"main\",namespace=\"default\",pod=\"web\"} 4096 1700000010000",
            "container_start_time_seconds{container=\"main\",namespace=\"default\",pod=\"web\"} 1700000000",
            "node_cpu_usage_seconds_total 100 1700000010000",
            "node_memory_working_set_bytes 1048576 1700000010000",
            "pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web\"} 3 1700000010000",
            "pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 8192 1700000010000",
            "# TYPE pod_cpu_usage_seconds_total counter",
            "resource_scrape_error 0",
            "scrape_error 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("silent\"} "), "no figures, no line: {text}");
    }

    #[test]
    fn without_a_sample_it_says_so() {
        let text = super::text(None);
        exposition::check(&text);
        assert!(text.contains("\nresource_scrape_error 1\n"), "{text}");
    }
}

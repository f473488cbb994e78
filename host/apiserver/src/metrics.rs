//! Counters of the server, in Prometheus' text format, under upstream's names.

use crate::route::ResourceRoute;
use api::kinds::KindRef;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a request was about. All words come from the table of kinds, so there
/// is a bound to how many combinations exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) verb: &'static str,
    group: &'static str,
    version: &'static str,
    pub(crate) resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
}

impl Labels {
    /// Of a request that isn't about a resource.
    pub(crate) fn other(verb: &'static str) -> Labels {
        Labels {
            verb: upper(verb),
            ..Labels::default()
        }
    }

    pub(crate) fn of(kind: &KindRef, route: &ResourceRoute) -> Labels {
        let (group, version) = kind.labels();
        let sub = kind.subresources().iter().map(|s| s.name());
        Labels {
            verb: upper(route.verb),
            group,
            version,
            resource: kind.label(),
            subresource: sub
                .into_iter()
                .find(|s| *s == route.subresource)
                .unwrap_or_default(),
            scope: match (route.name.is_empty(), route.namespace.is_empty()) {
                (false, _) => "resource",
                (true, false) => "namespace",
                (true, true) => "cluster",
            },
        }
    }

    fn text(&self) -> String {
        let Labels {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
        } = self;
        format!(
            "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

/// Verbs as upstream's metrics call them.
fn upper(verb: &'static str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

/// Upper bounds in seconds, as upstream's.
const BOUNDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

#[derive(Clone, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(i) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[i] += 1;
        }
        self.count += 1;
        self.sum += took;
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(self.counts) {
            below += count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let (n, sum) = (self.count, self.sum.as_secs_f64());
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels},le=\"+Inf\"}} {n}\n{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {n}"
        );
    }
}

#[derive(Default)]
struct Counted {
    requests: BTreeMap<(Labels, u16), u64>,
    durations: BTreeMap<Labels, Histogram>,
}

#[derive(Default)]
pub(crate) struct Metrics {
    counted: Mutex<Counted>,
    /// Requests worked on now, and how many of them write.
    pub(crate) inflight: AtomicU64,
    pub(crate) mutating: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// What the metrics say of the store: its revision, and how many objects there
/// are of each resource.
pub(crate) struct Stored {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<(String, usize)>,
}

impl Metrics {
    pub(crate) fn count(&self, labels: Labels, code: u16, took: Duration) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.requests.entry((labels, code)).or_default() += 1;
        counted.durations.entry(labels).or_default().add(took);
    }

    pub(crate) fn text(&self, stored: &Stored) -> String {
        let mut out = String::new();
        let (requests, durations) = {
            let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            (counted.requests.clone(), counted.durations.clone())
        };
        let name = "apiserver_request_total";
        out += &head(
            name,
            "counter",
            "Requests, by what they were about and the answer.",
        );
        for ((labels, code), n) in &requests {
            let labels = labels.text();
            let _ = writeln!(out, "{name}{{code=\"{code}\",{labels}}} {n}");
        }
        let name = "apiserver_request_duration_seconds";
        out += &head(name, "histogram", "How long requests took.");
        for (labels, histogram) in &durations {
            histogram.write(&mut out, name, &labels.text());
        }
        let name = "apiserver_current_inflight_requests";
        out += &head(name, "gauge", "Requests worked on now.");
        let all = self.inflight.load(Ordering::Relaxed);
        let mutating = self.mutating.load(Ordering::Relaxed);
        let reading = all.saturating_sub(mutating);
        let _ = writeln!(
            out,
            "{name}{{request_kind=\"mutating\"}} {mutating}\n{name}{{request_kind=\"readOnly\"}} {reading}"
        );
        let name = "apiserver_storage_objects";
        out += &head(name, "gauge", "Objects that are stored.");
        for (resource, n) in &stored.objects {
            let _ = writeln!(out, "{name}{{resource=\"{resource}\"}} {n}");
        }
        for (name, kind, help, value) in [
            (
                "apiserver_open_connections",
                "gauge",
                "Connections that are open.",
                self.connections.load(Ordering::Relaxed),
            ),
            (
                "apiserver_storage_revision",
                "counter",
                "The store's newest revision.",
                stored.revision,
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Resident memory size in bytes.",
                resident_bytes(),
            ),
        ] {
            let _ = writeln!(out, "{}{name} {value}", head(name, kind, help));
        }
        out
    }
}

pub(crate) fn head(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// What the kernel says of this process; 0 where it says nothing.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_under_upstreams_names() {
        let metrics = Metrics::default();
        let labels = Labels {
            verb: upper("list"),
            version: "v1",
            resource: "pods",
            scope: "namespace",
            ..Labels::default()
        };
        for milliseconds in [1, 30, 100_000] {
            metrics.count(labels, 200, Duration::from_millis(milliseconds));
        }
        let text = metrics.text(&Stored {
            revision: 7,
            objects: vec![("pods".to_owned(), 3)],
        });
        let of = "component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"";
        for line in [
            format!("apiserver_request_total{{code=\"200\",{of}}} 3"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"0.005\"}} 1"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"0.05\"}} 2"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"60\"}} 2"),
            format!("apiserver_request_duration_seconds_bucket{{{of},le=\"+Inf\"}} 3"),
            format!("apiserver_request_duration_seconds_count{{{of}}} 3"),
            "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0".to_owned(),
            "apiserver_storage_objects{resource=\"pods\"} 3".to_owned(),
            "apiserver_storage_revision 7".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in {text}");
        }
    }
}

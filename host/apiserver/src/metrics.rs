//! Counters of the server, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Requests by verb, resource and code; both names come from the table of
/// kinds, so the map is bounded.
type Key = (&'static str, &'static str, u16);

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Key, (u64, Duration)>>,
    pub(crate) inflight: AtomicU64,
    pub(crate) connections: AtomicU64,
}

impl Metrics {
    pub(crate) fn count(&self, key: Key, took: Duration) {
        let mut map = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(key).or_default();
        entry.0 += 1;
        entry.1 += took;
    }

    pub(crate) fn text(&self, revision: u64) -> String {
        let mut out = String::new();
        let map = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        out.push_str("# TYPE apiserver_request_total counter\n");
        for ((verb, resource, code), (n, _)) in map.iter() {
            let _ = writeln!(
                out,
                "apiserver_request_total{{verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"}} {n}"
            );
        }
        out.push_str("# TYPE apiserver_request_duration_seconds summary\n");
        for ((verb, resource, code), (n, took)) in map.iter() {
            let labels = format!("verb=\"{verb}\",resource=\"{resource}\",code=\"{code}\"");
            let seconds = took.as_secs_f64();
            let name = "apiserver_request_duration_seconds";
            let _ = writeln!(
                out,
                "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {n}"
            );
        }
        for (name, kind, value) in [
            (
                "apiserver_current_inflight_requests",
                "gauge",
                self.inflight.load(Ordering::Relaxed),
            ),
            (
                "apiserver_open_connections",
                "gauge",
                self.connections.load(Ordering::Relaxed),
            ),
            ("apiserver_storage_revision", "counter", revision),
        ] {
            let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
        }
        out
    }
}

//! What a node says of itself: the lines of `/metrics/resource` that count
//! (metrics-server's `pkg/scraper/client/resource/decode.go`), in Prometheus'
//! text format. A line that isn't understood is passed over: it may be of a
//! newer node. Pure.

use super::points::{Batch, Point};
use std::collections::BTreeMap;

/// Containers of one node; what comes after is left out.
const CONTAINERS_MAX: usize = 20_000;

/// A line with a value.
struct Line<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: f64,
    /// Milliseconds since the epoch.
    at: Option<i64>,
}

/// Adds what a node says; values without a time were measured at `now`
/// (nanoseconds since the epoch).
pub(super) fn take(batch: &mut Batch, node: &str, text: &str, now: i64) {
    let mut own = Point::default();
    let mut pods: BTreeMap<(String, String), BTreeMap<String, Point>> = BTreeMap::new();
    let mut count = 0;
    for line in text.lines().filter_map(line) {
        let at = line.at.map_or(now, |ms| ms.saturating_mul(1_000_000));
        let Some(metric) = line.name.strip_prefix("container_") else {
            if let Some(metric) = line.name.strip_prefix("node_") {
                note(&mut own, metric, line.value, at);
            }
            continue;
        };
        let label = |name: &str| line.labels.get(name).cloned().unwrap_or_default();
        let pod = pods.entry((label("namespace"), label("pod"))).or_default();
        let container = label("container");
        if !pod.contains_key(&container) {
            if count == CONTAINERS_MAX {
                continue;
            }
            count += 1;
        }
        note(pod.entry(container).or_default(), metric, line.value, at);
    }
    if own.is_whole() {
        batch.nodes.insert(node.to_owned(), own);
    }
    // A container of which a part is missing makes its pod's sum wrong.
    let whole = pods
        .into_iter()
        .filter(|(_, all)| !all.is_empty() && all.values().all(Point::is_whole));
    batch.pods.extend(whole);
}

/// Notes one value of a point; values that can't be are none.
fn note(point: &mut Point, metric: &str, value: f64, at: i64) {
    if !value.is_finite() || value < 0.0 {
        return;
    }
    // A float that is too large becomes the largest number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above; the cast saturates"
    )]
    let whole = |value: f64| value as u64;
    match metric {
        "cpu_usage_seconds_total" => {
            point.cpu_ns = whole(value * 1e9);
            point.at = at;
        }
        "memory_working_set_bytes" => {
            point.memory = whole(value);
            if point.cpu_ns == 0 {
                point.at = at;
            }
        }
        "start_time_seconds" => {
            point.started_at = i64::try_from(whole(value * 1e9)).unwrap_or(i64::MAX);
        }
        _ => {}
    }
}

fn line(text: &str) -> Option<Line<'_>> {
    let text = text.trim();
    if text.starts_with('#') {
        return None;
    }
    let end = text.find(['{', ' ', '\t'])?;
    let (name, rest) = text.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let at = match words.next() {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    words.next().is_none().then_some(Line {
        name,
        labels,
        value,
        at,
    })
}

/// `NAME="VALUE",…}` and what follows.
fn labels(text: &str) -> Option<(BTreeMap<&str, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.insert(name.trim(), value);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

/// A quoted text, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, inner.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                c @ ('\\' | '"') => out.push(c),
                other => {
                    out.push('\\');
                    out.push(other);
                }
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP container_cpu_usage_seconds_total x
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} 1.5 2000
container_memory_working_set_bytes{container=\"a\",namespace=\"n\",pod=\"p\"} 4096 2000
container_start_time_seconds{container=\"a\",namespace=\"n\",pod=\"p\"} 1.25
container_cpu_usage_seconds_total{container=\"b\",namespace=\"n\",pod=\"q\"} 1 2000
node_cpu_usage_seconds_total 1e+02 3000
node_memory_working_set_bytes 1.048576e+06 3000
node_swap_usage_bytes 7
pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 9 2000
resource_scrape_error 0
";

    #[test]
    fn what_counts_is_taken() {
        let mut batch = Batch::default();
        take(&mut batch, "n1", TEXT, 5);
        let node = &batch.nodes["n1"];
        assert_eq!((node.cpu_ns, node.memory), (100_000_000_000, 1 << 20));
        assert_eq!(node.at, 3_000_000_000);
        let wanted = Point {
            started_at: 1_250_000_000,
            at: 2_000_000_000,
            cpu_ns: 1_500_000_000,
            memory: 4096,
        };
        let key = ("n".to_owned(), "p".to_owned());
        assert_eq!(batch.pods[&key], BTreeMap::from([("a".to_owned(), wanted)]));
        assert_eq!(batch.pods.len(), 1, "half a point is none");
    }

    #[test]
    fn labels_are_unescaped() {
        let line = line("m{a=\"x\\\"y\\\\z\\n\", b=\"\",} 1").unwrap_or_else(|| panic!("a line"));
        assert_eq!(line.labels["a"], "x\"y\\z\n");
        assert_eq!(line.labels["b"], "");
    }

    #[test]
    fn anything_may_come() {
        for text in [
            "",
            "{",
            "m",
            "m{a=\"",
            "m{a} 1",
            "m{a=\"b\"} ",
            "m 1 x",
            "m 1 2 3",
            "node_cpu_usage_seconds_total NaN",
            "node_cpu_usage_seconds_total -1",
            "node_memory_working_set_bytes +Inf",
            "container_cpu_usage_seconds_total{container=\"\\",
            "\u{0}\u{fffd}{=\"\"}",
        ] {
            let mut batch = Batch::default();
            take(&mut batch, "n1", text, 0);
            assert!(batch.nodes.is_empty() && batch.pods.is_empty(), "{text}");
        }
        for cut in 0..TEXT.len() {
            if let Some(text) = TEXT.get(cut..) {
                take(&mut Batch::default(), "n1", text, 0);
            }
        }
    }
}

//! The last two points of each node and container, and what was used between
//! them (metrics-server's `pkg/storage`). Pure.

use super::RESOLUTION;
use std::collections::BTreeMap;

/// Less than this since a container's start says little of its CPU use.
const FRESH_LEAST: i64 = 10_000_000_000;

/// Times are nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) started_at: i64,
    pub(super) at: i64,
    /// Since the start.
    pub(super) cpu_ns: u64,
    /// The working set, in bytes.
    pub(super) memory: u64,
}

impl Point {
    /// Zeros stand for what wasn't said.
    pub(super) fn is_whole(&self) -> bool {
        self.at != 0 && self.cpu_ns != 0 && self.memory != 0
    }
}

type Pod = BTreeMap<String, Point>;

/// What all nodes said in one round. Pods are by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) nodes: BTreeMap<String, Point>,
    pub(super) pods: BTreeMap<(String, String), Pod>,
}

/// What was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) at: i64,
    pub(super) window: i64,
    /// Billionths of a CPU.
    pub(super) cpu: u64,
    pub(super) memory: u64,
}

impl Used {
    /// `None` where the counter went back, or no time passed.
    fn between(before: &Point, now: &Point) -> Option<Used> {
        let window = now.at.checked_sub(before.at).filter(|window| *window > 0)?;
        let ns = now.cpu_ns.checked_sub(before.cpu_ns)?;
        let cpu = u128::from(ns) * 1_000_000_000 / u128::from(window.unsigned_abs());
        (now.started_at >= before.started_at).then_some(Used {
            at: now.at,
            window,
            cpu: u64::try_from(cpu).unwrap_or(u64::MAX),
            memory: now.memory,
        })
    }
}

/// The points that count now.
#[derive(Debug, Default)]
pub(super) struct Points {
    last: Batch,
    before: Batch,
}

impl Points {
    /// Takes a round in; what is not in it is forgotten.
    pub(super) fn store(&mut self, new: Batch) {
        let mut before = Batch::default();
        for (name, point) in &new.nodes {
            let (last, older) = (self.last.nodes.get(name), self.before.nodes.get(name));
            if let Some(found) = preceding(point, last, older) {
                before.nodes.insert(name.clone(), found);
            }
        }
        for (key, pod) in &new.pods {
            let (last, older) = (self.last.pods.get(key), self.before.pods.get(key));
            let of = |pod: Option<&Pod>, name: &str| pod.and_then(|pod| pod.get(name)).copied();
            let found = pod.iter().filter_map(|(name, point)| {
                let (last, older) = (of(last, name), of(older, name));
                // A start since then is another container's.
                let same = last.filter(|last| point.started_at < last.at);
                let found =
                    begun(point).or_else(|| preceding(point, same.as_ref(), older.as_ref()));
                Some((name.clone(), found?))
            });
            let found: Pod = found.collect();
            if !found.is_empty() {
                before.pods.insert(key.clone(), found);
            }
        }
        self.last = new;
        self.before = before;
    }

    pub(super) fn node(&self, name: &str) -> Option<Used> {
        Used::between(self.before.nodes.get(name)?, self.last.nodes.get(name)?)
    }

    /// Of each container, if something is known of all.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Vec<(&str, Used)>> {
        let key = (namespace.to_owned(), name.to_owned());
        let (before, last) = (self.before.pods.get(&key)?, self.last.pods.get(&key)?);
        let mut out = Vec::with_capacity(last.len());
        for (container, now) in last {
            let before = before.get(container)?;
            out.extend(Used::between(before, now).map(|used| (container.as_str(), used)));
        }
        Some(out)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.last.nodes.keys().map(String::as_str)
    }

    /// Of one namespace, or of all.
    pub(super) fn pods(&self, namespace: &str) -> impl Iterator<Item = (&str, &str)> {
        let keys = self.last.pods.keys();
        keys.filter(move |(of, _)| namespace.is_empty() || of == namespace)
            .map(|(namespace, name)| (namespace.as_str(), name.as_str()))
    }

    /// Whether there are nodes, and something of each is known.
    pub(super) fn is_settled(&self) -> bool {
        let mut nodes = self.nodes().peekable();
        nodes.peek().is_some() && nodes.all(|name| self.node(name).is_some())
    }
}

/// The point before a new one: the last, or, if that is the same, the one before.
fn preceding(new: &Point, last: Option<&Point>, older: Option<&Point>) -> Option<Point> {
    let last = last?;
    if new.at > last.at {
        return Some(*last);
    }
    older.filter(|older| older.at < new.at).copied()
}

/// A container that started since the round before has used nothing at its start.
fn begun(new: &Point) -> Option<Point> {
    let resolution = i64::try_from(RESOLUTION.as_nanos()).unwrap_or(i64::MAX);
    let ran = new.at.checked_sub(new.started_at)?;
    (FRESH_LEAST..resolution).contains(&ran).then_some(Point {
        at: new.started_at,
        cpu_ns: 0,
        ..*new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn point(started: i64, at: i64, cpu_ms: u64) -> Point {
        Point {
            started_at: started * SECOND,
            at: at * SECOND,
            cpu_ns: cpu_ms * 1_000_000,
            memory: 4096,
        }
    }

    fn batch(node: Point, container: Option<Point>) -> Batch {
        let pod = |point| {
            let key = ("n".to_owned(), "p".to_owned());
            (key, BTreeMap::from([("c".to_owned(), point)]))
        };
        Batch {
            nodes: BTreeMap::from([("n1".to_owned(), node)]),
            pods: container.map(pod).into_iter().collect(),
        }
    }

    /// Thousandths of a CPU, and the window in seconds.
    type Told = Option<(u64, i64)>;

    /// Each round's node and container, and what is told of them after it.
    fn check(rounds: &[(Point, Option<Point>, Told, Told)]) {
        let mut points = Points::default();
        for (node, container, of_node, of_container) in rounds {
            points.store(batch(*node, *container));
            let shown = |used: Used| (used.cpu / 1_000_000, used.window / SECOND);
            assert_eq!(points.node("n1").map(shown), *of_node, "{node:?}");
            let pod = points.pod("n", "p").and_then(|all| Some(all.first()?.1));
            assert_eq!(pod.map(shown), *of_container, "{container:?}");
        }
    }

    #[test]
    fn use_is_what_was_used_between_two_rounds() {
        check(&[
            (point(0, 100, 1000), Some(point(50, 100, 500)), None, None),
            (
                point(0, 115, 16_000),
                Some(point(50, 115, 2_000)),
                Some((1000, 15)),
                Some((100, 15)),
            ),
            // The same sample again.
            (
                point(0, 115, 16_000),
                Some(point(50, 115, 2_000)),
                Some((1000, 15)),
                Some((100, 15)),
            ),
            // The pod is gone, and the node's counter went back.
            (point(0, 130, 1), None, None, None),
        ]);
    }

    #[test]
    fn a_container_that_began_since_is_known_at_once() {
        check(&[
            (
                point(0, 100, 1),
                Some(point(88, 100, 1200)),
                None,
                Some((100, 12)),
            ),
            (
                point(0, 115, 2),
                Some(point(110, 115, 5)),
                Some((0, 15)),
                None,
            ),
            (
                point(0, 130, 3),
                Some(point(110, 130, 155)),
                Some((0, 15)),
                Some((10, 15)),
            ),
        ]);
        check(&[(point(0, 100, 1), Some(point(95, 100, 1)), None, None)]);
    }

    #[test]
    fn a_pod_is_told_when_all_of_it_is_known() {
        let mut points = Points::default();
        let mut first = batch(point(0, 100, 1), Some(point(0, 100, 1)));
        points.store(batch(point(0, 85, 1), Some(point(0, 85, 1))));
        for pod in first.pods.values_mut() {
            pod.insert("new".to_owned(), point(98, 100, 1));
        }
        points.store(first);
        assert_eq!(points.pod("n", "p"), None);
        assert!(points.is_settled());
    }
}

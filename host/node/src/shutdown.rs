//! Graceful node shutdown (KEP-2000, KEP-2712): who ends when, and how long each
//! has. Pure.
//!
//! Pods end in groups, the group of the lowest priority first; each has its own
//! period. Without periods nothing of this happens: pods are stopped and come
//! back with the node.

use crate::pod::observed::{Machine, Rejection};
use crate::pod::view::is_terminal;
use crate::worker::Shown;
use std::time::Duration;

/// `status.reason` and `status.message` of a pod that ends with its node.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// Pods of this priority and above have so long, up to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) priority: i32,
    pub(crate) length: Duration,
}

/// Who ends together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) length: Duration,
    /// By uid.
    pub(crate) pods: Vec<String>,
}

/// In the order in which they end. A pod below all periods is in the lowest; a
/// group without pods costs no time, and isn't there.
pub(crate) fn groups(periods: &[Period], pods: &[(String, i32)]) -> Vec<Group> {
    let mut periods = periods.to_vec();
    periods.sort_by_key(|period| period.priority);
    let mut groups: Vec<Group> = periods
        .iter()
        .map(|period| Group {
            length: period.length,
            pods: Vec::new(),
        })
        .collect();
    for (uid, priority) in pods {
        let reached = periods.partition_point(|period| period.priority <= *priority);
        if let Some(group) = groups.get_mut(reached.saturating_sub(1)) {
            group.pods.push(uid.clone());
        }
    }
    groups.retain(|group| !group.pods.is_empty());
    groups
}

/// Nothing of it runs, and the API knows.
pub(crate) fn is_over(shown: &Shown) -> bool {
    let written = shown.observed.written.as_ref();
    written.is_some_and(is_terminal) && shown.observed.machine == Machine::Absent
}

/// Why a pod of such a group fails.
pub(crate) fn rejection(length: Duration) -> Rejection {
    Rejection {
        reason: REASON.to_owned(),
        message: MESSAGE.to_owned(),
        grace_ms: u64::try_from(length.as_millis()).ok(),
        disrupted: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_priority_ends_first() {
        let period = |priority, seconds| Period {
            priority,
            length: Duration::from_secs(seconds),
        };
        let pods: Vec<(String, i32)> = [
            ("low", -5),
            ("default", 0),
            ("high", 999),
            ("critical", 2_000_001_000),
        ]
        .map(|(name, priority)| (name.to_owned(), priority))
        .into();
        let outline = |periods: &[Period]| -> Vec<String> {
            let text =
                |group: Group| format!("{}: {}", group.length.as_secs(), group.pods.join(" "));
            groups(periods, &pods).into_iter().map(text).collect()
        };
        for (periods, wanted) in [
            (
                vec![period(2_000_000_000, 10), period(0, 20)],
                vec!["20: low default high", "10: critical"],
            ),
            (
                vec![period(0, 1), period(500, 2), period(600, 3)],
                vec!["1: low default", "3: high critical"],
            ),
            (vec![], vec![]),
        ] {
            assert_eq!(outline(&periods), wanted);
        }
    }
}

//! `(thresholds, observations, now) -> what to do`: upstream's `synchronize`
//! without its effects. Time is an argument.
//!
//! A threshold is met when less is left than it asks for, and stays met until
//! its minimum reclaim is there, too. It drives evictions once it is met for its
//! grace period; a condition holds until its thresholds were unmet for the
//! transition period.

use super::signals::{Observation, Observations};
use super::{Pressure, Resource};
use crate::kubelet::{Signal, Size};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    pub(crate) size: Size,
    /// Zero of a hard threshold.
    pub(crate) grace: Duration,
    /// What is to be left beyond it before it counts as unmet again.
    pub(crate) reclaim: Option<Size>,
}

impl Threshold {
    pub(super) fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }

    pub(super) fn resource(&self) -> Resource {
        Resource::of(self.signal)
    }

    pub(super) fn met(&self, seen: Observation, reclaim: bool) -> bool {
        let extra = self.reclaim.filter(|_| reclaim);
        let extra = extra.map_or(0, |size| size.of(seen.capacity));
        seen.available < self.size.of(seen.capacity).saturating_add(extra)
    }
}

#[derive(Debug)]
struct Followed {
    threshold: Threshold,
    /// Since when it is met.
    since: Option<Instant>,
    /// It was met for its grace period the last time.
    drives: bool,
}

#[derive(Debug)]
pub(super) struct Decision {
    followed: Vec<Followed>,
    transition: Duration,
    /// When each condition was last seen: memory, disk, processes.
    seen: [Option<Instant>; 3],
}

/// What one look gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) pressure: Pressure,
    /// Thresholds that drive evictions, memory's first.
    pub(super) starved: Vec<Threshold>,
}

impl Decision {
    pub(super) fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        let followed = thresholds.into_iter().map(|threshold| Followed {
            threshold,
            since: None,
            drives: false,
        });
        Self {
            followed: followed.collect(),
            transition,
            seen: [None; 3],
        }
    }

    pub(super) fn look(&mut self, seen: &Observations, now: Instant) -> Verdict {
        let mut starved = Vec::new();
        for own in &mut self.followed {
            let observed = seen.get(&own.threshold.signal);
            let met = observed.is_some_and(|seen| own.threshold.met(*seen, own.drives));
            own.since = met.then(|| own.since.unwrap_or(now));
            own.drives = own
                .since
                .is_some_and(|since| now - since >= own.threshold.grace);
            if own.drives {
                starved.push(own.threshold);
            }
            if let Some(slot) = self.seen.get_mut(condition(own.threshold.signal))
                && met
            {
                *slot = Some(now);
            }
        }
        starved.sort_by_key(|threshold| threshold.signal != Signal::MemoryAvailable);
        let lasts =
            |at: Option<Instant>| at.is_some_and(|at| at == now || now - at < self.transition);
        let [memory, disk, pids] = self.seen.map(lasts);
        let pressure = Pressure { memory, disk, pids };
        Verdict { pressure, starved }
    }

    /// Whether all that was reclaimed is enough: no threshold is met, minimum
    /// reclaims included.
    pub(super) fn satisfied(&self, seen: &Observations) -> bool {
        self.followed.iter().all(|own| {
            let observed = seen.get(&own.threshold.signal);
            observed.is_none_or(|seen| !own.threshold.met(*seen, true))
        })
    }
}

const fn condition(signal: Signal) -> usize {
    match Resource::of(signal) {
        Resource::Memory => 0,
        Resource::Storage | Resource::Inodes => 1,
        Resource::Pids => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(signal: Signal, size: u64, grace: u64, reclaim: u64) -> Threshold {
        Threshold {
            signal,
            size: Size::bytes(size),
            grace: Duration::from_secs(grace),
            reclaim: (reclaim > 0).then(|| Size::bytes(reclaim)),
        }
    }

    fn seen(memory: u64, disk: u64) -> Observations {
        let of = |available| Observation {
            available,
            capacity: 1000,
        };
        [
            (Signal::MemoryAvailable, of(memory)),
            (Signal::NodeFsAvailable, of(disk)),
        ]
        .into()
    }

    /// At each second so much memory and disk: the conditions, and what drives
    /// evictions.
    fn check(thresholds: &[Threshold], looks: &[(u64, u64, u64, &str)]) {
        let mut decision = Decision::new(thresholds.to_vec(), Duration::from_secs(30));
        let start = Instant::now();
        for (second, memory, disk, wanted) in looks {
            let now = start + Duration::from_secs(*second);
            let verdict = decision.look(&seen(*memory, *disk), now);
            let conditions = verdict.pressure.conditions().join(" ");
            let starved: Vec<_> = verdict.starved.iter().map(|t| t.signal.name()).collect();
            let found = format!("{conditions}: {}", starved.join(" "));
            assert_eq!(found, *wanted, "at {second} s");
        }
    }

    #[test]
    fn hard_thresholds_count_at_once_and_conditions_linger() {
        check(
            &[
                threshold(Signal::NodeFsAvailable, 50, 0, 0),
                threshold(Signal::MemoryAvailable, 100, 0, 0),
            ],
            &[
                (0, 100, 50, ": "),
                (10, 99, 50, "MemoryPressure: memory.available"),
                (
                    20,
                    99,
                    49,
                    "MemoryPressure DiskPressure: memory.available nodefs.available",
                ),
                (30, 100, 49, "MemoryPressure DiskPressure: nodefs.available"),
                (49, 100, 50, "MemoryPressure DiskPressure: "),
                (50, 100, 50, "DiskPressure: "),
                (60, 100, 50, ": "),
            ],
        );
    }

    #[test]
    fn soft_thresholds_wait_for_their_grace_period() {
        check(
            &[threshold(Signal::MemoryAvailable, 100, 20, 0)],
            &[
                (0, 99, 0, "MemoryPressure: "),
                (10, 101, 0, "MemoryPressure: "),
                (20, 99, 0, "MemoryPressure: "),
                (39, 99, 0, "MemoryPressure: "),
                (40, 99, 0, "MemoryPressure: memory.available"),
            ],
        );
    }

    #[test]
    fn a_minimum_reclaim_keeps_a_threshold_met() {
        let own = [threshold(Signal::MemoryAvailable, 100, 0, 50)];
        check(
            &own,
            &[
                (0, 120, 0, ": "),
                (10, 99, 0, "MemoryPressure: memory.available"),
                (20, 149, 0, "MemoryPressure: memory.available"),
                (30, 150, 0, "MemoryPressure: "),
                (40, 120, 0, "MemoryPressure: "),
            ],
        );
        let decision = Decision::new(own.to_vec(), Duration::ZERO);
        assert!(!decision.satisfied(&seen(149, 0)) && decision.satisfied(&seen(150, 0)));
    }

    #[test]
    fn what_is_not_observed_decides_nothing() {
        let own = threshold(Signal::PidAvailable, 100, 0, 0);
        check(&[own], &[(0, 0, 0, ": ")]);
    }
}

//! Which images go, and when: upstream's image garbage collection
//! (`pkg/kubelet/images/image_gc_manager.go`), as pure functions.

use crate::kubelet::Kubelet;
use std::time::{Duration, SystemTime};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Per cent of the disk: from `high` on images go, until `low` is reached.
    pub(crate) high: u8,
    pub(crate) low: u8,
    /// A younger image stays: a pod may be about to use it.
    pub(crate) youngest: Duration,
    /// Unused for longer, an image goes whatever the disk holds.
    pub(crate) longest: Option<Duration>,
}

/// One image id: all images of that configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: String,
    pub(super) bytes: u64,
    pub(super) made: SystemTime,
    pub(super) used: SystemTime,
    pub(super) in_use: bool,
}

impl Policy {
    pub(crate) fn of(kubelet: &Kubelet) -> Self {
        Self {
            high: kubelet.gc_high_percent(),
            low: kubelet.gc_low_percent(),
            youngest: kubelet.image_minimum_age(),
            longest: kubelet.image_maximum_age(),
        }
    }

    /// The bytes to free, if the disk is that full; 100 per cent never is.
    pub(super) fn excess(&self, capacity: u64, available: u64) -> Option<u64> {
        let (capacity, available) = (u128::from(capacity), u128::from(available.min(capacity)));
        if capacity == 0 || self.high >= 100 {
            return None;
        }
        let used = 100 - available * 100 / capacity;
        let goal = capacity * u128::from(100 - self.low.min(100)) / 100;
        let full = used >= u128::from(self.high);
        full.then(|| u64::try_from(goal.saturating_sub(available)).unwrap_or(u64::MAX))
            .filter(|excess| *excess > 0)
    }

    /// Those that may go, the one that was not used for longest first.
    pub(super) fn order<'a>(&self, all: &'a [Candidate], now: SystemTime) -> Vec<&'a Candidate> {
        let mut list: Vec<&Candidate> = all
            .iter()
            .filter(|one| !one.in_use && self.old_enough(one, now))
            .collect();
        list.sort_by_key(|one| (one.used, one.made));
        list
    }

    /// Those that nobody used for longer than images are kept.
    pub(super) fn expired<'a>(&self, all: &'a [Candidate], now: SystemTime) -> Vec<&'a Candidate> {
        let Some(longest) = self.longest else {
            return Vec::new();
        };
        let mut list = self.order(all, now);
        list.retain(|one| now.duration_since(one.used).is_ok_and(|age| age > longest));
        list
    }

    /// Made far in the future means that the clock went back, not that an image
    /// is new.
    fn old_enough(&self, one: &Candidate, now: SystemTime) -> bool {
        match now.duration_since(one.made) {
            Ok(age) => age >= self.youngest,
            Err(ahead) => ahead.duration() > self.youngest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy {
        high: 85,
        low: 80,
        youngest: Duration::from_secs(120),
        longest: Some(Duration::from_secs(1000)),
    };

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn a_disk_is_emptied_from_the_high_to_the_low_mark() {
        for (available, wanted) in [
            (160, None),
            (151, Some(49)),
            (150, Some(50)),
            (0, Some(200)),
            (2000, None),
        ] {
            assert_eq!(POLICY.excess(1000, available), wanted, "{available}");
        }
        assert_eq!(POLICY.excess(0, 0), None);
        let never = Policy {
            high: 100,
            ..POLICY
        };
        assert_eq!(never.excess(1000, 0), None);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_needed_stays() {
        let one = |id: &str, made, used, in_use| Candidate {
            id: id.to_owned(),
            bytes: 1,
            made: at(made),
            used: at(used),
            in_use,
        };
        let now = at(10_000);
        let all = [
            one("recent", 100, 9_900, false),
            one("old", 200, 500, false),
            one("older", 100, 500, false),
            one("running", 100, 100, true),
            one("new", 9_900, 9_900, false),
            one("clock-went-back", 20_000, 9_000, false),
        ];
        let names = |list: Vec<&Candidate>| -> Vec<String> {
            list.into_iter().map(|one| one.id.clone()).collect()
        };
        let order = ["older", "old", "clock-went-back", "recent"];
        assert_eq!(names(POLICY.order(&all, now)), order);
        assert_eq!(names(POLICY.expired(&all, now)), ["older", "old"]);
        let forever = Policy {
            longest: None,
            ..POLICY
        };
        assert!(forever.expired(&all, now).is_empty());
    }
}

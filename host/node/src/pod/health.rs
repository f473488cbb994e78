//! Probes: when each is due, and what their outcomes add up to
//! (upstream's `prober.worker`).
//!
//! ```text
//!   startup    until it has succeeded once; only then the other two
//!   liveness   a failure dooms the attempt: it is stopped, and started again
//!   readiness  its last verdict is the container's
//! ```
//!
//! A verdict is an outcome that came `failureThreshold` or `successThreshold`
//! times in a row. An error (the probe could not be made) counts for nothing.

use super::backoff::later;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// A success that is worth an event.
    Warning(String),
    Failure(String),
    /// It could not be made.
    Error(String),
}

/// Something done for one attempt of a container while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Probe(ProbeKind),
    PostStart,
    PreStop {
        /// What is left of the grace period.
        left_ms: u64,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acted {
    Probe(ProbeKind, Outcome),
    PostStart { failed: bool },
    PreStop { failed: bool },
}

/// Why an attempt is stopped although its pod goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Doom {
    /// Its resources change, and its `resizePolicy` wants it started anew.
    Resize,
    Startup,
    Liveness,
    PostStart,
    /// The pod names another image.
    Changed,
    /// All containers restart.
    All,
}

/// What the probes of one attempt have found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    started: bool,
    ready: bool,
    pub(crate) doom: Option<Doom>,
    /// Counted anew by a new `node`, as verdicts stay.
    #[serde(skip)]
    runs: BTreeMap<ProbeKind, Run>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Run {
    due: Option<Timestamp>,
    busy: bool,
    /// The last outcome, and how often it came in a row.
    last: Option<bool>,
    count: i32,
}

/// A probe that has no delay of its own comes so long after the start, or after
/// its period if that is shorter: upstream's comes at random within the period.
const FIRST: SignedDuration = SignedDuration::from_secs(1);

impl ProbeKind {
    pub(crate) const ALL: [Self; 3] = [Self::Startup, Self::Readiness, Self::Liveness];

    /// As events name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// How long a probe may take.
pub(crate) fn timeout(probe: &Probe) -> Duration {
    let seconds = positive(probe.timeout_seconds, 1);
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}

fn positive(value: Option<i32>, default: i32) -> i32 {
    value.filter(|value| *value > 0).unwrap_or(default)
}

fn period(probe: &Probe) -> SignedDuration {
    SignedDuration::from_secs(i64::from(positive(probe.period_seconds, 10)))
}

fn first(probe: &Probe) -> SignedDuration {
    let delay = i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0));
    SignedDuration::from_secs(delay).max(FIRST.min(period(probe)))
}

impl Health {
    /// Of an attempt that runs: its startup probe, if it has one, succeeded.
    pub(crate) fn started(&self, container: &Container) -> bool {
        container.startup_probe.is_none() || self.started
    }

    /// Of an attempt that runs.
    pub(crate) fn ready(&self, container: &Container) -> bool {
        self.started(container) && (container.readiness_probe.is_none() || self.ready)
    }

    /// The probes to be made from now on, and when each is due. `ending` says
    /// that nobody will start the container again: only readiness matters then.
    pub(crate) fn due(
        &self,
        container: &Container,
        started_at: Timestamp,
        ending: bool,
    ) -> Vec<(ProbeKind, Timestamp)> {
        let starting = !self.started(container);
        let wanted = |kind: &ProbeKind| match kind {
            ProbeKind::Startup => starting && !ending && self.doom.is_none(),
            ProbeKind::Readiness => !starting,
            ProbeKind::Liveness => !starting && !ending && self.doom.is_none(),
        };
        let kinds = ProbeKind::ALL.into_iter().filter(wanted);
        kinds
            .filter_map(|kind| {
                let probe = kind.of(container)?;
                let run = self.runs.get(&kind);
                if run.is_some_and(|run| run.busy) {
                    return None;
                }
                let planned = run.and_then(|run| run.due);
                Some((kind, planned.unwrap_or(later(started_at, first(probe)))))
            })
            .collect()
    }

    /// Marks a probe as under way.
    pub(crate) fn begin(&mut self, kind: ProbeKind, probe: &Probe, now: Timestamp) {
        let run = self.runs.entry(kind).or_default();
        run.busy = true;
        // By the clock, not from the end of the one before; late ones are left out.
        let next = later(run.due.unwrap_or(now), period(probe));
        run.due = Some(if next > now {
            next
        } else {
            later(now, period(probe))
        });
    }

    /// Spreads the first probes of a container that an earlier `node` started.
    pub(crate) fn adopt(&mut self, container: &Container, spread: u64, now: Timestamp) {
        for kind in ProbeKind::ALL {
            let Some(probe) = kind.of(container) else {
                continue;
            };
            let run = self.runs.entry(kind).or_default();
            let millis = u64::try_from(period(probe).as_millis()).unwrap_or(u64::MAX);
            let wait = i64::try_from(spread % millis.max(1)).unwrap_or(0);
            let at = later(now, SignedDuration::from_millis(wait));
            run.due.get_or_insert(at);
        }
    }

    /// Takes an outcome; true if it changed a verdict.
    pub(crate) fn take(
        &mut self,
        kind: ProbeKind,
        probe: &Probe,
        outcome: &Outcome,
        now: Timestamp,
    ) -> bool {
        let run = self.runs.entry(kind).or_default();
        run.busy = false;
        let success = match outcome {
            Outcome::Success | Outcome::Warning(_) => true,
            Outcome::Failure(_) => false,
            Outcome::Error(_) => return false,
        };
        run.count = if run.last == Some(success) {
            run.count.saturating_add(1)
        } else {
            1
        };
        run.last = Some(success);
        let threshold = if success {
            positive(probe.success_threshold, 1)
        } else {
            positive(probe.failure_threshold, 3)
        };
        run.count >= threshold && self.decide(kind, success, now)
    }

    fn decide(&mut self, kind: ProbeKind, success: bool, now: Timestamp) -> bool {
        match (kind, success) {
            (ProbeKind::Readiness, _) => std::mem::replace(&mut self.ready, success) != success,
            (ProbeKind::Startup, true) => {
                self.started = true;
                // Readiness need not wait for its period.
                self.runs.entry(ProbeKind::Readiness).or_default().due = Some(now);
                true
            }
            (ProbeKind::Liveness, true) => false,
            (ProbeKind::Startup, false) => self.doomed(Doom::Startup),
            (ProbeKind::Liveness, false) => self.doomed(Doom::Liveness),
        }
    }

    fn doomed(&mut self, by: Doom) -> bool {
        let new = self.doom.is_none();
        self.doom.get_or_insert(by);
        new
    }

    /// What a checkpoint holds of it.
    pub(crate) fn lasting(&self) -> Self {
        Self {
            runs: BTreeMap::new(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(probes: Value) -> Container {
        let mut container = json!({"name": "a"});
        for (key, value) in probes.as_object().expect("an object") {
            container[key] = value.clone();
        }
        serde_json::from_value(container).expect("a container")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn failure() -> Outcome {
        Outcome::Failure("no".to_owned())
    }

    struct Probed {
        container: Container,
        health: Health,
    }

    impl Probed {
        fn new(probes: Value) -> Self {
            Self {
                container: container(probes),
                health: Health::default(),
            }
        }

        fn due(&self, ending: bool) -> Vec<(ProbeKind, i64)> {
            let due = self.health.due(&self.container, at(100), ending);
            due.into_iter().map(|(k, at)| (k, at.as_second())).collect()
        }

        fn take(&mut self, kind: ProbeKind, outcome: &Outcome, now: i64) -> bool {
            let probe = kind.of(&self.container).expect("it has one").clone();
            self.health.begin(kind, &probe, at(now));
            assert!(self.due(false).iter().all(|(own, _)| *own != kind));
            self.health.take(kind, &probe, outcome, at(now))
        }
    }

    #[test]
    fn probes_come_by_the_clock() {
        let mut probed = Probed::new(json!({
            "readinessProbe": {"periodSeconds": 5},
            "livenessProbe": {"initialDelaySeconds": 30},
        }));
        let both = vec![(ProbeKind::Readiness, 101), (ProbeKind::Liveness, 130)];
        assert_eq!(probed.due(false), both);
        assert_eq!(probed.due(true), [(ProbeKind::Readiness, 101)]);
        probed.take(ProbeKind::Readiness, &Outcome::Success, 101);
        assert_eq!(probed.due(true), [(ProbeKind::Readiness, 106)]);
        probed.take(ProbeKind::Readiness, &Outcome::Success, 107);
        assert_eq!(probed.due(true), [(ProbeKind::Readiness, 111)]);
        probed.take(ProbeKind::Readiness, &Outcome::Success, 200);
        assert_eq!(probed.due(true), [(ProbeKind::Readiness, 205)]);
    }

    #[test]
    fn the_others_wait_for_the_startup_probe() {
        let mut probed = Probed::new(json!({
            "startupProbe": {}, "readinessProbe": {}, "livenessProbe": {},
        }));
        assert_eq!(probed.due(false), [(ProbeKind::Startup, 101)]);
        assert!(!probed.health.ready(&probed.container));
        assert!(!probed.take(ProbeKind::Startup, &failure(), 101));
        assert!(probed.take(ProbeKind::Startup, &Outcome::Success, 111));
        assert!(probed.health.started(&probed.container));
        let kinds = vec![(ProbeKind::Readiness, 111), (ProbeKind::Liveness, 101)];
        assert_eq!(probed.due(false), kinds);
        assert!(probed.take(ProbeKind::Readiness, &Outcome::Success, 111));
        assert!(probed.health.ready(&probed.container));
    }

    #[test]
    fn verdicts_need_outcomes_in_a_row() {
        let mut probed = Probed::new(json!({
            "readinessProbe": {"successThreshold": 2, "failureThreshold": 2},
            "livenessProbe": {},
        }));
        let ready = |probed: &Probed| probed.health.ready(&probed.container);
        let yes = Outcome::Success;
        for (outcome, expected) in [
            (yes.clone(), false),
            (failure(), false),
            (yes.clone(), false),
            (Outcome::Error("none".to_owned()), false),
            (yes, true),
            (failure(), true),
            (failure(), false),
        ] {
            probed.take(ProbeKind::Readiness, &outcome, 101);
            assert_eq!(ready(&probed), expected, "{outcome:?}");
        }
        for doom in [None, None, Some(Doom::Liveness)] {
            probed.take(ProbeKind::Liveness, &failure(), 101);
            assert_eq!(probed.health.doom, doom);
        }
        let left: Vec<_> = probed
            .due(false)
            .into_iter()
            .map(|(kind, _)| kind)
            .collect();
        assert_eq!(left, [ProbeKind::Readiness]);
    }

    #[test]
    fn a_new_node_spreads_its_first_probes() {
        let mut probed = Probed::new(json!({"livenessProbe": {}}));
        let container = probed.container.clone();
        probed.health.adopt(&container, 23_000, at(500));
        assert_eq!(probed.due(false), [(ProbeKind::Liveness, 503)]);
        probed.health.adopt(&container, 4000, at(501));
        assert_eq!(probed.due(false), [(ProbeKind::Liveness, 503)]);
    }
}

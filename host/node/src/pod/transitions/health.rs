//! Probes and hooks: what they find, and what becomes of their container.

use super::super::backoff::later;
use super::super::health::{Act, Acted, Doom, Outcome, ProbeKind};
use super::super::observed::{Note, Observed, Stage, State};
use super::super::view::View;
use super::containers::container_path;
use jiff::{SignedDuration, Timestamp};

/// How much of a probe's words an event takes.
const TEXT_MAX: usize = 900;

impl Observed {
    pub(super) fn begin_act(&mut self, view: View<'_>, container: &str, act: Act, now: Timestamp) {
        let described = view.container(container).map(|(_, container)| container);
        let Some(record) = self.containers.get_mut(container) else {
            return;
        };
        match (act, &mut record.state) {
            (Act::Probe(kind), _) => {
                if let Some(probe) = described.and_then(|container| kind.of(container)) {
                    record.health.begin(kind, probe, now);
                }
            }
            (Act::PostStart, State::PostStart { busy, .. })
            | (
                Act::PreStop { .. },
                State::Stopping {
                    stage: Stage::Hook { busy },
                    ..
                },
            ) => *busy = true,
            (Act::PostStart | Act::PreStop { .. }, _) => {}
        }
    }

    pub(super) fn acted(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        acted: &Acted,
        now: Timestamp,
    ) -> Vec<Note> {
        let note = match acted {
            Acted::Probe(kind, outcome) => {
                self.probed(view, (container, attempt), *kind, outcome, now)
            }
            Acted::PostStart { failed } => self.post_start_done(container, attempt, *failed),
            Acted::PreStop { failed } => self.pre_stop_done(container, attempt, *failed),
        };
        let note = note.map(|note| note.at(container_path(view, container)));
        note.into_iter().collect()
    }

    fn probed(
        &mut self,
        view: View<'_>,
        (container, attempt): (&str, u32),
        kind: ProbeKind,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Option<Note> {
        let probe = view.container(container).and_then(|(_, c)| kind.of(c));
        let record = self.containers.get_mut(container);
        let record = record.filter(|record| record.attempt == attempt && record.running());
        let (record, probe) = record.zip(probe)?;
        record.health.take(kind, probe, outcome, now);
        let name = kind.name();
        let (reason, text) = match outcome {
            Outcome::Success => return None,
            Outcome::Warning(text) => ("ProbeWarning", format!("{name} probe warning: {text}")),
            Outcome::Failure(text) => ("Unhealthy", format!("{name} probe failed: {text}")),
            Outcome::Error(text) => {
                let state = "errored and resulted in unknown state";
                ("Unhealthy", format!("{name} probe {state}: {text}"))
            }
        };
        Some(Note::warning(reason, cut(text)))
    }

    fn post_start_done(&mut self, container: &str, attempt: u32, failed: bool) -> Option<Note> {
        let record = self.containers.get_mut(container);
        let record = record.filter(|record| record.attempt == attempt)?;
        let State::PostStart { started_at, .. } = record.state else {
            return None;
        };
        record.state = State::Running { started_at };
        if !failed {
            return None;
        }
        record.health.doom = Some(Doom::PostStart);
        // Upstream, too, keeps what the hook said to itself.
        let text = "PostStartHook failed".to_owned();
        Some(Note::warning("FailedPostStartHook", text))
    }

    fn pre_stop_done(&mut self, container: &str, attempt: u32, failed: bool) -> Option<Note> {
        let same = self.record(container).is_some_and(|r| r.attempt == attempt);
        let stage = self.stage_mut(container).filter(|_| same)?;
        if !matches!(stage, Stage::Hook { .. }) {
            return None;
        }
        *stage = Stage::Signal { until: None };
        let text = "PreStopHook failed".to_owned();
        failed.then(|| Note::warning("FailedPreStopHook", text))
    }

    pub(super) fn begin_signal(&mut self, container: &str, grace_ms: u64, now: Timestamp) {
        let grace = i64::try_from(grace_ms).unwrap_or(i64::MAX);
        let until = later(now, SignedDuration::from_millis(grace));
        if let Some(stage) = self.stage_mut(container) {
            *stage = Stage::Signal { until: Some(until) };
        }
    }

    fn stage_mut(&mut self, container: &str) -> Option<&mut Stage> {
        match &mut self.containers.get_mut(container)?.state {
            State::Stopping { stage, .. } => Some(stage),
            _ => None,
        }
    }
}

/// At a character's border.
fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    text.truncate(end);
    text
}

//! Probes and hooks: what they find, and what becomes of their container.

use super::super::health::{Doom, Outcome, ProbeKind};
use super::super::observed::{Note, Observed, Stage, State};
use super::super::view::View;
use super::containers::container_path;
use jiff::Timestamp;

/// How much of a probe's words an event takes.
const TEXT_MAX: usize = 900;

impl Observed {
    pub(super) fn begin_probe(
        &mut self,
        view: View<'_>,
        container: &str,
        kind: ProbeKind,
        now: Timestamp,
    ) {
        let probe = view.container(container).and_then(|(_, c)| kind.of(c));
        if let Some((record, probe)) = self.containers.get_mut(container).zip(probe) {
            record.health.begin(kind, probe, now);
        }
    }

    pub(super) fn probed(
        &mut self,
        view: View<'_>,
        (container, attempt): (&str, u32),
        kind: ProbeKind,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Vec<Note> {
        let probe = view.container(container).and_then(|(_, c)| kind.of(c));
        let record = self.containers.get_mut(container);
        let record = record.filter(|record| record.attempt == attempt && record.running());
        let Some((record, probe)) = record.zip(probe) else {
            return Vec::new();
        };
        record.health.take(kind, probe, outcome, now);
        let name = kind.name();
        let (reason, text) = match outcome {
            Outcome::Success => return Vec::new(),
            Outcome::Warning(text) => ("ProbeWarning", format!("{name} probe warning: {text}")),
            Outcome::Failure(text) => ("Unhealthy", format!("{name} probe failed: {text}")),
            Outcome::Error(text) => {
                let state = "errored and resulted in unknown state";
                ("Unhealthy", format!("{name} probe {state}: {text}"))
            }
        };
        vec![Note::warning(reason, cut(text)).at(container_path(view, container))]
    }

    pub(super) fn begin_post_start(&mut self, container: &str) {
        if let Some(record) = self.containers.get_mut(container)
            && let State::PostStart { busy, .. } = &mut record.state
        {
            *busy = true;
        }
    }

    pub(super) fn post_start_done(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        failed: bool,
    ) -> Vec<Note> {
        let record = self.containers.get_mut(container);
        let Some(record) = record.filter(|record| record.attempt == attempt) else {
            return Vec::new();
        };
        let State::PostStart { started_at, .. } = record.state else {
            return Vec::new();
        };
        record.state = State::Running { started_at };
        if !failed {
            return Vec::new();
        }
        record.health.doom = Some(Doom::PostStart);
        // Upstream, too, keeps what the hook said to itself.
        let note = Note::warning("FailedPostStartHook", "PostStartHook failed".to_owned());
        vec![note.at(container_path(view, container))]
    }

    pub(super) fn begin_pre_stop(&mut self, container: &str) {
        if let Some(stage) = self.stage_mut(container)
            && let Stage::Hook { busy } = stage
        {
            *busy = true;
        }
    }

    pub(super) fn pre_stop_done(
        &mut self,
        view: View<'_>,
        container: &str,
        attempt: u32,
        failed: bool,
    ) -> Vec<Note> {
        let same = self.record(container).is_some_and(|r| r.attempt == attempt);
        let stage = self.stage_mut(container).filter(|_| same);
        let Some(stage @ Stage::Hook { .. }) = stage else {
            return Vec::new();
        };
        *stage = Stage::Signal { until: None };
        if !failed {
            return Vec::new();
        }
        let note = Note::warning("FailedPreStopHook", "PreStopHook failed".to_owned());
        vec![note.at(container_path(view, container))]
    }

    pub(super) fn begin_signal(&mut self, container: &str, until: Timestamp) {
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

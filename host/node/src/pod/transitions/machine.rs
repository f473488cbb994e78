//! A pod's machine: launched, reached, set up, ended.

use super::super::observed::{Machine, Note, Observed, State};
use super::super::view::View;
use super::containers::lost;
use guest_protocol::ContainerState as GuestContainer;
use jiff::Timestamp;

impl Observed {
    pub(super) fn launch_failed(&mut self, message: String, now: Timestamp) -> Vec<Note> {
        let text = format!("Failed to create pod machine: {message}");
        self.machine = Machine::Absent;
        self.machine_failed(message, now);
        vec![Note::warning("FailedCreatePodSandBox", text)]
    }

    fn machine_failed(&mut self, message: String, now: Timestamp) {
        self.machine_failure = Some(message);
        self.machine_ended_at = Some(now);
        self.machine_backoff.next(now, now);
    }

    pub(super) fn session_up(
        &mut self,
        view: View<'_>,
        set_up: bool,
        containers: Vec<GuestContainer>,
        now: Timestamp,
    ) -> Vec<Note> {
        match self.machine {
            Machine::Booting
            | Machine::Up
            | Machine::SettingUp
            | Machine::SetUp
            | Machine::Filling
            | Machine::Ready => {}
            _ => return Vec::new(),
        }
        self.machine = Machine::Up;
        if set_up {
            self.is_set_up(view);
        }
        // A start that never reached the guest is asked for again: same attempt.
        for (name, record) in &mut self.containers {
            let known = containers
                .iter()
                .any(|news| news.name == *name && news.attempt == record.attempt);
            if known || !record.active() {
                continue;
            }
            record.state = match &record.state {
                State::Starting { .. } => State::Starting {
                    resend: Some(now),
                    again: true,
                },
                _ => lost(
                    record,
                    "The guest does not know the container any more",
                    now,
                ),
            };
        }
        self.adopt_health(view, now);
        let mut notes = Vec::new();
        for news in containers {
            notes.extend(self.container_news(view, news, now));
        }
        notes
    }

    /// Probes of containers that an earlier `node` started don't come all at once.
    fn adopt_health(&mut self, view: View<'_>, now: Timestamp) {
        let spread = view.machine_id().map_or(0, |id| {
            let bytes = id.0.first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(bytes)
        });
        for (_, container) in view.containers() {
            let record = self.containers.get_mut(&container.name);
            if let Some(record) = record.filter(|record| record.running()) {
                record.health.adopt(container, spread, now);
            }
        }
    }

    pub(super) fn session_lost(&mut self) {
        if matches!(
            self.machine,
            Machine::Up | Machine::SettingUp | Machine::SetUp | Machine::Filling | Machine::Ready
        ) {
            self.machine = Machine::Booting;
        }
    }

    pub(super) fn set_up_done(&mut self, view: View<'_>) {
        if self.machine == Machine::SettingUp {
            self.is_set_up(view);
        }
    }

    fn is_set_up(&mut self, view: View<'_>) {
        self.machine_failure = None;
        self.machine = if self.needs_filling(view) {
            Machine::SetUp
        } else {
            Machine::Ready
        };
    }

    /// Whoever noticed that it is of no use kills it, too.
    pub(super) fn machine_useless(&mut self, message: String) {
        if !matches!(
            self.machine,
            Machine::Absent | Machine::Ended | Machine::Forgetting
        ) {
            self.machine_failure = Some(message);
            self.machine = Machine::Killing;
        }
    }

    pub(super) fn machine_ended(&mut self, cause: &str, now: Timestamp) -> Vec<Note> {
        match self.machine {
            Machine::Absent | Machine::Ended | Machine::Forgetting => return Vec::new(),
            _ => {}
        }
        // What node noticed before it killed says more than how it died.
        let known = match self.machine {
            Machine::Killing => self.machine_failure.take(),
            _ => None,
        };
        let asked = matches!(self.machine, Machine::PoweringOff { .. });
        let ready = self.machine == Machine::Ready;
        let cause = known.unwrap_or_else(|| cause.to_owned());
        let message = format!("The micro-VM ended: {cause}");
        self.machine = Machine::Ended;
        let mut ran = false;
        for record in self.containers.values_mut() {
            if record.active() {
                ran = true;
                record.state = lost(record, &message, now);
            }
        }
        if asked && !ran {
            self.machine_failure = None;
            return Vec::new();
        }
        if ran || ready {
            self.machine_failure = None;
            return vec![Note::warning("MachineFailed", message)];
        }
        self.machine_failed(cause, now);
        let text = format!("Failed to create pod machine: {message}");
        vec![Note::warning("FailedCreatePodSandBox", text)]
    }

    pub(super) fn machine_forgotten(&mut self) {
        // Launching: its turn to start hadn't come.
        let never = self.machine == Machine::Launching;
        if never || matches!(self.machine, Machine::Forgetting | Machine::Ended) {
            self.machine = Machine::Absent;
            self.size = None;
        }
    }
}

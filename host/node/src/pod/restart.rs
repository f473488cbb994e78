//! Whether a container that ended is started again, and from when on.

use super::observed::{Record, State, Terminated};
use super::view::{RestartPolicy, Role, View, image_of};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

impl Record {
    /// Its newest attempt was started with another image than the pod names now.
    pub(crate) fn has_other_image(&self, container: &Container) -> bool {
        !self.image.is_empty() && self.image != image_of(container)
    }

    /// It runs with another image: it is to be ended and started with the new
    /// one, whatever the restart policy says. What upstream calls a container's
    /// definition is its name and image; an init container runs to its end.
    pub(crate) fn is_outdated(&self, role: Role, container: &Container) -> bool {
        let runs = self.runs_since().is_some();
        runs && matches!(role, Role::Main | Role::Sidecar) && self.has_other_image(container)
    }

    /// An attempt was ended only for its image.
    pub(crate) fn is_replaced(&self, end: &Terminated) -> bool {
        self.replaced == Some(end.attempt)
    }

    /// From when on it may start again. A back-off is that of one image.
    pub(crate) fn due(&self, container: &Container) -> Option<Timestamp> {
        let end = self.ended()?;
        let same = !self.has_other_image(container);
        same.then(|| self.backoff.due(end.finished_at))
    }
}

/// When an attempt of a container may start: the attempt, and from when on.
pub(crate) fn next_start(
    view: View<'_>,
    role: Role,
    container: &Container,
    record: Option<&Record>,
    epoch: u32,
) -> Option<(u32, Option<Timestamp>)> {
    let Some(record) = record else {
        return Some((0, None));
    };
    match &record.state {
        State::Waiting => Some((record.attempt, None)),
        State::Blocked { retry_at, .. } => Some((record.attempt, Some(*retry_at))),
        State::Starting { resend, .. } => resend.map(|at| (record.attempt, Some(at))),
        State::PostStart { .. } | State::Running { .. } | State::Stopping { .. } => None,
        State::Ended { end, .. } => {
            let again = record.attempt.checked_add(1)?;
            if role == Role::Init && end.exit_code == 0 {
                return (record.epoch != epoch).then_some((again, None));
            }
            let due = record.due(container);
            restarts(view, role, record).then_some((again, due))
        }
    }
}

/// Whether a container has ended and is started again.
pub(crate) fn restarts(view: View<'_>, role: Role, record: &Record) -> bool {
    let Some(end) = record.ended() else {
        return false;
    };
    if record.is_replaced(end) {
        return true;
    }
    match (view.restart_policy(), role) {
        (_, Role::Ephemeral) => false,
        (_, Role::Sidecar) | (RestartPolicy::Always, Role::Main) => true,
        (RestartPolicy::Always, Role::Init) | (RestartPolicy::OnFailure, _) => end.exit_code != 0,
        (RestartPolicy::Never, _) => false,
    }
}

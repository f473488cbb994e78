//! What a pod asks for while it runs: whether it is given it, and how the guest
//! is told.

use super::Worker;
use crate::pod::container::limits;
use crate::pod::observed::Note;
use crate::pod::resize::{Obstacle, Outcome, Resized, infeasible, is_time, resources};
use crate::pod::resources::size;
use crate::pod::status::{Phase, phase};
use crate::pod::view::View;
use crate::pod::{Observation, Pod};
use guest_protocol::{Action, RefusalKind};
use jiff::Timestamp;

impl Worker {
    /// Gives the pod what it asks for, where it can be given.
    pub(super) fn reconsider(&mut self) {
        let now = Timestamp::now();
        let notes = match self.pod.as_asked() {
            Some(asked) => self.judge(asked, now),
            None => {
                if self.observed.resize.pending.is_some() {
                    self.shared.ledger.withdraw(View(&self.pod).uid());
                }
                Vec::new()
            }
        };
        self.tell(notes, now);
        let notes = self.observed.resize_goes_on(View(&self.pod));
        self.tell(notes, now);
        self.save();
    }

    fn judge(&mut self, asked: Pod, now: Timestamp) -> Vec<Note> {
        let view = View(&asked);
        let over = !matches!(phase(view, &self.observed), Phase::Pending | Phase::Running);
        let open = self.shared.ledger.is_open();
        if over || view.deleting() || !open || !is_time(&self.observed) {
            return Vec::new();
        }
        let (ledger, defaults) = (&self.shared.ledger, self.shared.defaults);
        let size = self.observed.size;
        if let Some(why) = infeasible(view, size, defaults, ledger.allocatable()) {
            ledger.withdraw(view.uid());
            return self
                .observed
                .obstructed(view, Obstacle::Infeasible, why, now);
        }
        let pending = self.observed.resize.pending.as_ref();
        let since = pending.map_or(now, |pending| pending.since);
        if let Err(lack) = ledger.change(&asked, since) {
            let why = lack.message();
            return self.observed.obstructed(view, Obstacle::Deferred, why, now);
        }
        self.pod = asked;
        let notes = self.observed.granted(View(&self.pod));
        self.weigh();
        notes
    }

    /// Its share of the node's processors is what the pod asks for.
    pub(super) fn weigh(&mut self) {
        let view = View(&self.pod);
        let wanted = size(view, self.shared.defaults).cpu_weight;
        let (Some(machine), Some(id)) = (&mut self.observed.size, view.machine_id()) else {
            return;
        };
        if std::mem::replace(&mut machine.cpu_weight, wanted) == wanted {
            return;
        }
        let (shared, limits) = (self.shared.clone(), machine.limits());
        self.spawn(async move {
            if let Err(error) = shared.launcher.limit(id, limits).await {
                log::warn!("limits of machine {id}: {error}");
            }
            None
        });
    }

    /// Has the guest give an attempt the limits that its pod has now.
    pub(super) fn resize(&self, container: String, attempt: u32) {
        let Some((_, own)) = View(&self.pod).container(&container) else {
            return;
        };
        let resources = resources(own);
        let answer = self.command(Action::Resize {
            container: container.clone(),
            attempt,
            limits: limits(own),
        });
        self.spawn(async move {
            let outcome = match answer.await {
                Ok(Ok(_)) => Outcome::Done,
                Ok(Err(refusal)) if refusal.kind == RefusalKind::InUse => {
                    let why = refusal.message;
                    Outcome::Refused(format!("cannot decrease memory limits: {why}"))
                }
                Ok(Err(refusal)) => Outcome::Refused(refusal.message),
                Err(_) => Outcome::Unknown,
            };
            Some(Observation::Resized(Box::new(Resized {
                container,
                attempt,
                resources,
                outcome,
            })))
        });
    }
}

//! Which probes to make now.

use super::super::health::Act;
use super::super::observed::Observed;
use super::super::view::View;
use super::{Plan, Step};
use jiff::Timestamp;

/// Makes the probes that are due of containers that run in this machine.
pub(super) fn probe(
    plan: &mut Plan,
    view: View<'_>,
    observed: &Observed,
    ending: bool,
    now: Timestamp,
) {
    for (_, container) in view.containers() {
        let record = observed.record(&container.name);
        let Some(record) = record.filter(|r| r.running() && r.epoch == observed.epoch) else {
            continue;
        };
        let Some(started_at) = record.runs_since() else {
            continue;
        };
        for (kind, due) in record.health.due(container, started_at, ending) {
            let step = Step::Act {
                container: container.name.clone(),
                attempt: record.attempt,
                act: Act::Probe(kind),
            };
            plan.at(due, now, step);
        }
    }
}

//! Containers that run get other resources, or are stopped to be started with them.

use super::super::health::Doom;
use super::super::observed::Observed;
use super::super::resize::{Asked, behind, is_ready, needs_restart};
use super::super::restart::policy;
use super::super::view::{RestartPolicy, View};
use super::{Plan, Step, stop};
use jiff::Timestamp;

pub(super) fn resize(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    for (container, record) in behind(view, observed) {
        if !is_ready(record, observed) {
            continue;
        }
        let name = &container.name;
        let has = record.resources.as_ref();
        // One that is never started again can't be for this, either.
        let restarts = policy(view, container) != RestartPolicy::Never;
        if restarts && has.is_some_and(|has| needs_restart(container, has)) {
            let grace_ms = stop::grace_of(view, name, Doom::Resize);
            plan.push(stop::stop(name, grace_ms, Some(Doom::Resize)));
            continue;
        }
        let step = Step::ResizeContainer {
            container: name.clone(),
            attempt: record.attempt,
        };
        match record.asked {
            Asked::No => plan.push(step),
            Asked::Busy => {}
            Asked::RetryAt(at) => plan.at(at, now, step),
        }
    }
}

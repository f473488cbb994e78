//! Ending what runs: a container (its hook, its signal), all of them in order,
//! the guest, the machine.
//!
//! ```text
//!   StopContainer -> Act(PreStop) -> (its turn) SignalContainer -> its end
//!   all ended -> PowerOff -> ForgetMachine
//! ```
//!
//! Main containers and their hooks end at once; a sidecar gets its signal when
//! all that stand behind it have ended (KEP-753).

use super::super::backoff::later;
use super::super::health::{Act, Doom, ProbeKind};
use super::super::observed::{Machine, Observed, Record, Stage, State};
use super::super::restart::next_start;
use super::super::view::{DEFAULT_GRACE, Role, View};
use super::{DRAIN, Plan, STOP_SLACK, Step};
use jiff::{SignedDuration, Timestamp};

/// What is left to a process at least, unless there is no grace period at all:
/// upstream's `minimumGracePeriodInSeconds`.
const LEAST_MS: u64 = 2000;

/// Ends what runs, in the order containers, guest, machine.
pub(super) fn wind_down(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    match &observed.machine {
        Machine::Absent | Machine::Launching | Machine::Killing | Machine::Forgetting => {}
        Machine::Booting => {
            // With containers inside, the session comes back or times out.
            if !observed.any_active() {
                plan.push(kill("was not needed any more"));
            }
        }
        Machine::Up | Machine::SettingUp | Machine::SetUp | Machine::Filling | Machine::Ready => {
            stop_containers(plan, view, observed, now);
        }
        Machine::PoweringOff { since } => {
            plan.at(later(*since, STOP_SLACK), now, kill("did not power off"));
        }
        Machine::Ended => plan.push(Step::ForgetMachine),
    }
}

fn stop_containers(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    let grace_ms = observed.grace_ms(view);
    let mut idle = true;
    for (name, record) in &observed.containers {
        match &record.state {
            State::Waiting | State::Blocked { .. } => {}
            // Its answer is on the way; without one, power-off ends it, too.
            State::Starting { resend, .. } => idle &= resend.is_some(),
            State::PostStart { .. } | State::Running { .. } => {
                idle = false;
                plan.push(stop(name, grace_ms, None));
            }
            State::Stopping { deadline, .. } => {
                idle = false;
                // A second, shorter grace period counts.
                if later(now, millis(grace_ms)) < *deadline {
                    plan.push(stop(name, grace_ms, None));
                } else {
                    let turn = is_turn(view, observed, name);
                    go_on(plan, name, record, turn, now);
                }
            }
            State::Ended {
                drained,
                noticed_at,
                ..
            } => {
                let until = later(*noticed_at, DRAIN);
                if !drained && now < until && record.epoch == observed.epoch {
                    idle = false;
                    plan.wake_at(until);
                }
            }
        }
    }
    if idle {
        plan.push(Step::PowerOff);
    }
}

/// Stops containers that are of no use although their pod goes on.
pub(super) fn stop_doomed(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    for (name, record) in &observed.containers {
        let described = view.container(name);
        let changed = described.is_some_and(|(role, own)| record.is_outdated(role, own));
        let doom = changed.then_some(Doom::Changed).or_else(|| record.doom());
        match (&record.state, doom) {
            (State::PostStart { .. } | State::Running { .. }, Some(doom)) => {
                plan.push(stop(name, grace_of(view, name, doom), Some(doom)));
            }
            (State::Stopping { .. }, _) => go_on(plan, name, record, true, now),
            _ => {}
        }
    }
}

/// Ends all containers but the ephemeral ones, at once and without hooks; says
/// whether all have ended.
pub(super) fn stop_all(
    plan: &mut Plan,
    view: View<'_>,
    observed: &Observed,
    now: Timestamp,
) -> bool {
    let mut ended = true;
    for (role, container) in view.declared() {
        let name = &container.name;
        let Some(record) = observed.record(name).filter(|record| record.active()) else {
            continue;
        };
        ended = false;
        if observed.machine != Machine::Ready {
            continue;
        }
        match &record.state {
            // Whether it runs is to be known first.
            State::Starting { .. } => {
                let due = next_start(view, role, container, Some(record), observed.epoch);
                if let Some((attempt, Some(due))) = due {
                    let container = name.clone();
                    plan.at(due, now, Step::StartContainer { container, attempt });
                }
            }
            State::Stopping { deadline, .. } if *deadline <= now => {
                go_on(plan, name, record, true, now);
            }
            _ => plan.push(stop(name, 0, Some(Doom::All))),
        }
    }
    ended
}

/// A probe may have a grace period of its own.
pub(super) fn grace_of(view: View<'_>, name: &str, doom: Doom) -> u64 {
    let kind = match doom {
        Doom::Startup => Some(ProbeKind::Startup),
        Doom::Liveness => Some(ProbeKind::Liveness),
        Doom::PostStart | Doom::Changed | Doom::Resize | Doom::All => None,
    };
    let container = view.container(name).map(|(_, container)| container);
    let probe = kind.and_then(|kind| kind.of(container?));
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    let pod = view.spec().and_then(|s| s.termination_grace_period_seconds);
    let seconds = own.or(pod).unwrap_or(DEFAULT_GRACE).clamp(0, 1 << 31);
    u64::try_from(seconds)
        .unwrap_or_default()
        .saturating_mul(1000)
}

pub(super) fn stop(name: &str, grace_ms: u64, doom: Option<Doom>) -> Step {
    Step::StopContainer {
        container: name.to_owned(),
        grace_ms,
        doom,
    }
}

/// The next stage of a stop that has begun.
fn go_on(plan: &mut Plan, name: &str, record: &Record, turn: bool, now: Timestamp) {
    let State::Stopping {
        deadline, stage, ..
    } = &record.state
    else {
        return;
    };
    let left = deadline.duration_since(now).as_millis().max(0);
    let left_ms = u64::try_from(left).unwrap_or(u64::MAX);
    match stage {
        Stage::Hook { busy: false } => plan.push(Step::Act {
            container: name.to_owned(),
            attempt: record.attempt,
            act: Act::PreStop { left_ms },
        }),
        Stage::Signal { until: None } if turn => plan.push(Step::SignalContainer {
            container: name.to_owned(),
            grace_ms: left_ms.max(LEAST_MS),
        }),
        // Those before it have their own deadlines.
        Stage::Signal { until: None } => {}
        Stage::Hook { busy: true } => {
            plan.at(later(*deadline, STOP_SLACK), now, kill("did not stop"));
        }
        Stage::Signal { until: Some(until) } => {
            plan.at(later(*until, STOP_SLACK), now, kill("did not stop"));
        }
    }
}

/// Whether nothing runs any more that a container has to outlive.
fn is_turn(view: View<'_>, observed: &Observed, name: &str) -> bool {
    let mut behind = view.declared().skip_while(|(_, own)| own.name != name);
    match behind.next() {
        Some((Role::Sidecar, _)) => behind.all(|(_, own)| {
            let record = observed.record(&own.name);
            record.is_none_or(|record| match record.state {
                // Nobody will ask for it again.
                State::Starting { resend, .. } => resend.is_some(),
                _ => !record.active(),
            })
        }),
        _ => true,
    }
}

pub(super) fn kill(cause: &str) -> Step {
    Step::KillMachine {
        cause: format!("the guest {cause}"),
    }
}

fn millis(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

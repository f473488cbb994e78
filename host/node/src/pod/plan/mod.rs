//! `plan(pod, observed, now) -> steps`: what to do next for one pod.
//!
//! Every step is idempotent, and `Observed::begin` marks it before it is
//! carried out. A machine is launched with the images that are there when its
//! first container may start; the others are attached as they come.

mod probes;
mod resize;
mod stop;

use super::Pod;
use super::backoff::later;
use super::health::{Act, Doom};
use super::observed::{ApiSide, Image, ImageFailureKind, Machine, Observed, Record, State};
use super::restart::{next_start, restarts, triggers_all};
use super::status::{Phase, phase, status};
use super::view::{Role, View, image_of, post_start, reference_of, wants_tail};
use super::volumes;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodStatus};

/// How long after an end its output may still arrive.
pub(super) const DRAIN: SignedDuration = SignedDuration::from_secs(5);
/// How long after its deadline a guest that stops is cut off.
const STOP_SLACK: SignedDuration = SignedDuration::from_secs(5);
/// How long a failure is shown as itself before it is shown as a back-off.
const ANNOUNCE: SignedDuration = SignedDuration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    EnsureImage {
        image: String,
    },
    LaunchMachine,
    SetUpGuest,
    /// Volumes of files get their content, or what has changed of it.
    FillVolumes,
    StartContainer {
        container: String,
        attempt: u32,
    },
    /// A probe or a hook of an attempt.
    Act {
        container: String,
        attempt: u32,
        act: Act,
    },
    /// From now on its grace period runs; `doom` if its pod goes on without it.
    StopContainer {
        container: String,
        grace_ms: u64,
        doom: Option<Doom>,
    },
    /// An attempt that runs gets what its pod was given.
    ResizeContainer {
        container: String,
        attempt: u32,
    },
    /// The guest ends it: by its stop signal, and SIGKILL after `grace_ms`.
    SignalContainer {
        container: String,
        grace_ms: u64,
    },
    /// All containers end.
    RestartAll,
    /// They have ended: the pod starts from its first init container.
    StartAnew,
    PowerOff,
    KillMachine {
        cause: String,
    },
    ForgetMachine,
    AnnounceImageBackOff {
        image: String,
    },
    AnnounceRestartBackOff {
        container: String,
    },
    /// `activeDeadlineSeconds` is over.
    Expire,
    WriteStatus(Box<PodStatus>),
    Delete,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Does `step` once `at` is reached.
    fn at(&mut self, at: Timestamp, now: Timestamp, step: Step) {
        if at <= now {
            self.push(step);
        } else {
            self.wake_at(at);
        }
    }
}

/// The next steps for `pod`. Pods that are terminal never start anything.
pub(crate) fn plan(pod: &Pod, observed: &Observed, now: Timestamp) -> Plan {
    let view = View(pod);
    let mut plan = Plan::default();
    let finished = matches!(phase(view, observed), Phase::Succeeded | Phase::Failed);
    let ending = view.deleting() || finished;
    if ending {
        stop::wind_down(&mut plan, view, observed, now);
    } else {
        expire(&mut plan, view, observed, now);
        match observed.restarting_all {
            false if triggers_all(view, observed) => plan.push(Step::RestartAll),
            true if stop::stop_all(&mut plan, view, observed, now) => {
                plan.push(Step::StartAnew);
            }
            _ => run(&mut plan, view, observed, now),
        }
    }
    if observed.machine == Machine::Ready && !finished {
        probes::probe(&mut plan, view, observed, ending, now);
    }
    announce(&mut plan, view, observed, now);
    report(&mut plan, pod, observed, now);
    plan
}

/// Keeps the pod running.
fn run(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    ensure_images(plan, view, observed, now);
    match &observed.machine {
        Machine::Absent => {
            // In a new machine, init containers run first, and again.
            let epoch = observed.epoch.wrapping_add(1);
            let wanted = view.mains().iter().filter_map(|container| {
                let record = observed.record(&container.name);
                next_start(view, Role::Main, container, record, epoch)
            });
            let Some(due) = wanted.map(|(_, due)| due).min() else {
                return;
            };
            if !has_first_images(view, observed) {
                return;
            }
            let held = observed
                .machine_ended_at
                .filter(|_| observed.machine_failure.is_some())
                .map(|ended| observed.machine_backoff.due(ended));
            let at = due.max(held).unwrap_or(now);
            plan.at(at, now, Step::LaunchMachine);
        }
        Machine::Up => plan.push(Step::SetUpGuest),
        Machine::SetUp => {
            let at = observed.filling.retry_at.unwrap_or(now);
            plan.at(at, now, Step::FillVolumes);
        }
        Machine::Ready if observed.restarting_all => {}
        Machine::Ready => {
            refresh(plan, view, observed, now);
            stop::stop_doomed(plan, view, observed, now);
            resize::resize(plan, view, observed, now);
            start(plan, view, observed, now);
        }
        Machine::Ended => plan.push(Step::ForgetMachine),
        // Left over from a wind-down that a restart interrupted.
        Machine::PoweringOff { since } => {
            plan.at(
                later(*since, STOP_SLACK),
                now,
                stop::kill("did not power off"),
            );
        }
        Machine::Launching
        | Machine::Booting
        | Machine::SettingUp
        | Machine::Filling
        | Machine::Killing
        | Machine::Forgetting => {}
    }
}

/// Looks from time to time whether volumes of files have other content now.
fn refresh(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    if !observed.filling.busy && volumes::of_files(view).next().is_some() {
        let at = observed.filling.look_at.unwrap_or(now);
        plan.at(at, now, Step::FillVolumes);
    }
}

/// Starts what may start now, and runs the hooks that come with a start.
fn start(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    for (role, container) in startable(view, observed) {
        if !observed.has_images(view, container) {
            continue;
        }
        let name = &container.name;
        let record = observed.record(name);
        if let Some(Record {
            state: State::PostStart { busy: false, .. },
            attempt,
            ..
        }) = record
        {
            plan.push(Step::Act {
                container: name.clone(),
                attempt: *attempt,
                act: Act::PostStart,
            });
        }
        let due = next_start(view, role, container, record, observed.epoch);
        if let Some((attempt, due)) = due {
            let step = Step::StartContainer {
                container: name.clone(),
                attempt,
            };
            plan.at(due.unwrap_or(now), now, step);
        }
        // The next container waits until the hook is done, as upstream's does;
        // a start that is held back holds nothing else back.
        let at_once = due.is_some_and(|(_, due)| due.is_none_or(|due| due <= now));
        let on_the_way = record.is_some_and(|record| {
            matches!(
                record.state,
                State::Starting { .. } | State::PostStart { .. }
            )
        });
        if post_start(container).is_some() && (at_once || on_the_way) {
            return;
        }
    }
}

/// What may start, or run its hook: ephemeral containers at any time; init
/// containers one after another, each once the one before it has succeeded (a
/// sidecar: has started), then all main containers; sidecars at any time after
/// their turn.
fn startable<'a>(view: View<'a>, observed: &Observed) -> Vec<(Role, &'a Container)> {
    let here = |container: &Container| {
        let record = observed.record(&container.name);
        record.filter(|record| record.epoch == observed.epoch)
    };
    // A main container that ran in this machine shows that they were done.
    let ran = |record: &Record| !matches!(record.state, State::Waiting);
    let passed = view.mains().iter().any(|own| here(own).is_some_and(ran));
    let ephemeral = view.0.ephemeral().iter();
    let mut list: Vec<_> = ephemeral.map(|own| (Role::Ephemeral, own)).collect();
    for (role, container) in view.declared() {
        let done = match role {
            Role::Main | Role::Ephemeral => true,
            Role::Init => {
                let done = here(container).is_some_and(Record::succeeded);
                if !done && !passed {
                    list.push((role, container));
                }
                done
            }
            Role::Sidecar => {
                list.push((role, container));
                here(container)
                    .is_some_and(|record| record.running() && record.health.started(container))
            }
        };
        if !done && !passed {
            return list;
        }
        if role == Role::Main {
            list.push((role, container));
        }
    }
    list
}

/// Whether the first container of a new machine, or with init containers done
/// any of the main ones, has its images; and none may come at once that is only
/// being looked for.
fn has_first_images(view: View<'_>, observed: &Observed) -> bool {
    let declared = view.declared();
    let mut needed = declared.flat_map(|(_, container)| view.needed_images(container));
    let looked_for = needed.any(|image| {
        let image = observed.images.get(image);
        matches!(image, None | Some(Image::Ensuring { pulling: false, .. }))
    });
    let ready = |container: &Container| observed.has_images(view, container);
    let first = match view.inits().first() {
        Some(init) => ready(init),
        None => view.mains().iter().any(ready),
    };
    first && !looked_for
}

/// Asks for images that are not there. As upstream, a container that runs with
/// another image ends before its new one is pulled.
fn ensure_images(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    let mut asked: Vec<&str> = Vec::new();
    let outdated = |role, container: &Container| {
        let record = observed.record(&container.name);
        record.is_some_and(|record| record.is_outdated(role, container))
    };
    let own = view.containers();
    let own = own.filter(|(role, container)| !outdated(*role, container));
    let own = own.map(|(_, container)| image_of(container));
    let volumes = view.image_volumes().map(|(_, source)| reference_of(source));
    for image in own.chain(volumes) {
        if asked.contains(&image) {
            continue;
        }
        asked.push(image);
        let ensure = Step::EnsureImage {
            image: image.to_owned(),
        };
        match observed.images.get(image) {
            Some(Image::Ready(_) | Image::Ensuring { .. }) => {}
            Some(Image::Failed { at, backoff, .. }) => plan.at(backoff.due(*at), now, ensure),
            None => plan.push(ensure),
        }
    }
}

fn expire(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    let Some(seconds) = view.spec().and_then(|s| s.active_deadline_seconds) else {
        return;
    };
    let deadline = SignedDuration::from_secs(seconds.clamp(0, 1 << 31));
    plan.at(later(observed.accepted_at, deadline), now, Step::Expire);
}

/// Turns failures that wait into back-offs that are shown.
fn announce(plan: &mut Plan, view: View<'_>, observed: &Observed, now: Timestamp) {
    for (image, state) in &observed.images {
        if let Image::Failed {
            at,
            announced: false,
            failure,
            ..
        } = state
            && failure.kind == ImageFailureKind::Pull
            && view.pull_policy(image).is_some()
        {
            let image = image.clone();
            plan.at(
                later(*at, ANNOUNCE),
                now,
                Step::AnnounceImageBackOff { image },
            );
        }
    }
    for (name, record) in &observed.containers {
        let State::Ended {
            end,
            announced: false,
            ..
        } = &record.state
        else {
            continue;
        };
        let Some((role, described)) = view.container(name) else {
            continue;
        };
        let held = record.due(described).is_some_and(|due| due > now);
        if held && restarts(view, role, described, record) && !view.deleting() {
            let container = name.clone();
            let at = later(end.finished_at, ANNOUNCE);
            plan.at(at, now, Step::AnnounceRestartBackOff { container });
        }
    }
}

/// Tells the API, and lets go of a deleted pod when nothing of it is left.
fn report(plan: &mut Plan, pod: &Pod, observed: &Observed, now: Timestamp) {
    let view = View(pod);
    match observed.api {
        ApiSide::Writing | ApiSide::Deleting | ApiSide::Deleted => return,
        ApiSide::RetryAt(at) if at > now => {
            plan.wake_at(at);
            return;
        }
        ApiSide::Idle | ApiSide::RetryAt(_) => {}
    }
    let gone = observed.machine == Machine::Absent;
    if let Some(until) = message_to_come(view, observed, now) {
        plan.wake_at(until);
        return;
    }
    let wanted = status(pod, observed, now);
    if observed.written.as_ref() != Some(&wanted) {
        plan.push(Step::WriteStatus(Box::new(wanted)));
    } else if view.deleting() && gone {
        plan.push(Step::Delete);
    }
}

/// Until when to wait for the last words of a container that are its message.
fn message_to_come(view: View<'_>, observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let ends = view.containers().filter_map(|(_, container)| {
        let record = observed.record(&container.name)?;
        let State::Ended {
            end,
            drained,
            noticed_at,
            ..
        } = &record.state
        else {
            return None;
        };
        let until = later(*noticed_at, DRAIN);
        let waits = !drained && record.epoch == observed.epoch && now < until;
        (waits && wants_tail(container, end)).then_some(until)
    });
    ends.max()
}

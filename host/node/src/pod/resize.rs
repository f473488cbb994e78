//! Resources that change while a pod runs (KEP-1287): what its containers were
//! given, what they ask for, and what they run with.
//!
//! ```text
//!   asked for --obstacle, ledger--> given --Step::ResizeContainer--> run with
//!                    |                |
//!              PodResizePending   PodResizeInProgress
//! ```
//!
//! A pod reads as what it was given (`Pod::give`). A machine keeps the processors
//! and the memory that it was launched with: what asks for more is infeasible.

use super::Pod;
use super::backoff::later;
use super::observed::{Machine, Note, Observed, Record, State};
use super::resources::{Amount, Defaults, Size, milli, requests, size, units};
use super::view::{Role, View};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A guest's words are a claim about their length, too.
const WORDS_MAX: usize = 512;

/// How long a container rests that could not be given other resources.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// What containers have, by name; of those that may be resized.
pub(crate) type Allocation = BTreeMap<String, ResourceRequirements>;

/// How far the resources of a pod are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resize {
    /// What its containers were given last.
    pub(crate) given: Option<Allocation>,
    /// Why they are not given what they ask for.
    pub(crate) pending: Option<Pending>,
    /// They were given something, and do not all run with it.
    pub(crate) progress: Option<Progress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) obstacle: Obstacle,
    pub(crate) message: String,
    pub(crate) generation: Option<i64>,
    pub(crate) since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Obstacle {
    /// There is no room now.
    Deferred,
    /// There never is.
    Infeasible,
}

impl Obstacle {
    /// As the condition's reason has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }

    const fn event(self) -> &'static str {
        match self {
            Self::Deferred => "ResizeDeferred",
            Self::Infeasible => "ResizeInfeasible",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) generation: Option<i64>,
    /// Why a container could not be given it the last time.
    pub(crate) error: Option<String>,
}

/// What is under way for a container that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    #[default]
    No,
    Busy,
    RetryAt(Timestamp),
}

/// What the guest made of other resources for an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resized {
    pub(crate) container: String,
    pub(crate) attempt: u32,
    pub(crate) resources: ResourceRequirements,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Refused(String),
    /// The connection broke before the guest answered.
    Unknown,
}

pub(crate) fn resizable(role: Role) -> bool {
    match role {
        Role::Main | Role::Sidecar => true,
        Role::Init | Role::Ephemeral => false,
    }
}

pub(crate) fn resources(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

/// What the containers of a pod have, as it reads.
pub(crate) fn allocation(view: View<'_>) -> Allocation {
    let containers = view.declared().filter(|(role, _)| resizable(*role));
    let own = containers.map(|(_, own)| (own.name.clone(), resources(own)));
    own.collect()
}

/// Whether two containers differ in CPU or memory: whether, of each.
fn differences(a: &ResourceRequirements, b: &ResourceRequirements) -> [(&'static str, bool); 2] {
    type Read = fn(&Quantity) -> Option<u64>;
    let of = |resources: &ResourceRequirements, name: &str, read: Read| {
        let lists = [&resources.requests, &resources.limits];
        lists.map(|list| list.as_ref().and_then(|list| list.get(name)).and_then(read))
    };
    [("cpu", milli as Read), ("memory", units as Read)]
        .map(|(name, read)| (name, of(a, name, read) != of(b, name, read)))
}

pub(crate) fn differ(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    differences(a, b).into_iter().any(|(_, differs)| differs)
}

/// Whether a container has to be started anew for what changes (`resizePolicy`).
pub(crate) fn needs_restart(container: &Container, from: &ResourceRequirements) -> bool {
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    let restarts = |name: &str| {
        policies.iter().any(|policy| {
            policy.resource_name == name && policy.restart_policy == "RestartContainer"
        })
    };
    differences(from, &resources(container))
        .into_iter()
        .any(|(name, differs)| differs && restarts(name))
}

/// Containers that run with something else than they were given.
pub(crate) fn behind<'a>(
    view: View<'a>,
    observed: &'a Observed,
) -> impl Iterator<Item = (&'a Container, &'a Record)> {
    let containers = view.declared().filter(|(role, _)| resizable(*role));
    containers.filter_map(|(_, container)| {
        let record = observed.record(&container.name)?;
        let has = record.resources.as_ref().filter(|_| record.active())?;
        differ(has, &resources(container)).then_some((container, record))
    })
}

/// Whether it can be said now what becomes of what a pod asks for: not while its
/// machine starts or ends.
pub(crate) fn is_time(observed: &Observed) -> bool {
    matches!(observed.machine, Machine::Absent | Machine::Ready) && observed.rejected.is_none()
}

/// What makes the wish of a pod, `asked` as it wants to be, infeasible.
pub(crate) fn infeasible(
    asked: View<'_>,
    machine: Option<Size>,
    defaults: Defaults,
    allocatable: Amount,
) -> Option<String> {
    let capacity = |what: &str, of: &str, wanted: u64, all: u64| {
        format!("{of} didn't have enough capacity: {what}, requested: {wanted}, capacity: {all}")
    };
    let wanted = requests(asked);
    if wanted.memory > allocatable.memory {
        let (wanted, all) = (wanted.memory, allocatable.memory);
        return Some(capacity("memory", "Node", wanted, all));
    }
    if wanted.cpu_milli > allocatable.cpu_milli {
        let (wanted, all) = (wanted.cpu_milli, allocatable.cpu_milli);
        return Some(capacity("cpu", "Node", wanted, all));
    }
    let (wanted, machine) = (size(asked, defaults), machine?);
    if wanted.memory_mib > machine.memory_mib {
        let [wanted, all] = [wanted, machine].map(|size| u64::from(size.memory_mib) << 20);
        return Some(capacity("memory", "Machine", wanted, all));
    }
    if wanted.vcpus > machine.vcpus {
        let [wanted, all] = [wanted, machine].map(|size| u64::from(size.vcpus) * 1000);
        return Some(capacity("cpu", "Machine", wanted, all));
    }
    None
}

impl Observed {
    /// From now on the pod is this node's: `pod` reads as what it was given.
    pub(crate) fn take_on(&mut self, pod: &mut Pod) {
        let given = self
            .resize
            .given
            .get_or_insert_with(|| allocation(View(pod)));
        pod.give(given);
        // Those that a `node` started that knew no other than what the pod says.
        for (_, container) in View(pod).declared() {
            if let Some(record) = self.containers.get_mut(&container.name)
                && record.active()
                && record.resources.is_none()
            {
                record.resources = Some(resources(container));
            }
        }
    }

    /// The pod, which reads so already, was given what it asked for.
    pub(crate) fn granted(&mut self, view: View<'_>) -> Vec<Note> {
        let generation = view.0.metadata.generation;
        self.resize.given = Some(allocation(view));
        self.resize.pending = None;
        self.resize.progress = Some(Progress {
            generation,
            error: None,
        });
        for record in self.containers.values_mut() {
            record.asked = Asked::No;
        }
        // Volumes of the downward API may show it.
        self.filling.look_at = None;
        let text = message("started", view, generation, None);
        vec![Note::normal("ResizeStarted", text)]
    }

    /// It can't be given what it asks for (yet); `asked` reads so.
    pub(crate) fn obstructed(
        &mut self,
        asked: View<'_>,
        obstacle: Obstacle,
        text: String,
        now: Timestamp,
    ) -> Vec<Note> {
        let generation = asked.0.metadata.generation;
        let before = self.resize.pending.take();
        let since = before.as_ref().map_or(now, |before| before.since);
        let pending = self.resize.pending.insert(Pending {
            obstacle,
            message: text,
            generation,
            since,
        });
        if before.as_ref() == Some(pending) {
            return Vec::new();
        }
        let what = obstacle.name();
        let text = message(what, asked, generation, Some(&pending.message));
        vec![Note::warning(obstacle.event(), text)]
    }

    /// What became of what was under way: nothing more is asked for, or all run
    /// with what they were given.
    pub(crate) fn resize_goes_on(&mut self, view: View<'_>) -> Vec<Note> {
        if view.0.asked().is_none() {
            self.resize.pending = None;
        }
        if self.resize.progress.is_none() || behind(view, self).next().is_some() {
            return Vec::new();
        }
        let progress = self.resize.progress.take();
        let generation = progress.and_then(|progress| progress.generation);
        let text = message("completed", view, generation, None);
        vec![Note::normal("ResizeCompleted", text)]
    }

    /// An answer of the guest.
    pub(super) fn resized(&mut self, view: View<'_>, news: Resized, now: Timestamp) -> Vec<Note> {
        let record = self.containers.get_mut(&news.container);
        let Some(record) = record.filter(|one| one.attempt == news.attempt && one.active()) else {
            return Vec::new();
        };
        record.asked = Asked::RetryAt(later(now, RETRY));
        let error = match news.outcome {
            Outcome::Unknown => return Vec::new(),
            Outcome::Done => {
                record.asked = Asked::No;
                record.resources = Some(news.resources);
                None
            }
            Outcome::Refused(why) => Some(why.chars().take(WORDS_MAX).collect()),
        };
        let Some(progress) = &mut self.resize.progress else {
            return Vec::new();
        };
        if progress.error == error {
            return Vec::new();
        }
        progress.error.clone_from(&error);
        let Some(error) = error else {
            return Vec::new();
        };
        let text = message("error", view, progress.generation, Some(&error));
        vec![Note::warning("ResizeError", text)]
    }
}

/// Whether a container is in a state in which its resources may be changed.
pub(crate) fn is_ready(record: &Record, observed: &Observed) -> bool {
    let running = matches!(record.state, State::Running { .. });
    running && record.epoch == observed.epoch && record.doom().is_none()
}

/// Upstream's message: what is meant, as JSON.
fn message(what: &str, view: View<'_>, generation: Option<i64>, error: Option<&str>) -> String {
    let of = |wanted: Role| -> Vec<Value> {
        let own = view.declared().filter(|(role, _)| *role == wanted);
        let told = own.map(|(_, c)| json!({"name": c.name, "resources": resources(c)}));
        told.collect()
    };
    let mut told = json!({"containers": of(Role::Main)});
    let sidecars = of(Role::Sidecar);
    if !sidecars.is_empty() {
        told["initContainers"] = Value::Array(sidecars);
    }
    told["generation"] = generation.unwrap_or(0).into();
    if let Some(error) = error {
        told["error"] = error.into();
    }
    format!("Pod resize {what}: {told}")
}

#[cfg(test)]
mod tests {
    use super::super::restart::next_start;
    use super::super::samples::pod;
    use super::super::status::{Phase, phase};
    use super::super::{Observation, Step};
    use super::*;
    use guest_protocol::{ContainerState as GuestContainer, End, Phase as GuestPhase};

    fn with(resources: Value, policy: &str) -> Pod {
        pod(json!({"restartPolicy": policy, "containers": [{
            "name": "a", "image": "a:1", "resources": resources,
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
        }]}))
    }

    #[test]
    fn policies_are_of_what_changes() {
        let limits = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
        for (from, to, differs, restarts) in [
            (limits("1", "1Gi"), limits("1000m", "1024Mi"), false, false),
            (limits("1", "1Gi"), limits("2", "1Gi"), true, false),
            (limits("1", "1Gi"), limits("1", "2Gi"), true, true),
            (limits("1", "1Gi"), limits("2", "2Gi"), true, true),
            (json!({}), json!({"requests": {"memory": "1"}}), true, true),
            (json!({}), json!({"limits": {"cpu": "1"}}), true, false),
        ] {
            let [from, to] = [from, to].map(|resources| with(resources, "Always"));
            let own = |pod: &Pod| View(pod).mains()[0].clone();
            let has = resources(&own(&from));
            assert_eq!(differ(&has, &resources(&own(&to))), differs, "{to:?}");
            assert_eq!(needs_restart(&own(&to), &has), restarts, "{to:?}");
        }
    }

    /// What a container's clean end means that was stopped for this.
    #[test]
    fn a_container_is_started_anew_whatever_its_end() {
        let now = Timestamp::UNIX_EPOCH;
        let mut pod = with(json!({"limits": {"memory": "2Gi"}}), "OnFailure");
        let mut observed = Observed::new(now);
        observed.take_on(&mut pod);
        observed.machine = Machine::Ready;
        let container = "a".to_owned();
        let start = Step::StartContainer {
            container,
            attempt: 0,
        };
        observed.begin(View(&pod), &start, now);
        let mut news = GuestContainer {
            name: "a".to_owned(),
            attempt: 0,
            started_at_ns: 0,
            identity: None,
            phase: GuestPhase::Running { pid: 1 },
        };
        observed.observe(View(&pod), Observation::Container(news.clone()), now);
        let mut asking = with(json!({"limits": {"memory": "1Gi"}}), "OnFailure");
        let given = observed.resize.given.clone().expect("it was taken on");
        asking.give(&given);
        let pod = asking.as_asked().expect("it asks for less");
        observed.granted(View(&pod));
        let planned = super::super::plan(&pod, &observed, now).steps;
        let stop = |step: &&Step| matches!(step, Step::StopContainer { .. });
        let stop = planned.iter().find(stop).expect("it is stopped").clone();
        observed.begin(View(&pod), &stop, now);
        news.phase = GuestPhase::Ended {
            at_ns: 0,
            end: End::Code(0),
            message: String::new(),
        };
        observed.observe(View(&pod), Observation::Container(news), now);
        assert_eq!(phase(View(&pod), &observed), Phase::Running);
        let (view, record) = (View(&pod), observed.record("a"));
        let next = next_start(view, Role::Main, &view.mains()[0], record, observed.epoch);
        assert_eq!(next.map(|(attempt, _)| attempt), Some(1));
    }
}

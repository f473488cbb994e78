//! The conditions of a pod that its node decides on.

use super::Pod;
use super::observed::{Machine, Observed};
use super::restart::may_restart_all;
use super::status::{Phase, initialized, time};
use super::view::{Role, View};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

/// Only of pods whose containers have rules that restart all (KEP-5532).
const RESTARTING_ALL: &str = "AllContainersRestarting";

/// Those of them that are there only as long as they are true.
pub(crate) const RESIZE_CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// The conditions that a node decides on.
pub(crate) const OWN_CONDITIONS: [&str; 8] = [
    RESTARTING_ALL,
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    RESIZE_CONDITIONS[0],
    RESIZE_CONDITIONS[1],
];

/// A condition that others set, too; the node's says so by its reason.
pub(crate) const DISRUPTED: (&str, &str) = ("DisruptionTarget", "TerminationByKubelet");

fn is_own(condition: &str) -> bool {
    OWN_CONDITIONS.contains(&condition)
}

/// Why the node disrupts the pod, once it is over (KEP-3329).
fn disruption(observed: &Observed, phase: Phase) -> Option<Verdict> {
    let rejection = observed.rejected.as_ref()?;
    let over = matches!(phase, Phase::Failed | Phase::Succeeded);
    (over && rejection.disrupted).then(|| Verdict {
        ok: true,
        reason: Some(DISRUPTED.1),
        message: Some(rejection.message.clone()),
    })
}

/// The conditions of a pod, and those that others own, as they were.
pub(super) fn conditions(
    pod: &Pod,
    observed: &Observed,
    phase: Phase,
    all: &[(Role, ContainerStatus)],
    now: Timestamp,
) -> Vec<PodCondition> {
    let view = View(pod);
    fn listed(status: Option<&PodStatus>) -> &[PodCondition] {
        let list = status.and_then(|status| status.conditions.as_deref());
        list.unwrap_or_default()
    }
    let before = listed(observed.written.as_ref().or(pod.status.as_ref()));
    // Those of others are theirs: as the API has them.
    let disruption = disruption(observed, phase).map(|verdict| (DISRUPTED.0, verdict));
    let foreign = |condition: &&PodCondition| {
        let taken = disruption.is_some() && condition.type_ == DISRUPTED.0;
        !is_own(&condition.type_) && !taken
    };
    let others: Vec<_> = listed(pod.status.as_ref()).iter().filter(foreign).collect();
    let containers_ready = containers_ready(phase, all);
    let own = [
        ("PodReadyToStartContainers", sandbox_ready(observed)),
        ("Initialized", init_state(view, observed, phase, all)),
        ("Ready", ready(view, &containers_ready, &others)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::yes()),
    ];
    let restarting = may_restart_all(view).then(|| restarting_all(observed, phase));
    let own = own.into_iter().chain(restarting).chain(disruption);
    let mut list: Vec<PodCondition> = others.into_iter().cloned().collect();
    let generation = pod.metadata.generation;
    let own = own
        .into_iter()
        .map(|(name, verdict)| (name, verdict, generation));
    for (name, verdict, generation) in own.chain(resize(observed)) {
        let old = before.iter().find(|condition| condition.type_ == name);
        let status = if verdict.ok { "True" } else { "False" };
        let since = old
            .filter(|old| old.status == status)
            .and_then(|old| old.last_transition_time.clone());
        list.push(PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_transition_time: Some(since.unwrap_or_else(|| time(now))),
            observed_generation: generation,
            ..PodCondition::default()
        });
    }
    list
}

fn restarting_all(observed: &Observed, phase: Phase) -> (&'static str, Verdict) {
    let reason = match phase {
        Phase::Succeeded => Some("PodCompleted"),
        Phase::Failed => Some("PodFailed"),
        Phase::Pending | Phase::Running => None,
    };
    let restarting = reason.is_none() && observed.restarting_all;
    let verdict = Verdict {
        ok: restarting,
        reason: reason.or(restarting.then_some("RestartAllContainersStarted")),
        message: restarting.then(|| "container exited with restart policy rule".to_owned()),
    };
    (RESTARTING_ALL, verdict)
}

/// How far other resources are, and of which generation.
fn resize(observed: &Observed) -> Vec<(&'static str, Verdict, Option<i64>)> {
    let [pending, progress] = RESIZE_CONDITIONS;
    let mut list = Vec::new();
    if let Some(own) = &observed.resize.pending {
        let verdict = Verdict {
            ok: true,
            reason: Some(own.obstacle.name()),
            message: Some(own.message.clone()),
        };
        list.push((pending, verdict, own.generation));
    }
    if let Some(own) = &observed.resize.progress {
        let verdict = Verdict {
            ok: true,
            reason: own.error.as_ref().map(|_| "Error"),
            message: own.error.clone(),
        };
        list.push((progress, verdict, own.generation));
    }
    list
}

#[derive(Clone, Debug)]
struct Verdict {
    ok: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    const fn yes() -> Self {
        Self {
            ok: true,
            reason: None,
            message: None,
        }
    }

    const fn no(reason: &'static str, message: Option<String>) -> Self {
        Self {
            ok: false,
            reason: Some(reason),
            message,
        }
    }
}

fn sandbox_ready(observed: &Observed) -> Verdict {
    match observed.machine {
        Machine::Ready | Machine::PoweringOff { .. } => Verdict::yes(),
        // A session that is lost for a moment does not unmake the machine.
        Machine::Booting if observed.any_active() => Verdict::yes(),
        _ => Verdict {
            ok: false,
            reason: None,
            message: None,
        },
    }
}

fn init_state(
    view: View<'_>,
    observed: &Observed,
    phase: Phase,
    all: &[(Role, ContainerStatus)],
) -> Verdict {
    if phase == Phase::Succeeded {
        return Verdict {
            reason: Some("PodCompleted"),
            ..Verdict::yes()
        };
    }
    if initialized(view, observed) {
        return Verdict::yes();
    }
    let incomplete = |(role, status): &&(Role, ContainerStatus)| match role {
        Role::Init => !status.ready,
        Role::Sidecar => status.started != Some(true),
        Role::Main | Role::Ephemeral => false,
    };
    let names: Vec<&str> = all
        .iter()
        .filter(incomplete)
        .map(|(_, status)| status.name.as_str())
        .collect();
    let text = format!("containers with incomplete status: [{}]", names.join(" "));
    Verdict::no("ContainersNotInitialized", Some(text))
}

fn containers_ready(phase: Phase, all: &[(Role, ContainerStatus)]) -> Verdict {
    match phase {
        Phase::Succeeded => return Verdict::no("PodCompleted", None),
        Phase::Failed => return Verdict::no("PodFailed", None),
        Phase::Pending | Phase::Running => {}
    }
    let names: Vec<&str> = all
        .iter()
        .filter(|(role, status)| matches!(role, Role::Main | Role::Sidecar) && !status.ready)
        .map(|(_, status)| status.name.as_str())
        .collect();
    if names.is_empty() {
        return Verdict::yes();
    }
    let text = format!("containers with unready status: [{}]", names.join(" "));
    Verdict::no("ContainersNotReady", Some(text))
}

/// The containers are, and so are all of `readinessGates`.
fn ready(view: View<'_>, containers: &Verdict, others: &[&PodCondition]) -> Verdict {
    if !containers.ok {
        return containers.clone();
    }
    let gates = view.spec().and_then(|spec| spec.readiness_gates.as_deref());
    let texts: Vec<String> = gates
        .unwrap_or_default()
        .iter()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match others.iter().find(|condition| condition.type_ == *name) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{name}\" does not exist."
                )),
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if texts.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ReadinessGatesNotReady", Some(texts.join(", ")))
}

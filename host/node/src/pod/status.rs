//! `status(pod, observed, now) -> PodStatus`, in upstream's shapes: phase,
//! conditions and one status for each container.

use super::Pod;
use super::identity::container_id;
use super::observed::{Image, Observed, Record, Rejection, State, Terminated};
use super::resources::qos_class;
use super::restart::{back_off, may_restart_all, restarts};
use super::view::{Role, View, image_of};
use super::waiting::{first_wait, images_wait, waiting};
use guest_protocol::Identity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, PodCondition, PodStatus, VolumeMount,
    VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// The pod's phase as its containers stand (upstream's `getPhase`).
pub(crate) fn phase(view: View<'_>, observed: &Observed) -> Phase {
    if observed.rejected.is_some() {
        return Phase::Failed;
    }
    if observed.restarting_all && !view.deleting() {
        return Phase::Pending;
    }
    let record = |container: &Container| observed.record(&container.name);
    let again = |role, container: &Container| {
        let record = record(container);
        record.is_some_and(|record| restarts(view, role, container, record))
    };
    let ended_badly = |(role, container): (Role, &Container)| {
        let end = record(container).and_then(Record::ended);
        let badly = end.is_some_and(|end| end.exit_code != 0);
        role == Role::Init && badly && !again(role, container)
    };
    if view.declared().any(ended_badly) {
        return Phase::Failed;
    }
    let mains: Vec<Option<&Record>> = view.mains().iter().map(record).collect();
    let never_ran = |record: &Option<&Record>| {
        record.is_none_or(|record| match record.state {
            // At first, or anew.
            State::Waiting => true,
            State::Blocked { .. } => record.last.is_none(),
            _ => false,
        })
    };
    if mains.iter().any(never_ran) {
        return Phase::Pending;
    }
    let ended: Vec<&Terminated> = mains.iter().flatten().filter_map(|r| r.ended()).collect();
    if ended.len() < mains.len() {
        // A first start that is not confirmed is still a start to come.
        let first = |r: &&Record| {
            matches!(r.state, State::Starting { .. } | State::PostStart { .. }) && r.attempt == 0
        };
        let pending = mains.iter().flatten().any(first);
        return if pending {
            Phase::Pending
        } else {
            Phase::Running
        };
    }
    let mut mains = view.mains().iter();
    if !view.deleting() && mains.any(|container| again(Role::Main, container)) {
        return Phase::Running;
    }
    match ended.iter().all(|end| end.exit_code == 0) {
        true => Phase::Succeeded,
        false => Phase::Failed,
    }
}

/// The phase that the API is told: a pod is not called ended while a container
/// of it still runs (upstream's `mergePodStatus`).
fn shown_phase(view: View<'_>, observed: &Observed) -> Phase {
    match phase(view, observed) {
        Phase::Succeeded | Phase::Failed if observed.any_active() => match view.phase() {
            "Running" => Phase::Running,
            "Pending" => Phase::Pending,
            "Succeeded" => Phase::Succeeded,
            _ => Phase::Failed,
        },
        phase => phase,
    }
}

/// The status to be written; equal to the one written before unless something
/// changed, so transition times come from there.
pub(crate) fn status(pod: &Pod, observed: &Observed, now: Timestamp) -> PodStatus {
    let view = View(pod);
    let phase = shown_phase(view, observed);
    let all: Vec<(Role, ContainerStatus)> = view
        .containers()
        .map(|(role, container)| (role, container_status(view, role, container, observed)))
        .collect();
    let conditions = conditions(pod, observed, phase, &all, now);
    let of = |roles: &[Role]| -> Option<Vec<ContainerStatus>> {
        let own = all.iter().filter(|(role, _)| roles.contains(role));
        let list: Vec<_> = own.map(|(_, status)| status.clone()).collect();
        (!list.is_empty()).then_some(list)
    };
    let terminal = matches!(phase, Phase::Succeeded | Phase::Failed);
    let rejected = observed.rejected.as_ref().filter(|_| terminal);
    PodStatus {
        phase: Some(phase.name().to_owned()),
        reason: rejected.map(|Rejection { reason, .. }| reason.clone()),
        message: rejected.map(|Rejection { message, .. }| message.clone()),
        conditions: Some(conditions),
        init_container_statuses: of(&[Role::Init, Role::Sidecar]),
        container_statuses: of(&[Role::Main]),
        ephemeral_container_statuses: of(&[Role::Ephemeral]),
        start_time: Some(time(observed.accepted_at)),
        host_ip: observed.host_ips.first().cloned(),
        host_ips: (!observed.host_ips.is_empty()).then(|| {
            let ips = observed.host_ips.iter().cloned();
            ips.map(|ip| HostIP { ip }).collect()
        }),
        qos_class: Some(qos_class(view).to_owned()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// Times are compared as the API shows them: in whole seconds.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn container_status(
    view: View<'_>,
    role: Role,
    container: &Container,
    observed: &Observed,
) -> ContainerStatus {
    let fresh = Record::new();
    let record = observed.record(&container.name).unwrap_or(&fresh);
    let id = |attempt| container_id(view.uid(), &container.name, attempt);
    let ended = |end: &Terminated| ContainerState {
        terminated: Some(terminated(end, id(end.attempt))),
        ..ContainerState::default()
    };
    let state = container_state(view, (role, container), record, observed);
    let shown = match &record.state {
        State::Starting { .. }
        | State::PostStart { .. }
        | State::Blocked { .. }
        | State::Waiting => record.last.as_ref(),
        State::Running { .. } | State::Stopping { .. } => None,
        State::Ended { end, .. } => Some(end),
    };
    let running = record.running();
    // While a back-off is shown, the end that caused it is the last state.
    let last = if state.terminated.is_some() || running {
        record.last.as_ref().filter(|last| Some(*last) != shown)
    } else {
        shown
    };
    let known = running || shown.is_some();
    let image = Some(&*record.image).filter(|image| known && !image.is_empty());
    let image = image.unwrap_or(image_of(container));
    let info = match observed.images.get(image) {
        Some(Image::Ready(info)) => Some(info),
        _ => None,
    };
    let restarts = match record.state {
        State::Running { .. } | State::Stopping { .. } | State::Ended { .. } => record.attempt,
        _ => shown.map_or(0, |end| end.attempt),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: info.map_or_else(|| image.to_owned(), |i| i.name.clone()),
        image_id: match info {
            Some(info) if known => info.id.clone(),
            _ => String::new(),
        },
        container_id: known.then(|| id(restarts)),
        ready: match role {
            Role::Main | Role::Sidecar => running && record.health.ready(container),
            Role::Init => record.succeeded(),
            Role::Ephemeral => false,
        },
        started: (role != Role::Ephemeral).then_some(running && record.health.started(container)),
        restart_count: i32::try_from(restarts).unwrap_or(i32::MAX),
        last_state: Some(last.map(ended).unwrap_or_default()),
        state: Some(state),
        user: record.user.as_ref().filter(|_| known).map(user),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    }
}

fn user(identity: &Identity) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: i64::from(identity.uid),
            gid: i64::from(identity.gid),
            supplemental_groups: Some(identity.groups.iter().copied().map(i64::from).collect()),
        }),
    }
}

/// KEP-3857. Nothing is mounted below a volume: each mount that is read-only is
/// so recursively, and is called so if the pod asks for it.
fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &VolumeMount| {
        let asked = mount.recursive_read_only.as_deref();
        let recursive = match asked {
            Some("Enabled" | "IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only,
            recursive_read_only: (mount.read_only == Some(true)).then(|| recursive.to_owned()),
            volume_status: None,
        }
    };
    let mounts = container.volume_mounts.as_ref()?;
    (!mounts.is_empty()).then(|| mounts.iter().map(status).collect())
}

fn container_state(
    view: View<'_>,
    (role, container): (Role, &Container),
    record: &Record,
    observed: &Observed,
) -> ContainerState {
    let id = |attempt| container_id(view.uid(), &container.name, attempt);
    let ended = |end: &Terminated| ContainerState {
        terminated: Some(terminated(end, id(end.attempt))),
        ..ContainerState::default()
    };
    let goes_on = !view.deleting() && observed.rejected.is_none();
    if goes_on
        && restarts(view, role, container, record)
        && let Some(state) = images_wait(view, container, observed)
    {
        return state;
    }
    match &record.state {
        State::Ended { end, .. } if goes_on && record.is_replaced(end) => {
            first_wait(view, container, observed)
        }
        State::Running { started_at } | State::Stopping { started_at, .. } => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(time(*started_at)),
            }),
            ..ContainerState::default()
        },
        State::Ended {
            end,
            announced: true,
            ..
        } if goes_on => {
            let delay = record.backoff.delay(end.finished_at).unwrap_or_default();
            let message = back_off(view, &container.name, delay);
            waiting("CrashLoopBackOff", Some(message))
        }
        State::Ended { end, .. } => ended(end),
        State::Blocked {
            reason, message, ..
        } => waiting(reason, (!message.is_empty()).then(|| message.clone())),
        // Until the hook is done the container is not said to run.
        State::Waiting => first_wait(view, container, observed),
        State::Starting { .. } | State::PostStart { .. } => match &record.last {
            Some(last) if !record.is_replaced(last) => ended(last),
            // Under the policy Never the API takes no end back.
            Some(_) | None => first_wait(view, container, observed),
        },
    }
}

fn terminated(end: &Terminated, id: String) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(id),
        exit_code: end.exit_code,
        signal: end.signal,
        reason: Some(end.reason.clone()),
        message: (!end.message.is_empty()).then(|| end.message.clone()),
        started_at: end.started_at.map(time),
        finished_at: Some(time(end.finished_at)),
    }
}

pub(super) fn initialized(view: View<'_>, observed: &Observed) -> bool {
    let ran = |c: &Container| observed.record(&c.name).is_some_and(|r| r.active());
    let mut inits = view.declared().filter(|(role, _)| *role != Role::Main);
    inits.all(|(role, container)| {
        let record = observed.record(&container.name);
        record.is_some_and(|record| match role {
            Role::Sidecar => record.running() && record.health.started(container),
            Role::Init | Role::Main | Role::Ephemeral => record.succeeded(),
        })
    }) || view.mains().iter().any(ran)
}

/// Only of pods whose containers have rules that restart all (KEP-5532).
const RESTARTING_ALL: &str = "AllContainersRestarting";

/// The conditions that a node decides on.
pub(crate) const OWN_CONDITIONS: [&str; 6] = [
    RESTARTING_ALL,
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
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
fn conditions(
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
    for (name, verdict) in own {
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
            observed_generation: pod.metadata.generation,
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
    use super::observed::Machine;
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

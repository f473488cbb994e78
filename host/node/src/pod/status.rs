//! `status(pod, observed, now) -> PodStatus`, in upstream's shapes: phase,
//! conditions and one status for each container.

use super::Pod;
use super::conditions::conditions;
use super::identity::container_id;
use super::observed::{Image, Observed, Record, Rejection, State, Terminated};
use super::resize::{resizable, resources};
use super::resources::qos_class;
use super::restart::{back_off, restarts};
use super::view::{Role, View, image_of};
use super::waiting::{first_wait, images_wait, waiting};
use guest_protocol::Identity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus,
    ContainerUser, HostIP, LinuxContainerUser, PodStatus, ResourceRequirements, VolumeMount,
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
        image_id: info
            .filter(|_| known)
            .map_or_else(String::new, |i| i.id.clone()),
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
        resources: runs_with(role, container, record),
        allocated_resources: resources(container).requests.filter(|_| resizable(role)),
        ..ContainerStatus::default()
    }
}

/// What a container was given, and one that runs has (KEP-1287).
fn runs_with(role: Role, container: &Container, record: &Record) -> Option<ResourceRequirements> {
    let has = record.resources.as_ref().filter(|_| record.running());
    let all = || has.cloned().unwrap_or_else(|| resources(container));
    (role != Role::Ephemeral).then(all)
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

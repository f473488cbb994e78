//! What is known of one pod on this node, and what may become known.
//!
//! Serializable as it stands: the checkpoint from which a restarted `node`
//! goes on. How it changes is in `transitions`.
//!
//! ```text
//!   machine:   Absent -> Launching -> Booting <-> Up -> SettingUp -> Ready
//!                ^          |            \          |  SetUp <-> Filling |
//!                |          |             \_________|____________________|
//!                |          v                       v
//!              (forgotten) Ended <---------- PoweringOff, Killing
//!   container: Waiting -> Starting -> (PostStart ->) Running -> Stopping
//!                 ^  \       |  ^                       |          |
//!              Blocked       |  |                       v          v
//!                            +--|-------------------> Ended <------+
//!                               +-----------------------+  attempt + 1
//! ```

use super::backoff::Backoff;
use super::disks::Disks;
use super::health::{Acted, Doom, Health};
use super::resize::{Asked, Resize, Resized};
use super::resources::Size;
use super::view::View;
use guest_protocol::{ContainerState as GuestContainer, Identity};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodStatus, ResourceRequirements};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// All that is known of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observed {
    /// When the node took the pod on: `status.startTime`.
    pub(crate) accepted_at: Timestamp,
    /// Why the pod will never run (again), whatever its containers do.
    pub(crate) rejected: Option<Rejection>,
    pub(crate) machine: Machine,
    pub(crate) machine_backoff: Backoff,
    /// When the last machine ended, for its back-off.
    pub(crate) machine_ended_at: Option<Timestamp>,
    /// Why the last machine didn't come up, until one does.
    pub(crate) machine_failure: Option<String>,
    /// Counts launches; a container remembers in which machine it ran.
    pub(crate) epoch: u32,
    /// Of this machine, once it runs.
    #[serde(default)]
    pub(crate) size: Option<Size>,
    #[serde(default)]
    pub(crate) resize: Resize,
    /// The images of this machine, or of the last.
    #[serde(default)]
    pub(crate) disks: Disks,
    /// The volumes of files of this machine.
    #[serde(default)]
    pub(crate) filling: Filling,
    /// By the reference that stands in the pod.
    pub(crate) images: BTreeMap<String, Image>,
    /// Images whose event Pulled stands for the next start with each.
    #[serde(default)]
    pub(crate) pulled: BTreeSet<String>,
    pub(crate) containers: BTreeMap<String, Record>,
    /// All but the ephemeral ones end, to start anew (KEP-5532).
    #[serde(default)]
    pub(crate) restarting_all: bool,
    /// The node's addresses, as the status shows them.
    #[serde(skip)]
    pub(crate) host_ips: Vec<String>,
    /// The last status that the API took.
    #[serde(skip)]
    pub(crate) written: Option<PodStatus>,
    #[serde(skip)]
    pub(crate) api: ApiSide,
}

/// How far the volumes of files are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filling {
    /// Each was filled once, so that containers may start.
    pub(crate) filled: bool,
    /// Failures in a row, and when to try again.
    pub(crate) failures: u32,
    pub(crate) retry_at: Option<Timestamp>,
    /// When to look whether their sources have changed; at once without it.
    #[serde(skip)]
    pub(crate) look_at: Option<Timestamp>,
    #[serde(skip)]
    pub(crate) busy: bool,
}

/// What is under way with the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ApiSide {
    #[default]
    Idle,
    Writing,
    Deleting,
    /// The last attempt failed; not again before this time.
    RetryAt(Timestamp),
    Deleted,
}

/// `status.reason` of a pod that ran into its `activeDeadlineSeconds`.
pub(crate) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// A pod that this node won't run (any more): `status.reason` and
/// `status.message`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejection {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// What is left to its containers at most.
    #[serde(default)]
    pub(crate) grace_ms: Option<u64>,
    /// The node disrupts it: the condition DisruptionTarget.
    #[serde(default)]
    pub(crate) disrupted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Machine {
    Absent,
    Launching,
    /// It runs; its agent does not answer (yet, or any more).
    Booting,
    /// The agent answers and knows nothing of the pod.
    Up,
    SettingUp,
    /// The agent knows the pod; its volumes of files are empty.
    SetUp,
    Filling,
    Ready,
    PoweringOff {
        since: Timestamp,
    },
    Killing,
    Ended,
    Forgetting,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Image {
    Ensuring {
        backoff: Backoff,
        /// What was wrong the last time; shown until it is known better.
        failure: Option<ImageFailure>,
        /// It is not here: it is being pulled.
        #[serde(default)]
        pulling: bool,
    },
    Ready(ImageInfo),
    Failed {
        failure: ImageFailure,
        at: Timestamp,
        backoff: Backoff,
        /// Whether the back-off was shown and told by an event.
        announced: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageInfo {
    /// As the status shows it: registry, repository and tag in full.
    pub(crate) name: String,
    /// `repository@sha256:...`
    pub(crate) id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageFailure {
    pub(crate) kind: ImageFailureKind,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ImageFailureKind {
    /// ErrImagePull, then ImagePullBackOff.
    Pull,
    /// InvalidImageName.
    Name,
    /// ErrImageNeverPull.
    Never,
}

/// One container: its newest attempt, and how the one before ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which attempt `state` is about.
    pub(crate) attempt: u32,
    pub(crate) state: State,
    pub(crate) last: Option<Terminated>,
    pub(crate) backoff: Backoff,
    /// The machine in which the newest attempt ran.
    pub(crate) epoch: u32,
    /// The image that the newest attempt was started with, as the pod named it;
    /// empty if that is not known.
    #[serde(default)]
    pub(crate) image: String,
    /// The attempt that was ended last to be started with another image.
    #[serde(default)]
    pub(crate) replaced: Option<u32>,
    /// What its probes say of the newest attempt.
    #[serde(default)]
    pub(crate) health: Health,
    /// Who the newest attempt began as, by the guest's word.
    #[serde(default)]
    pub(crate) user: Option<Identity>,
    /// What the newest attempt runs with.
    #[serde(default)]
    pub(crate) resources: Option<ResourceRequirements>,
    /// Whether its guest was asked to change that.
    #[serde(skip)]
    pub(crate) asked: Asked,
    /// All output of the newest attempt came before the news of its end.
    #[serde(skip)]
    pub(crate) drained: Option<Drained>,
}

/// The output of an attempt is in the log, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    pub(crate) attempt: u32,
    /// What it said last, where that is its termination message.
    pub(crate) tail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Waiting,
    /// This attempt can't be described or was not taken yet.
    Blocked {
        reason: String,
        message: String,
        retry_at: Timestamp,
    },
    /// Asked for. `resend` says from when on to ask again because the guest
    /// may not have heard; `again` that it was asked before and may have.
    Starting {
        resend: Option<Timestamp>,
        again: bool,
    },
    /// The process runs, and its postStart hook (`busy`, or to be run).
    PostStart {
        started_at: Timestamp,
        #[serde(skip)]
        busy: bool,
    },
    Running {
        started_at: Timestamp,
    },
    Stopping {
        started_at: Timestamp,
        deadline: Timestamp,
        #[serde(default)]
        stage: Stage,
    },
    Ended {
        end: Terminated,
        /// Whether all of its output is in the log.
        drained: bool,
        announced: bool,
        /// By the node's clock; a guest's may be late.
        #[serde(default)]
        noticed_at: Timestamp,
    },
}

/// How far the stop of a container is. What was asked for by a `node` that is
/// gone is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The preStop hook runs (`busy`), or is to be run.
    Hook {
        #[serde(skip)]
        busy: bool,
    },
    /// The guest is to end it when its turn comes, or was asked to, by `until`.
    Signal {
        #[serde(skip)]
        until: Option<Timestamp>,
    },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Signal { until: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terminated {
    pub(crate) attempt: u32,
    pub(crate) exit_code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

/// What the effects tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Observation {
    ImagePulling {
        image: String,
    },
    ImageReady {
        image: String,
        info: ImageInfo,
        pull: Option<Pull>,
    },
    ImageFailed {
        image: String,
        failure: ImageFailure,
    },
    /// An image was there and is not any more; what needed it did not happen.
    ImageGone {
        image: String,
    },
    /// The vmm runs, or was found running.
    MachineLaunched,
    /// `init` or the vmm refused; nothing runs.
    LaunchFailed {
        message: String,
    },
    /// A control session to the agent is open.
    SessionUp {
        set_up: bool,
        containers: Vec<GuestContainer>,
    },
    SessionLost,
    /// The agent was silent until the deadline.
    AgentTimeout {
        message: String,
    },
    SetUpDone,
    SetUpFailed {
        message: String,
    },
    /// The volumes of a machine hold what their sources say, but for those that
    /// failed: why, of each.
    VolumesTold {
        epoch: u32,
        failures: Vec<String>,
    },
    /// The guest's news of one container.
    Container(GuestContainer),
    StartFailed {
        container: String,
        attempt: u32,
        failure: StartFailure,
    },
    LogsDrained {
        container: String,
        attempt: u32,
        /// What it said last, where that is its termination message.
        tail: Option<String>,
    },
    Acted {
        container: String,
        attempt: u32,
        acted: Acted,
    },
    /// What the guest made of other resources for an attempt.
    Resized(Box<Resized>),
    /// The vmm process is gone.
    MachineEnded {
        cause: String,
    },
    MachineForgotten,
    StatusWritten(Box<PodStatus>),
    ApiFailed,
    PodDeleted,
}

/// Why an attempt did not start, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// It can't be described: try again later.
    Blocked {
        reason: &'static str,
        message: String,
    },
    /// The guest could not run it.
    Refused {
        reason: &'static str,
        exit_code: i32,
        message: String,
    },
    /// The connection broke before the guest answered.
    Unknown,
}

/// What a pull cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pull {
    pub(crate) took: jiff::SignedDuration,
    pub(crate) size: u64,
}

/// What becomes an Event about the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// `spec.containers{name}`; none for the pod itself.
    pub(crate) field_path: Option<String>,
    pub(crate) annotations: BTreeMap<&'static str, String>,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self {
            attempt: 0,
            state: State::Waiting,
            last: None,
            backoff: Backoff::default(),
            epoch: 0,
            image: String::new(),
            replaced: None,
            health: Health::default(),
            user: None,
            resources: None,
            asked: Asked::No,
            drained: None,
        }
    }

    /// In the guest, as far as is known.
    pub(crate) fn active(&self) -> bool {
        match self.state {
            State::Starting { .. }
            | State::PostStart { .. }
            | State::Running { .. }
            | State::Stopping { .. } => true,
            State::Waiting | State::Blocked { .. } | State::Ended { .. } => false,
        }
    }

    pub(crate) fn ended(&self) -> Option<&Terminated> {
        match &self.state {
            State::Ended { end, .. } => Some(end),
            State::Waiting
            | State::Blocked { .. }
            | State::Starting { .. }
            | State::PostStart { .. }
            | State::Running { .. }
            | State::Stopping { .. } => None,
        }
    }

    /// Its process runs, as far as is known: since when.
    pub(crate) fn runs_since(&self) -> Option<Timestamp> {
        match self.state {
            State::PostStart { started_at, .. }
            | State::Running { started_at }
            | State::Stopping { started_at, .. } => Some(started_at),
            State::Waiting
            | State::Blocked { .. }
            | State::Starting { .. }
            | State::Ended { .. } => None,
        }
    }

    /// It runs as its pod wants it: its start is over.
    pub(crate) fn running(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Stopping { .. })
    }

    /// Why it is to be stopped although its pod goes on.
    pub(crate) fn doom(&self) -> Option<Doom> {
        self.health.doom.filter(|_| self.active())
    }

    /// What a checkpoint holds of it.
    fn lasting(&mut self) {
        self.health = self.health.lasting();
        self.drained = None;
        self.asked = Asked::No;
        match &mut self.state {
            State::PostStart { busy, .. }
            | State::Stopping {
                stage: Stage::Hook { busy },
                ..
            } => *busy = false,
            State::Stopping {
                stage: Stage::Signal { until },
                ..
            } => *until = None,
            State::Waiting
            | State::Blocked { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Ended { .. } => {}
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.ended().is_some_and(|end| end.exit_code == 0)
    }
}

impl Observed {
    pub(crate) fn new(accepted_at: Timestamp) -> Self {
        Self {
            accepted_at,
            rejected: None,
            machine: Machine::Absent,
            machine_backoff: Backoff::default(),
            machine_ended_at: None,
            machine_failure: None,
            epoch: 0,
            size: None,
            resize: Resize::default(),
            disks: Disks::default(),
            filling: Filling::default(),
            images: BTreeMap::new(),
            pulled: BTreeSet::new(),
            containers: BTreeMap::new(),
            restarting_all: false,
            host_ips: Vec::new(),
            written: None,
            api: ApiSide::Idle,
        }
    }

    pub(crate) fn record(&self, container: &str) -> Option<&Record> {
        self.containers.get(container)
    }

    /// The grace period that applies now, in milliseconds.
    pub(crate) fn grace_ms(&self, view: View<'_>) -> u64 {
        let most = self.rejected.as_ref().and_then(|own| own.grace_ms);
        view.grace_ms().min(most.unwrap_or(u64::MAX))
    }

    /// Whether all images are here without which the container can't start.
    pub(crate) fn has_images<'a>(&self, view: View<'a>, container: &'a Container) -> bool {
        let mut needed = view.needed_images(container);
        needed.all(|image| matches!(self.images.get(image), Some(Image::Ready(_))))
    }

    pub(crate) fn any_active(&self) -> bool {
        self.containers.values().any(Record::active)
    }

    /// What a checkpoint holds of it: nothing that a new `node` finds out anew.
    pub(crate) fn lasting(&self) -> Self {
        let mut lasting = self.clone();
        lasting.written = None;
        lasting.api = ApiSide::Idle;
        lasting.host_ips = Vec::new();
        lasting.filling.look_at = None;
        lasting.filling.busy = false;
        lasting.containers.values_mut().for_each(Record::lasting);
        lasting
    }
}

impl Note {
    pub(crate) fn normal(reason: &'static str, message: String) -> Self {
        Self {
            warning: false,
            reason,
            message,
            field_path: None,
            annotations: BTreeMap::new(),
        }
    }

    pub(crate) fn warning(reason: &'static str, message: String) -> Self {
        Self {
            warning: true,
            ..Self::normal(reason, message)
        }
    }

    pub(super) fn at(mut self, field_path: Option<String>) -> Self {
        self.field_path = field_path;
        self
    }
}

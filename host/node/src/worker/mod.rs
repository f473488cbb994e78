//! One task for each pod: the only owner of what is known of it.
//!
//! ```text
//!   update, observation, or time --> plan --> begin --> checkpoint --> effects
//!            ^                                                           |
//!            +-----------------------------------------------------------+
//! ```
//!
//! Effects are tasks of their own that report back over a channel of 128 (they
//! wait when it is full). A step is marked and saved before its effect starts,
//! so a `node` killed anywhere does nothing twice.
//!
//! Machines start a few at a time (`Shared::starts`): one has its place from its
//! launch until its agent is reached, the next waits in `Machine::Launching`.

mod actions;
mod api;
mod effects;
mod launch;
mod phases;
mod resize;
mod running;
mod scratch;
mod volumes;

pub(crate) use api::write_status;
pub(crate) use launch::{Adopted, Kernel};
pub(crate) use scratch::unlimited;

use crate::checkpoint::{self, Checkpoint};
use crate::events::Events;
use crate::eviction::Pressure;
use crate::guest::Command;
use crate::images::ImageSource;
use crate::ledger::Ledger;
use crate::logs::{self, ProgressReceiver};
use crate::machine::{Control, Launcher, Process};
use crate::pod::environment::HostFacts;
use crate::pod::observed::{ApiSide, Machine, Note, Rejection, State};
use crate::pod::plan::Plan;
use crate::pod::resources::size;
use crate::pod::status::{Phase, phase};
use crate::pod::view::{View, falls_back_to_log, is_terminal};
use crate::pod::{Observation, Observed, Pod, Step, plan};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodStatus;
use phases::Phases;
use reconcile::Client;
use running::Running;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Rounds of planning without an event between them; more is a loop.
const ROUNDS_MAX: usize = 64;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) images: Arc<dyn ImageSource>,
    pub(crate) launcher: Launcher,
    pub(crate) kernel: Kernel,
    pub(crate) data: PathBuf,
    pub(crate) host: watch::Receiver<Host>,
    pub(crate) defaults: crate::pod::resources::Defaults,
    /// What pods were given of the node.
    pub(crate) ledger: Ledger,
    pub(crate) patience: Duration,
    /// Machines that may start at the same time; the others wait their turn.
    pub(crate) starts: Arc<Semaphore>,
    /// See `scratch::unlimited`.
    pub(crate) scratch: Option<u64>,
    /// What the node lacks, for pods that arrive.
    pub(crate) pressure: watch::Receiver<Pressure>,
}

/// What is known of the host and changes rarely.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) facts: HostFacts,
    pub(crate) nameservers: Vec<String>,
}

/// What the rest of `node` tells a worker.
#[derive(Debug)]
pub(crate) enum Update {
    Pod(Box<Pod>),
    /// The API does not know the pod any more.
    Gone,
    /// The node ends the pod, for good: it fails.
    End {
        rejection: Rejection,
        note: Option<Note>,
    },
    /// The machine powers off: stop gracefully, and remember everything.
    Leave,
}

/// What the rest of `node` sees of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: Arc<PodStatus>,
    pub(crate) observed: Arc<Observed>,
    /// The way to its guest, while there is one.
    pub(crate) control: Option<Control>,
    /// What its session takes, while there is one.
    pub(crate) commands: Option<mpsc::Sender<Command>>,
    /// Logs that are being written.
    pub(crate) progress: BTreeMap<(String, u32), ProgressReceiver>,
}

/// What an effect reports.
pub(crate) enum Happened {
    Observed(Observation),
    Launched {
        process: Process,
        control: Control,
        console: Option<tokio::net::unix::pipe::Receiver>,
        /// When `init` gave the process: nanoseconds of CLOCK_MONOTONIC.
        at_ns: u64,
        /// Its place among those that start.
        place: OwnedSemaphorePermit,
    },
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Pod,
    observed: Observed,
    running: Option<Running>,
    /// Dropped when a start that waits its turn isn't wanted any more.
    wanted: Option<oneshot::Sender<()>>,
    progress: BTreeMap<(String, u32), ProgressReceiver>,
    reports: mpsc::Sender<Happened>,
    incoming: mpsc::Receiver<Happened>,
    shown: watch::Sender<Shown>,
    saved: Option<Observed>,
    phases: Phases,
    filled: volumes::SharedFilled,
    leaving: bool,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Pod,
        observed: Observed,
    ) -> (Self, watch::Receiver<Shown>) {
        let (reports, incoming) = mpsc::channel(128);
        let (shown, receiver) = watch::channel(Shown {
            pod: Arc::new(pod.clone()),
            status: Arc::new(pod.status.clone().unwrap_or_default()),
            observed: Arc::new(observed.clone()),
            control: None,
            commands: None,
            progress: BTreeMap::new(),
        });
        let phases = Phases::new(&pod, sys::event::monotonic_ns());
        let worker = Self {
            shared,
            pod,
            observed,
            running: None,
            wanted: None,
            progress: BTreeMap::new(),
            reports,
            incoming,
            shown,
            saved: None,
            phases,
            filled: volumes::SharedFilled::default(),
            leaving: false,
        };
        (worker, receiver)
    }

    /// Takes over a machine that an earlier `node` launched.
    pub(crate) fn adopt(&mut self, adopted: Adopted) {
        self.observed.machine = Machine::Launching;
        self.launched(adopted.process, adopted.control, None, None);
    }

    /// Runs until nothing of the pod is left; its updates end with `Gone`.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        if let Some(rejection) = self.observed.rejected.clone() {
            self.tell_rejection(&rejection);
        }
        let mut host = self.shared.host.clone();
        let mut freed = self.shared.ledger.freed();
        self.observed.host_ips = host.borrow_and_update().facts.host_ips.clone();
        loop {
            self.reconsider();
            let plan = self.settle();
            if self.observed.api == ApiSide::Deleted && self.observed.machine == Machine::Absent {
                break;
            }
            let ended = Running::ended(self.running.as_mut());
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.update(update),
                    // `node` ends; the machine goes on.
                    None => return,
                },
                Some(happened) = self.incoming.recv() => self.happened(happened),
                cause = ended => self.machine_ended(cause),
                Ok(()) = host.changed() => {
                    self.observed.host_ips = host.borrow_and_update().facts.host_ips.clone();
                }
                // Whoever waits for room looks again.
                Ok(()) = freed.changed(), if self.pod.asked().is_some() => {}
                () = until(plan.wake) => {}
            }
        }
        if !self.leaving {
            self.clean_up();
        }
    }

    /// Plans and begins until there is nothing to do now.
    fn settle(&mut self) -> Plan {
        for _ in 0..ROUNDS_MAX {
            let now = Timestamp::now();
            self.give_up_turn();
            let mut plan = plan(&self.pod, &self.observed, now);
            // A status is worth writing when the dust has settled.
            let writes = |step: &Step| matches!(step, Step::WriteStatus(_) | Step::Delete);
            if plan.steps.iter().any(|step| !writes(step)) {
                plan.steps.retain(|step| !writes(step));
            }
            if plan.steps.is_empty() {
                self.publish(now);
                return plan;
            }
            for step in &plan.steps {
                let notes = self.observed.begin(View(&self.pod), step, now);
                self.tell(notes, now);
            }
            self.save();
            for step in plan.steps {
                self.perform(step);
            }
        }
        log::error!("pod {}: planning does not settle", View(&self.pod).label());
        Plan {
            steps: Vec::new(),
            wake: Some(crate::pod::backoff::later(
                Timestamp::now(),
                crate::pod::backoff::INITIAL,
            )),
        }
    }

    /// A pod that is deleted or over while it waits its turn to start has none.
    fn give_up_turn(&mut self) {
        let view = View(&self.pod);
        let over = matches!(
            phase(view, &self.observed),
            Phase::Succeeded | Phase::Failed
        );
        if over || view.deleting() {
            self.wanted = None;
        }
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Pod(_) if self.leaving => {}
            Update::Pod(mut pod) => {
                if let Some(given) = &self.observed.resize.given {
                    pod.give(given);
                }
                let shown = |pod: &Pod| {
                    (
                        pod.metadata.labels.clone(),
                        pod.metadata.annotations.clone(),
                    )
                };
                if shown(&self.pod) != shown(&pod) {
                    // Volumes of the downward API may show them.
                    self.observed.filling.look_at = None;
                }
                self.pod = *pod;
            }
            Update::End { rejection, note } => {
                let phase = phase(View(&self.pod), &self.observed);
                if matches!(phase, Phase::Pending | Phase::Running) {
                    self.observed.rejected = Some(rejection);
                    self.tell(note.into_iter().collect(), Timestamp::now());
                    self.save();
                }
            }
            Update::Gone => {
                self.pod.delete(Timestamp::now(), Some(0));
                self.observed.api = ApiSide::Deleted;
            }
            Update::Leave => {
                self.pod.delete(Timestamp::now(), None);
                self.observed.api = ApiSide::Deleted;
                self.leaving = true;
            }
        }
    }

    fn happened(&mut self, happened: Happened) {
        match happened {
            Happened::Launched {
                process,
                control,
                console,
                at_ns,
                place,
            } => {
                self.phases.launched(at_ns);
                self.launched(process, control, console, Some(place));
            }
            Happened::Observed(observation) => self.observe(observation),
        }
    }

    fn launched(
        &mut self,
        process: Process,
        control: Control,
        console: Option<tokio::net::unix::pipe::Receiver>,
        place: Option<OwnedSemaphorePermit>,
    ) {
        // A new machine's volumes are empty.
        self.filled = volumes::SharedFilled::default();
        let mut running = Running::start(&self.shared, process, control, console, &self.reports);
        running.place = place;
        self.running = Some(running);
        // What a pod has been given doesn't change while its machine starts.
        let size = || size(View(&self.pod), self.shared.defaults);
        self.observed.size = Some(self.observed.size.unwrap_or_else(size));
        self.observe(Observation::MachineLaunched);
    }

    fn machine_ended(&mut self, cause: String) {
        let label = View(&self.pod).label();
        if let Some(running) = self.running.take() {
            let asked = matches!(self.observed.machine, Machine::PoweringOff { .. });
            let console = running.console_tail();
            if !asked && !console.is_empty() {
                log::warn!("pod {label}: {cause}; its console said:\n{console}");
            } else {
                log::info!("pod {label}: {cause}");
            }
        }
        self.observe(Observation::MachineEnded { cause });
    }

    fn observe(&mut self, observation: Observation) {
        let now = Timestamp::now();
        self.before(&observation);
        self.time(&observation);
        let after = match &observation {
            Observation::LogsDrained {
                container, attempt, ..
            } => Some((container.clone(), *attempt)),
            _ => None,
        };
        let notes = self.observed.observe(View(&self.pod), observation, now);
        self.tell(notes, now);
        self.save();
        self.follow_logs();
        if let Some((container, attempt)) = after {
            self.progress.remove(&(container.clone(), attempt));
            self.remove_attempt(container, attempt);
        }
    }

    /// What an observation means for the machine itself.
    fn before(&mut self, observation: &Observation) {
        if let Observation::AgentTimeout { .. } | Observation::SetUpFailed { .. } = observation {
            self.kill_machine();
        }
        if let (Observation::SessionUp { .. }, Some(running)) = (observation, &mut self.running) {
            running.place = None;
        }
    }

    fn time(&mut self, observation: &Observation) {
        let running = self.running.as_ref();
        let first_run = running.and_then(|running| running.control.first_run_ns());
        let now = sys::event::monotonic_ns();
        if let Some(line) = self.phases.observe(observation, first_run, now) {
            let view = View(&self.pod);
            log::info!("pod {}/{} {line}", view.namespace(), view.name());
        }
    }

    /// Sees to it that every attempt that runs, or ran in this machine, has
    /// its output followed.
    fn follow_logs(&mut self) {
        let Some(running) = &mut self.running else {
            return;
        };
        for (name, record) in &self.observed.containers {
            let wanted = match record.state {
                State::PostStart { .. } | State::Running { .. } | State::Stopping { .. } => true,
                State::Ended { drained, .. } => !drained,
                State::Waiting | State::Blocked { .. } | State::Starting { .. } => false,
            };
            if !wanted || record.epoch != self.observed.epoch {
                continue;
            }
            let view = View(&self.pod);
            let directory =
                logs::pod_directory(&self.shared.data, view.namespace(), view.name(), view.uid());
            let file = directory.and_then(|d| logs::attempt_file(&d, name, record.attempt));
            let Some(file) = file else { continue };
            let key = (name.clone(), record.attempt);
            let described = view.container(name);
            let fallback = described.is_some_and(|(_, own)| falls_back_to_log(own));
            if let Some(progress) = running.follow_log(&key, file, fallback, &self.reports) {
                self.progress.insert(key, progress);
            }
        }
    }

    fn tell(&self, notes: Vec<Note>, now: Timestamp) {
        for note in notes {
            self.shared.events.about_pod(&self.pod, note, now);
        }
    }

    fn tell_rejection(&self, rejection: &Rejection) {
        let known = self.pod.status.as_ref().and_then(|s| s.reason.as_deref());
        if known != Some(&rejection.reason) {
            let note = crate::pod::admission::note(rejection);
            self.tell(vec![note], Timestamp::now());
        }
    }

    /// Saves what is known, if it changed. A disk that fails is told and
    /// tried again with the next change.
    fn save(&mut self) {
        let lasting = self.observed.lasting();
        if self.saved.as_ref() == Some(&lasting) {
            return;
        }
        let view = View(&self.pod);
        let checkpoint =
            Checkpoint::new(view.namespace(), view.name(), view.uid(), lasting.clone());
        match checkpoint.save(&self.shared.data) {
            Ok(()) => self.saved = Some(lasting),
            Err(error) => log::error!("checkpoint of pod {}: {error}", view.label()),
        }
    }

    fn publish(&self, now: Timestamp) {
        let status = crate::pod::status(&self.pod, &self.observed, now);
        if is_terminal(&status) {
            self.shared.ledger.release(View(&self.pod).uid());
        }
        self.shown.send_replace(Shown {
            pod: Arc::new(self.pod.clone()),
            status: Arc::new(status),
            observed: Arc::new(self.observed.clone()),
            control: self.running.as_ref().map(|running| running.control.clone()),
            commands: self
                .running
                .as_ref()
                .map(|running| running.commands.clone()),
            progress: self.progress.clone(),
        });
    }

    fn clean_up(&self) {
        let view = View(&self.pod);
        if let Err(error) = checkpoint::remove(&self.shared.data, view.uid()) {
            log::warn!("checkpoint of pod {}: {error}", view.label());
        }
        logs::remove(&self.shared.data, view.namespace(), view.name(), view.uid());
    }
}

async fn until(wake: Option<Timestamp>) {
    let Some(wake) = wake else {
        return std::future::pending().await;
    };
    let left = wake.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or(Duration::ZERO)).await;
}

//! Which pods are here: follows the API, gives each pod a worker, and at the
//! start takes over what an earlier `node` left running.
//!
//! ```text
//!   start: checkpoints + init's list -> static pods: adopt, or start anew
//!          what is left + API's list -> adopt, start anew, or kill
//!   then:  list, watch -> Update::Pod, Update::Gone
//! ```
//!
//! Nothing is killed before the API was listed once. A worker's updates wait
//! in a queue of 16; while one is full the watch waits.

mod directory;
mod mirrors;

pub(crate) use directory::Directory;

use crate::checkpoint::{self, Checkpoint};
use crate::eviction::priority;
use crate::logs;
use crate::machine::{Control, Known, LaunchError, Process};
use crate::pod::observed::{Machine, Record, State, Terminated};
use crate::pod::view::{View, statuses};
use crate::pod::{Observation, Observed, Pod, admission};
use crate::shutdown::{self, Period};
use crate::static_pods::{News, is_mirror};
use crate::worker::{Adopted, Shared, Shown, Update, Worker};
use crate::{Config, Shutdown};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use machine_spec::MachineId;
use machine_spec::control::State as VmmState;
use reconcile::resource::core::PODS;
use reconcile::{ClientError, ListOptions, WatchEvent, WatchOptions};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a failed list rests.
const RELIST: Duration = Duration::from_secs(1);

/// What this node does by its own word.
pub(crate) struct Own {
    pub(crate) static_pods: Vec<Pod>,
    /// Who has how long at power-off; empty if pods come back afterwards.
    pub(crate) shutdown: Vec<Period>,
    /// Told when the node ends for good.
    pub(crate) ends: watch::Sender<bool>,
}

struct Entry {
    updates: mpsc::Sender<Update>,
    shown: watch::Receiver<Shown>,
    /// Of a static pod: the way to its mirror's keeper.
    mirror: Option<mpsc::Sender<News>>,
}

/// What is left over of the `node` before.
#[derive(Default)]
struct Leftovers {
    machines: HashMap<MachineId, Known>,
    /// By uid.
    remembered: HashMap<String, Checkpoint>,
}

pub(crate) struct Roster {
    shared: Arc<Shared>,
    node_name: String,
    max_pods: usize,
    directory: Directory,
    /// By uid.
    entries: HashMap<String, Entry>,
    workers: JoinSet<String>,
    own: Own,
    keepers: JoinSet<()>,
}

impl Roster {
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: &Config,
        directory: Directory,
        own: Own,
    ) -> Self {
        Self {
            shared,
            node_name: config.node_name.clone(),
            max_pods: config.max_pods as usize,
            directory,
            entries: HashMap::new(),
            workers: JoinSet::new(),
            own,
            keepers: JoinSet::new(),
        }
    }

    /// Follows the API until `stop` resolves; then stops all pods if it says
    /// so, and otherwise leaves them running.
    ///
    /// # Errors
    /// That `init` or the data directory fails; not that the API does.
    pub(crate) async fn run(
        mut self,
        stop: impl Future<Output = Shutdown>,
    ) -> Result<(), RosterError> {
        let shutdown = {
            let follow = self.follow();
            tokio::pin!(stop, follow);
            tokio::select! {
                shutdown = &mut stop => shutdown,
                result = &mut follow => return result,
            }
        };
        if shutdown == Shutdown::PowerOff {
            self.own.ends.send_replace(true);
            self.shut_down().await;
            self.leave().await;
        }
        Ok(())
    }

    /// Ends pods for good, in the order of their priorities, where the machine
    /// config gives each its time.
    async fn shut_down(&self) {
        let entries = self.entries.iter();
        let pods: Vec<(String, i32)> = entries
            .map(|(uid, entry)| (uid.clone(), priority(View(&entry.shown.borrow().pod))))
            .collect();
        for group in shutdown::groups(&self.own.shutdown, &pods) {
            let until = Instant::now() + group.length;
            let entries = group.pods.iter().filter_map(|uid| self.entries.get(uid));
            let entries: Vec<&Entry> = entries.collect();
            let (count, length) = (entries.len(), group.length);
            log::info!("shutdown: pods that end now, within {length:?}: {count}");
            for entry in &entries {
                let rejection = shutdown::rejection(group.length);
                let end = Update::End {
                    rejection,
                    note: None,
                };
                drop(entry.updates.send(end).await);
            }
            for entry in entries {
                let mut shown = entry.shown.clone();
                let told = shown.wait_for(shutdown::is_over);
                if tokio::time::timeout_at(until, told).await.is_err() {
                    log::warn!("shutdown: a pod took longer than its {:?}", group.length);
                }
            }
        }
    }

    /// Stops all pods and waits until their machines are gone.
    async fn leave(&mut self) {
        for entry in self.entries.values() {
            drop(entry.updates.send(Update::Leave).await);
        }
        while let Some(ended) = self.workers.join_next().await {
            if let Err(error) = ended {
                log::error!("a pod's worker: {error}");
            }
        }
    }

    async fn follow(&mut self) -> Result<(), RosterError> {
        let mut leftovers = self.leftovers().await?;
        for pod in std::mem::take(&mut self.own.static_pods) {
            self.begin_static(pod, &mut leftovers).await;
        }
        let mut leftovers = Some(leftovers);
        loop {
            let options = ListOptions {
                field_selector: Some(self.selector()),
                ..ListOptions::default()
            };
            let listed = self.shared.client.list_all(&PODS, None, &options).await;
            match listed {
                Ok(list) => {
                    let pods = list.items.into_iter().filter_map(parse);
                    let (mirrors, pods) = pods.partition(is_mirror);
                    self.mirrors_are(mirrors).await;
                    match leftovers.take() {
                        None => self.replace(pods).await,
                        Some(leftovers) => {
                            self.take_over(pods, leftovers).await?;
                            self.directory.list_is_in();
                        }
                    }
                    if let Err(error) = self.watch(list.resource_version).await {
                        log::info!("watch of pods: {error}");
                    }
                }
                Err(error) => {
                    log::warn!("list of pods: {error}");
                    self.rest().await;
                }
            }
        }
    }

    async fn rest(&mut self) {
        tokio::time::sleep(RELIST).await;
        while let Some(Ok(uid)) = self.workers.try_join_next() {
            self.ended(&uid);
        }
    }

    fn selector(&self) -> String {
        format!("spec.nodeName={}", self.node_name)
    }

    async fn watch(&mut self, resource_version: String) -> Result<(), ClientError> {
        let options = WatchOptions {
            field_selector: Some(self.selector()),
            resource_version: Some(resource_version),
            bookmarks: true,
            ..WatchOptions::default()
        };
        let mut stream = self.shared.client.watch(&PODS, None, &options).await?;
        loop {
            tokio::select! {
                event = stream.next() => match event? {
                    Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                        if let Some(pod) = parse(pod) {
                            self.heard(pod).await;
                        }
                    }
                    Some(WatchEvent::Deleted(pod)) => {
                        if let Some(pod) = parse(pod) {
                            self.lost_from_api(&pod).await;
                        }
                    }
                    Some(WatchEvent::Bookmark { .. }) => {}
                    None => return Ok(()),
                },
                Some(ended) = self.workers.join_next() => match ended {
                    Ok(uid) => self.ended(&uid),
                    Err(error) => log::error!("a pod's worker: {error}"),
                },
            }
        }
    }

    /// A later list: what is not in it is gone.
    async fn replace(&mut self, pods: Vec<Pod>) {
        let present: HashSet<&str> = pods.iter().map(|pod| View(pod).uid()).collect();
        let absent: Vec<String> = self
            .entries
            .iter()
            .filter(|(uid, entry)| entry.mirror.is_none() && !present.contains(uid.as_str()))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in absent {
            self.gone(&uid).await;
        }
        for pod in pods {
            self.upsert(pod).await;
        }
    }

    async fn upsert(&mut self, pod: Pod) {
        let uid = View(&pod).uid().to_owned();
        if let Some(entry) = self.entries.get(&uid) {
            // A worker that ended between two events needs no news.
            drop(entry.updates.send(Update::Pod(Box::new(pod))).await);
            return;
        }
        let view = View(&pod);
        if view.terminal_in_api() && !view.deleting() {
            return;
        }
        let observed = self.fresh(&pod);
        self.start(pod, observed, None);
    }

    async fn gone(&mut self, uid: &str) {
        if let Some(entry) = self.entries.get(uid) {
            drop(entry.updates.send(Update::Gone).await);
        }
    }

    /// A pod that was never here, or whose memory was lost.
    fn fresh(&self, pod: &Pod) -> Observed {
        let now = Timestamp::now();
        let mut observed = from_api(pod, now);
        let (ledger, max_pods) = (&self.shared.ledger, self.max_pods);
        let count = self.entries.len();
        let view = View(pod);
        if observed.containers.is_empty() && !view.deleting() {
            let pressure = *self.shared.pressure.borrow();
            observed.rejected = ledger.admit(pod, |used| {
                admission::check(view, used, ledger.allocatable(), count, max_pods)
                    .or_else(|| admission::under_pressure(view, pressure))
            });
        }
        observed
    }

    fn start(&mut self, mut pod: Pod, mut observed: Observed, adopted: Option<Adopted>) {
        let uid = View(&pod).uid().to_owned();
        observed.take_on(&mut pod);
        if observed.rejected.is_none() {
            self.shared.ledger.enter(&pod);
        }
        let (mut worker, shown) = Worker::new(self.shared.clone(), pod.clone(), observed);
        if let Some(adopted) = adopted {
            worker.adopt(adopted);
        }
        let (updates, receiver) = mpsc::channel(16);
        self.directory.insert(&pod, shown.clone(), updates.clone());
        let name = uid.clone();
        self.workers.spawn(async move {
            worker.run(receiver).await;
            name
        });
        let entry = Entry {
            updates,
            shown,
            mirror: None,
        };
        self.entries.insert(uid, entry);
    }

    fn ended(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.directory.remove(&entry.shown);
            self.shared.ledger.release(uid);
        }
    }

    async fn leftovers(&self) -> Result<Leftovers, RosterError> {
        let mut leftovers = Leftovers::default();
        for known in self.shared.launcher.list().await? {
            let (Known::Running(id, _) | Known::Ended(id, _)) = &known;
            leftovers.machines.insert(*id, known);
        }
        for checkpoint in checkpoint::load_all(&self.shared.data)? {
            let uid = checkpoint.uid.clone();
            leftovers.remembered.insert(uid, checkpoint);
        }
        Ok(leftovers)
    }

    /// The first list: puts together what runs, what is remembered and what
    /// is wanted.
    async fn take_over(&mut self, pods: Vec<Pod>, leftovers: Leftovers) -> Result<(), RosterError> {
        let Leftovers {
            mut machines,
            mut remembered,
        } = leftovers;
        for pod in pods {
            let view = View(&pod);
            let machine = view.machine_id().and_then(|id| machines.remove(&id));
            let checkpoint = remembered.remove(view.uid());
            self.resume(pod, machine, checkpoint).await;
        }
        self.shared.ledger.open();
        for known in machines.into_values() {
            self.discard(known).await;
        }
        for checkpoint in remembered.into_values() {
            let Checkpoint {
                namespace,
                name,
                uid,
                ..
            } = checkpoint;
            checkpoint::remove(&self.shared.data, &uid)?;
            logs::remove(&self.shared.data, &namespace, &name, &uid);
        }
        Ok(())
    }

    async fn resume(&mut self, pod: Pod, machine: Option<Known>, checkpoint: Option<Checkpoint>) {
        let view = View(&pod);
        let label = view.label();
        let Some(checkpoint) = checkpoint else {
            // Without memory nobody can say what runs in there.
            if let Some(known) = machine {
                log::warn!("pod {label}: its machine is not remembered and is discarded");
                self.discard(known).await;
            }
            return self.upsert(pod).await;
        };
        let mut observed = checkpoint.observed;
        settle(&mut observed);
        match machine {
            Some(Known::Running(id, process)) => match adopt(process).await {
                Some(adopted) => {
                    log::info!("pod {label}: its machine runs and is adopted");
                    self.start(pod, observed, Some(adopted));
                }
                None => {
                    log::warn!("pod {label}: its machine never started and is discarded");
                    drop(self.shared.launcher.kill(id).await);
                    self.lost(pod, observed, "the machine was not started");
                }
            },
            Some(Known::Ended(_, status)) => {
                let cause = crate::machine::cause(None, status);
                self.lost(pod, observed, &cause);
            }
            None => self.lost(pod, observed, "the node was restarted"),
        }
    }

    /// The pod's machine ended while nobody looked.
    fn lost(&mut self, pod: Pod, mut observed: Observed, cause: &str) {
        let now = Timestamp::now();
        let cause = cause.to_owned();
        let view = View(&pod);
        if observed.machine != Machine::Absent {
            let notes = observed.observe(view, Observation::MachineEnded { cause }, now);
            for note in notes {
                self.shared.events.about_pod(&pod, note, now);
            }
        }
        self.start(pod, observed, None);
    }

    async fn discard(&self, known: Known) {
        let id = match known {
            Known::Running(id, process) => {
                if let Err(error) = self.shared.launcher.kill(id).await {
                    log::warn!("kill machine {id}: {error}");
                    return;
                }
                drop(process.ended.await);
                id
            }
            Known::Ended(id, _) => id,
        };
        if let Err(error) = self.shared.launcher.forget(id).await {
            log::warn!("forget machine {id}: {error}");
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error("machines: {0}")]
    Launcher(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("checkpoints: {0}")]
    Checkpoints(#[from] std::io::Error),
}

impl From<LaunchError> for RosterError {
    fn from(error: LaunchError) -> Self {
        Self::Launcher(Box::new(error))
    }
}

fn parse(value: Value) -> Option<Pod> {
    match serde_json::from_value::<ApiPod>(value) {
        Ok(pod) => Some(pod.into()),
        Err(error) => {
            log::error!("a pod of this node can't be read: {error}");
            None
        }
    }
}

/// A machine that was told what it is can be taken over.
async fn adopt(process: Process) -> Option<Adopted> {
    let Process {
        control: socket,
        _pidfd,
        ended,
    } = process;
    let kept = rustix::io::dup(&socket).ok()?;
    let control = Control::start(socket).ok()?;
    let status = tokio::time::timeout(Duration::from_secs(10), control.status()).await;
    match status {
        Ok(Ok(status)) if status.state != VmmState::Waiting => Some(Adopted {
            process: Process {
                control: kept,
                _pidfd,
                ended,
            },
            control,
        }),
        _ => None,
    }
}

/// What was under way when `node` ended is not under way any more.
fn settle(observed: &mut Observed) {
    use crate::pod::observed::Image;
    observed
        .images
        .retain(|_, image| !matches!(image, Image::Ensuring { .. }));
    if observed.machine == Machine::Forgetting {
        observed.machine = Machine::Ended;
    }
}

/// Without a checkpoint, the API remembers how often containers were started:
/// what ran is lost, and counts as an attempt.
fn from_api(pod: &Pod, now: Timestamp) -> Observed {
    let view = View(pod);
    let status = pod.status.as_ref();
    let started = status
        .and_then(|s| s.start_time.as_ref())
        .map_or(now, |t| t.0);
    let mut observed = Observed::new(started);
    for known in status.into_iter().flat_map(statuses) {
        if known.container_id.is_none() || view.container(&known.name).is_none() {
            continue;
        }
        let attempt = u32::try_from(known.restart_count).unwrap_or_default();
        let ended = known.state.as_ref().and_then(|s| s.terminated.as_ref());
        let end = match ended {
            Some(end) => Terminated {
                attempt,
                exit_code: end.exit_code,
                signal: end.signal,
                reason: end.reason.clone().unwrap_or_default(),
                message: end.message.clone().unwrap_or_default(),
                started_at: end.started_at.as_ref().map(|t| t.0),
                finished_at: end.finished_at.as_ref().map_or(now, |t| t.0),
            },
            None => Terminated {
                attempt,
                exit_code: 137,
                signal: None,
                reason: "ContainerStatusUnknown".to_owned(),
                message: "The container could not be located when the node started".to_owned(),
                started_at: None,
                finished_at: now,
            },
        };
        let record = Record {
            attempt,
            state: State::Ended {
                end,
                drained: true,
                announced: false,
                noticed_at: now,
            },
            ..Record::new()
        };
        observed.containers.insert(known.name.clone(), record);
    }
    observed
}

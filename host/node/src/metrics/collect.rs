//! Takes samples: asks all guests at once, reads the host's files, and puts
//! both together. One task owns everything; who wants a sample sends it a
//! channel for the answer.
//!
//! A guest that hasn't answered is not asked again until it has: what is on its
//! way to a silent guest is one question, whoever asks how often.

use super::host::Sources;
use super::sample::{ContainerFigures, NodeFigures, PodFigures, Sample, Spec, Usage};
use super::{FRESH, KEPT, PATIENCE, claims};
use crate::guest::Command;
use crate::logs;
use crate::pod::resources::{limit, milli, request, units};
use crate::pod::view::{View, statuses};
use crate::roster::Directory;
use crate::worker::Shown;
use futures_util::future::join_all;
use guest_protocol::{Action, Answer, Refusal, Stats};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

type Waiting = oneshot::Receiver<Result<Answer, Refusal>>;

/// The way to ask for a sample.
#[derive(Clone)]
pub(crate) struct Metrics(mpsc::Sender<oneshot::Sender<Arc<Sample>>>);

impl Metrics {
    /// `None` when `node` ends.
    pub(crate) async fn sample(&self) -> Option<Arc<Sample>> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(sender).await.ok()?;
        receiver.await.ok()
    }
}

/// What is kept of one guest between samples.
#[derive(Default)]
struct Guest {
    /// The question that is under way.
    waiting: Option<Waiting>,
    said: Option<(Timestamp, Stats)>,
}

/// What came of a question.
enum Outcome {
    Said(Timestamp, Stats),
    /// No answer yet.
    Silent(Waiting),
    /// Refused, or the session broke.
    Nothing,
}

/// The task.
pub(crate) struct Collector {
    requests: mpsc::Receiver<oneshot::Sender<Arc<Sample>>>,
    directory: Directory,
    node_name: String,
    data: PathBuf,
    sources: Sources,
    /// By the pod's uid.
    guests: HashMap<String, Guest>,
    last: Option<(Instant, Arc<Sample>)>,
}

impl Collector {
    pub(crate) fn new(
        directory: Directory,
        node_name: String,
        data: PathBuf,
        sources: Sources,
    ) -> (Self, Metrics) {
        let (sender, requests) = mpsc::channel(64);
        let collector = Self {
            requests,
            directory,
            node_name,
            data,
            sources,
            guests: HashMap::new(),
            last: None,
        };
        (collector, Metrics(sender))
    }

    /// Works until nobody can ask any more.
    pub(crate) async fn run(mut self) {
        while let Some(answer) = self.requests.recv().await {
            let sample = match &self.last {
                Some((taken, sample)) if taken.elapsed() < FRESH => sample.clone(),
                _ => self.take().await,
            };
            // Who asked may be gone.
            drop(answer.send(sample));
        }
    }

    async fn take(&mut self) -> Arc<Sample> {
        let shown = self.directory.all();
        self.ask(&shown).await;
        let before = self.last.take().map(|(_, sample)| sample);
        let mut pods: Vec<Arc<PodFigures>> = shown
            .iter()
            .map(|one| Arc::new(self.pod(one, before.as_deref())))
            .collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let node = self.node(before.as_deref().map(|sample| &sample.node));
        let sample = Arc::new(Sample { node, pods });
        self.last = Some((Instant::now(), sample.clone()));
        sample
    }

    /// Asks every guest that runs, and waits for their answers together.
    async fn ask(&mut self, shown: &[Shown]) {
        let mut known = std::mem::take(&mut self.guests);
        let until = Instant::now() + PATIENCE;
        let now = Timestamp::now();
        let asked = shown.iter().map(|one| {
            let uid = View(&one.pod).uid().to_owned();
            let mut guest = known.remove(&uid).unwrap_or_default();
            let waiting = guest.may_be_asked().then(|| question(one)).flatten();
            async move {
                let outcome = match waiting {
                    Some(waiting) => answered(waiting, until).await,
                    None => Outcome::Nothing,
                };
                guest.hear(outcome, now);
                (uid, guest)
            }
        });
        self.guests = join_all(asked).await.into_iter().collect();
    }

    fn pod(&self, shown: &Shown, before: Option<&Sample>) -> PodFigures {
        let view = View(&shown.pod);
        let group = view.machine_id().map(|id| id.to_string());
        let group = group.unwrap_or_default();
        let usage = match (&shown.commands, group.as_str()) {
            (None, _) | (_, "") => None,
            (Some(_), name) => self.sources.machine(name),
        };
        let before = before.and_then(|sample| {
            let pods = sample.pods.iter();
            let before = pods.map(Arc::as_ref).find(|pod| pod.uid == view.uid())?;
            // A counter that went back is another machine's.
            let of = |usage: &Option<Usage>| usage.as_ref().map(|usage| usage.cpu_ns);
            (of(&before.usage) <= of(&usage)).then_some(before)
        });
        let directory = logs::pod_directory(&self.data, view.namespace(), view.name(), view.uid());
        let status = shown.status.as_ref();
        let mut pod = PodFigures {
            namespace: view.namespace().to_owned(),
            name: view.name().to_owned(),
            uid: view.uid().to_owned(),
            group,
            started_at: status.start_time.as_ref().map(|time| time.0),
            usage: usage.map(|now| now.since(before.and_then(|pod| pod.usage.as_ref()))),
            containers: containers(shown, directory.as_deref()),
            logs: directory.as_deref().map_or(0, |path| size(path, 2)),
            ..PodFigures::default()
        };
        let said = self
            .guests
            .get(view.uid())
            .and_then(|guest| guest.said.as_ref());
        if let (Some((at, said)), Some(_)) = (said, &shown.commands) {
            let volumes = view.spec().and_then(|spec| spec.volumes.as_deref());
            let names = volumes.unwrap_or_default().iter().map(|v| v.name.as_str());
            claims::take(&mut pod, said, *at, &names.collect(), before);
        }
        pod
    }

    fn node(&self, before: Option<&NodeFigures>) -> NodeFigures {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let since = |now: Option<Usage>, pick: fn(&NodeFigures) -> Option<&Usage>| {
            now.map(|now| now.since(before.and_then(pick)))
        };
        let boot_id = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
        NodeFigures {
            name: self.node_name.clone(),
            booted_at: self.sources.booted_at(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            memory: self.sources.memory(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            machine_id: boot_id.replace('-', ""),
            boot_id,
            usage: since(Some(self.sources.node()), |node| Some(&node.usage)).unwrap_or_default(),
            own: since(self.sources.own(), |node| node.own.as_ref()),
            vmms: since(self.sources.machines(), |node| node.vmms.as_ref()),
            interfaces: self.sources.interfaces(),
            disk: self.sources.disk(&self.data),
            processes: self.sources.processes(),
        }
    }
}

impl Guest {
    /// Not while a question is open, and nobody waits for that one again. What
    /// comes too late is of times past.
    fn may_be_asked(&mut self) -> bool {
        let open = self.waiting.as_mut().map(oneshot::Receiver::try_recv);
        let still = matches!(open, Some(Err(TryRecvError::Empty)));
        if !still {
            self.waiting = None;
        }
        !still
    }

    fn hear(&mut self, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::Said(at, stats) => self.said = Some((at, stats)),
            Outcome::Silent(waiting) => self.waiting = Some(waiting),
            Outcome::Nothing => {}
        }
        let old = |at: Timestamp| {
            let passed = Duration::try_from(now.duration_since(at));
            passed.is_ok_and(|passed| passed > KEPT)
        };
        self.said = self.said.take().filter(|(at, _)| !old(*at));
    }
}

/// Asks a guest of which something can be known, if its session has room.
fn question(shown: &Shown) -> Option<Waiting> {
    statuses(&shown.status).find(|status| is_running(status))?;
    let (answer, waiting) = oneshot::channel();
    let action = Action::Stats;
    let command = Command { action, answer };
    shown.commands.as_ref()?.try_send(command).ok()?;
    Some(waiting)
}

async fn answered(mut waiting: Waiting, until: Instant) -> Outcome {
    match tokio::time::timeout_at(until, &mut waiting).await {
        Ok(Ok(Ok(Answer::Stats(stats)))) => Outcome::Said(Timestamp::now(), stats),
        Ok(_) => Outcome::Nothing,
        Err(_elapsed) => Outcome::Silent(waiting),
    }
}

/// The containers that run, as the pod's status shows them.
fn containers(shown: &Shown, logs: Option<&Path>) -> Vec<ContainerFigures> {
    statuses(&shown.status)
        .filter_map(|status| container(shown, status, logs))
        .collect()
}

fn is_running(status: &ContainerStatus) -> bool {
    let state = status.state.as_ref();
    state.is_some_and(|state| state.running.is_some())
}

fn container(
    shown: &Shown,
    status: &ContainerStatus,
    logs: Option<&Path>,
) -> Option<ContainerFigures> {
    let running = status.state.as_ref()?.running.as_ref()?;
    let view = View(&shown.pod);
    let id = status.container_id.as_deref().unwrap_or_default();
    let (_, bare) = id.split_once("://").unwrap_or(("", id));
    Some(ContainerFigures {
        name: status.name.clone(),
        attempt: u32::try_from(status.restart_count).unwrap_or_default(),
        id: bare.to_owned(),
        image: status.image.clone(),
        started_at: running.started_at.as_ref().map(|time| time.0)?,
        spec: view
            .container(&status.name)
            .map_or_else(Spec::default, |(_, container)| spec(container)),
        usage: None,
        layer: None,
        logs: logs.map_or(0, |path| size(&path.join(&status.name), 1)),
    })
}

fn spec(container: &Container) -> Spec {
    let cpu = |of: Option<_>| of.and_then(milli).unwrap_or(0);
    let memory = |of: Option<_>| of.and_then(units).unwrap_or(0);
    Spec {
        cpu_request_milli: cpu(request(container, "cpu")),
        cpu_limit_milli: cpu(limit(container, "cpu")),
        memory_request: memory(request(container, "memory")),
        memory_limit: memory(limit(container, "memory")),
    }
}

/// The bytes of the files in a directory, so many levels deep.
fn size(directory: &Path, depth: u8) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() && depth > 1 => size(&entry.path(), depth - 1),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |found| found.len()),
        _ => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_asked_one_question_at_a_time() {
        let mut guest = Guest::default();
        assert!(guest.may_be_asked());
        let (answer, waiting) = oneshot::channel();
        guest.hear(Outcome::Silent(waiting), Timestamp::now());
        assert!(!guest.may_be_asked() && !guest.may_be_asked());
        drop(answer.send(Ok(Answer::Stats(Stats::default()))));
        assert!(guest.may_be_asked(), "it has answered");
        assert!(guest.said.is_none(), "too late");
        let (answer, waiting) = oneshot::channel();
        guest.hear(Outcome::Silent(waiting), Timestamp::now());
        drop(answer);
        assert!(guest.may_be_asked(), "its session broke");
    }

    #[test]
    fn what_was_said_is_shown_for_a_while() {
        let mut guest = Guest::default();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
        guest.hear(Outcome::Said(at(100), Stats::default()), at(100));
        guest.hear(Outcome::Nothing, at(150));
        assert!(guest.said.is_some());
        guest.hear(Outcome::Nothing, at(161));
        assert!(guest.said.is_none());
    }
}

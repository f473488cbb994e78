//! The scheduler: one pod after the other, the best node that fits.
//!
//! Pods wait in a keyed queue. One that fits nowhere comes again when a node
//! changes or a pod leaves one, and every `RETRY`. A pod that was bound counts
//! on its node at once (`assumed`), before the watch shows it.

mod fit;
mod plan;
mod requests;
#[cfg(test)]
mod tests;

pub(crate) use fit::{NOT_READY, UNSCHEDULABLE, condition, no_schedule};
pub(crate) use plan::{is_over, node_of};

use crate::Config;
use crate::recorder::Reporter;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use plan::{Decision, SCHEDULER, decide, is_waiting, places, plan};
use reconcile::{
    Backoff, Cache, Change, Client, ClientError, ObjectKey, Queue, Reflector, Requeue, work,
};
use requests::of_pod;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(10),
};
const RETRY: Duration = Duration::from_secs(60);
/// A binding that no watch has shown for so long is given up.
const ASSUME: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Scheduler {
    client: Client,
    reporter: Reporter,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    queue: Queue<ObjectKey>,
    /// By pod UID: its node, and since when.
    assumed: Arc<Mutex<HashMap<String, (String, Instant)>>>,
}

impl Scheduler {
    pub(crate) fn new(
        client: Client,
        config: &Config,
        pods: &Cache<Pod>,
        nodes: &Cache<Node>,
    ) -> Scheduler {
        Scheduler {
            client,
            reporter: Reporter {
                component: SCHEDULER,
                instance: config.instance.clone(),
            },
            pods: pods.clone(),
            nodes: nodes.clone(),
            queue: Queue::new(CAPACITY, BACKOFF),
            assumed: Arc::default(),
        }
    }

    /// What changes wake it.
    pub(crate) fn feed(
        &self,
        pods: Reflector<Pod>,
        nodes: Reflector<Node>,
    ) -> (Reflector<Pod>, Reflector<Node>) {
        let on_pod = self.clone();
        let on_node = self.clone();
        let pods = pods.on_change(move |change| on_pod.pod_changed(change));
        let nodes = nodes.on_change(move |change| {
            if node_changed(change) {
                on_node.retry_all();
            }
        });
        (pods, nodes)
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        if change.new.as_ref().is_some_and(|pod| is_waiting(pod)) {
            self.queue.add(change.key.clone());
        }
        let holds = |pod: &Arc<Pod>| node_of(pod).is_some() && !is_over(pod);
        let held = change.old.as_ref().is_some_and(holds);
        let holds = change.new.as_ref().is_some_and(holds);
        if held && (!holds || is_resized(change)) {
            self.retry_all();
        }
    }

    fn retry_all(&self) {
        for pod in self.pods.list() {
            if let (true, Some(name)) = (is_waiting(&pod), &pod.metadata.name) {
                let namespace = pod.metadata.namespace.clone().unwrap_or_default();
                self.queue.add(ObjectKey::new(namespace, name.clone()));
            }
        }
    }

    fn assumed(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        self.assumed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn run(&self) {
        tokio::join!(self.pods.synced(), self.nodes.synced());
        // One worker: a decision has to see the one before.
        work("scheduler", &self.queue, 1, |key| self.schedule(key)).await;
    }

    async fn schedule(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        if self.queue.overflowed() {
            self.retry_all();
        }
        let Some(pod) = self.pods.get(&key).filter(|pod| is_waiting(pod)) else {
            return Ok(Requeue::Never);
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let Some(decision) = self.decide(&pod, &uid) else {
            return Ok(Requeue::After(ASSUME));
        };
        for write in plan(&pod, &decision, &self.reporter, Timestamp::now()) {
            match self.client.write(&write).await {
                Ok(_) => {}
                // Gone meanwhile: no more to do.
                Err(error) if error.is_not_found() => return Ok(Requeue::Never),
                Err(error) => return Err(error),
            }
            if let Decision::Bind(node) = &decision {
                self.assumed()
                    .insert(uid.clone(), (node.clone(), Instant::now()));
            }
        }
        Ok(match decision {
            Decision::Bind(_) => Requeue::Never,
            Decision::Unschedulable(_) => Requeue::After(RETRY),
        })
    }

    /// `None` when it is bound already and the watch lags behind.
    fn decide(&self, pod: &Pod, uid: &str) -> Option<Decision> {
        let (pods, nodes) = (self.pods.list(), self.nodes.list());
        let mut assumed = self.assumed();
        let bound = |uid: &Option<String>| uid.as_ref().and_then(|uid| assumed.get(uid));
        if bound(&Some(uid.to_owned())).is_some_and(|(_, since)| since.elapsed() < ASSUME) {
            return None;
        }
        let assumed_of = |pod: &Pod| bound(&pod.metadata.uid).map(|(node, _)| node.clone());
        let with: Vec<_> = pods.iter().map(|pod| (pod, assumed_of(pod))).collect();
        let places = places(
            nodes.iter().map(|node| &**node),
            with.iter().map(|(pod, node)| (&***pod, node.as_deref())),
        );
        let decision = decide(pod, &places);
        let waiting = |uid: &String| {
            pods.iter()
                .any(|pod| pod.metadata.uid.as_ref() == Some(uid) && node_of(pod).is_none())
        };
        assumed.retain(|uid, (_, since)| since.elapsed() < ASSUME && waiting(uid));
        Some(decision)
    }
}

/// Whether a pod has something else than before (its `resize`).
fn is_resized(change: &Change<Pod>) -> bool {
    let changed = |pod: &Arc<Pod>| pod.metadata.generation.is_some_and(|number| number > 1);
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => changed(new) && of_pod(old) != of_pod(new),
        _ => false,
    }
}

/// Whether a pod that fitted nowhere might fit now; not for heartbeats.
fn node_changed(change: &Change<Node>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return true;
    };
    let allocatable = |node: &Node| node.status.as_ref().map(|s| s.allocatable.clone());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
        || condition(old, "Ready") != condition(new, "Ready")
}

//! The status of PodDisruptionBudgets (upstream's disruption controller): how
//! many pods are expected, healthy, wanted, and how many may be evicted.
//!
//! ```text
//! budgets, pods (caches) -+-> status: counts --+-> status of the budget
//! scales (read) ----------+                    +-> events
//!     ^ eviction counts down and names the pod in disruptedPods; what doesn't
//!       begin to go within two minutes counts again
//! ```
//! A key is a budget's. A look that fails leaves a budget that allows nothing.
//! Scales are read at the API for each look that needs them. A full queue drops
//! no key (`reconcile::Queue`). An event is told once as long as it stays true
//! of the budget, where upstream would count it up. What concerns single pods is
//! in `pods`, with a queue of its own.

mod pods;
mod scale;
mod status;

use crate::recorder::{Report, Reporter};
use api::label_selector;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use pods::{Pods, Told};
use reconcile::{
    Backoff, Cache, Client, ClientError, ObjectKey, Queue, Reflector, Requeue, Resource, Write,
    work,
};
use scale::{Expected, Failed, Scales};
use serde_json::{Value, json};
use status::{Base, Found};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const BUDGETS: Resource = Resource::namespaced("policy", "v1", "poddisruptionbudgets");
const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(5),
    max: Duration::from_secs(1000),
};

pub(crate) struct Controller {
    client: Client,
    reporter: Reporter,
    queue: Queue<ObjectKey>,
    /// Of pods.
    single: Queue<ObjectKey>,
    told: Arc<Told>,
    budgets: Reflector<Value>,
    pods: Cache<Pod>,
}

/// Whether a budget counts a pod. A budget without a selector counts none.
fn counts(budget: &Value, pod: &Pod) -> bool {
    let labels = json!({"metadata": {"labels": pod.metadata.labels}});
    label_selector::parse(&budget["spec"]["selector"]).is_some_and(|s| s.matches(&labels))
}

impl Controller {
    pub(crate) fn new(client: Client, instance: &str, pods: &Cache<Pod>) -> Controller {
        let queue = Queue::new(CAPACITY, BACKOFF);
        let to = queue.clone();
        let budgets = Reflector::<Value>::new(client.clone(), BUDGETS)
            .on_change(move |change| to.add(change.key.clone()));
        let reporter = Reporter {
            component: "controllermanager",
            instance: instance.to_owned(),
        };
        Controller {
            client,
            reporter,
            queue,
            single: Queue::new(CAPACITY, BACKOFF),
            told: Arc::default(),
            budgets,
            pods: pods.clone(),
        }
    }

    /// A pod concerns the budgets that count it, or did.
    pub(crate) fn feed(&self, pods: Reflector<Pod>) -> Reflector<Pod> {
        let (queue, budgets) = (self.queue.clone(), self.budgets.cache());
        let (single, told) = (self.single.clone(), self.told.clone());
        pods.on_change(move |change| {
            if told.concerns(&change.key, change.new.as_deref(), &budgets) {
                single.add(change.key.clone());
            }
            for budget in budgets.list_namespace(&change.key.namespace) {
                let counted =
                    |pod: &Option<Arc<Pod>>| pod.as_ref().is_some_and(|p| counts(&budget, p));
                if (counted(&change.old) || counted(&change.new))
                    && let Some(key) = ObjectKey::of(&budget)
                {
                    queue.add(key);
                }
            }
        })
    }

    pub(crate) async fn run(self) {
        let budgets = self.budgets.cache();
        let single = Pods {
            client: self.client.clone(),
            reporter: self.reporter.clone(),
            budgets: budgets.clone(),
            pods: self.pods.clone(),
            queue: self.single,
            told: self.told,
        };
        let look = Look {
            scales: Scales::new(self.client.clone()),
            client: self.client,
            reporter: self.reporter,
            told: Mutex::default(),
            budgets: budgets.clone(),
            pods: self.pods.clone(),
        };
        let (pods, queue) = (self.pods, self.queue);
        let working = async {
            tokio::join!(budgets.synced(), pods.synced());
            tokio::join!(
                work("disruption", &queue, 2, |key| look.reconcile(key)),
                work("disrupted pods", &single.queue, 1, |key| single
                    .reconcile(key)),
            );
        };
        tokio::join!(self.budgets.run(), working);
    }
}

/// What a worker looks at.
struct Look {
    client: Client,
    reporter: Reporter,
    scales: Scales,
    /// The events that were told of a budget and hold.
    told: Mutex<BTreeMap<ObjectKey, Vec<Telling>>>,
    budgets: Cache<Value>,
    pods: Cache<Pod>,
}

/// An event of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Telling {
    warning: bool,
    reason: &'static str,
    message: String,
}

/// How a look ended.
struct Seen {
    /// The budget with another status.
    update: Option<Value>,
    tellings: Vec<Telling>,
    overdue: Vec<String>,
    next: Option<Timestamp>,
}

impl Look {
    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let Some(budget) = self.budgets.get(&key) else {
            self.told().remove(&key);
            return Ok(Requeue::Never);
        };
        let pods = self.pods.list_namespace(&key.namespace);
        let counted: Vec<&Pod> = pods
            .iter()
            .map(|p| &**p)
            .filter(|p| counts(&budget, p))
            .collect();
        let now = Timestamp::now();
        let seen = self.look(&budget, &counted, now).await;
        self.tell(&key, &budget, seen.tellings, now).await;
        for name in seen.overdue {
            let pod = counted
                .iter()
                .find(|p| p.metadata.name.as_ref() == Some(&name));
            if let Some(pod) = pod {
                self.overdue(&key, pod, now).await;
            }
        }
        if let Some(object) = seen.update {
            let write = Write::UpdateStatus {
                resource: BUDGETS,
                namespace: Some(key.namespace.clone()),
                object,
            };
            match self.client.write(&write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        // Past the moment: at it, nothing is overdue yet.
        let wait = seen
            .next
            .and_then(|next| Duration::try_from(next - now).ok());
        Ok(wait.map_or(Requeue::Never, |wait| {
            Requeue::After(wait + Duration::from_secs(1))
        }))
    }

    async fn look(&self, budget: &Value, pods: &[&Pod], now: Timestamp) -> Seen {
        let mut tellings = Vec::new();
        let mut tell = |warning, reason, message: String| {
            tellings.push(Telling {
                warning,
                reason,
                message,
            });
        };
        if pods.is_empty() {
            tell(false, "NoPods", "No matching pods found".to_owned());
        }
        let expected = self.expected(budget, pods).await;
        let counted = expected.and_then(|expected| {
            let desired = status::desired(&budget["spec"], expected.count);
            Ok((desired.map_err(Failed::Because)?, expected))
        });
        let (desired, expected) = match counted {
            Ok(counted) => counted,
            Err(failed) => {
                let why = match failed {
                    Failed::Because(why) => why,
                    Failed::Api(error) => error.to_string(),
                };
                let message = format!("Failed to calculate the number of expected pods: {why}");
                tell(true, "CalculateExpectedPodCountFailed", message);
                return Seen {
                    update: status::failed(budget, &why, now),
                    tellings,
                    overdue: Vec::new(),
                    next: None,
                };
            }
        };
        if expected.unmanaged {
            tell(
                true,
                "UnmanagedPods",
                unmanaged(&budget["spec"]["selector"]),
            );
        }
        let disrupted = status::disrupted(budget, pods, now);
        let found = Found {
            expected: expected.count,
            desired,
            healthy: status::healthy(pods, &disrupted),
        };
        Seen {
            update: status::update(budget, &found, &disrupted, now),
            tellings,
            overdue: disrupted.overdue,
            next: disrupted.next,
        }
    }

    async fn expected(&self, budget: &Value, pods: &[&Pod]) -> Result<Expected, Failed> {
        match status::base(&budget["spec"]) {
            Base::Scale => self.scales.expected(pods).await,
            Base::Pods => Ok(Expected {
                count: i64::try_from(pods.len()).unwrap_or(i64::MAX),
                unmanaged: false,
            }),
            Base::Nothing => Ok(Expected::default()),
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Vec<Telling>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was not true before.
    async fn tell(&self, key: &ObjectKey, budget: &Value, all: Vec<Telling>, now: Timestamp) {
        let before = self.told().insert(key.clone(), all.clone());
        let before = before.unwrap_or_default();
        let meta = serde_json::from_value(budget["metadata"].clone()).unwrap_or_default();
        for one in all.iter().filter(|one| !before.contains(one)) {
            let report = Report {
                api_version: "policy/v1",
                kind: "PodDisruptionBudget",
                object: &meta,
                warning: one.warning,
                reason: one.reason,
                action: "Counting",
                message: &one.message,
            };
            self.report(&report, now).await;
        }
    }

    async fn overdue(&self, key: &ObjectKey, pod: &Pod, now: Timestamp) {
        // The namespace twice, as upstream has it.
        let message = format!(
            "Pod was expected by PDB {}/{} to be deleted but it wasn't",
            key.namespace, key.namespace
        );
        let meta: &ObjectMeta = &pod.metadata;
        let report = Report {
            api_version: "v1",
            kind: "Pod",
            object: meta,
            warning: true,
            reason: "NotDeleted",
            action: "Counting",
            message: &message,
        };
        self.report(&report, now).await;
    }

    async fn report(&self, report: &Report<'_>, now: Timestamp) {
        let event = self.reporter.event(report, now);
        if let Err(error) = self.client.write(&event).await {
            log::warn!("disruption: {error}");
        }
    }
}

fn unmanaged(selector: &Value) -> String {
    let selector = label_selector::text(selector).unwrap_or_default();
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. \
         As a result, the status of the PDB cannot be calculated correctly, which may result in \
         undefined behavior. To account for these pods please set \".spec.minAvailable\" field of \
         the PDB to an integer value."
    )
}

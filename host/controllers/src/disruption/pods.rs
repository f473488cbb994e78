//! What is told of and to single pods: that more than one budget counts a pod,
//! and that a disruption which was announced didn't come (KEP-3329).
//!
//! ```text
//! DisruptionTarget=True --2 minutes, and the pod isn't being deleted--> False
//! ```
//! A node's own announcement stays: it may take its time. That a pod has several
//! budgets is told once, as long as it is so.

use super::counts;
use crate::recorder::{Report, Reporter};
use crate::scheduler::is_over;
use api::time::rfc3339;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use reconcile::resource::core::PODS;
use reconcile::{Cache, Client, ClientError, ObjectKey, Patch, Queue, Requeue, Target, Write};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long an announced disruption may take until the pod is being deleted.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
const TARGET: &str = "DisruptionTarget";
const BY_NODE: &str = "TerminationByKubelet";

/// The announcement that a pod will be disrupted, if it can grow stale.
fn announced(pod: &Pod) -> Option<&PodCondition> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() || is_over(pod) {
        return None;
    }
    let found = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == TARGET)?;
    (found.status == "True" && found.reason.as_deref() != Some(BY_NODE)).then_some(found)
}

/// How long until the announcement is stale; `None` where there is none.
fn wait(pod: &Pod, now: Timestamp) -> Option<Duration> {
    let since = announced(pod)?.last_transition_time.as_ref();
    let left = since.map_or(SignedDuration::ZERO, |since| {
        TIMEOUT.saturating_sub(now.duration_since(since.0))
    });
    Some(Duration::try_from(left).unwrap_or_default())
}

/// Takes the announcement back, of the pod as it was seen.
fn reset(pod: &Pod, now: Timestamp) -> Write {
    let meta = &pod.metadata;
    let patch = json!({
        "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        "status": {"conditions": [{
            "type": TARGET, "status": "False", "reason": null, "message": null,
            "lastTransitionTime": rfc3339(now),
        }]},
    });
    Write::Patch {
        target: Target {
            resource: PODS,
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
        },
        subresource: Some("status"),
        patch: Patch::Strategic(patch),
    }
}

/// Of the budgets that count a pod, the first, if there are more.
fn chosen(budgets: &Cache<Value>, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let all = budgets.list_namespace(namespace);
    let mut counting = all.iter().filter(|budget| counts(budget, pod));
    let (first, second) = (counting.next()?, counting.next());
    second?;
    Some(first["metadata"]["name"].as_str()?.to_owned())
}

pub(super) struct Pods {
    pub(super) client: Client,
    pub(super) reporter: Reporter,
    pub(super) budgets: Cache<Value>,
    pub(super) pods: Cache<Pod>,
    pub(super) queue: Queue<ObjectKey>,
    pub(super) told: Arc<Told>,
}

/// The pods of which it was told that several budgets count them.
#[derive(Default)]
pub(super) struct Told(Mutex<BTreeSet<ObjectKey>>);

impl Told {
    fn all(&self) -> MutexGuard<'_, BTreeSet<ObjectKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pod that has changed has to be looked at.
    pub(super) fn concerns(
        &self,
        key: &ObjectKey,
        pod: Option<&Pod>,
        budgets: &Cache<Value>,
    ) -> bool {
        let looked = |pod| announced(pod).is_some() || chosen(budgets, pod).is_some();
        pod.is_some_and(looked) || self.all().contains(key)
    }
}

impl Pods {
    pub(super) async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let Some(pod) = self.pods.get(&key) else {
            self.told.all().remove(&key);
            return Ok(Requeue::Never);
        };
        let now = Timestamp::now();
        self.tell(&key, &pod, now).await;
        match wait(&pod, now) {
            None => Ok(Requeue::Never),
            Some(Duration::ZERO) => match self.client.write(&reset(&pod, now)).await {
                Ok(_) => Ok(Requeue::Never),
                Err(error) if error.is_not_found() => Ok(Requeue::Never),
                Err(error) => Err(error),
            },
            Some(left) => Ok(Requeue::After(left)),
        }
    }

    async fn tell(&self, key: &ObjectKey, pod: &Pod, now: Timestamp) {
        let Some(chosen) = chosen(&self.budgets, pod) else {
            self.told.all().remove(key);
            return;
        };
        if !self.told.all().insert(key.clone()) {
            return;
        }
        let (namespace, name) = (&key.namespace, &key.name);
        let message = format!(
            "Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {chosen:?} arbitrarily."
        );
        let report = Report {
            api_version: "v1",
            kind: "Pod",
            object: &pod.metadata,
            warning: true,
            reason: "MultiplePodDisruptionBudgets",
            action: "Counting",
            message: &message,
        };
        if let Err(error) = self.client.write(&self.reporter.event(&report, now)).await {
            log::warn!("disruption: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn pod(condition: Value, phase: &str, going: bool) -> Pod {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "resourceVersion": "7"},
            "status": {"phase": phase, "conditions": [condition]}});
        if going {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn an_announcement_is_stale_after_two_minutes() {
        let target = |status: &str, reason: &str| {
            json!({"type": TARGET, "status": status, "reason": reason,
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let evicted = || target("True", "EvictionByEvictionAPI");
        for (pod, now, wanted) in [
            (
                pod(evicted(), "Running", false),
                "2026-01-01T00:00:30Z",
                Some(90),
            ),
            (
                pod(evicted(), "Running", false),
                "2026-01-01T00:02:00Z",
                Some(0),
            ),
            (
                pod(evicted(), "Running", false),
                "2026-01-01T00:09:00Z",
                Some(0),
            ),
            (
                pod(evicted(), "Running", true),
                "2026-01-01T00:09:00Z",
                None,
            ),
            (
                pod(evicted(), "Failed", false),
                "2026-01-01T00:09:00Z",
                None,
            ),
            (
                pod(target("False", ""), "Running", false),
                "2026-01-01T00:09:00Z",
                None,
            ),
            (
                pod(target("True", BY_NODE), "Running", false),
                "2026-01-01T00:09:00Z",
                None,
            ),
            (
                pod(json!({"type": "Ready", "status": "True"}), "Running", false),
                "2026-01-01T00:09:00Z",
                None,
            ),
        ] {
            let found = wait(&pod, now.parse().unwrap()).map(|left| left.as_secs());
            assert_eq!(found, wanted, "{pod:?} at {now}");
        }
        let now = "2026-01-01T00:09:00Z".parse().unwrap();
        let Write::Patch {
            patch: Patch::Strategic(patch),
            ..
        } = reset(&pod(evicted(), "Running", false), now)
        else {
            panic!("another write");
        };
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["conditions"][0]["status"], "False");
    }
}

//! Disruption budgets on a real API server: what the controller counts and what
//! evictions are then answered.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::Cluster;
use reconcile::resource::core::{EVENTS, PODS};
use reconcile::{ClientError, ListOptions, Patch, Resource};
use serde_json::{Value, json};
use std::time::Duration;

const BUDGETS: Resource = Resource::namespaced("policy", "v1", "poddisruptionbudgets");
const SETS: Resource = Resource::namespaced("apps", "v1", "replicasets");
const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments");
const NAMESPACE: Option<&str> = Some("default");

impl Cluster {
    async fn make(&self, resource: &Resource, object: Value) -> Value {
        let made = self.client.create(resource, NAMESPACE, &object).await;
        made.unwrap()
    }

    async fn status(&self, resource: &Resource, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let client = &self.client;
        let patched = client.patch(resource, NAMESPACE, name, Some("status"), &patch);
        patched.await.unwrap();
    }

    async fn pod(&self, name: &str, owner: Option<&Value>, ready: bool) {
        let mut pod = json!({"metadata": {"name": name, "labels": {"app": "x"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "i"}]}});
        if let Some(owner) = owner {
            pod["metadata"]["ownerReferences"] = json!([reference(owner)]);
        }
        self.make(&PODS, pod).await;
        self.ready(name, ready).await;
    }

    async fn ready(&self, name: &str, ready: bool) {
        let state = if ready { "True" } else { "False" };
        let conditions = json!([{"type": "Ready", "status": state}]);
        let status = json!({"phase": "Running", "conditions": conditions});
        self.status(&PODS, name, status).await;
    }

    /// Until the status of the budget has all of `wanted`.
    async fn until(&self, wanted: Value) -> Value {
        let mut last = Value::Null;
        for _ in 0..600 {
            let budget = self.client.get(&BUDGETS, NAMESPACE, "b").await.unwrap();
            last = budget["status"].clone();
            let fields = wanted.as_object().unwrap();
            let is_current = last["observedGeneration"] == budget["metadata"]["generation"];
            if is_current && fields.iter().all(|(key, value)| last[key] == *value) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{last:#}, not {wanted:#}");
    }

    async fn events(&self, reason: &str) -> Vec<Value> {
        self.events_of("b", reason).await
    }

    async fn events_of(&self, name: &str, reason: &str) -> Vec<Value> {
        let options = ListOptions::default();
        let all = self.client.list(&EVENTS, NAMESPACE, &options).await;
        let mut all = all.unwrap().items;
        all.retain(|e| e["reason"] == reason && e["involvedObject"]["name"] == name);
        all
    }

    /// Until a pod's condition has this status.
    async fn until_condition(&self, pod: &str, kind: &str, wanted: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..600 {
            last = self.client.get(&PODS, NAMESPACE, pod).await.unwrap();
            let all = last["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten();
            let found = all.clone().find(|c| c["type"] == kind);
            if let Some(found) = found.filter(|c| c["status"] == wanted) {
                return found.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{last:#}");
    }

    async fn until_event(&self, reason: &str) -> Value {
        for _ in 0..600 {
            if let Some(event) = self.events(reason).await.pop() {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no event {reason}");
    }

    async fn evict(&self, pod: &str) -> Result<Value, ClientError> {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": pod, "namespace": "default"}});
        let client = &self.client;
        client
            .create_subresource(&PODS, NAMESPACE, pod, "eviction", &eviction)
            .await
    }
}

fn reference(owner: &Value) -> Value {
    json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]})
}

fn budget(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "x"}});
    json!({"metadata": {"name": "b"}, "spec": spec})
}

fn set(name: &str, replicas: u32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "main", "image": "i"}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_counted_and_evictions_spend_it() {
    let c = Cluster::start().await;
    c.make(&BUDGETS, budget(json!({"minAvailable": 2}))).await;
    let none = json!({"expectedPods": 0, "currentHealthy": 0, "desiredHealthy": 2});
    let status = c.until(none).await;
    let condition = &status["conditions"][0];
    assert_eq!(condition["type"], "DisruptionAllowed");
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("InsufficientPods"))
    );
    let event = c.until_event("NoPods").await;
    assert_eq!(event["message"], "No matching pods found");
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["involvedObject"]["apiVersion"], "policy/v1");
    for name in ["p0", "p1", "p2"] {
        c.pod(name, None, true).await;
    }
    let three = json!({"expectedPods": 3, "currentHealthy": 3, "disruptionsAllowed": 1});
    let status = c.until(three).await;
    assert_eq!(status["conditions"][0]["reason"], "SufficientPods");
    c.evict("p0").await.unwrap();
    let target = c.until_condition("p0", "DisruptionTarget", "True").await;
    assert_eq!(target["reason"], "EvictionByEvictionAPI");
    assert_eq!(target["message"], "Eviction API: evicting");
    let two = json!({"currentHealthy": 2, "disruptionsAllowed": 0});
    c.until(two).await;
    let refused = c.evict("p1").await.unwrap_err();
    let refused = refused.status().unwrap();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (429, "TooManyRequests")
    );
    assert_eq!(
        refused.message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let causes = &refused.details.as_ref().unwrap()["causes"];
    assert_eq!(
        causes[0]["message"],
        "The disruption budget b needs 2 healthy pods and has 2 currently"
    );
    // Who isn't ready is protected as the policy says.
    c.ready("p2", false).await;
    c.until(json!({"currentHealthy": 1})).await;
    assert_eq!(c.evict("p2").await.unwrap_err().status().unwrap().code, 429);
    let always = Patch::Merge(json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}));
    c.client
        .patch(&BUDGETS, NAMESPACE, "b", None, &always)
        .await
        .unwrap();
    c.evict("p2").await.unwrap();
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn percentages_are_of_what_controllers_want() {
    let c = Cluster::start().await;
    let deployment = c.make(&DEPLOYMENTS, set("d", 8)).await;
    let mut owned = set("s", 3);
    owned["metadata"]["ownerReferences"] = json!([reference(&deployment)]);
    let owned = c.make(&SETS, owned).await;
    let alone = c.make(&SETS, set("t", 2)).await;
    c.pod("p0", Some(&owned), true).await;
    c.pod("p1", Some(&owned), true).await;
    c.make(&BUDGETS, budget(json!({"minAvailable": "50%"})))
        .await;
    // The Deployment's 8, not its set's 3.
    c.until(json!({"expectedPods": 8, "desiredHealthy": 4, "currentHealthy": 2}))
        .await;
    c.pod("p2", Some(&alone), true).await;
    let share = Patch::Merge(json!({"spec": {"minAvailable": null, "maxUnavailable": "90%"}}));
    c.client
        .patch(&BUDGETS, NAMESPACE, "b", None, &share)
        .await
        .unwrap();
    let all = json!({"expectedPods": 10, "desiredHealthy": 1, "disruptionsAllowed": 2});
    c.until(all).await;
    // One that nobody controls doesn't count, and that is told.
    c.pod("p3", None, false).await;
    let event = c.until_event("UnmanagedPods").await;
    assert!(
        event["message"]
            .as_str()
            .unwrap()
            .contains("(selector: app=x)"),
        "{event}"
    );
    // One whose controller has no scale: nothing may go.
    let map = Resource::namespaced("", "v1", "configmaps");
    let map = c
        .make(
            &map,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}),
        )
        .await;
    c.pod("p4", Some(&map), true).await;
    let status = c.until(json!({"disruptionsAllowed": 0})).await;
    let why = "configmaps does not implement the scale subresource";
    assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
    assert_eq!(status["conditions"][0]["message"], why);
    let event = c.until_event("CalculateExpectedPodCountFailed").await;
    assert_eq!(
        event["message"],
        format!("Failed to calculate the number of expected pods: {why}")
    );
    assert_eq!(c.events("CalculateExpectedPodCountFailed").await.len(), 1);
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disruption_that_does_not_come_is_taken_back() {
    let c = Cluster::start().await;
    c.pod("p0", None, true).await;
    c.pod("p1", None, true).await;
    let now = jiff::Timestamp::now();
    for (pod, minutes) in [("p0", 3), ("p1", 0)] {
        let since = now - jiff::SignedDuration::from_mins(minutes);
        let announced = json!([{"type": "DisruptionTarget", "status": "True",
            "reason": "PreemptionByScheduler", "message": "m",
            "lastTransitionTime": api::time::rfc3339(since)}]);
        c.status(
            &PODS,
            pod,
            json!({"phase": "Running", "conditions": announced}),
        )
        .await;
    }
    let reset = c.until_condition("p0", "DisruptionTarget", "False").await;
    assert_eq!(reset.get("reason"), None, "{reset}");
    assert_eq!(reset.get("message"), None, "{reset}");
    c.until_condition("p1", "DisruptionTarget", "True").await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_two_budgets_is_told_of_once() {
    let c = Cluster::start().await;
    c.make(&BUDGETS, budget(json!({"minAvailable": 1}))).await;
    let mut other = budget(json!({"minAvailable": 1}));
    other["metadata"]["name"] = "c".into();
    c.make(&BUDGETS, other).await;
    c.until(json!({"expectedPods": 0})).await;
    c.until_event("NoPods").await;
    c.pod("p0", None, false).await;
    c.ready("p0", true).await;
    let reason = "MultiplePodDisruptionBudgets";
    let mut found = Vec::new();
    for _ in 0..600 {
        found = c.events_of("p0", reason).await;
        if !found.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    c.until(json!({"currentHealthy": 1})).await;
    assert_eq!(c.events_of("p0", reason).await.len(), 1);
    assert_eq!(found[0]["type"], "Warning");
    assert_eq!(
        found[0]["message"],
        "Pod \"default\"/\"p0\" matches multiple PodDisruptionBudgets.  Chose \"b\" arbitrarily."
    );
    c.end().await;
}

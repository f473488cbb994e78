//! All controllers together on an API server in memory. Time is tokio's and
//! passes only when everybody waits.

mod support;

use controllers::Config;
use reconcile::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::Api;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

struct World {
    api: Arc<Api>,
    stop: Option<oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    fn start(api: Arc<Api>) -> World {
        let (stop, stopped) = oneshot::channel();
        let client = Client::new(api.clone());
        let shutdown = async {
            let _ = stopped.await;
        };
        let running = tokio::spawn(controllers::run(client, Config::new("CA"), shutdown));
        World {
            api,
            stop: Some(stop),
            running,
        }
    }

    /// Waits until `found` gives something; says what was there otherwise.
    async fn until<T>(&self, what: &str, found: impl Fn(&Api) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(600) {
            if let Some(found) = found(&self.api) {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let pods = self.api.list("pods");
        let nodes = self.api.list("nodes");
        panic!("{what} didn't happen: {pods:#?} {nodes:#?}");
    }

    async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.running.await.expect("no panic");
    }
}

fn namespace(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}})
}

fn node(name: &str, beat: u32) -> Value {
    let beat = format!("2026-01-01T00:00:{beat:02}Z");
    json!({
        "metadata": {"name": name},
        "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}],
        },
    })
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

fn bound(api: &Api, name: &str) -> Option<String> {
    api.get("pods", "n", name)?["spec"]["nodeName"]
        .as_str()
        .map(str::to_owned)
}

fn event(api: &Api, reason: &str) -> Option<String> {
    let events = api.list("events");
    let event = events.into_iter().find(|event| event["reason"] == reason)?;
    event["message"].as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn pods_get_nodes_and_refusals_are_told() {
    let api = Arc::new(Api::default());
    api.put("namespaces", namespace("n"));
    api.put("pods", pod("early", "600m"));
    let world = World::start(api.clone());
    let message = world
        .until("a refusal", |api| event(api, "FailedScheduling"))
        .await;
    assert_eq!(message, "no nodes available to schedule pods");
    api.put("nodes", node("one", 0));
    assert_eq!(
        world.until("binding", |api| bound(api, "early")).await,
        "one"
    );
    assert_eq!(
        world.until("an event", |api| event(api, "Scheduled")).await,
        "Successfully assigned n/early to one"
    );
    api.put("pods", pod("late", "500m"));
    let message = world
        .until("a condition", |api| {
            let pod = api.get("pods", "n", "late")?;
            let condition = pod["status"]["conditions"].get(0)?.clone();
            assert_eq!(condition["reason"], "Unschedulable");
            condition["message"].as_str().map(str::to_owned)
        })
        .await;
    assert_eq!(
        message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
    api.delete("pods", "n", "early");
    assert_eq!(world.until("room", |api| bound(api, "late")).await, "one");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_pods_never_exceeds_a_node() {
    let api = Arc::new(Api::default());
    api.put("namespaces", namespace("n"));
    for name in ["one", "two", "three"] {
        api.put("nodes", node(name, 0));
    }
    for index in 0..40 {
        api.put("pods", pod(&format!("p{index:02}"), "100m"));
    }
    let world = World::start(api.clone());
    let placed = |api: &Api| {
        let on = |node: &str| {
            api.list("pods")
                .iter()
                .filter(|p| p["spec"]["nodeName"] == node)
                .count()
        };
        ["one", "two", "three"].map(on)
    };
    world
        .until("all room taken", |api| {
            (placed(api) == [10, 10, 10]).then_some(())
        })
        .await;
    sleep(Duration::from_secs(200)).await;
    assert_eq!(placed(&api), [10, 10, 10]);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_its_defaults_and_goes_away_whole() {
    let api = Arc::new(Api::default());
    let world = World::start(api.clone());
    api.put("namespaces", namespace("n"));
    world
        .until("defaults", |api| {
            let map = api.get("configmaps", "n", "kube-root-ca.crt")?;
            api.get("serviceaccounts", "n", "default")?;
            (map["data"]["ca.crt"] == "CA").then_some(())
        })
        .await;
    let mut map = api
        .get("configmaps", "n", "kube-root-ca.crt")
        .expect("just seen");
    map["data"]["ca.crt"] = json!("tampered");
    api.put("configmaps", map);
    api.delete("serviceaccounts", "n", "default");
    world
        .until("repair", |api| {
            let map = api.get("configmaps", "n", "kube-root-ca.crt")?;
            api.get("serviceaccounts", "n", "default")?;
            (map["data"]["ca.crt"] == "CA").then_some(())
        })
        .await;
    api.put("pods", pod("p", "1"));
    api.delete("namespaces", "", "n");
    world
        .until("the end", |api| {
            api.get("namespaces", "", "n").is_none().then_some(())
        })
        .await;
    sleep(Duration::from_secs(100)).await;
    assert!(api.list("pods").is_empty() && api.list("configmaps").is_empty());
    assert!(api.list("serviceaccounts").is_empty());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_becomes_unknown_and_a_lost_ones_pods_go() {
    let api = Arc::new(Api::default());
    api.put("namespaces", namespace("n"));
    api.put("nodes", node("one", 0));
    api.put("pods", pod("p", "1"));
    let world = World::start(api.clone());
    world.until("binding", |api| bound(api, "p")).await;
    let ready = |api: &Api| {
        let node = api.get("nodes", "", "one")?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|c| c["type"] == "Ready")?;
        Some((
            ready["status"].as_str()?.to_owned(),
            node["spec"]["taints"].clone(),
        ))
    };
    sleep(Duration::from_secs(35)).await;
    assert_eq!(ready(&api).map(|r| r.0).as_deref(), Some("True"));
    let start = Instant::now();
    let taints = world
        .until("silence", |api| {
            ready(api).filter(|r| r.0 == "Unknown").map(|r| r.1)
        })
        .await;
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(taints[0]["key"], "node.kubernetes.io/unreachable");
    assert!(event(&api, "NodeNotReady").is_some());
    assert!(bound(&api, "p").is_some(), "no eviction");
    // Back again.
    api.put("nodes", node("one", 30));
    world
        .until("no taint", |api| {
            ready(api)?.1.as_array()?.is_empty().then_some(())
        })
        .await;
    api.delete("nodes", "", "one");
    world
        .until("removal", |api| {
            api.get("pods", "n", "p").is_none().then_some(())
        })
        .await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_nothing_changes() {
    let api = Arc::new(Api::default());
    api.put("namespaces", namespace("n"));
    api.put("nodes", node("one", 0));
    api.put("pods", pod("p", "100m"));
    api.put("pods", pod("too-big", "7"));
    let world = World::start(api.clone());
    world.until("binding", |api| bound(api, "p")).await;
    sleep(Duration::from_secs(100)).await;
    let before = api.writes();
    sleep(Duration::from_secs(2000)).await;
    assert_eq!(api.writes(), before);
    world.stop().await;
    let world = World::start(api.clone());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(api.writes(), before, "nor by a restart");
    world.stop().await;
}

//! Resources of a pod that runs.

use super::api::{Api, DEADLINE};
use super::init::Script;
use super::scenarios::{Node, POD, Stage, one, running};
use crate::Shutdown;
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Limits; what is asked for of CPU is there on every machine.
fn limits(cpu: &str, memory: &str) -> Value {
    let requests = json!({"cpu": "100m", "memory": memory});
    json!({"requests": requests, "limits": {"cpu": cpu, "memory": memory}})
}

/// A pod that runs with these resources, on a node.
async fn stage(resources: Value, policy: Value) -> (Stage, Node) {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    let mut spec = one("Always");
    spec["containers"][0]["resources"] = resources;
    spec["containers"][0]["resizePolicy"] = policy;
    stage.apply(spec);
    stage.status("Running", running).await;
    (stage, node)
}

/// As the API server does it.
fn ask(stage: &Stage, generation: u32, resources: &Value) {
    let mut pod = stage.api.get(POD).unwrap();
    pod["metadata"]["generation"] = json!(generation);
    pod["spec"]["containers"][0]["resources"] = resources.clone();
    stage.api.put(POD, pod);
}

/// The reason, the message and the generation of a condition.
fn condition(status: &Value, name: &str) -> Option<(Value, Value, Value)> {
    let mut all = status["conditions"].as_array().into_iter().flatten();
    let found = all.find(|own| own["type"] == name)?;
    assert_eq!(found["status"], "True");
    let [a, b, c] = ["reason", "message", "observedGeneration"].map(|f| found[f].clone());
    Some((a, b, c))
}

/// Whether all is done, and the container runs with these.
fn has(status: &Value, resources: &Value) -> bool {
    let own = &status["containerStatuses"][0];
    own["resources"] == *resources
        && own["allocatedResources"] == resources["requests"]
        && condition(status, "PodResizePending").is_none()
        && condition(status, "PodResizeInProgress").is_none()
}

async fn event(stage: &Stage, wanted: &str) {
    let there = |api: &Api| {
        let events = api.events();
        events.iter().any(|e| e.starts_with(wanted)).then_some(())
    };
    stage.api.wait(wanted, there).await;
}

fn resizes(stage: &Stage) -> Vec<String> {
    let done = stage.init.done().into_iter();
    done.filter(|one| one.starts_with("resize")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_given_less_and_more() {
    let first = limits("2", "256Mi");
    let (stage, node) = stage(first.clone(), Value::Null).await;
    stage.status("its resources", |s| has(s, &first)).await;
    let second = limits("500m", "128Mi");
    ask(&stage, 2, &second);
    let status = stage.status("less", |s| has(s, &second)).await;
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    let told = r#"{"containers":[{"name":"a","resources":{"limits":{"cpu":"500m","memory":"128Mi"},"requests":{"cpu":"100m","memory":"128Mi"}}}],"generation":2}"#;
    event(
        &stage,
        &format!("ResizeStarted: Pod resize started: {told}"),
    )
    .await;
    event(
        &stage,
        &format!("ResizeCompleted: Pod resize completed: {told}"),
    )
    .await;
    // Its machine has two processors, and the memory for 256 MiB.
    for (generation, wanted, message) in [
        (
            3,
            limits("2100m", "128Mi"),
            "Machine didn't have enough capacity: cpu, requested: 3000, capacity: 2000",
        ),
        (
            4,
            limits("1", "257Mi"),
            "Machine didn't have enough capacity: memory, requested: 311427072, capacity: 310378496",
        ),
    ] {
        ask(&stage, generation, &wanted);
        let wanted = Some((json!("Infeasible"), json!(message), json!(generation)));
        let told = |s: &Value| condition(s, "PodResizePending") == wanted;
        let status = stage.status("Infeasible", told).await;
        let own = &status["containerStatuses"][0];
        assert_eq!(own["resources"], second);
        assert_eq!(own["allocatedResources"], second["requests"]);
        event(&stage, "ResizeInfeasible: Pod resize Infeasible: ").await;
    }
    ask(&stage, 5, &first);
    stage.status("more", |s| has(s, &first)).await;
    let wanted = ["resize a: 128 MiB, 500 m", "resize a: 256 MiB, 2000 m"];
    assert_eq!(resizes(&stage), wanted);
    // What was given is remembered: nothing is done twice.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    let third = limits("1", "256Mi");
    ask(&stage, 6, &third);
    stage.status("again", |s| has(s, &third)).await;
    assert_eq!(resizes(&stage).len(), 3);
    assert_eq!(stage.init.started().len(), 1);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_used_stays() {
    let first = limits("1", "256Mi");
    let (stage, node) = stage(first.clone(), Value::Null).await;
    stage.init.change(|script| {
        script.memory.insert("a".to_owned(), 200 * MIB);
    });
    ask(&stage, 2, &limits("1", "128Mi"));
    let message = "cannot decrease memory limits: a uses 209715200";
    let wanted = Some((json!("Error"), json!(message), json!(2)));
    let told = |s: &Value| condition(s, "PodResizeInProgress") == wanted;
    let status = stage.status("an error", told).await;
    let own = &status["containerStatuses"][0];
    assert_eq!(own["resources"], first, "it runs on with what it had");
    assert_eq!(own["allocatedResources"]["memory"], "128Mi");
    event(&stage, "ResizeError: Pod resize error: ").await;
    let third = limits("1", "208Mi");
    ask(&stage, 3, &third);
    stage.status("less", |s| has(s, &third)).await;
    assert_eq!(resizes(&stage), ["resize a: 208 MiB, 1000 m"]);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_starts_the_container_anew() {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let (stage, node) = stage(limits("1", "256Mi"), policy).await;
    let second = limits("500m", "256Mi");
    ask(&stage, 2, &second);
    stage.status("CPU", |s| has(s, &second)).await;
    let third = limits("500m", "128Mi");
    ask(&stage, 3, &third);
    let anew = |s: &Value| has(s, &third) && s["containerStatuses"][0]["restartCount"] == 1;
    stage.status("memory", anew).await;
    event(&stage, "Killing: Container a resize requires restart").await;
    assert_eq!(resizes(&stage), ["resize a: 256 MiB, 500 m"]);
    assert_eq!(stage.init.started().len(), 2);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_room() {
    // 64 processors are there for its limit, whatever this machine has.
    let with = |milli: u64| {
        let request = format!("{milli}m");
        json!({"requests": {"cpu": request}, "limits": {"cpu": "64"}})
    };
    let (stage, node) = stage(with(100), Value::Null).await;
    let all = stage.api.get("/api/v1/nodes/n1").unwrap();
    let all = &all["status"]["allocatable"]["cpu"];
    let all =
        k8s_openapi::apimachinery::pkg::api::resource::Quantity(all.as_str().unwrap().to_owned());
    let all = crate::pod::resources::milli(&all).unwrap();
    let path = "/api/v1/namespaces/default/pods/other";
    let mut other = stage.api.get(POD).unwrap();
    other["metadata"] = json!({"name": "other", "namespace": "default",
        "uid": "11111111-2222-3333-4444-666666666666"});
    other["spec"]["containers"][0]["resources"] = with(all - 200);
    other["status"] = json!({"phase": "Pending"});
    stage.api.put(path, other);
    let runs = |api: &Api| running(&api.get(path)?["status"]).then_some(());
    stage.api.wait("the other runs", runs).await;
    ask(&stage, 2, &with(300));
    let used = all - 200;
    let message = format!(
        "Node didn't have enough resource: cpu, requested: 300, used: {used}, capacity: {all}"
    );
    let wanted = Some((json!("Deferred"), json!(message), json!(2)));
    let told = |s: &Value| condition(s, "PodResizePending") == wanted;
    stage.status("Deferred", told).await;
    // Another node remembers that, too.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(4).await;
    let mut other = stage.api.get(path).unwrap();
    other["metadata"]["deletionTimestamp"] = json!("2026-11-21T08:00:00Z");
    other["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    stage.api.put(path, other);
    stage.status("room", |s| has(s, &with(300))).await;
    // Its machine weighs more, too.
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !stage.init.done().contains(&"weight 30".to_owned()) {
        let seen = stage.init.done();
        assert!(tokio::time::Instant::now() < deadline, "{seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stage.init.started().len(), 2);
    node.stop(Shutdown::Restart).await;
}

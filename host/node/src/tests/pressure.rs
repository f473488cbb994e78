//! What a node does when it runs out of something.

use super::init::Script;
use super::scenarios::{POD, Stage, UID, one, running};
use crate::Shutdown;
use serde_json::{Value, json};
use std::path::Path;

const NODE: &str = "/api/v1/nodes/n1";

/// The host has so many kB of 1 GiB left.
fn memory_left(path: &Path, kib: u64) {
    std::fs::create_dir_all(path.join("proc")).unwrap();
    std::fs::create_dir_all(path.join("cgroup")).unwrap();
    std::fs::write(path.join("cgroup/cpu.stat"), "usage_usec 1\n").unwrap();
    let text = format!("MemTotal: 1048576 kB\nMemFree: {kib} kB\n");
    // Whole or not at all, for whoever reads it meanwhile.
    std::fs::write(path.join("proc/meminfo.new"), text).unwrap();
    std::fs::rename(path.join("proc/meminfo.new"), path.join("proc/meminfo")).unwrap();
}

fn condition(object: &Value, name: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut found = conditions.into_iter().flatten();
    found
        .find(|condition| condition["type"] == name)
        .cloned()
        .unwrap_or_default()
}

async fn event(stage: &Stage, wanted: &str) {
    let told = |api: &super::api::Api| api.events().iter().any(|e| e == wanted).then_some(());
    stage.api.wait(wanted, told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_memory_ends_a_pod_and_takes_none() {
    let stage = Stage::new(Script::default());
    memory_left(stage.path(), 500_000);
    let node = stage.node();
    stage.apply(one("Always"));
    stage.status("Running", running).await;
    memory_left(stage.path(), 51_200);
    let over = |status: &Value| status["phase"] == "Failed";
    let status = stage.status("Failed", over).await;
    assert_eq!(status["reason"], "Evicted");
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, \
        available: 50Mi. ";
    assert!(
        status["message"].as_str().unwrap().starts_with(message),
        "{status}"
    );
    let disrupted = |api: &super::api::Api| {
        let found = condition(&api.get(POD)?, "DisruptionTarget");
        found.is_object().then_some(found)
    };
    let target = stage.api.wait("DisruptionTarget", disrupted).await;
    assert_eq!(
        (&target["status"], &target["reason"]),
        (&json!("True"), &json!("TerminationByKubelet"))
    );
    event(&stage, "EvictionThresholdMet: Attempting to reclaim memory").await;
    event(
        &stage,
        &format!("Evicted: {}", status["message"].as_str().unwrap()),
    )
    .await;
    let pressed = |api: &super::api::Api| {
        let found = condition(&api.get(NODE)?, "MemoryPressure");
        (found["status"] == "True").then_some(found)
    };
    let pressure = stage.api.wait("MemoryPressure", pressed).await;
    assert_eq!(pressure["reason"], "KubeletHasInsufficientMemory");
    event(
        &stage,
        "NodeHasInsufficientMemory: Node n1 status is now: NodeHasInsufficientMemory",
    )
    .await;
    let mut second = stage.api.get(POD).unwrap();
    second["metadata"]["name"] = json!("late");
    second["metadata"]["uid"] = json!(UID.replace('1', "2"));
    second["status"] = json!({"phase": "Pending"});
    let path = POD.replace("web", "late");
    stage.api.put(&path, second);
    let refused = |api: &super::api::Api| {
        let pod = api.get(&path)?;
        (pod["status"]["phase"] == "Failed").then_some(pod)
    };
    let late = stage.api.wait("a refusal", refused).await;
    let message = "The node had condition: [MemoryPressure]. ";
    assert_eq!(late["status"]["message"], message);
    assert_eq!(stage.init.started().len(), 1);
    assert_eq!(stage.init.running(), 0, "its machine is gone");
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_unused_images_first_and_critical_pods_nothing() {
    let mut stage = Stage::new(Script::default());
    // No disk has that much left.
    stage.kubelet = json!({"evictionHard": {"nodefs.available": "8Ei"},
        "imageGCHighThresholdPercent": 100});
    stage.images.put("unused", 500);
    let mut spec = one("Always");
    spec["priority"] = json!(2_000_001_000);
    stage.apply(spec);
    let node = stage.node();
    stage.status("Running", running).await;
    event(
        &stage,
        "EvictionThresholdMet: Attempting to reclaim ephemeral-storage",
    )
    .await;
    let ids = || stage.images.ids();
    let removed = |_: &super::api::Api| (ids() == ["sha256:00"]).then_some(());
    stage.api.wait("the removal", removed).await;
    let pressed = |api: &super::api::Api| {
        let found = condition(&api.get(NODE)?, "DiskPressure");
        (found["status"] == "True").then_some(())
    };
    stage.api.wait("DiskPressure", pressed).await;
    assert!(
        running(&stage.api.get(POD).unwrap()["status"]),
        "a critical pod stays"
    );
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_nobody_used_for_long_go() {
    let mut stage = Stage::new(Script::default());
    stage.kubelet = json!({"evictionHard": {}, "imageGCHighThresholdPercent": 100,
        "imageMaximumGCAge": "1h"});
    stage.images.put("old", 7200);
    stage.images.put("recent", 60);
    stage.apply(one("Always"));
    let node = stage.node();
    let left = ["sha256:00", "sha256:recent"];
    let removed = |_: &super::api::Api| (stage.images.ids() == left).then_some(());
    stage.status("Running", running).await;
    stage.api.wait("the removal", removed).await;
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_finds_too_little_is_told() {
    let mut stage = Stage::new(Script::default());
    stage.kubelet = json!({"evictionHard": {}, "imageGCHighThresholdPercent": 0,
        "imageGCLowThresholdPercent": 0});
    stage.images.put("unused", 10);
    let node = stage.node();
    let told = |api: &super::api::Api| {
        let failed = "FreeDiskSpaceFailed: Failed to garbage collect required amount of images. ";
        let events = api.events();
        events
            .iter()
            .any(|event| event.starts_with(failed))
            .then_some(())
    };
    stage.api.wait("FreeDiskSpaceFailed", told).await;
    assert!(stage.images.ids().is_empty());
    node.stop(Shutdown::Restart).await;
}

//! Many pods at once: machines start a few at a time.

use super::api::{Api, DEADLINE};
use super::init::Script;
use super::scenarios::{Stage, one, running};
use crate::{Shutdown, starts};
use serde_json::{Value, json};
use std::time::Duration;

const MORE: usize = 3;

fn path(number: usize) -> String {
    format!("/api/v1/namespaces/default/pods/p{number}")
}

fn apply(stage: &Stage, number: usize) {
    apply_spec(stage, number, one("Always"));
}

fn apply_spec(stage: &Stage, number: usize, mut spec: Value) {
    spec["nodeName"] = json!("n1");
    stage.api.put(
        &path(number),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("p{number}"), "namespace": "default",
                "uid": format!("11111111-2222-3333-4444-{number:012}"),
            },
            "spec": spec, "status": {"phase": "Pending"},
        }),
    );
}

/// Waits until as many machines run as may start at once.
async fn launched(stage: &Stage) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while stage.init.running() < starts() {
        let seen = stage.init.running();
        assert!(tokio::time::Instant::now() < deadline, "{seen} machines");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_start_a_few_at_a_time() {
    let stage = Stage::new(Script {
        deaf: true,
        ..Script::default()
    });
    let node = stage.node();
    for number in 0..starts() {
        apply(&stage, number);
    }
    launched(&stage).await;
    for number in starts()..starts() + MORE {
        apply(&stage, number);
    }
    // One that is out of time while it waits gives its place up, too.
    let last = starts() + MORE - 1;
    let late = last + 1;
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = json!(1);
    apply_spec(&stage, late, spec);
    let image = |api: &Api| {
        let pulled = api.events().iter().filter(|e| e.contains("Pulled")).count();
        (pulled == starts() + MORE + 1).then_some(())
    };
    stage.api.wait("all images", image).await;
    let failed = |api: &Api| {
        let pod = api.get(&path(late))?;
        (pod["status"]["reason"] == "DeadlineExceeded").then_some(())
    };
    stage.api.wait("the deadline", failed).await;
    // One that is deleted while it waits goes at once, without a machine.
    let mut pod = stage.api.get(&path(last)).unwrap();
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T08:00:00Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    stage.api.put(&path(last), pod);
    let gone = |api: &Api| api.get(&path(last)).is_none().then_some(());
    stage.api.wait("the end of the last", gone).await;
    assert_eq!(stage.init.running(), starts(), "others wait their turn");
    stage.init.change(|script| script.deaf = false);
    for number in 0..last {
        let runs = |api: &Api| {
            let pod = api.get(&path(number))?;
            running(&pod["status"]).then_some(())
        };
        stage.api.wait("Running", runs).await;
    }
    assert_eq!(stage.init.running(), last);
    assert_eq!(stage.init.launches(), u32::try_from(last).unwrap());
    node.stop(Shutdown::Restart).await;
}

//! What comes to a pod whose machine runs: images, and containers.

use super::init::Script;
use super::scenarios::{POD, Stage, one, running};
use crate::Shutdown;
use guest_protocol::End;
use serde_json::{Value, json};

fn runs(status: &Value) -> bool {
    status["state"]["running"].is_object()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_start_as_their_images_come() {
    let stage = Stage::new(Script::default());
    stage.images.delay(Some("/b:1"));
    let node = stage.node();
    let mut spec = one("Always");
    for other in [
        json!({"name": "b", "image": "b:1"}),
        json!({"name": "c", "image": "a:1"}),
    ] {
        spec["containers"].as_array_mut().unwrap().push(other);
    }
    stage.apply(spec);
    let two = |s: &Value| runs(&s["containerStatuses"][0]) && runs(&s["containerStatuses"][2]);
    let status = stage.status("two containers run", two).await;
    assert_eq!(status["phase"], "Pending");
    let waiting = &status["containerStatuses"][1]["state"]["waiting"]["reason"];
    assert_eq!(waiting, "ContainerCreating");
    assert_eq!(stage.init.disks(), ["img0"]);
    stage.images.delay(None);
    let all = |s: &Value| s["phase"] == "Running" && runs(&s["containerStatuses"][1]);
    stage.status("all run", all).await;
    assert_eq!(stage.init.disks(), ["img0", "img1"]);
    let started: Vec<u32> = stage.init.started().iter().map(|(m, ..)| *m).collect();
    assert_eq!(started, [1, 1, 1], "in one machine, each once");
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ephemeral_container_comes_and_ends() {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    stage.apply(one("Always"));
    stage.status("Running", running).await;
    let mut pod = stage.api.get(POD).unwrap();
    pod["spec"]["ephemeralContainers"] = json!([
        {"name": "debug", "image": "tools:1", "targetContainerName": "a"},
        {"name": "bad", "image": "tools:1", "volumeDevices": [{"name": "v", "devicePath": "/v"}]},
    ]);
    stage.api.put(POD, pod);
    let first = |s: &Value| runs(&s["ephemeralContainerStatuses"][0]);
    let blocked = "CreateContainerConfigError";
    let second =
        |s: &Value| s["ephemeralContainerStatuses"][1]["state"]["waiting"]["reason"] == blocked;
    let status = stage
        .status("both are told", |s| first(s) && second(s))
        .await;
    let message = &status["ephemeralContainerStatuses"][1]["state"]["waiting"]["message"];
    let wanted = "spec.ephemeralContainers{bad}: volumeDevices is not supported";
    assert_eq!(message, wanted);
    assert_eq!(stage.init.disks(), ["img0", "img1"]);
    assert!(running(&status), "the pod is as ready as it was: {status}");
    // A new node knows what is attached.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    stage.init.end_container("debug", End::Code(0));
    let ended = |s: &Value| {
        let state = &s["ephemeralContainerStatuses"][0]["state"];
        state["terminated"]["reason"] == "Completed"
    };
    let status = stage.status("its end", ended).await;
    assert!(running(&status));
    let started = stage.init.started();
    let wanted = [(1, "a".to_owned(), 0), (1, "debug".to_owned(), 0)];
    assert_eq!(started, wanted);
    node.stop(Shutdown::Restart).await;
}

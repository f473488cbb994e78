//! What comes to a pod whose machine runs: images, volumes that are images, and
//! containers.

use super::api::Api;
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

/// A pod whose first container mounts an image; the second doesn't.
fn with_image() -> Value {
    let mut spec = one("Always");
    spec["volumes"] = json!([{"name": "v", "image": {"reference": "v:1"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let containers = spec["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "b", "image": "b:1"}));
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_a_volume_in_each_machine() {
    let stage = Stage::new(Script::default());
    stage.images.delay(Some("/v:1"));
    let node = stage.node();
    stage.apply(with_image());
    let second = |s: &Value| runs(&s["containerStatuses"][1]);
    let status = stage.status("who needs no volume runs", second).await;
    let waiting = &status["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!(waiting, "ContainerCreating");
    stage.images.delay(None);
    let both = |s: &Value| running(s) && runs(&s["containerStatuses"][1]);
    let status = stage.status("both run", both).await;
    let mounts = &status["containerStatuses"][0]["volumeMounts"];
    assert_eq!(*mounts, json!([{"name": "v", "mountPath": "/v"}]));
    assert_eq!(stage.init.disks(), ["img0", "img1", "img2"]);
    // A new node starts it again, with the disk that the machine has.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    stage.init.end_container("a", End::Code(1));
    let again = |s: &Value| both(s) && s["containerStatuses"][0]["restartCount"] == 1;
    stage.status("it runs again", again).await;
    // All images are there now, so the next machine has their disks at once.
    stage.init.kill_all(9);
    let again = |s: &Value| both(s) && s["containerStatuses"][1]["restartCount"] == 1;
    stage.status("both run again", again).await;
    let mut mounted = stage.init.done();
    mounted.retain(|line| line.contains("mounts"));
    assert_eq!(mounted, ["a mounts img2 at /v", "a mounts img1 at /v"]);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_without_its_image_holds_back_who_mounts_it() {
    let stage = Stage::new(Script::default());
    stage.images.lack("/v:1");
    let node = stage.node();
    stage.apply(with_image());
    let state = |s: &Value| s["containerStatuses"][0]["state"]["waiting"].clone();
    let backs_off = |s: &Value| state(s)["reason"] == "ImagePullBackOff";
    let told = |s: &Value| backs_off(s) && runs(&s["containerStatuses"][1]);
    let status = stage.status("the back-off is shown", told).await;
    let message = state(&status)["message"].as_str().unwrap().to_owned();
    let wanted = "Back-off pulling image \"v:1\": ErrImagePull: failed to pull";
    assert!(message.starts_with(wanted), "{message}");
    for part in [
        "Failed to pull image \"v:1\"",
        "Error: ErrImagePull",
        "Back-off pulling image \"v:1\"",
        "Error: ImagePullBackOff",
    ] {
        let has = |event: &String| event.contains(part);
        let told = |api: &Api| api.events().iter().any(has).then_some(());
        stage.api.wait(part, told).await;
    }
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

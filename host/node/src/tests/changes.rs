//! A pod that is changed while it runs.

use super::api::Api;
use super::init::Script;
use super::scenarios::{POD, Stage, one};
use crate::Shutdown;
use serde_json::{Value, json};

fn set_image(stage: &Stage, list: &str, image: &str) {
    let mut pod = stage.api.get(POD).unwrap();
    pod["spec"][list][0]["image"] = json!(image);
    stage.api.put(POD, pod);
}

async fn told(stage: &Stage, event: &str) {
    let has = |api: &Api| api.events().iter().any(|e| e == event).then_some(());
    stage.api.wait(event, has).await;
}

fn runs(status: &Value, attempt: u32) -> bool {
    status["restartCount"] == attempt && status["state"]["running"].is_object()
}

fn shows(status: &Value, image: &str) -> bool {
    status["image"].as_str().unwrap().ends_with(image)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_image_restarts_a_container_at_once() {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    let mut spec = one("Never");
    spec["initContainers"] = json!([{"name": "s", "image": "s:1", "restartPolicy": "Always"}]);
    stage.apply(spec);
    let main = |s: &Value| s["containerStatuses"][0].clone();
    stage.status("it runs", |s| runs(&main(s), 0)).await;
    // It ends before its new image is pulled, and the pod goes on.
    stage.images.delay(Some("/b:1"));
    set_image(&stage, "containers", "b:1");
    let ended = |s: &Value| main(s)["state"]["waiting"]["reason"] == "ContainerCreating";
    let status = stage.status("its end", ended).await;
    assert_eq!(main(&status)["lastState"]["terminated"]["exitCode"], 143);
    assert!(shows(&main(&status), "/a:1"), "{status}");
    assert_eq!(status["phase"], "Running");
    let killing = "Killing: Container a definition changed, will be restarted";
    told(&stage, killing).await;
    told(&stage, "Pulling: Pulling image \"b:1\"").await;
    assert_eq!(stage.init.done(), ["stop a"]);
    stage.images.delay(None);
    let status = stage.status("it runs again", |s| runs(&main(s), 1)).await;
    let last = &main(&status)["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 143);
    assert!(shows(&main(&status), "/b:1"), "{status}");
    assert_eq!(stage.init.disks(), ["img0", "img1", "img2"]);
    // A new node knows what runs.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    set_image(&stage, "initContainers", "a:1");
    let side = |s: &Value| runs(&s["initContainerStatuses"][0], 1);
    let status = stage.status("the sidecar runs again", side).await;
    assert!(runs(&main(&status), 1), "{status}");
    told(&stage, "Killing: Init container s definition changed").await;
    let pulled = |image: &str| {
        let events = stage.api.events().into_iter();
        let quoted = format!("\"{image}\"");
        let own = events.filter(|e| e.starts_with("Pulled") && e.contains(&quoted));
        own.count()
    };
    assert_eq!((pulled("s:1"), pulled("b:1")), (1, 1));
    let started = stage.init.started();
    let wanted = [("s", 0), ("a", 0), ("a", 1), ("s", 1)];
    let wanted = wanted.map(|(name, attempt)| (1, name.to_owned(), attempt));
    assert_eq!(started, wanted, "in one machine");
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_to_be_had_is_waited_for() {
    let stage = Stage::new(Script::default());
    stage.images.lack("/b:1");
    let node = stage.node();
    stage.apply(one("Always"));
    let main = |s: &Value| s["containerStatuses"][0].clone();
    stage.status("it runs", |s| runs(&main(s), 0)).await;
    set_image(&stage, "containers", "b:1");
    let waits = |s: &Value| {
        let reason = main(s)["state"]["waiting"]["reason"].clone();
        reason == "ErrImagePull" || reason == "ImagePullBackOff"
    };
    let status = stage.status("it waits", waits).await;
    let last = &main(&status)["lastState"]["terminated"];
    assert_eq!(
        (&last["exitCode"], &status["phase"]),
        (&json!(143), &json!("Running"))
    );
    // Back to what is there: at once.
    set_image(&stage, "containers", "a:1");
    stage.status("it runs again", |s| runs(&main(s), 1)).await;
    node.stop(Shutdown::Restart).await;
}

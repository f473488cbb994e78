//! Pods of the machine config.

use super::init::Script;
use super::scenarios::{Stage, running};
use crate::Shutdown;
use serde_json::{Value, json};

const MIRROR: &str = "/api/v1/namespaces/default/pods/dns-n1";

fn manifest(image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "dns", "namespace": "default"},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": image}]}})
}

/// The API gives what is made a uid of its own.
async fn mirror(stage: &Stage, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    stage
        .api
        .wait(what, |api| api.get(MIRROR).filter(|pod| wanted(pod)))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_pod_runs_and_its_mirror_is_only_a_picture() {
    let mut stage = Stage::new(Script::default());
    stage.static_pods = json!([manifest("a:1")]);
    let stale = json!({"metadata": {"name": "gone-n1", "namespace": "default", "uid": "stale",
        "annotations": {"kubernetes.io/config.mirror": "1234"}},
        "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running"}});
    let orphan = MIRROR.replace("dns", "gone");
    stage.api.put(&orphan, stale);
    let node = stage.node();
    let pod = mirror(&stage, "a running mirror", |pod| running(&pod["status"])).await;
    let annotations = &pod["metadata"]["annotations"];
    let hash = &annotations["kubernetes.io/config.hash"];
    assert_eq!(*hash, annotations["kubernetes.io/config.mirror"]);
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"]),
        (&json!("Node"), &json!("n1"))
    );
    let none = |api: &super::api::Api| api.get(&orphan).is_none().then_some(());
    stage.api.wait("the orphan's end", none).await;

    // Deleted, it comes back, and nothing happens to the pod.
    let mut deleted = pod.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-11-21T08:00:00Z");
    deleted["metadata"]["labels"] = json!({"old": "yes"});
    stage.api.put(MIRROR, deleted);
    let anew = |pod: &Value| pod["metadata"]["labels"].is_null() && running(&pod["status"]);
    mirror(&stage, "a new mirror", anew).await;
    stage.api.remove(MIRROR);
    mirror(&stage, "a third mirror", anew).await;
    assert_eq!(stage.init.started().len(), 1);

    // A new node takes it over; with another manifest it is another pod.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    assert_eq!(stage.init.started().len(), 1);
    node.stop(Shutdown::Restart).await;
    stage.static_pods = json!([manifest("a:2")]);
    let node = stage.node();
    let changed =
        |pod: &Value| pod["spec"]["containers"][0]["image"] == "a:2" && running(&pod["status"]);
    let second = mirror(&stage, "the other manifest", changed).await;
    assert_ne!(
        second["metadata"]["annotations"]["kubernetes.io/config.hash"],
        *hash
    );
    assert_eq!(stage.init.running(), 1, "the first machine is gone");
    node.stop(Shutdown::Restart).await;
}

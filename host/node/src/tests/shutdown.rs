//! What becomes of pods when the node shuts down.

use super::init::Script;
use super::scenarios::{POD, Stage, UID, one, running};
use crate::Shutdown;
use serde_json::{Value, json};

const NODE: &str = "/api/v1/nodes/n1";

fn condition(object: &Value, name: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut found = conditions.into_iter().flatten();
    let found = found.find(|condition| condition["type"] == name);
    found.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn critical_pods_end_last_and_all_are_told() {
    let mut stage = Stage::new(Script::default());
    stage.kubelet["shutdownGracePeriod"] = json!("20s");
    stage.kubelet["shutdownGracePeriodCriticalPods"] = json!("10s");
    let node = stage.node();
    let mut critical = one("Always");
    critical["containers"][0]["name"] = json!("critical");
    critical["priority"] = json!(2_000_001_000);
    stage.apply(critical);
    stage.status("Running", running).await;
    let mut other = stage.api.get(POD).unwrap();
    other["metadata"]["name"] = json!("other");
    other["metadata"]["uid"] = json!(UID.replace('1', "2"));
    other["spec"] = one("Always");
    other["spec"]["nodeName"] = json!("n1");
    other["status"] = json!({"phase": "Pending"});
    let path = POD.replace("web", "other");
    stage.api.put(&path, other);
    let runs = |api: &super::api::Api| running(&api.get(&path)?["status"]).then_some(());
    stage.api.wait("the other pod", runs).await;
    node.stop(Shutdown::PowerOff).await;
    for path in [POD, &path] {
        let pod = stage.api.get(path).unwrap();
        let status = &pod["status"];
        assert_eq!(
            (&status["phase"], &status["reason"], &status["message"]),
            (
                &json!("Failed"),
                &json!("Terminated"),
                &json!("Pod was terminated in response to imminent node shutdown.")
            )
        );
        let target = condition(&pod, "DisruptionTarget");
        assert_eq!(target["reason"], "TerminationByKubelet");
    }
    assert_eq!(stage.init.done(), ["stop a", "stop critical"]);
    assert_eq!(stage.init.running(), 0);
    let ready = condition(&stage.api.get(NODE).unwrap(), "Ready");
    assert_eq!(
        (&ready["status"], &ready["reason"], &ready["message"]),
        (
            &json!("False"),
            &json!("KubeletNotReady"),
            &json!("node is shutting down")
        )
    );
}

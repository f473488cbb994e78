//! Containers with restart policies and rules of their own.

use super::init::Script;
use super::scenarios::Stage;
use crate::Shutdown;
use guest_protocol::End;
use serde_json::{Value, json};

fn restarts(status: &Value, list: &str) -> Vec<u64> {
    let all = status[list].as_array().unwrap().iter();
    all.map(|one| one["restartCount"].as_u64().unwrap())
        .collect()
}

fn run(status: &Value, at: usize, attempt: u64) -> bool {
    let own = &status["containerStatuses"][at];
    own["state"]["running"].is_object() && own["restartCount"] == attempt
}

fn rule(action: &str, code: u8) -> Value {
    json!([{"action": action, "exitCodes": {"operator": "In", "values": [code]}}])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_s_own_policy_counts() {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    stage.apply(json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "image": "a:1", "restartPolicy": "OnFailure"},
        {"name": "b", "image": "a:1", "restartPolicy": "Never",
            "restartPolicyRules": rule("Restart", 3)},
    ]}));
    let both = |s: &Value| run(s, 0, 0) && run(s, 1, 0);
    stage.status("both run", both).await;
    stage.init.end_container("a", End::Code(1));
    stage.init.end_container("b", End::Code(3));
    let again = |s: &Value| run(s, 0, 1) && run(s, 1, 1);
    let status = stage.status("both run again", again).await;
    assert_eq!(status["phase"], "Running");
    stage.init.end_container("a", End::Code(0));
    stage.init.end_container("b", End::Code(4));
    let over = |s: &Value| s["phase"] == "Failed";
    let status = stage.status("both are over", over).await;
    assert_eq!(restarts(&status, "containerStatuses"), [1, 1]);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_end_restarts_all_in_order() {
    let ends = [("i".to_owned(), End::Code(0))];
    let stage = Stage::new(Script {
        ends: ends.into(),
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(json!({"restartPolicy": "Never",
    "initContainers": [
        {"name": "i", "image": "a:1"},
        {"name": "s", "image": "a:1", "restartPolicy": "Always"},
    ],
    "containers": [
        {"name": "a", "image": "a:1", "restartPolicy": "Never",
            "restartPolicyRules": rule("RestartAllContainers", 42)},
        {"name": "b", "image": "a:1",
            "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}},
    ]}));
    let condition = |s: &Value| {
        let all = s["conditions"].as_array().unwrap().iter();
        let mut own = all.filter(|one| one["type"] == "AllContainersRestarting");
        own.next().unwrap()["status"].clone()
    };
    let both = |s: &Value| run(s, 0, 0) && run(s, 1, 0);
    let status = stage.status("both run", both).await;
    assert_eq!(condition(&status), "False");
    stage.init.end_container("a", End::Code(42));
    let again = |s: &Value| run(s, 0, 1) && run(s, 1, 1);
    let status = stage.status("both run again", again).await;
    assert_eq!(condition(&status), "False");
    assert_eq!(status["phase"], "Running");
    assert_eq!(restarts(&status, "initContainerStatuses"), [1, 1]);
    let mut stopped = stage.init.done();
    stopped.sort();
    assert_eq!(stopped, ["stop b", "stop s"], "without its hook");
    let started = stage.init.started();
    let names = started.iter().map(|(machine, name, attempt)| {
        assert_eq!(*machine, 1, "in one machine");
        (name.as_str(), *attempt)
    });
    let names: Vec<_> = names.collect();
    let wanted = [0, 1].map(|attempt| ["i", "s", "a", "b"].map(|name| (name, attempt)));
    assert_eq!(names, wanted.concat());
    // The next time the back-off holds them; a new node knows how far they are.
    stage.init.end_container("a", End::Code(42));
    let held = |s: &Value| {
        let first = &s["initContainerStatuses"][0]["state"]["waiting"];
        first["reason"] == "CrashLoopBackOff"
    };
    stage.status("they are held back", held).await;
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    let status = stage.status("they are held back still", held).await;
    assert_eq!(condition(&status), "False");
    assert_eq!(stage.init.started().len(), 8);
    node.stop(Shutdown::Restart).await;
}

//! Probes, hooks, sidecars and last words, as a user sees them.

use super::api::DEADLINE;
use super::init::Script;
use super::scenarios::{POD, Stage, one, running};
use crate::Shutdown;
use guest_protocol::End;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

async fn event(stage: &Stage, wanted: &str) {
    let told = |api: &super::api::Api| api.events().iter().any(|e| e == wanted).then_some(());
    stage.api.wait(wanted, told).await;
}

/// Waits until the guest has done `wanted`, in this order.
async fn done(stage: &Stage, wanted: &[&str]) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while stage.init.done() != wanted {
        let done = stage.init.done();
        assert!(tokio::time::Instant::now() < deadline, "{done:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn condition<'a>(status: &'a Value, name: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_fails_its_liveness_probe_is_restarted() {
    let stage = Stage::new(Script {
        ports: BTreeMap::from([(80, BROKEN.to_owned())]),
        ..Script::default()
    });
    let node = stage.node();
    let mut spec = one("Always");
    spec["containers"][0]["livenessProbe"] =
        json!({"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1});
    stage.apply(spec);
    let failed = "Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500";
    event(&stage, failed).await;
    let again = "Killing: Container a failed liveness probe, will be restarted";
    event(&stage, again).await;
    stage.init.change(|script| {
        script.ports.insert(80, OK.to_owned());
    });
    let status = stage
        .status("a restart", |s| {
            running(s) && s["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
        })
        .await;
    let last = &status["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!(last["exitCode"], 143);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_follows_the_startup_probe_its_own_and_gates() {
    let stage = Stage::new(Script {
        execs: BTreeMap::from([("check".to_owned(), (1, "not yet".to_owned()))]),
        ..Script::default()
    });
    let node = stage.node();
    let mut spec = one("Always");
    spec["readinessGates"] = json!([{"conditionType": "example.test/go"}]);
    let container = &mut spec["containers"][0];
    container["startupProbe"] =
        json!({"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1000});
    container["readinessProbe"] = json!({"tcpSocket": {"port": 80}, "periodSeconds": 1});
    stage.apply(spec);
    event(&stage, "Unhealthy: Startup probe failed: not yet").await;
    let status = stage.status("Running", |s| s["phase"] == "Running").await;
    let container = &status["containerStatuses"][0];
    assert_eq!(
        (&container["started"], &container["ready"]),
        (&json!(false), &json!(false))
    );
    stage.init.change(|script| {
        script.execs.insert("check".to_owned(), (0, String::new()));
    });
    let refused = "Unhealthy: Readiness probe failed: dial tcp 127.0.0.1:80: connect: \
        connection refused";
    event(&stage, refused).await;
    let started = |s: &Value| s["containerStatuses"][0]["started"] == true;
    let status = stage.status("started", started).await;
    assert_eq!(status["containerStatuses"][0]["ready"], false);
    stage.init.change(|script| {
        script.ports.insert(80, OK.to_owned());
    });
    let status = stage.status("ready containers", running).await;
    assert_eq!(condition(&status, "ContainersReady")["status"], "True");
    let ready = condition(&status, "Ready");
    assert_eq!(ready["reason"], "ReadinessGatesNotReady");
    let message =
        "corresponding condition of pod readiness gate \"example.test/go\" does not exist.";
    assert_eq!(ready["message"], message);
    let mut pod = stage.api.get(POD).unwrap();
    let gate = json!({"type": "example.test/go", "status": "True"});
    pod["status"]["conditions"]
        .as_array_mut()
        .unwrap()
        .push(gate);
    stage.api.put(POD, pod);
    let ready = |s: &Value| condition(s, "Ready")["status"] == "True";
    let status = stage.status("a ready pod", ready).await;
    assert_eq!(condition(&status, "Ready").get("reason"), None);
    assert_eq!(condition(&status, "example.test/go")["status"], "True");
    // A new node takes the verdicts over.
    node.stop(Shutdown::Restart).await;
    let node = stage.node();
    stage.init.sessions(2).await;
    assert!(ready(&stage.api.get(POD).unwrap()["status"]));
    node.stop(Shutdown::Restart).await;
}

fn with_sidecar() -> Value {
    let exec = |word: &str| json!({"exec": {"command": [word]}});
    json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "side", "image": "a:1", "restartPolicy": "Always",
             "lifecycle": {"postStart": exec("side-up"), "preStop": exec("side-down")}},
            {"name": "init", "image": "a:1"},
        ],
        "containers": [
            {"name": "first", "image": "a:1",
             "lifecycle": {"postStart": exec("first-up"), "preStop": exec("first-down")}},
            {"name": "second", "image": "a:1"},
        ],
    })
}

fn hooks(code: u8) -> Script {
    let words = ["side-up", "side-down", "first-up", "first-down"];
    let exec = |word: &str| (word.to_owned(), (code, String::new()));
    Script {
        execs: words.map(exec).into(),
        ends: BTreeMap::from([("init".to_owned(), End::Code(0))]),
        ..Script::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_start_first_and_end_last_with_their_hooks() {
    let stage = Stage::new(hooks(0));
    let node = stage.node();
    stage.apply(with_sidecar());
    let all = |s: &Value| {
        let ready = |list: &str| {
            let list = s[list].as_array().unwrap();
            list.iter().all(|c| c["ready"] == true)
        };
        running(s) && ready("containerStatuses") && ready("initContainerStatuses")
    };
    stage.status("all of it", all).await;
    let names: Vec<String> = stage
        .init
        .started()
        .into_iter()
        .map(|(_, n, _)| n)
        .collect();
    assert_eq!(names, ["side", "init", "first", "second"]);
    assert_eq!(stage.init.done(), ["side-up", "first-up"]);
    stage.set("deletionGracePeriodSeconds", json!(30));
    stage.set("deletionTimestamp", json!("2026-11-21T08:00:00Z"));
    let gone = |api: &super::api::Api| api.get(POD).is_none().then_some(());
    stage.api.wait("deletion", gone).await;
    let done = stage.init.done();
    let at = |word: &str| done.iter().position(|d| d == word).unwrap();
    assert!(at("first-down") < at("stop first"), "{done:?}");
    assert!(at("side-down") < at("stop side"), "{done:?}");
    assert_eq!(done.last().unwrap(), "stop side", "{done:?}");
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_ends_with_its_main_containers_and_takes_its_sidecars_along() {
    let mut script = hooks(0);
    script.ends.insert("first".to_owned(), End::Code(0));
    script.ends.insert("second".to_owned(), End::Code(0));
    let stage = Stage::new(script);
    let node = stage.node();
    let mut spec = with_sidecar();
    spec["containers"][0]["lifecycle"] = Value::Null;
    stage.apply(spec);
    let ended = |s: &Value| s["phase"] == "Succeeded";
    let status = stage.status("Succeeded", ended).await;
    let side = &status["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        side["exitCode"], 143,
        "it ended before the pod is said to have"
    );
    done(&stage, &["side-up", "side-down", "stop side"]).await;
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_fail_are_told() {
    let stage = Stage::new(hooks(3));
    let node = stage.node();
    let mut spec = one("Never");
    let exec = |word: &str| json!({"exec": {"command": [word]}});
    spec["containers"][0]["lifecycle"] =
        json!({"postStart": exec("first-up"), "preStop": exec("first-down")});
    stage.apply(spec);
    event(&stage, "FailedPostStartHook: PostStartHook failed").await;
    event(&stage, "Killing: FailedPostStartHook").await;
    event(&stage, "FailedPreStopHook: PreStopHook failed").await;
    let status = stage.status("Failed", |s| s["phase"] == "Failed").await;
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["exitCode"], 143);
    node.stop(Shutdown::Restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_log_is_the_message_of_a_failure() {
    let stage = Stage::new(Script {
        output: BTreeMap::from([("a".to_owned(), b"first\nlast words\n".to_vec())]),
        ends: BTreeMap::from([("a".to_owned(), End::Code(3))]),
        ..Script::default()
    });
    let node = stage.node();
    let mut spec = one("Never");
    spec["containers"][0]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    stage.apply(spec);
    let status = stage.status("Failed", |s| s["phase"] == "Failed").await;
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["message"], "first\nlast words\n");
    node.stop(Shutdown::Restart).await;
}

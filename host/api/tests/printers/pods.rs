//! Pods: `printPod`.

use crate::{LAYOUT, check, going, kind, now, object};
use api::print::table;
use serde_json::{Value, json};

fn running(ready: bool) -> Value {
    json!({"name": "c", "ready": ready, "state": {"running": {}}})
}

fn waiting(reason: &str) -> Value {
    json!({"name": "c", "restartCount": 0, "state": {"waiting": {"reason": reason}}})
}

fn ended(code: i64, reason: &str) -> Value {
    json!({"name": "c", "state": {"terminated": {"exitCode": code, "reason": reason}}})
}

/// Restarted so often, last at a time on the fifth of January.
fn restarted(name: &str, times: i64, at: &str) -> Value {
    json!({"name": name, "ready": true, "restartCount": times, "started": true, "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": format!("2026-01-05T{at}Z")}}})
}

/// A pod of two containers: ready, status, restarts.
fn shows(pods: Vec<(Value, [&str; 3])>) {
    let pod = kind("v1/pods");
    for (more, wanted) in pods {
        let cells = pod.cells(&more, now());
        assert_eq!(cells[1..4], wanted.map(Value::from), "{more:#}");
    }
}

fn two(status: Value) -> Value {
    object(json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status}))
}

#[test]
fn of_containers() {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let of = |containers: Value| two(json!({"phase": "Running", "containerStatuses": containers}));
    shows(vec![
        (two(json!({})), ["0/2", "", "0"]),
        (two(json!({"phase": "Pending"})), ["0/2", "Pending", "0"]),
        (
            two(json!({"phase": "Failed", "reason": "Evicted"})),
            ["0/2", "Evicted", "0"],
        ),
        (
            two(json!({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]})),
            ["0/2", "SchedulingGated", "0"],
        ),
        (
            of(json!([running(true), running(true)])),
            ["2/2", "Running", "0"],
        ),
        (
            of(json!([running(true), running(false)])),
            ["1/2", "Running", "0"],
        ),
        (
            of(json!([running(true), waiting("CrashLoopBackOff")])),
            ["1/2", "CrashLoopBackOff", "0"],
        ),
        // The first one's reason counts.
        (
            of(json!([
                waiting("ErrImagePull"),
                waiting("CrashLoopBackOff")
            ])),
            ["0/2", "ErrImagePull", "0"],
        ),
        (
            of(json!([running(true), waiting("")])),
            ["1/2", "Running", "0"],
        ),
        (
            of(json!([running(true), ended(1, "Error")])),
            ["1/2", "Error", "0"],
        ),
        (
            of(json!([running(true), ended(3, "")])),
            ["1/2", "ExitCode:3", "0"],
        ),
        (
            of(json!([running(true), {"state": {"terminated": {"exitCode": 137, "signal": 9}}}])),
            ["1/2", "Signal:9", "0"],
        ),
        (
            of(json!([ended(0, "Completed"), ended(0, "Completed")])),
            ["0/2", "Completed", "0"],
        ),
        (
            of(json!([ended(0, "Completed"), ended(1, "OOMKilled")])),
            ["0/2", "OOMKilled", "0"],
        ),
        (
            of(json!([running(true), ended(0, "Completed")])),
            ["1/2", "NotReady", "0"],
        ),
        (
            two(json!({"phase": "Running", "conditions": ready,
                "containerStatuses": [running(true), ended(0, "Completed")]})),
            ["1/2", "Running", "0"],
        ),
        (
            two(json!({"phase": "Running", "conditions": ready,
                "containerStatuses": [ended(0, "Completed"), ended(2, "Error"), running(true)]})),
            ["1/2", "Running", "0"],
        ),
        (
            of(json!([
                restarted("a", 2, "23:55:00"),
                restarted("b", 3, "23:00:00")
            ])),
            ["2/2", "Running", "5 (5m ago)"],
        ),
        (
            of(json!([{"ready": true, "restartCount": 4, "state": {"running": {}}}])),
            ["1/2", "Running", "4"],
        ),
        (
            of(json!([restarted("a", 0, "23:55:00")])),
            ["1/2", "Running", "0"],
        ),
    ]);
}

#[test]
fn that_go() {
    let spec = json!({"containers": [{}]});
    let of = |status: Value| going(json!({"spec": spec, "status": status}));
    shows(vec![
        (of(json!({"phase": "Running"})), ["0/1", "Terminating", "0"]),
        (
            of(json!({"phase": "Running", "containerStatuses": [running(true)]})),
            ["1/1", "Terminating", "0"],
        ),
        (
            of(json!({"phase": "Running", "reason": "NodeLost"})),
            ["0/1", "Unknown", "0"],
        ),
        (
            object(json!({"spec": spec, "status": {"phase": "Running", "reason": "NodeLost"}})),
            ["0/1", "NodeLost", "0"],
        ),
        (of(json!({"phase": "Succeeded"})), ["0/1", "Succeeded", "0"]),
        (
            of(json!({"phase": "Failed", "containerStatuses": [ended(1, "Error")]})),
            ["0/1", "Error", "0"],
        ),
    ]);
}

#[test]
fn of_init_containers() {
    let spec =
        json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]});
    let of = |init: Value, main: Value, conditions: Value| {
        object(
            json!({"spec": spec, "status": {"phase": "Pending", "conditions": conditions,
            "initContainerStatuses": init, "containerStatuses": main}}),
        )
    };
    let initialized = json!([{"type": "Initialized", "status": "True"}]);
    let pending = json!([waiting("PodInitializing")]);
    let init = |init: Value| of(init, pending.clone(), json!([]));
    let done = ended(0, "Completed");
    shows(vec![
        (
            init(json!([running(false), waiting("PodInitializing")])),
            ["0/1", "Init:0/2", "0"],
        ),
        (
            init(json!([done, running(false)])),
            ["0/1", "Init:1/2", "0"],
        ),
        (
            init(json!([done, waiting("PodInitializing")])),
            ["0/1", "Init:1/2", "0"],
        ),
        (
            init(json!([waiting("ImagePullBackOff")])),
            ["0/1", "Init:ImagePullBackOff", "0"],
        ),
        (init(json!([ended(1, "Error")])), ["0/1", "Init:Error", "0"]),
        (init(json!([ended(1, "")])), ["0/1", "Init:ExitCode:1", "0"]),
        (
            init(json!([{"state": {"terminated": {"exitCode": 1, "signal": 6}}}])),
            ["0/1", "Init:Signal:6", "0"],
        ),
        (init(json!([done, done])), ["0/1", "PodInitializing", "0"]),
        // Restarts of init containers count while they run, and no longer.
        (
            init(json!([restarted("i", 3, "23:57:00")])),
            ["0/1", "Init:0/2", "3 (3m ago)"],
        ),
        (
            init(
                json!([{"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 0}},
                "lastState": {"terminated": {"finishedAt": "2026-01-05T23:57:00Z"}}}, done]),
            ),
            ["0/1", "PodInitializing", "0"],
        ),
        (
            of(
                json!([{"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 0}},
                    "lastState": {"terminated": {"finishedAt": "2026-01-05T23:57:00Z"}}}, done]),
                json!([restarted("c", 1, "22:00:00")]),
                json!([]),
            ),
            ["1/1", "Pending", "1 (120m ago)"],
        ),
        // A pod that has been initialized shows its containers.
        (
            of(
                json!([running(false)]),
                json!([running(true)]),
                initialized.clone(),
            ),
            ["1/1", "Init:0/2", "0"],
        ),
        (
            of(
                json!([running(false)]),
                json!([waiting("ErrImagePull")]),
                initialized,
            ),
            ["0/1", "ErrImagePull", "0"],
        ),
    ]);
}

#[test]
fn of_sidecars() {
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "c"}]});
    let of = |init: Value, main: Value| {
        object(json!({"spec": spec, "status": {"phase": "Running",
            "initContainerStatuses": init, "containerStatuses": main}}))
    };
    let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
    let sidecar = restarted("s", 2, "23:58:30");
    let unready = json!({"name": "s", "started": true, "ready": false, "state": {"running": {}}});
    let fallen = json!({"name": "s", "started": true, "ready": false, "restartCount": 1,
        "state": {"terminated": {"exitCode": 1, "reason": "Error"}}});
    let starting = json!({"name": "s", "started": false, "state": {"running": {}}});
    shows(vec![
        (
            of(json!([sidecar, done]), json!([running(true)])),
            ["2/2", "Running", "2 (90s ago)"],
        ),
        (
            of(
                json!([sidecar, done]),
                json!([restarted("c", 1, "23:59:50")]),
            ),
            ["2/2", "Running", "3 (10s ago)"],
        ),
        (
            of(json!([unready, done]), json!([running(true)])),
            ["1/2", "Running", "0"],
        ),
        (
            of(json!([fallen, done]), json!([running(true)])),
            ["1/2", "Running", "1"],
        ),
        (
            of(
                json!([sidecar, {"name": "i", "state": {"running": {}}}]),
                json!([]),
            ),
            ["1/2", "Init:1/2", "2 (90s ago)"],
        ),
        (of(json!([starting]), json!([])), ["0/2", "Init:0/2", "0"]),
    ]);
}

#[test]
fn wide_cells() {
    let spec = json!({"nodeName": "n", "containers": [{}], "readinessGates": [
        {"conditionType": "a"}, {"conditionType": "b"}, {"conditionType": "c"}]});
    let conditions = json!([{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]);
    check(
        "v1/pods",
        vec![
            (
                object(
                    json!({"spec": spec, "status": {"phase": "Running", "conditions": conditions,
                    "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                    "nominatedNodeName": "m"}}),
                ),
                json!([
                    "x", "0/1", "Running", "0", "5d", "10.0.0.1", "n", "m", "1/3"
                ]),
            ),
            (
                json!({"metadata": {"name": "x"}}),
                json!([
                    "x",
                    "0/0",
                    "",
                    "0",
                    "<unknown>",
                    "<none>",
                    "<none>",
                    "<none>",
                    "<none>"
                ]),
            ),
        ],
    );
}

/// Beside the cells.
#[test]
fn that_are_done_have_a_condition() {
    for (phase, message) in [
        ("Running", None),
        ("Succeeded", Some("The pod has completed successfully.")),
        ("Failed", Some("The pod failed.")),
    ] {
        let pod = object(json!({"status": {"phase": phase}}));
        let made = table(&kind("v1/pods"), vec![pod], json!({}), LAYOUT, now());
        let row = &made["rows"][0];
        assert_eq!(row["object"], Value::Null);
        let wanted = message.map(|message| {
            json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}])
        });
        assert_eq!(row.get("conditions").cloned(), wanted);
    }
}

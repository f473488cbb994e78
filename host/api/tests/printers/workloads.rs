//! What runs pods: apps, batch, templates and controllers.

use crate::{check, going, object};
use serde_json::{Value, json};

fn template() -> Value {
    json!({"metadata": {"labels": {"b": "2", "a": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}})
}

/// A selector of each sort of requirement.
fn selector() -> Value {
    json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [
        {"key": "c", "operator": "In", "values": ["z", "y"]}, {"key": "d", "operator": "In", "values": ["one"]},
        {"key": "e", "operator": "NotIn", "values": ["f"]}, {"key": "aa", "operator": "Exists"},
        {"key": "g", "operator": "DoesNotExist"}]})
}
const SELECTED: &str = "a=1,aa,b=2,c in (y,z),d in (one),e notin (f),!g";

#[test]
fn replicas() {
    check(
        "apps/v1/replicasets",
        vec![
            (
                object(
                    json!({"spec": {"replicas": 3, "selector": selector(), "template": template()},
                    "status": {"replicas": 2, "readyReplicas": 1}}),
                ),
                json!(["x", 3, 2, 1, "5d", "c,d", "i:1,j", SELECTED]),
            ),
            (
                object(json!({})),
                json!(["x", 0, 0, 0, "5d", "", "", "<none>"]),
            ),
            (
                object(
                    json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}}),
                ),
                json!(["x", 0, 0, 0, "5d", "", "", "<error>"]),
            ),
        ],
    );
    check(
        "v1/replicationcontrollers",
        vec![
            (
                object(
                    json!({"spec": {"replicas": 3, "selector": {"b": "2", "a": "1"}, "template": template()},
                    "status": {"replicas": 2, "readyReplicas": 1}}),
                ),
                json!(["x", 3, 2, 1, "5d", "c,d", "i:1,j", "a=1,b=2"]),
            ),
            (
                object(json!({})),
                json!(["x", 0, 0, 0, "5d", "", "", "<none>"]),
            ),
        ],
    );
}

#[test]
fn deployments() {
    check(
        "apps/v1/deployments",
        vec![
            (
                object(
                    json!({"spec": {"replicas": 5, "selector": selector(), "template": template()}, "status": {
                    "replicas": 6, "readyReplicas": 4, "updatedReplicas": 3, "availableReplicas": 2}}),
                ),
                json!(["x", "4/5", 3, 2, "5d", "c,d", "i:1,j", SELECTED]),
            ),
            (
                object(json!({})),
                json!(["x", "0/0", 0, 0, "5d", "", "", ""]),
            ),
            (
                object(
                    json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}}),
                ),
                json!(["x", "0/0", 0, 0, "5d", "", "", "<invalid>"]),
            ),
        ],
    );
}

#[test]
fn sets() {
    check(
        "apps/v1/statefulsets",
        vec![
            (
                object(
                    json!({"spec": {"replicas": 5, "template": template()}, "status": {"readyReplicas": 4}}),
                ),
                json!(["x", "4/5", "5d", "c,d", "i:1,j"]),
            ),
            (object(json!({})), json!(["x", "0/0", "5d", "", ""])),
        ],
    );
    let mut placed = template();
    placed["spec"]["nodeSelector"] = json!({"k": "v"});
    check(
        "apps/v1/daemonsets",
        vec![
            (
                object(
                    json!({"spec": {"selector": selector(), "template": placed}, "status": {
                    "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
                    "updatedNumberScheduled": 2, "numberAvailable": 1}}),
                ),
                json!(["x", 5, 4, 3, 2, 1, "k=v", "5d", "c,d", "i:1,j", SELECTED]),
            ),
            (
                object(json!({})),
                json!(["x", 0, 0, 0, 0, 0, "<none>", "5d", "", "", "<none>"]),
            ),
        ],
    );
    check(
        "apps/v1/controllerrevisions",
        vec![
            (
                object(json!({"revision": 7, "metadata": {"ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "p"},
                    {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}})),
                json!(["x", "daemonset.apps/d", 7, "5d"]),
            ),
            (
                object(json!({"revision": 1, "metadata": {"ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "p", "controller": true}]}})),
                json!(["x", "pod/p", 1, "5d"]),
            ),
            (object(json!({})), json!(["x", "<none>", 0, "5d"])),
        ],
    );
    check(
        "v1/podtemplates",
        vec![
            (
                object(json!({"template": template()})),
                json!(["x", "c,d", "i:1,j", "a=1,b=2"]),
            ),
            (object(json!({})), json!(["x", "", "", "<none>"])),
        ],
    );
}

#[test]
fn jobs() {
    let row = |status: &str, done: &str, took: &str| {
        json!(["x", status, done, took, "5d", "", "", "<none>"])
    };
    let in_state = |conditions: &[&str]| {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|c| json!({"type": c, "status": "True"}))
            .collect();
        json!({"status": {"conditions": conditions}})
    };
    let plain = |more: Value| object(more);
    check(
        "batch/v1/jobs",
        vec![
            (
                plain(
                    json!({"spec": {"completions": 5, "selector": selector(), "template": template()},
                    "status": {"succeeded": 2, "startTime": "2026-01-05T23:50:00Z"}}),
                ),
                json!(["x", "Running", "2/5", "10m", "5d", "c,d", "i:1,j", SELECTED]),
            ),
            (plain(json!({})), row("Running", "0/1", "")),
            (
                plain(json!({"spec": {"parallelism": 1}, "status": {"succeeded": 1}})),
                row("Running", "1/1", ""),
            ),
            (
                plain(json!({"spec": {"parallelism": 4}, "status": {"succeeded": 1}})),
                row("Running", "1/1 of 4", ""),
            ),
            (
                plain(
                    json!({"status": {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T01:10:00Z"}}),
                ),
                row("Running", "0/1", "70m"),
            ),
            (
                plain(in_state(&["SuccessCriteriaMet", "Complete"])),
                row("Complete", "0/1", ""),
            ),
            (
                plain(in_state(&["FailureTarget", "Failed"])),
                row("Failed", "0/1", ""),
            ),
            (plain(in_state(&["Suspended"])), row("Suspended", "0/1", "")),
            (
                plain(in_state(&["FailureTarget"])),
                row("FailureTarget", "0/1", ""),
            ),
            (
                plain(in_state(&["SuccessCriteriaMet"])),
                row("SuccessCriteriaMet", "0/1", ""),
            ),
            (
                plain(json!({"status": {"conditions": [{"type": "Complete", "status": "False"}]}})),
                row("Running", "0/1", ""),
            ),
            (
                going(in_state(&["Suspended"])),
                row("Terminating", "0/1", ""),
            ),
            (going(in_state(&["Complete"])), row("Complete", "0/1", "")),
            (going(in_state(&["Failed"])), row("Failed", "0/1", "")),
        ],
    );
}

#[test]
fn cron_jobs() {
    let job = json!({"spec": {"selector": selector(), "template": template()}});
    check(
        "batch/v1/cronjobs",
        vec![
            (
                object(
                    json!({"spec": {"schedule": "0 0 * * *", "timeZone": "Asia/Tokyo", "suspend": true, "jobTemplate": job},
                    "status": {"active": [{}, {}], "lastScheduleTime": "2026-01-05T21:00:00Z"}}),
                ),
                json!([
                    "x",
                    "0 0 * * *",
                    "Asia/Tokyo",
                    "True",
                    2,
                    "3h",
                    "5d",
                    "c,d",
                    "i:1,j",
                    SELECTED
                ]),
            ),
            (
                object(json!({"spec": {"schedule": "@daily", "suspend": false}})),
                json!([
                    "x", "@daily", "<none>", "False", 0, "<none>", "5d", "", "", "<none>"
                ]),
            ),
            (
                object(json!({})),
                json!([
                    "x", "", "<none>", "<unset>", 0, "<none>", "5d", "", "", "<none>"
                ]),
            ),
        ],
    );
}

#[test]
fn budgets() {
    check(
        "policy/v1/poddisruptionbudgets",
        vec![
            (
                object(json!({"spec": {"minAvailable": 2}, "status": {"disruptionsAllowed": 5}})),
                json!(["x", "2", "N/A", 5, "5d"]),
            ),
            (
                object(json!({"spec": {"maxUnavailable": "30%"}})),
                json!(["x", "N/A", "30%", 0, "5d"]),
            ),
            (object(json!({})), json!(["x", "N/A", "N/A", 0, "5d"])),
        ],
    );
}

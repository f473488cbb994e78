//! How `kubectl get pods` shows a pod: upstream's `printPod`.

use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", 0, "Containers that are ready, of all."),
    text("Status", 0, "Where the pod is in its life."),
    text("Restarts", 0, "How often its containers were restarted."),
    AGE,
    text("IP", 1, "The pod's address."),
    text("Node", 1, "Where it runs."),
    text("Nominated Node", 1, "Where it may run after preemption."),
    text("Readiness Gates", 1, "Conditions met, of those demanded."),
];

/// What the printer works out over the containers.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Cells {
    let s = summarize(pod);
    let restarts = match s.last_restart {
        Some(at) if s.restarts != 0 => format!(
            "{} ({} ago)",
            s.restarts,
            crate::time::human_duration(now.as_second() - at.as_second())
        ),
        _ => s.restarts.to_string(),
    };
    let ip = match meta::list(pod, &["status", "podIPs"]).first() {
        Some(first) => meta::text(first, &["ip"]),
        None => meta::text(pod, &["status", "podIP"]),
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", s.ready, s.total).into(),
        s.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip),
        or_none(meta::text(pod, &["spec", "nodeName"])),
        or_none(meta::text(pod, &["status", "nominatedNodeName"])),
        or_none(&gates(pod)),
    ]
}

fn gates(pod: &Value) -> String {
    let gates = meta::list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return String::new();
    }
    let met = gates
        .iter()
        .filter(|g| condition(pod, meta::text(g, &["conditionType"])) == Some("True"))
        .count();
    format!("{met}/{}", gates.len())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    meta::list(pod, &["status", "conditions"])
        .iter()
        .find(|c| meta::text(c, &["type"]) == kind)
        .map(|c| meta::text(c, &["status"]))
}

fn summarize(pod: &Value) -> Summary {
    let own = meta::text(pod, &["status", "reason"]);
    let mut s = Summary {
        reason: match own {
            "" => meta::text(pod, &["status", "phase"]).to_owned(),
            reason => reason.to_owned(),
        },
        total: meta::list(pod, &["spec", "containers"]).len(),
        ..Summary::default()
    };
    let gated = meta::list(pod, &["status", "conditions"]).iter().any(|c| {
        meta::text(c, &["type"]) == "PodScheduled"
            && meta::text(c, &["reason"]) == "SchedulingGated"
    });
    if gated {
        s.reason = "SchedulingGated".to_owned();
    }
    let sidecar_restarts = match init_containers(pod, &mut s) {
        Init::Running => None,
        Init::Done { restarts } => Some(restarts),
    };
    if let Some(restarts) = sidecar_restarts {
        s.restarts = restarts;
        main_containers(pod, &mut s);
    }
    if meta::is_deleting(pod) {
        if own == "NodeLost" {
            s.reason = "Unknown".to_owned();
        } else if !super::pod::is_terminal(pod) {
            s.reason = "Terminating".to_owned();
        }
    }
    s
}

enum Init {
    Running,
    Done { restarts: i64 },
}

/// Why a terminated container ended, with a prefix for init containers.
fn ended(terminated: &Value, prefix: &str) -> String {
    let reason = meta::text(terminated, &["reason"]);
    if !reason.is_empty() {
        return format!("{prefix}{reason}");
    }
    match meta::int(terminated, &["signal"]).unwrap_or(0) {
        0 => format!(
            "{prefix}ExitCode:{}",
            meta::int(terminated, &["exitCode"]).unwrap_or(0)
        ),
        signal => format!("{prefix}Signal:{signal}"),
    }
}

fn note_restarts(status: &Value, s: &mut Summary) -> i64 {
    let restarts = meta::int(status, &["restartCount"]).unwrap_or(0);
    let at = meta::text(status, &["lastState", "terminated", "finishedAt"]);
    s.last_restart = s.last_restart.max(crate::time::parse(at));
    restarts
}

fn init_containers(pod: &Value, s: &mut Summary) -> Init {
    let specs = meta::list(pod, &["spec", "initContainers"]);
    let restartable = |name: &str| {
        specs.iter().any(|c| {
            meta::text(c, &["name"]) == name && meta::text(c, &["restartPolicy"]) == "Always"
        })
    };
    s.total += specs
        .iter()
        .filter(|c| meta::text(c, &["restartPolicy"]) == "Always")
        .count();
    let mut sidecar_restarts = 0;
    for (i, status) in meta::list(pod, &["status", "initContainerStatuses"])
        .iter()
        .enumerate()
    {
        let restarts = note_restarts(status, s);
        s.restarts += restarts;
        let sidecar = restartable(meta::text(status, &["name"]));
        if sidecar {
            sidecar_restarts += restarts;
        }
        let state = &status["state"];
        if let Some(terminated) = state.get("terminated") {
            if meta::int(terminated, &["exitCode"]) == Some(0) {
                continue;
            }
            s.reason = ended(terminated, "Init:");
        } else if sidecar && meta::flag(status, &["started"]) {
            s.ready += usize::from(meta::flag(status, &["ready"]));
            continue;
        } else {
            let waiting = meta::text(state, &["waiting", "reason"]);
            s.reason = match waiting {
                "" | "PodInitializing" => format!("Init:{i}/{}", specs.len()),
                reason => format!("Init:{reason}"),
            };
        }
        if condition(pod, "Initialized") != Some("True") {
            return Init::Running;
        }
        break;
    }
    Init::Done {
        restarts: sidecar_restarts,
    }
}

fn main_containers(pod: &Value, s: &mut Summary) {
    let mut running = false;
    for status in meta::list(pod, &["status", "containerStatuses"])
        .iter()
        .rev()
    {
        s.restarts += note_restarts(status, s);
        let state = &status["state"];
        let waiting = meta::text(state, &["waiting", "reason"]);
        if !waiting.is_empty() {
            s.reason = waiting.to_owned();
        } else if let Some(terminated) = state.get("terminated") {
            s.reason = ended(terminated, "");
        } else if state.get("running").is_some() && meta::flag(status, &["ready"]) {
            running = true;
            s.ready += 1;
        }
    }
    if s.reason == "Completed" && running {
        s.reason = match condition(pod, "Ready") {
            Some("True") => "Running",
            _ => "NotReady",
        }
        .to_owned();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_print_as_upstream_prints_them() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let running =
            json!({"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let waiting =
            |r: &str| json!({"name": "a", "restartCount": 0, "state": {"waiting": {"reason": r}}});
        let restarted = json!({"name": "a", "ready": true, "restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}});
        let done = json!({"name": "a", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        for (status, ready, reason, restarts) in [
            (json!({"phase": "Pending"}), "0/1", "Pending", "0"),
            (
                json!({"phase": "Running", "containerStatuses": [running]}),
                "1/1",
                "Running",
                "0",
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}),
                "0/1",
                "ContainerCreating",
                "0",
            ),
            (
                json!({"phase": "Running", "containerStatuses": [restarted]}),
                "1/1",
                "Running",
                "3 (5m ago)",
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [done]}),
                "0/1",
                "Completed",
                "0",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 2}}}]}),
                "0/1",
                "ExitCode:2",
                "0",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                "0/1",
                "Init:0/0",
                "0",
            ),
        ] {
            let pod =
                json!({"metadata": {"name": "p"}, "spec": {"containers": [{}]}, "status": status});
            let got = cells(&pod, now);
            assert_eq!(got[1..4], [json!(ready), json!(reason), json!(restarts)]);
        }
        let going = json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{}]}, "status": {"phase": "Running"}});
        assert_eq!(cells(&going, now)[2], "Terminating");
    }
}

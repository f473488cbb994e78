//! How `kubectl get pods` shows a pod: upstream's `printPod`.

use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use jiff::Timestamp;
use serde_json::{Value, json};

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

/// How often containers were restarted, and when last.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += meta::int(status, &["restartCount"]).unwrap_or(0);
        let at = meta::text(status, &["lastState", "terminated", "finishedAt"]);
        self.last = self.last.max(crate::time::parse(at));
    }

    fn shown(self, now: Timestamp) -> String {
        match self.last {
            Some(at) if self.count != 0 => {
                let ago = crate::time::human_duration(now.duration_since(at).as_secs());
                format!("{} ({ago} ago)", self.count)
            }
            _ => self.count.to_string(),
        }
    }
}

/// What the printer works out over the containers.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

/// That a pod is done is said beside its cells.
pub(super) fn conditions(pod: &Value) -> Option<Value> {
    let phase = meta::text(pod, &["status", "phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!([{
        "type": "Completed", "status": "True", "reason": phase, "message": message,
    }]))
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Cells {
    let s = summarize(pod);
    let ip = match meta::list(pod, &["status", "podIPs"]).first() {
        Some(first) => meta::text(first, &["ip"]),
        None => meta::text(pod, &["status", "podIP"]),
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", s.ready, s.total).into(),
        s.reason.into(),
        s.restarts.shown(now).into(),
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
    if let Some(of_sidecars) = init_containers(pod, &mut s) {
        s.restarts = of_sidecars;
        main_containers(pod, &mut s);
    }
    if condition(pod, "AllContainersRestarting") == Some("True") {
        s.reason = "RestartingAllContainers".to_owned();
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

fn exit_code(terminated: &Value) -> i64 {
    meta::int(terminated, &["exitCode"]).unwrap_or(0)
}

/// The restarts of sidecars; nothing while it still initializes.
fn init_containers(pod: &Value, s: &mut Summary) -> Option<Restarts> {
    let specs = meta::list(pod, &["spec", "initContainers"]);
    let restartable = |c: &&Value| meta::text(c, &["restartPolicy"]) == "Always";
    s.total += specs.iter().filter(restartable).count();
    let mut of_sidecars = Restarts::default();
    let statuses = meta::list(pod, &["status", "initContainerStatuses"]);
    for (i, status) in statuses.iter().enumerate() {
        s.restarts.add(status);
        let name = meta::text(status, &["name"]);
        let spec = specs.iter().rfind(|c| meta::text(c, &["name"]) == name);
        let sidecar = spec.as_ref().is_some_and(restartable);
        if sidecar {
            of_sidecars.add(status);
        }
        let terminated = meta::at(status, &["state", "terminated"]);
        if terminated.is_some_and(|t| exit_code(t) == 0) {
            continue;
        }
        if sidecar && meta::flag(status, &["started"]) {
            s.ready += usize::from(meta::flag(status, &["ready"]));
            continue;
        }
        s.reason = match (
            terminated,
            meta::text(status, &["state", "waiting", "reason"]),
        ) {
            (Some(terminated), _) => ended(terminated, "Init:"),
            (None, "" | "PodInitializing") => format!("Init:{i}/{}", specs.len()),
            (None, reason) => format!("Init:{reason}"),
        };
        if condition(pod, "Initialized") != Some("True") {
            return None;
        }
        break;
    }
    Some(of_sidecars)
}

fn main_containers(pod: &Value, s: &mut Summary) {
    let mut running = false;
    let mut failure = None;
    let statuses = meta::list(pod, &["status", "containerStatuses"]);
    for status in statuses.iter().rev() {
        s.restarts.add(status);
        let state = &status["state"];
        let waiting = meta::text(state, &["waiting", "reason"]);
        if !waiting.is_empty() {
            s.reason = waiting.to_owned();
        } else if let Some(terminated) = state.get("terminated") {
            s.reason = ended(terminated, "");
            if exit_code(terminated) != 0 {
                failure = Some(s.reason.clone());
            }
        } else if state.get("running").is_some() && meta::flag(status, &["ready"]) {
            running = true;
            s.ready += 1;
        }
    }
    if s.reason == "Completed" {
        s.reason = match (running, condition(pod, "Ready"), failure) {
            (true, Some("True"), _) => "Running".to_owned(),
            (_, _, Some(failure)) => failure,
            (true, _, None) => "NotReady".to_owned(),
            (false, _, None) => return,
        };
    }
}

//! Which node a pod goes to, or upstream's message for why to none; and the
//! writes that say so.

use super::fit::{Place, Refusal};
use super::requests::{host_ports, of_pod};
use crate::recorder::{Report, Reporter};
use api::time::rfc3339;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use reconcile::resource::core::PODS;
use reconcile::{Patch, Target, Write};
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Bind(String),
    Unschedulable(String),
}

pub(crate) const SCHEDULER: &str = "default-scheduler";

pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// A pod that this scheduler has to find a node for.
pub(crate) fn is_waiting(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.scheduler_name.as_deref().unwrap_or(SCHEDULER) == SCHEDULER
        && node_of(pod).is_none()
        && pod.metadata.deletion_timestamp.is_none()
        && spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
        && !is_over(pod)
}

/// All nodes with what the pods on them use; `assumed` are pods that were just
/// bound to a node and don't show it yet.
pub(crate) fn places<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    pods: impl Iterator<Item = (&'a Pod, Option<&'a str>)>,
) -> Vec<Place<'a>> {
    let named = nodes.map(|node| {
        let place = Place::new(node);
        (place.name().to_owned(), place)
    });
    let mut places: BTreeMap<String, Place<'a>> = named.collect();
    for (pod, assumed) in pods {
        let Some(node) = node_of(pod).or(assumed) else {
            continue;
        };
        let Some(place) = places.get_mut(node) else {
            continue;
        };
        if !is_over(pod) {
            place.used.add(&of_pod(pod));
            place.pods += 1;
            place.ports.extend(host_ports(pod));
        }
    }
    places.into_values().collect()
}

pub(crate) fn decide(pod: &Pod, places: &[Place<'_>]) -> Decision {
    let requests = of_pod(pod);
    let mut refusals = Vec::new();
    let mut best: Option<(i128, &Place<'_>)> = None;
    for place in places {
        match place.refuses(pod, &requests) {
            Some(refusal) => refusals.push(refusal),
            None => {
                let score = place.score(&requests);
                if best.is_none_or(|(most, _)| score > most) {
                    best = Some((score, place));
                }
            }
        }
    }
    match best {
        Some((_, place)) => Decision::Bind(place.name().to_owned()),
        None => Decision::Unschedulable(message(&refusals)),
    }
}

/// As upstream's FitError and its default preemption say it.
fn message(refusals: &[Refusal]) -> String {
    if refusals.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let total = refusals.len();
    let reasons = histogram(refusals.iter().flat_map(|r| r.reasons.iter().map(|r| &**r)));
    let preemption = histogram(refusals.iter().map(|r| match r.preemption_helps {
        true => "No preemption victims found for incoming pod",
        false => "Preemption is not helpful for scheduling",
    }));
    format!(
        "0/{total} nodes are available: {reasons}. \
         preemption: 0/{total} nodes are available: {preemption}."
    )
}

fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut lines: Vec<_> = counts
        .iter()
        .map(|(reason, n)| format!("{n} {reason}"))
        .collect();
    lines.sort();
    lines.join(", ")
}

fn scheduled_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "PodScheduled")
}

/// The condition of a pod that fits nowhere, unless it stands there already.
fn unschedulable(pod: &Pod, message: &String, now: Timestamp) -> Option<Patch> {
    let before = scheduled_condition(pod).filter(|c| c.status == "False");
    if before.is_some_and(|c| c.message.as_ref() == Some(message)) {
        return None;
    }
    let since = before.and_then(|c| c.last_transition_time.as_ref());
    let condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": rfc3339(since.map_or(now, |time| time.0)),
    });
    Some(Patch::Strategic(
        json!({"status": {"conditions": [condition]}}),
    ))
}

/// What a decision writes. A pod that is refused for the same reason as before
/// is left alone.
pub(crate) fn plan(
    pod: &Pod,
    decision: &Decision,
    reporter: &Reporter,
    now: Timestamp,
) -> Vec<Write> {
    let meta = &pod.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let namespace = meta.namespace.clone().unwrap_or_default();
    let target = Target {
        resource: PODS,
        namespace: Some(namespace.clone()),
        name: name.clone(),
    };
    let report = |warning, reason, action, message: &str| {
        let report = Report {
            api_version: "v1",
            kind: "Pod",
            object: meta,
            warning,
            reason,
            action,
            message,
        };
        reporter.event(&report, now)
    };
    match decision {
        Decision::Bind(node) => {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name, "namespace": namespace, "uid": meta.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let message = format!("Successfully assigned {namespace}/{name} to {node}");
            vec![
                Write::CreateSubresource {
                    target,
                    subresource: "binding",
                    object,
                },
                report(false, "Scheduled", "Binding", &message),
            ]
        }
        Decision::Unschedulable(message) => {
            let Some(patch) = unschedulable(pod, message, now) else {
                return Vec::new();
            };
            vec![
                report(true, "FailedScheduling", "Scheduling", message),
                Write::Patch {
                    target,
                    subresource: Some("status"),
                    patch,
                },
            ]
        }
    }
}

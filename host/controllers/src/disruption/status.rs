//! What a budget's status says, from its pods and the scale of what controls
//! them. Pure; numbers and words are upstream's
//! (`pkg/controller/disruption/disruption.go`, `component-helpers`' conditions).

use api::custom::definition::conditions;
use api::time::rfc3339;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long a pod whose eviction was granted may take until its deletion is
/// seen (upstream's `DeletionTimeout`).
const DELETION: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// How a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// What controls the pods says how many there should be.
    Scale,
    /// The pods that are there.
    Pods,
    /// It demands nothing.
    Nothing,
}

pub(super) fn base(spec: &Value) -> Base {
    match (spec.get("maxUnavailable"), spec.get("minAvailable")) {
        (Some(_), _) | (None, Some(Value::String(_))) => Base::Scale,
        (None, Some(_)) => Base::Pods,
        (None, None) => Base::Nothing,
    }
}

/// A share of `total`: a number, or a percentage, rounded up.
fn share(of: &Value, total: i64) -> Result<i64, String> {
    if let Some(number) = of.as_i64() {
        return Ok(number);
    }
    let percent = of.as_str().and_then(|t| t.strip_suffix('%'));
    let percent: Option<i64> = percent.and_then(|p| p.parse().ok());
    let percent =
        percent.ok_or("invalid value for IntOrString: invalid type: string is not a percentage")?;
    let part = i128::from(total) * i128::from(percent);
    let part = part.div_euclid(100) + i128::from(part.rem_euclid(100) > 0);
    i64::try_from(part).map_err(|e| e.to_string())
}

/// How many pods have to be healthy, of so many that are expected.
pub(super) fn desired(spec: &Value, expected: i64) -> Result<i64, String> {
    if let Some(most) = spec.get("maxUnavailable") {
        return Ok((expected - share(most, expected)?).max(0));
    }
    spec.get("minAvailable")
        .map_or(Ok(0), |least| share(least, expected))
}

/// The pods that were granted to go and haven't begun to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Disrupted {
    pub(super) pods: BTreeMap<String, Timestamp>,
    /// Those that should have by now.
    pub(super) overdue: Vec<String>,
    /// When the next one is overdue.
    pub(super) next: Option<Timestamp>,
}

fn times(budget: &Value) -> BTreeMap<String, Timestamp> {
    let pods = budget["status"]["disruptedPods"].as_object();
    let time = |(pod, time): (&String, &Value)| Some((pod.clone(), time.as_str()?.parse().ok()?));
    pods.into_iter().flatten().filter_map(time).collect()
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn disrupted(budget: &Value, pods: &[&Pod], now: Timestamp) -> Disrupted {
    let times = times(budget);
    let mut out = Disrupted::default();
    for pod in pods
        .iter()
        .filter(|p| p.metadata.deletion_timestamp.is_none())
    {
        let Some(time) = times.get(name(pod)) else {
            continue;
        };
        let due = time.saturating_add(DELETION).unwrap_or(Timestamp::MAX);
        if due < now {
            out.overdue.push(name(pod).to_owned());
            continue;
        }
        out.next = Some(out.next.map_or(due, |next| next.min(due)));
        out.pods.insert(name(pod).to_owned(), *time);
    }
    out
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Pods that are ready and to stay.
pub(super) fn healthy(pods: &[&Pod], disrupted: &Disrupted) -> i64 {
    let stays = |pod: &&&Pod| {
        pod.metadata.deletion_timestamp.is_none() && !disrupted.pods.contains_key(name(pod))
    };
    let healthy = pods.iter().filter(stays).filter(|pod| is_ready(pod));
    i64::try_from(healthy.count()).unwrap_or(i64::MAX)
}

/// What a look at a budget found.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) expected: i64,
    pub(super) desired: i64,
    pub(super) healthy: i64,
}

/// The budget with its new status, if that is another one.
pub(super) fn update(
    budget: &Value,
    found: &Found,
    disrupted: &Disrupted,
    now: Timestamp,
) -> Option<Value> {
    let allowed = match found.healthy - found.desired {
        allowed if allowed > 0 && found.expected > 0 => allowed,
        _ => 0,
    };
    let generation = &budget["metadata"]["generation"];
    let mut status = json!({
        "currentHealthy": found.healthy, "desiredHealthy": found.desired,
        "disruptionsAllowed": allowed, "expectedPods": found.expected,
        "observedGeneration": generation,
    });
    let old = &budget["status"];
    if !disrupted.pods.is_empty() {
        let pods = disrupted.pods.iter();
        let pods = pods.map(|(pod, time)| (pod.clone(), rfc3339(*time).into()));
        status["disruptedPods"] = Value::Object(pods.collect());
    }
    if let Some(conditions) = old.get("conditions") {
        status["conditions"] = conditions.clone();
    }
    let (state, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    condition(&mut status, state, reason, "", generation, now);
    changed(budget, status)
}

/// The budget after a look at it failed: it allows nothing, and says why.
pub(super) fn failed(budget: &Value, why: &str, now: Timestamp) -> Option<Value> {
    let mut status = budget["status"].clone();
    status["disruptionsAllowed"] = 0.into();
    let observed = budget["status"]["observedGeneration"].clone();
    condition(&mut status, "False", "SyncFailed", why, &observed, now);
    changed(budget, status)
}

fn condition(
    status: &mut Value,
    state: &str,
    reason: &str,
    message: &str,
    generation: &Value,
    now: Timestamp,
) {
    conditions::set(status, ALLOWED, state, reason, message, now);
    let all = status["conditions"].as_array_mut().into_iter().flatten();
    for one in all.filter(|c| c["type"] == ALLOWED) {
        match generation.as_i64() {
            Some(n) if n != 0 => one["observedGeneration"] = n.into(),
            _ => {}
        }
    }
}

fn changed(budget: &Value, status: Value) -> Option<Value> {
    if budget["status"] == status {
        return None;
    }
    let mut out = budget.clone();
    out["status"] = status;
    Some(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn pod(name: &str, ready: bool, going: bool) -> Pod {
        let mut pod = json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        if going {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn shares_are_numbers_or_percentages_rounded_up() {
        for (spec, expected, wanted) in [
            (json!({"maxUnavailable": 1}), 3, Ok(2)),
            (json!({"maxUnavailable": 5}), 3, Ok(0)),
            (json!({"maxUnavailable": "30%"}), 10, Ok(7)),
            (json!({"maxUnavailable": "30%"}), 9, Ok(6)),
            (json!({"minAvailable": 4}), 3, Ok(4)),
            (json!({"minAvailable": "50%"}), 3, Ok(2)),
            (json!({"minAvailable": "0%"}), 3, Ok(0)),
            (json!({"minAvailable": "100%"}), 7, Ok(7)),
            (json!({}), 7, Ok(0)),
            (json!({"minAvailable": "half"}), 7, Err(())),
        ] {
            assert_eq!(
                desired(&spec, expected).map_err(drop),
                wanted,
                "{spec} {expected}"
            );
        }
        for (spec, wanted) in [
            (json!({"maxUnavailable": 1}), Base::Scale),
            (json!({"minAvailable": "10%"}), Base::Scale),
            (json!({"minAvailable": 1}), Base::Pods),
            (json!({}), Base::Nothing),
        ] {
            assert_eq!(base(&spec), wanted, "{spec}");
        }
    }

    #[test]
    fn who_was_granted_to_go_counts_until_it_is_overdue() {
        let all = [
            pod("a", true, false),
            pod("b", true, false),
            pod("c", true, true),
            pod("d", false, false),
        ];
        let pods: Vec<&Pod> = all.iter().collect();
        let budget = json!({"metadata": {"generation": 2}, "status": {"disruptedPods": {
            "a": "2026-01-01T00:00:00Z", "b": "2026-01-01T00:01:00Z",
            "c": "2026-01-01T00:01:00Z", "gone": "2026-01-01T00:01:00Z",
        }}});
        for (now, going, overdue, well, next) in [
            (
                "2026-01-01T00:01:30Z",
                vec!["a", "b"],
                vec![],
                0,
                Some("2026-01-01T00:02:00Z"),
            ),
            (
                "2026-01-01T00:02:00Z",
                vec!["a", "b"],
                vec![],
                0,
                Some("2026-01-01T00:02:00Z"),
            ),
            (
                "2026-01-01T00:02:01Z",
                vec!["b"],
                vec!["a"],
                1,
                Some("2026-01-01T00:03:00Z"),
            ),
            ("2026-01-01T00:04:00Z", vec![], vec!["a", "b"], 2, None),
        ] {
            let found = disrupted(&budget, &pods, now.parse().unwrap());
            assert_eq!(found.pods.keys().collect::<Vec<_>>(), going, "{now}");
            assert_eq!(found.overdue, overdue, "{now}");
            assert_eq!(found.next, next.map(|t| t.parse().unwrap()), "{now}");
            assert_eq!(healthy(&pods, &found), well, "{now}");
        }
    }

    #[test]
    fn a_status_is_written_once() {
        let now = "2026-01-01T00:01:30Z".parse().unwrap();
        let budget = json!({"metadata": {"generation": 3}, "status": {"disruptionsAllowed": 0}});
        let found = Found {
            expected: 3,
            desired: 2,
            healthy: 3,
        };
        let new = update(&budget, &found, &Disrupted::default(), now).unwrap();
        let status = &new["status"];
        assert_eq!(status["disruptionsAllowed"], 1);
        assert_eq!(
            status["conditions"],
            json!([{
                "type": ALLOWED, "status": "True", "reason": "SufficientPods", "message": "",
                "lastTransitionTime": "2026-01-01T00:01:30Z", "observedGeneration": 3,
            }])
        );
        assert_eq!(update(&new, &found, &Disrupted::default(), now), None);
        // None expected: none may go, whoever is there.
        let none = Found {
            expected: 0,
            ..found
        };
        let none = update(&new, &none, &Disrupted::default(), now).unwrap();
        assert_eq!(none["status"]["disruptionsAllowed"], 0);
        let failed_ = failed(&new, "no such thing", now).unwrap();
        assert_eq!(failed_["status"]["disruptionsAllowed"], 0);
        assert_eq!(failed_["status"]["currentHealthy"], 3);
        assert_eq!(failed_["status"]["conditions"][0]["reason"], "SyncFailed");
        assert_eq!(
            failed_["status"]["conditions"][0]["message"],
            "no such thing"
        );
        assert_eq!(failed(&failed_, "no such thing", now), None);
    }
}

//! LimitRanger: LimitRanges give containers their default requests and limits,
//! and bound what containers, pods and claims ask for. Pure but for the
//! LimitRanges, which the caller brings.

use super::resources::{Amounts, amounts, of_pod};
use api::meta;
use api::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const CONTAINERS: &[&str] = &["initContainers", "containers"];

fn limits<'a>(ranges: &'a [Arc<Value>], of: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
    ranges
        .iter()
        .flat_map(|r| meta::list(r, &["spec", "limits"]))
        .filter(move |l| meta::text(l, &["type"]) == of)
}

/// Gives a new pod's containers what the LimitRanges default.
pub(crate) fn default(pod: &mut Value, ranges: &[Arc<Value>]) {
    let mut requests = Map::new();
    let mut maxima = Map::new();
    for limit in limits(ranges, "Container") {
        for (to, key) in [(&mut requests, "defaultRequest"), (&mut maxima, "default")] {
            for (name, value) in meta::members(limit, &[key]) {
                to.insert(name.clone(), value.clone());
            }
        }
    }
    let mut said = Vec::new();
    for part in CONTAINERS {
        let Some(list) = pod["spec"].get_mut(*part).and_then(Value::as_array_mut) else {
            continue;
        };
        let what = match *part {
            "initContainers" => "init container",
            _ => "container",
        };
        for container in list {
            for (kind, key, defaults) in [
                ("request", "requests", &requests),
                ("limit", "limits", &maxima),
            ] {
                let set = fill(container, key, defaults);
                if !set.is_empty() {
                    let name = meta::text(container, &["name"]);
                    said.push(format!("{} {kind} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let metadata = meta::ensure_metadata(pod);
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", said.join("; ")).into();
    }
}

/// The names that were set.
fn fill(container: &mut Value, key: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    for (name, value) in defaults {
        if meta::at(container, &["resources", key, name]).is_none() {
            let resources = meta::ensure(container, "resources");
            let of = resources.entry(key).or_insert_with(|| json!({}));
            of[name.as_str()] = value.clone();
            set.push(name.clone());
        }
    }
    set.sort();
    set
}

/// What of a pod breaks the LimitRanges, in upstream's words.
pub(crate) fn check_pod(pod: &Value, ranges: &[Arc<Value>]) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in limits(ranges, "Container") {
        for container in CONTAINERS
            .iter()
            .flat_map(|p| meta::list(pod, &["spec", p]))
        {
            let requests = amounts(container, &["resources", "requests"]);
            let maxima = amounts(container, &["resources", "limits"]);
            check(limit, "Container", &requests, &maxima, &mut errors);
        }
    }
    for limit in limits(ranges, "Pod") {
        let (requests, maxima) = (of_pod(pod, "requests"), of_pod(pod, "limits"));
        check(limit, "Pod", &requests, &maxima, &mut errors);
    }
    errors
}

fn check(limit: &Value, of: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, bound) in amounts(limit, &["min"]) {
        let head = format!("minimum {name} usage per {of} is {bound}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => errors.push(format!("{head}.  No request is specified")),
            (Some(r), _) if *r < bound => errors.push(format!("{head}, but request is {r}")),
            (_, Some(l)) if *l < bound => errors.push(format!("{head}, but limit is {l}")),
            _ => {}
        }
    }
    for (name, bound) in amounts(limit, &["max"]) {
        let head = format!("maximum {name} usage per {of} is {bound}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => errors.push(format!("{head}.  No limit is specified")),
            (_, Some(l)) if *l > bound => errors.push(format!("{head}, but limit is {l}")),
            (Some(r), _) if *r > bound => errors.push(format!("{head}, but request is {r}")),
            _ => {}
        }
    }
    for (name, bound) in amounts(limit, &["maxLimitRequestRatio"]) {
        let head = format!("{name} max limit to request ratio per {of} is {bound}");
        let positive = |amounts: &Amounts| {
            amounts
                .get(&name)
                .copied()
                .filter(|a| *a > Quantity::count(0))
        };
        match (positive(requests), positive(limits)) {
            (None, _) => errors.push(format!(
                "{head}, but no request is specified or request is 0"
            )),
            (_, None) => errors.push(format!("{head}, but no limit is specified or limit is 0")),
            (Some(r), Some(l)) => {
                let ratio = l.ratio(r);
                if ratio > bound.ratio(Quantity::count(1)) {
                    errors.push(format!("{head}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

/// What of a claim breaks the LimitRanges.
pub(crate) fn check_claim(claim: &Value, ranges: &[Arc<Value>]) -> Vec<String> {
    let requests = amounts(claim, &["spec", "resources", "requests"]);
    let mut errors = Vec::new();
    for limit in limits(ranges, "PersistentVolumeClaim") {
        for (name, bound) in amounts(limit, &["min"]) {
            if let Some(r) = requests.get(&name).filter(|r| **r < bound) {
                errors.push(format!(
                    "minimum {name} usage per PersistentVolumeClaim is {bound}, but request is {r}"
                ));
            }
        }
        for (name, bound) in amounts(limit, &["max"]) {
            if let Some(r) = requests.get(&name).filter(|r| **r > bound) {
                errors.push(format!(
                    "maximum {name} usage per PersistentVolumeClaim is {bound}, but request is {r}"
                ));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Vec<Arc<Value>> {
        vec![Arc::new(json!({"spec": {"limits": [
            {"type": "Container",
             "min": {"cpu": "50m"}, "max": {"cpu": "500m", "memory": "500Mi"},
             "default": {"cpu": "500m", "memory": "500Mi"},
             "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
             "maxLimitRequestRatio": {"memory": "4"}},
            {"type": "Pod", "max": {"cpu": "600m"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
        ]}}))]
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn containers_get_what_they_do_not_say() {
        let mut pod = pod(json!({"requests": {"cpu": "300m"}}));
        default(&mut pod, &ranges());
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "300m", "memory": "200Mi"},
                "limits": {"cpu": "500m", "memory": "500Mi"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"
        );
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let both = |cpu: &str, limit: &str| json!({"requests": {"cpu": cpu, "memory": "200Mi"}, "limits": {"cpu": limit, "memory": "500Mi"}});
        for (resources, wanted) in [
            (both("100m", "500m"), &[][..]),
            (
                both("10m", "500m"),
                &["minimum cpu usage per Container is 50m, but request is 10m"],
            ),
            (
                both("100m", "600m"),
                &["maximum cpu usage per Container is 500m, but limit is 600m"],
            ),
            (
                both("100m", "700m"),
                &[
                    "maximum cpu usage per Container is 500m, but limit is 700m",
                    "maximum cpu usage per Pod is 600m, but limit is 700m",
                ],
            ),
            (
                json!({"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "500m", "memory": "500Mi"}}),
                &[
                    "memory max limit to request ratio per Container is 4, but provided ratio is 5.000000",
                ],
            ),
        ] {
            assert_eq!(check_pod(&pod(resources), &ranges()), wanted);
        }
        let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        assert_eq!(
            check_claim(&claim, &ranges()),
            ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]
        );
    }
}

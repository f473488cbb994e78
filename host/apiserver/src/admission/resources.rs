//! Sums of quantities by resource name, and what a pod asks for.

use api::meta;
use api::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// The amounts at `path`; what is no quantity is left out.
pub(crate) fn amounts(object: &Value, path: &[&str]) -> Amounts {
    meta::members(object, path)
        .filter_map(|(name, value)| Some((name.clone(), quantity(value)?)))
        .collect()
}

pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    }
}

pub(crate) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

pub(crate) fn larger(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|have| have < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// `a - b`, nothing below zero; what is zero stays out.
pub(crate) fn beyond(a: &Amounts, b: &Amounts) -> Amounts {
    let zero = Quantity::count(0);
    a.iter()
        .map(|(name, amount)| {
            let less = b.get(name).copied().unwrap_or(zero);
            (name.clone(), amount.minus(less))
        })
        .filter(|(_, amount)| *amount > zero)
        .collect()
}

/// What a pod needs of `part` ("requests", "limits"): its containers and
/// restartable init containers together, or the largest other init container
/// with those started before it, and the overhead (KEP-753).
pub(crate) fn of_pod(pod: &Value, part: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut running = Amounts::new();
    let mut starting = Amounts::new();
    for container in meta::list(spec, &["initContainers"]) {
        let own = amounts(container, &["resources", part]);
        if meta::text(container, &["restartPolicy"]) == "Always" {
            add(&mut running, &own);
            larger(&mut starting, &running);
        } else {
            let mut together = running.clone();
            add(&mut together, &own);
            larger(&mut starting, &together);
        }
    }
    for container in meta::list(spec, &["containers"]) {
        add(&mut running, &amounts(container, &["resources", part]));
    }
    larger(&mut running, &starting);
    let overhead = amounts(spec, &["overhead"]);
    if part == "requests" {
        add(&mut running, &overhead);
    } else {
        for (name, amount) in &overhead {
            if let Some(have) = running.get(name) {
                let sum = have.plus(*amount);
                running.insert(name.clone(), sum);
            }
        }
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_needs_the_most_of_its_phases() {
        let c = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let sidecar =
            |cpu: &str| json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (spec, cpu) in [
            (json!({"containers": [c("1"), c("500m")]}), "1500m"),
            (
                json!({"containers": [c("1")], "initContainers": [c("3"), c("2")]}),
                "3",
            ),
            (
                json!({"containers": [c("1")], "initContainers": [sidecar("1"), c("3")]}),
                "4",
            ),
            (
                json!({"containers": [c("3")], "initContainers": [sidecar("1"), c("1")]}),
                "4",
            ),
            (
                json!({"containers": [c("1")], "overhead": {"cpu": "1"}}),
                "2",
            ),
        ] {
            let found = of_pod(&json!({"spec": spec}), "requests");
            assert_eq!(
                found.get("cpu").map(Quantity::to_string).as_deref(),
                Some(cpu),
                "{spec}"
            );
        }
    }
}

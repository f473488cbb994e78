//! HorizontalPodAutoscaler as autoscaling/v1 shows it: a target for CPU in a
//! field of its own, everything that v1 has no field for in annotations.

use crate::meta;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// v1's older names for what v2 keeps in `target` and `current`, by metric
/// type: v1's name, v2's path.
type Names = &'static [(&'static str, &'static [&'static str])];

const RESOURCE: Names = &[
    (
        "targetAverageUtilization",
        &["target", "averageUtilization"],
    ),
    ("targetAverageValue", &["target", "averageValue"]),
    (
        "currentAverageUtilization",
        &["current", "averageUtilization"],
    ),
    ("currentAverageValue", &["current", "averageValue"]),
];
const PODS: Names = &[
    ("metricName", &["metric", "name"]),
    ("selector", &["metric", "selector"]),
    ("targetAverageValue", &["target", "averageValue"]),
    ("currentAverageValue", &["current", "averageValue"]),
];
const OBJECT: Names = &[
    ("metricName", &["metric", "name"]),
    ("selector", &["metric", "selector"]),
    ("targetValue", &["target", "value"]),
    ("averageValue", &["target", "averageValue"]),
    ("currentValue", &["current", "value"]),
];
const EXTERNAL: Names = &[
    ("metricName", &["metric", "name"]),
    ("metricSelector", &["metric", "selector"]),
    ("targetValue", &["target", "value"]),
    ("targetAverageValue", &["target", "averageValue"]),
    ("currentValue", &["current", "value"]),
    ("currentAverageValue", &["current", "averageValue"]),
];

fn names(kind: &str) -> (&'static str, Names) {
    match kind {
        "Pods" => ("pods", PODS),
        "Object" => ("object", OBJECT),
        "External" => ("external", EXTERNAL),
        "ContainerResource" => ("containerResource", RESOURCE),
        _ => ("resource", RESOURCE),
    }
}

fn put(target: &mut Value, path: &[&str], value: Value) {
    if let [last] = path {
        target[*last] = value;
    } else if let [first, rest @ ..] = path {
        if !target.get(*first).is_some_and(Value::is_object) {
            target[*first] = json!({});
        }
        put(&mut target[*first], rest, value);
    }
}

/// One metric in v1's form.
fn to_old(metric: &Value) -> Value {
    let kind = meta::text(metric, &["type"]);
    let (part, table) = names(kind);
    let mut old = json!({});
    for (key, value) in meta::members(metric, &[part]) {
        match (kind, key.as_str()) {
            (_, "metric" | "target" | "current") => {}
            ("Object", "describedObject") => old["target"] = value.clone(),
            _ => old[key] = value.clone(),
        }
    }
    for (name, path) in table {
        let source = metric.get(part).and_then(|m| meta::at(m, path));
        if let Some(value) = source {
            old[*name] = value.clone();
        }
    }
    json!({"type": kind, part: old})
}

/// One metric in v2's form.
fn to_new(metric: &Value) -> Value {
    let kind = meta::text(metric, &["type"]);
    let (part, table) = names(kind);
    let mut new = json!({});
    for (key, value) in meta::members(metric, &[part]) {
        match table.iter().find(|(name, _)| name == key) {
            Some((_, path)) => put(&mut new, path, value.clone()),
            None if kind == "Object" && key == "target" => new["describedObject"] = value.clone(),
            None => new[key] = value.clone(),
        }
    }
    let form = ["averageUtilization", "averageValue", "value"]
        .iter()
        .find(|k| meta::at(&new, &["target", k]).is_some());
    if let Some(form) = form {
        new["target"]["type"] = match *form {
            "averageUtilization" => "Utilization",
            "averageValue" => "AverageValue",
            _ => "Value",
        }
        .into();
    }
    json!({"type": kind, part: new})
}

fn is_cpu(metric: &Value) -> bool {
    meta::text(metric, &["type"]) == "Resource"
        && meta::text(metric, &["resource", "name"]) == "cpu"
}

fn annotations(object: &mut Value) -> &mut Map<String, Value> {
    meta::ensure_metadata(object)
        .entry("annotations")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .expect("an annotation map that decoding has checked")
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    annotations(object).insert(key.to_owned(), value.to_string().into());
}

/// The annotation's JSON; what isn't JSON reads as absent.
fn take(object: &mut Value, key: &str) -> Option<Value> {
    meta::at(object, &["metadata", "annotations", key])?;
    let text = annotations(object).shift_remove(key)?;
    if annotations(object).is_empty() {
        meta::ensure_metadata(object).shift_remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn remove(object: &mut Value, part: &str, key: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.shift_remove(key)
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

pub(super) fn to_v2(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v2".into();
    let mut metrics: Vec<Value> = Vec::new();
    if let Some(share) = remove(object, "spec", "targetCPUUtilizationPercentage") {
        metrics.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": share}}}));
    }
    metrics.extend(list(take(object, METRICS)).iter().map(to_new));
    if !metrics.is_empty() {
        meta::ensure(object, "spec").insert("metrics".to_owned(), metrics.into());
    }
    if let Some(behavior) = take(object, BEHAVIOR).filter(Value::is_object) {
        meta::ensure(object, "spec").insert("behavior".to_owned(), behavior);
    }
    let mut current: Vec<Value> = Vec::new();
    if let Some(share) = remove(object, "status", "currentCPUUtilizationPercentage") {
        current.push(json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": share, "averageValue": "0"}}}));
    }
    current.extend(list(take(object, CURRENT)).iter().map(to_new));
    let conditions = list(take(object, CONDITIONS));
    for (key, items) in [("currentMetrics", current), ("conditions", conditions)] {
        if !items.is_empty() {
            meta::ensure(object, "status").insert(key.to_owned(), items.into());
        }
    }
}

pub(super) fn from_v2(object: &mut Value) {
    object["apiVersion"] = "autoscaling/v1".into();
    let mut rest = Vec::new();
    let mut share = None;
    for metric in list(remove(object, "spec", "metrics")) {
        let of = meta::at(&metric, &["resource", "target", "averageUtilization"]).cloned();
        match of.filter(|_| is_cpu(&metric) && share.is_none()) {
            Some(found) => share = Some(found),
            None => rest.push(to_old(&metric)),
        }
    }
    if let Some(share) = share {
        let spec = meta::ensure(object, "spec");
        spec.insert("targetCPUUtilizationPercentage".to_owned(), share);
    }
    if !rest.is_empty() {
        annotate(object, METRICS, &rest.into());
    }
    if let Some(behavior) = remove(object, "spec", "behavior") {
        annotate(object, BEHAVIOR, &behavior);
    }
    let mut rest = Vec::new();
    let mut share = None;
    for metric in list(remove(object, "status", "currentMetrics")) {
        let of = meta::at(&metric, &["resource", "current", "averageUtilization"]).cloned();
        match of.filter(|_| is_cpu(&metric) && share.is_none()) {
            Some(found) => share = Some(found),
            None => rest.push(to_old(&metric)),
        }
    }
    let status = meta::ensure(object, "status");
    meta::default(status, "currentReplicas", 0);
    meta::default(status, "desiredReplicas", 0);
    if let Some(share) = share {
        status.insert("currentCPUUtilizationPercentage".to_owned(), share);
    }
    if !rest.is_empty() {
        annotate(object, CURRENT, &rest.into());
    }
    let conditions = list(remove(object, "status", "conditions"));
    if !conditions.is_empty() {
        annotate(object, CONDITIONS, &conditions.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_keeps_all_that_v2_says() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"},
            "spec": {"maxReplicas": 5, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "3"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "o"}, "target": {"type": "Value", "value": "7"}}}],
                "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        let mut view = v2.clone();
        from_v2(&mut view);
        assert_eq!(view["spec"]["targetCPUUtilizationPercentage"], 50);
        assert_eq!(view["spec"].get("metrics"), None);
        let old = view["metadata"]["annotations"][METRICS]
            .as_str()
            .unwrap_or_default();
        assert!(old.contains("\"targetAverageValue\":\"3\""), "{old}");
        assert!(old.contains("\"target\":{\"kind\":\"Service\""), "{old}");
        to_v2(&mut view);
        assert_eq!(view, v2);
        // Hostile annotations read as absent.
        let mut odd =
            json!({"metadata": {"annotations": {METRICS: "[1,", BEHAVIOR: "7"}}, "spec": {}});
        to_v2(&mut odd);
        assert_eq!(odd["spec"], json!({}));
    }
}

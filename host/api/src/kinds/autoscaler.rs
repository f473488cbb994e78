//! HorizontalPodAutoscaler: stored as autoscaling/v2; v1 is a view of it
//! (`autoscaler_v1`).

use super::{Kind, Subresource, autoscaler_v1, autoscaler_validate, workload};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub(super) static V2: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    type_name: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    storage: "autoscaling/horizontalpodautoscalers",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_autoscaler,
    validate: autoscaler_validate::validate,
    validate_status: |new, _, errors| autoscaler_validate::validate_status(new, errors),
    prepare_create: |object| {
        object["status"] = json!({"desiredReplicas": 0});
    },
    prepare_update: |new, old| meta::keep(new, old, "status"),
    ..Kind::BASE
};

/// Decides nothing by itself: everything goes by way of v2.
pub(super) static V1: Kind = Kind {
    version: "v1",
    view: true,
    type_name: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
    cells: |object, now| {
        let mut stored = object.clone();
        autoscaler_v1::to_v2(&mut stored);
        cells(&stored, now)
    },
    default: |object| {
        let spec = workload::spec_of(object);
        default(spec, "minReplicas", 1);
    },
    validate: |object, errors| {
        let mut stored = object.clone();
        autoscaler_v1::to_v2(&mut stored);
        default_autoscaler(&mut stored);
        autoscaler_validate::validate(&stored, errors);
    },
    prepare_create: |object| {
        object["status"] = json!({"currentReplicas": 0, "desiredReplicas": 0});
    },
    to_stored: |object| {
        autoscaler_v1::to_v2(object);
        default_autoscaler(object);
    },
    from_stored: autoscaler_v1::from_v2,
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    storage: "autoscaling/horizontalpodautoscalers",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    prepare_update: |new, old| meta::keep(new, old, "status"),
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Reference", 0, "What is scaled."),
    text("Targets", 0, "Metrics, as they are and as they should be."),
    text("MinPods", 0, "The fewest replicas."),
    text("MaxPods", 0, "The most replicas."),
    text("Replicas", 0, "The replicas that there are."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let target = |key| meta::text(object, &["spec", "scaleTargetRef", key]);
    let fewest = match meta::int(object, &["spec", "minReplicas"]) {
        Some(n) => n.to_string(),
        None => "<unset>".to_owned(),
    };
    vec![
        meta::name(object).into(),
        format!("{}/{}", target("kind"), target("name")).into(),
        targets(object).into(),
        fewest.into(),
        workload::count(object, &["spec", "maxReplicas"]).into(),
        workload::count(object, &["status", "currentReplicas"]).into(),
        age(object, now),
    ]
}

/// At most so many metrics are shown.
const SHOWN: usize = 2;

fn targets(object: &Value) -> String {
    let metrics = meta::list(object, &["spec", "metrics"]);
    let current = meta::list(object, &["status", "currentMetrics"]);
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = metrics
        .iter()
        .take(SHOWN)
        .enumerate()
        .map(|(i, metric)| target(metric, current.get(i)))
        .collect();
    let text = shown.join(", ");
    match metrics.len() {
        n if n > SHOWN => format!("{text} + {} more...", n - SHOWN),
        _ => text,
    }
}

/// `cpu: 10%/80%`, `5/10 (avg)`. What the status has a part for, but no number,
/// shows as Go shows a nil quantity.
fn target(metric: &Value, current: Option<&Value>) -> String {
    let kind = meta::text(metric, &["type"]);
    let part = autoscaler_validate::part_of(kind);
    let seen = current.and_then(|c| meta::at(c, &[part]));
    let quantity = |v: Option<&Value>| match v {
        Some(Value::String(s)) => s.clone(),
        Some(v) => v.to_string(),
        None => "<nil>".to_owned(),
    };
    let is = |key: &str| seen.and_then(|s| meta::at(s, &["current", key]));
    let now = |key: &str| match seen {
        Some(_) => quantity(is(key)),
        None => UNKNOWN.to_owned(),
    };
    let known = |key: &str| is(key).map_or(UNKNOWN.to_owned(), |v| quantity(Some(v)));
    let wanted = |key: &str| meta::at(metric, &[part, "target", key]);
    match (kind, wanted("averageValue")) {
        ("Resource" | "ContainerResource", average) => {
            let name = meta::text(metric, &[part, "name"]);
            let percent = |v: Option<&Value>| v.map(|v| format!("{v}%"));
            let (now, goal) = match average {
                Some(average) => (now("averageValue"), quantity(Some(average))),
                None => (
                    percent(is("averageUtilization")).unwrap_or(UNKNOWN.to_owned()),
                    percent(wanted("averageUtilization")).unwrap_or("<auto>".to_owned()),
                ),
            };
            format!("{name}: {now}/{goal}")
        }
        ("Pods", average) => format!("{}/{}", now("averageValue"), quantity(average)),
        ("Object" | "External", Some(average)) => {
            let goal = quantity(Some(average));
            format!("{}/{goal} (avg)", known("averageValue"))
        }
        ("Object" | "External", None) => {
            format!("{}/{}", now("value"), quantity(wanted("value")))
        }
        _ => "<unknown type>".to_owned(),
    }
}

const UNKNOWN: &str = "<unknown>";

pub(super) fn default_autoscaler(object: &mut Value) {
    let spec = workload::spec_of(object);
    default(spec, "minReplicas", 1);
    let metrics = spec.get("metrics").and_then(Value::as_array);
    if metrics.is_none_or(Vec::is_empty) {
        spec.insert(
            "metrics".to_owned(),
            json!([{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}}]),
        );
    }
    if let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) {
        let up = json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15}]);
        let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        default_rules(behavior, "scaleUp", up);
        default_rules(behavior, "scaleDown", down);
        if let Some(up) = behavior.get_mut("scaleUp").and_then(Value::as_object_mut) {
            default(up, "stabilizationWindowSeconds", 0);
        }
    }
}

fn default_rules(behavior: &mut Map<String, Value>, key: &str, policies: Value) {
    if let Some(rules) = workload::part(behavior, key) {
        default_text(rules, "selectPolicy", "Max");
        default(rules, "policies", policies);
    }
}

//! The targets of HorizontalPodAutoscalers: each sort of metric, with what is
//! missing.

use crate::{check, object};
use serde_json::{Value, json};

fn scaler(metrics: Value, current: Value) -> Value {
    object(
        json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 2, "maxReplicas": 9,
        "metrics": metrics}, "status": {"currentReplicas": 4, "currentMetrics": current}}),
    )
}

/// Metric, target, current (null: no status) and what is shown.
fn targets() -> Vec<(&'static str, Value, Value, &'static str)> {
    vec![
        (
            "External",
            json!({"averageValue": "100m"}),
            Value::Null,
            "<unknown>/100m (avg)",
        ),
        (
            "External",
            json!({"averageValue": "100m"}),
            json!({"averageValue": "50m"}),
            "50m/100m (avg)",
        ),
        (
            "External",
            json!({"averageValue": "100m"}),
            json!({"value": "50m"}),
            "<unknown>/100m (avg)",
        ),
        (
            "External",
            json!({"value": "100m"}),
            Value::Null,
            "<unknown>/100m",
        ),
        (
            "External",
            json!({"value": "100m"}),
            json!({"value": "50m"}),
            "50m/100m",
        ),
        (
            "External",
            json!({"value": "100m"}),
            json!({}),
            "<nil>/100m",
        ),
        (
            "Pods",
            json!({"averageValue": "7"}),
            Value::Null,
            "<unknown>/7",
        ),
        (
            "Pods",
            json!({"averageValue": "7"}),
            json!({"averageValue": "5"}),
            "5/7",
        ),
        ("Object", json!({"value": "7"}), Value::Null, "<unknown>/7"),
        (
            "Object",
            json!({"value": "7"}),
            json!({"value": "5"}),
            "5/7",
        ),
        (
            "Object",
            json!({"averageValue": "7"}),
            json!({"averageValue": "5"}),
            "5/7 (avg)",
        ),
        (
            "Object",
            json!({"averageValue": "7"}),
            json!({"value": "5"}),
            "<unknown>/7 (avg)",
        ),
        (
            "Resource",
            json!({"averageValue": "1Gi"}),
            Value::Null,
            "cpu: <unknown>/1Gi",
        ),
        (
            "Resource",
            json!({"averageValue": "1Gi"}),
            json!({"averageValue": "5Mi"}),
            "cpu: 5Mi/1Gi",
        ),
        (
            "Resource",
            json!({"averageUtilization": 80}),
            Value::Null,
            "cpu: <unknown>/80%",
        ),
        (
            "Resource",
            json!({"averageUtilization": 80}),
            json!({"averageValue": "5"}),
            "cpu: <unknown>/80%",
        ),
        (
            "Resource",
            json!({"averageUtilization": 80}),
            json!({"averageValue": "5", "averageUtilization": 50}),
            "cpu: 50%/80%",
        ),
        ("Resource", json!({}), Value::Null, "cpu: <unknown>/<auto>"),
        (
            "ContainerResource",
            json!({"averageValue": "1Gi"}),
            json!({"averageValue": "5Mi"}),
            "cpu: 5Mi/1Gi",
        ),
        (
            "ContainerResource",
            json!({"averageUtilization": 80}),
            json!({"averageUtilization": 50}),
            "cpu: 50%/80%",
        ),
        (
            "Weather",
            json!({"value": "1"}),
            Value::Null,
            "<unknown type>",
        ),
    ]
}

fn part(kind: &str, inside: &str, of: &Value) -> Value {
    let mut part = kind.to_owned();
    part[..1].make_ascii_lowercase();
    json!({"type": kind, part: {"name": "cpu", "container": "c", inside: of}})
}

fn row(targets: &str) -> Value {
    json!(["x", "Deployment/d", targets, "2", 9, 4, "5d"])
}

#[test]
fn of_each_sort() {
    let rows = targets().into_iter().map(|(kind, target, current, shown)| {
        let metrics = json!([part(kind, "target", &target)]);
        let current = match current {
            Value::Null => json!([]),
            of => json!([part(kind, "current", &of)]),
        };
        (scaler(metrics, current), row(shown))
    });
    check("autoscaling/v2/horizontalpodautoscalers", rows.collect());
}

#[test]
fn of_several() {
    let metric = part("Pods", "target", &json!({"averageValue": "7"}));
    let current = part("Pods", "current", &json!({"averageValue": "5"}));
    check(
        "autoscaling/v2/horizontalpodautoscalers",
        vec![
            (scaler(json!([]), json!([])), row("<none>")),
            (
                scaler(json!([metric, metric]), json!([current])),
                row("5/7, <unknown>/7"),
            ),
            (
                scaler(
                    json!([metric, metric, metric, metric]),
                    json!([current, current]),
                ),
                row("5/7, 5/7 + 2 more..."),
            ),
            (
                object(json!({"spec": {"scaleTargetRef": {}}})),
                json!(["x", "/", "<none>", "<unset>", 0, 0, "5d"]),
            ),
        ],
    );
    check(
        "autoscaling/v1/horizontalpodautoscalers",
        vec![(
            object(
                json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 2,
                "maxReplicas": 9, "targetCPUUtilizationPercentage": 80},
                "status": {"currentReplicas": 4, "currentCPUUtilizationPercentage": 50}}),
            ),
            row("cpu: 50%/80%"),
        )],
    );
}

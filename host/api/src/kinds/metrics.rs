//! NodeMetrics and PodMetrics (metrics.k8s.io): what nodes and pods use now.
//! Nothing is stored: the API server gathers it from the nodes.

use super::Kind;
use crate::meta;
use crate::print::{Cells, Column, NAME, text};
use crate::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value;

const METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    version: "v1beta1",
    verbs: &["get", "list"],
    columns: COLUMNS,
    ..Kind::BASE
};

pub(super) static NODE: Kind = Kind {
    kind: "NodeMetrics",
    plural: "nodes",
    namespaced: false,
    type_name: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
    cells: |object, _: Timestamp| cells(object, &[&object["usage"]]),
    ..METRICS
};

pub(super) static POD: Kind = Kind {
    kind: "PodMetrics",
    plural: "pods",
    type_name: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
    cells: |object, _: Timestamp| {
        let containers = meta::list(object, &["containers"]).iter();
        let usages: Vec<&Value> = containers.map(|one| &one["usage"]).collect();
        cells(object, &usages)
    },
    ..METRICS
};

const COLUMNS: &[Column] = &[
    NAME,
    text("cpu", 0, "CPUs in use."),
    text("memory", 0, "Memory in use."),
    text("Window", 0, "The time over which CPU use was measured."),
];

/// As metrics-server prints them: sums, and the window.
fn cells(object: &Value, usages: &[&Value]) -> Cells {
    let sum = |name: &str| -> Value {
        let found = usages.iter().filter_map(|usage| {
            let text = usage.get(name)?.as_str()?;
            Quantity::parse(text).ok()
        });
        let sum = found.reduce(Quantity::plus);
        sum.map_or_else(|| "0".into(), |sum| sum.to_string().into())
    };
    vec![
        meta::name(object).into(),
        sum("cpu"),
        sum("memory"),
        meta::text(object, &["window"]).into(),
    ]
}

//! PodDisruptionBudget.

use super::{Kind, Subresource, workload};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, int, text};
use crate::{label_selector, meta};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    type_name: "io.k8s.api.policy.v1.PodDisruptionBudget",
    storage: "policy/poddisruptionbudgets",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    validate,
    validate_status: |new, _, errors| {
        const COUNTS: &[&str] = &[
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
            "observedGeneration",
        ];
        workload::validate_counts(new, COUNTS, &[], errors);
    },
    prepare_create: |object| {
        let status = json!({
            "disruptionsAllowed": 0, "currentHealthy": 0,
            "desiredHealthy": 0, "expectedPods": 0,
        });
        workload::begin(object, status);
    },
    prepare_update: workload::next,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Min Available", 0, "Pods that have to be available."),
    text("Max Unavailable", 0, "Pods that may be unavailable."),
    int("Allowed Disruptions", 0, "Pods that may be evicted now."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let share = |key| match meta::at(object, &["spec", key]) {
        Some(Value::String(s)) => Value::from(s.as_str()),
        Some(other) => other.to_string().into(),
        None => "N/A".into(),
    };
    vec![
        meta::name(object).into(),
        share("minAvailable"),
        share("maxUnavailable"),
        workload::count(object, &["status", "disruptionsAllowed"]).into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(&path, spec.clone(), why);
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let at = path.child(key);
        workload::validate_share(spec.get(key), &at, errors);
        workload::validate_at_most_all(spec.get(key), &at, errors);
    }
    if let Some(selector) = spec.get("selector") {
        label_selector::validate(selector, &path.child("selector"), errors);
    }
    let policies = &["AlwaysAllow", "IfHealthyBudget"];
    if let Some(policy) = spec
        .get("unhealthyPodEvictionPolicy")
        .and_then(Value::as_str)
        && !policies.contains(&policy)
    {
        let at = path.child("unhealthyPodEvictionPolicy");
        errors.not_supported(&at, policy, policies);
    }
}

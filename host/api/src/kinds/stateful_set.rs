//! StatefulSet.

use super::workload::{self, TEMPLATE_COLUMNS};
use super::{Kind, Subresource, persistent_volume_claim};
use crate::field::{Errors, Path};
use crate::meta::{self, default, default_text};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    type_name: "io.k8s.api.apps.v1.StatefulSet",
    storage: "apps/statefulsets",
    subresources: &[Subresource::Scale, Subresource::Status],
    columns: COLUMNS,
    cells,
    default: default_set,
    validate,
    validate_update,
    validate_status,
    prepare_create: |object| {
        workload::begin(object, json!({"replicas": 0, "availableReplicas": 0}));
    },
    prepare_update: workload::next,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", 0, "Pods that are ready, of those wanted."),
    AGE,
    TEMPLATE_COLUMNS[0],
    TEMPLATE_COLUMNS[1],
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let [names, images] = workload::containers(&object["spec"]["template"]);
    let ready = workload::count(object, &["status", "readyReplicas"]);
    let wanted = workload::count(object, &["spec", "replicas"]);
    vec![
        meta::name(object).into(),
        format!("{ready}/{wanted}").into(),
        age(object, now),
        names,
        images,
    ]
}

fn default_set(object: &mut Value) {
    let spec = workload::spec_of(object);
    default_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = workload::part(spec, "updateStrategy") {
        default_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").is_some_and(|t| t == "RollingUpdate")
            && let Some(rolling) = workload::part(strategy, "rollingUpdate")
        {
            default(rolling, "partition", 0);
        }
    }
    if let Some(retention) = workload::part(spec, "persistentVolumeClaimRetentionPolicy") {
        default_text(retention, "whenDeleted", "Retain");
        default_text(retention, "whenScaled", "Retain");
    }
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    let claims = spec.get_mut("volumeClaimTemplates");
    for claim in claims.and_then(Value::as_array_mut).into_iter().flatten() {
        persistent_volume_claim::default_claim(claim);
        claim["kind"] = "PersistentVolumeClaim".into();
        claim["apiVersion"] = "v1".into();
        default_text(meta::ensure(claim, "status"), "phase", "Pending");
    }
    workload::default_template(spec, "template");
}

fn validate(object: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    match meta::text(spec, &["podManagementPolicy"]) {
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(
            &path.child("podManagementPolicy"),
            other,
            "must be 'OrderedReady' or 'Parallel'",
        ),
    }
    validate_strategy(spec, &path.child("updateStrategy"), errors);
    let retention = path.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        let policy = meta::text(spec, &["persistentVolumeClaimRetentionPolicy", key]);
        if !matches!(policy, "Retain" | "Delete") {
            errors.not_supported(&retention.child(key), policy, &["Delete", "Retain"]);
        }
    }
    for key in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        errors.nonnegative(spec, key, &path);
    }
    if let Some(ordinals) = spec.get("ordinals") {
        errors.nonnegative(ordinals, "start", &path.child("ordinals"));
    }
    let selected = workload::validate_selector(spec, "statefulset", &path, errors);
    let at = path.child("template");
    let template = spec.get("template").unwrap_or(&Value::Null);
    if !selected {
        let labels = meta::at(template, &["metadata", "labels"]).cloned();
        errors.invalid(
            &at.child("metadata").child("labels"),
            labels.unwrap_or_default(),
            "`selector` does not match template `labels`",
        );
    }
    validate_template(spec, template, &at, errors);
    workload::validate_lasting(template, &at, errors);
}

/// Mounts may name claims, which become volumes only in the pods.
fn validate_template(spec: &Value, template: &Value, at: &Path, errors: &mut Errors) {
    let mut whole = template.clone();
    let claims = meta::list(spec, &["volumeClaimTemplates"]);
    if !claims.is_empty() {
        let pod = meta::ensure(&mut whole, "spec");
        let volumes = pod.entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            let named: Vec<&str> = claims.iter().map(meta::name).collect();
            volumes.retain(|v| !named.contains(&meta::text(v, &["name"])));
            volumes.extend(
                named
                    .iter()
                    .map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}})),
            );
        }
    }
    workload::validate_template(&whole, at, errors);
}

fn validate_strategy(spec: &Value, at: &Path, errors: &mut Errors) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    let rolling = strategy.get("rollingUpdate");
    let path = at.child("rollingUpdate");
    match (meta::text(strategy, &["type"]), rolling) {
        ("", _) => errors.required(at, ""),
        ("OnDelete", Some(rolling)) => errors.invalid(
            &path,
            rolling.clone(),
            "only allowed for updateStrategy 'RollingUpdate'",
        ),
        ("RollingUpdate", Some(rolling)) => {
            errors.nonnegative(rolling, "partition", &path);
            let unavailable = rolling.get("maxUnavailable");
            let at = path.child("maxUnavailable");
            workload::validate_share(unavailable, &at, errors);
            if let Some(value) = unavailable.filter(|v| workload::share(Some(*v)) == 0) {
                errors.invalid(&at, value.clone(), "cannot be 0");
            }
            workload::validate_at_most_all(unavailable, &at, errors);
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => errors.invalid(
            at,
            strategy.clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
}

const WHAT_MAY_CHANGE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let frozen = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            for key in [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ] {
                map.shift_remove(key);
            }
        }
        spec
    };
    if frozen(new) != frozen(old) {
        errors.forbidden(&Path::new("spec"), WHAT_MAY_CHANGE);
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const PARTS: &[&str] = &[
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    let counts = &[
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    workload::validate_counts(new, counts, PARTS, errors);
    workload::validate_available(new, errors);
    workload::validate_collisions(new, old, errors);
}

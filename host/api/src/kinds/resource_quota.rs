//! ResourceQuota.

use super::{Kind, Subresource};
use crate::field::{Errors, Path};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, resources};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    type_name: "io.k8s.api.core.v1.ResourceQuota",
    storage: "core/resourcequotas",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    validate,
    validate_update,
    validate_status: |new, _, errors| validate_status(new, errors),
    prepare_create: |object| object["status"] = json!({}),
    prepare_update: |new, old| meta::keep(new, old, "status"),
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Request", 0, "Used of what may be requested."),
    text("Limit", 0, "Used of what limits may come to."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let mut hard: Vec<(&String, &Value)> = meta::members(object, &["status", "hard"]).collect();
    hard.sort_by_key(|(name, _)| *name);
    let shown = |limits: bool| -> Value {
        let parts: Vec<String> = hard
            .iter()
            .filter(|(name, _)| name.starts_with("limits.") == limits)
            .map(|(name, most)| {
                let used = meta::at(object, &["status", "used", name]);
                let used = used.and_then(Value::as_str).unwrap_or("0");
                format!("{name}: {used}/{}", most.as_str().unwrap_or_default())
            })
            .collect();
        parts.join(", ").into()
    };
    vec![
        meta::name(object).into(),
        shown(false),
        shown(true),
        age(object, now),
    ]
}

fn validate_list(object: &Value, part: [&str; 2], errors: &mut Errors) {
    let path = Path::new(part[0]).child(part[1]);
    for (name, value) in meta::members(object, &part) {
        let at = path.key(name);
        resources::validate_quota_name(name, &at, errors);
        resources::validate_quantity(name, value, &at, errors);
    }
}

fn validate_status(object: &Value, errors: &mut Errors) {
    validate_list(object, ["status", "hard"], errors);
    validate_list(object, ["status", "used"], errors);
}

fn validate(object: &Value, errors: &mut Errors) {
    validate_list(object, ["spec", "hard"], errors);
    let path = Path::new("spec");
    let scopes = meta::list(object, &["spec", "scopes"]);
    validate_scopes(object, scopes, &path.child("scopes"), errors);
    let expressions = meta::list(object, &["spec", "scopeSelector", "matchExpressions"]);
    validate_selector(object, expressions, &path, errors);
    validate_status(object, errors);
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// Whether a quota with the scope can limit the resource.
fn applies(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => {
            resource == "pods"
                || resources::is_container_resource(resource)
                || ["requests.", "limits."].iter().any(|p| {
                    resource
                        .strip_prefix(p)
                        .is_some_and(resources::is_container_resource)
                })
        }
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn validate_scopes(object: &Value, scopes: &[Value], path: &Path, errors: &mut Errors) {
    let names: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
    let shown = || Value::from(scopes.to_vec());
    for scope in &names {
        if !SCOPES.contains(scope) {
            errors.invalid(path, shown(), "unsupported scope");
        }
        for (resource, _) in meta::members(object, &["spec", "hard"]) {
            if resources::is_quota_resource(resource) && !applies(scope, resource) {
                errors.invalid(path, shown(), "unsupported scope applied to resource");
            }
        }
    }
    validate_conflicts(&names, path, shown, errors);
}

fn validate_conflicts(names: &[&str], path: &Path, shown: impl Fn() -> Value, errors: &mut Errors) {
    for [a, b] in [
        ["BestEffort", "NotBestEffort"],
        ["Terminating", "NotTerminating"],
    ] {
        if names.contains(&a) && names.contains(&b) {
            errors.invalid(path, shown(), "conflicting scopes");
        }
    }
}

fn validate_selector(object: &Value, expressions: &[Value], path: &Path, errors: &mut Errors) {
    let at = path.child("scopeSelector").child("matchExpressions");
    let mut names = Vec::new();
    for (i, expression) in expressions.iter().enumerate() {
        let at = at.index(i);
        let field = |key| meta::text(expression, &[key]);
        let (scope, operator) = (field("scopeName"), field("operator"));
        let values = meta::list(expression, &["values"]);
        names.push(scope);
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for (resource, _) in meta::members(object, &["spec", "hard"]) {
            if resources::is_quota_resource(resource) && !applies(scope, resource) {
                let shown = object["spec"]["scopeSelector"].clone();
                errors.invalid(&at, shown, "unsupported scope applied to resource");
            }
        }
        let has_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if !has_values && operator != "Exists" {
            let why = "must be 'Exist' only operator when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&at.child("operator"), operator, why);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.required(
                &at.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.invalid(
                &at.child("values"),
                values.to_vec(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(
                &at.child("operator"),
                other,
                "not a valid selector operator",
            ),
        }
    }
    validate_conflicts(
        &names,
        &path.child("scopeSelector"),
        || expressions.to_vec().into(),
        errors,
    );
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let scopes = |object: &Value| {
        let mut names: Vec<String> = meta::list(object, &["spec", "scopes"])
            .iter()
            .map(ToString::to_string)
            .collect();
        names.sort();
        names.dedup();
        names
    };
    if scopes(new) != scopes(old) {
        let shown = meta::list(new, &["spec", "scopes"]).to_vec();
        let at = Path::new("spec").child("scopes");
        errors.invalid(&at, shown, "field is immutable");
    }
}

//! IngressClass: which controller serves Ingresses of the class.

use crate::field::{Errors, Path};
use crate::kinds::{Kind, domains, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    type_name: "io.k8s.api.networking.v1.IngressClass",
    storage: "networking.k8s.io/ingressclasses",
    columns: COLUMNS,
    cells,
    default: |object| {
        meta::ensure(object, "spec");
    },
    validate,
    validate_update,
    prepare_create: strategy::first_generation,
    prepare_update: strategy::update_spec,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Controller", 0, "Who serves Ingresses of the class."),
    text("Parameters", 0, "Where the controller's settings stand."),
    AGE,
];

const CONTROLLER_MAX: usize = 250;
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

fn cells(object: &Value, now: Timestamp) -> Cells {
    let parameters = match meta::at(object, &["spec", "parameters"]) {
        None => "<none>".to_owned(),
        Some(of) => {
            let group = match of.get("apiGroup").and_then(Value::as_str) {
                Some(group) => format!(".{group}"),
                None => String::new(),
            };
            let (kind, name) = (meta::text(of, &["kind"]), meta::text(of, &["name"]));
            format!("{kind}{group}/{name}")
        }
    };
    let name = meta::name(object);
    let name = match meta::text(object, &["metadata", "annotations", IS_DEFAULT]) {
        "true" => format!("{name} (default)"),
        _ => name.to_owned(),
    };
    vec![
        name.into(),
        meta::text(object, &["spec", "controller"]).into(),
        parameters.into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let at = path.child("controller");
    match meta::text(spec, &["controller"]) {
        "" => errors.required(&at, ""),
        controller => {
            if controller.len() > CONTROLLER_MAX {
                errors.too_long(&at, CONTROLLER_MAX);
            }
            domains::domain_prefixed_path(controller, &at, errors);
        }
    }
    if let Some(parameters) = spec.get("parameters") {
        let at = path.child("parameters");
        validate_reference(parameters, &at, errors);
        validate_scope(parameters, &at, errors);
    }
}

fn validate_scope(parameters: &Value, path: &Path, errors: &mut Errors) {
    const SCOPES: &[&str] = &["Cluster", "Namespace"];
    let (scope, namespace) = (path.child("scope"), path.child("namespace"));
    let named = parameters.get("namespace").and_then(Value::as_str);
    match parameters.get("scope").and_then(Value::as_str) {
        None => errors.required(&scope, ""),
        Some("Namespace") => match named {
            None => errors.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
            Some(name) => errors.invalid_each(&namespace, name, names::dns_label(name)),
        },
        Some("Cluster") => {
            if named.is_some() {
                errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
            }
        }
        Some(other) => errors.not_supported(&scope, other, SCOPES),
    }
}

/// A `TypedLocalObjectReference`.
pub(super) fn validate_reference(of: &Value, path: &Path, errors: &mut Errors) {
    if let Some(group) = of.get("apiGroup").and_then(Value::as_str) {
        errors.invalid_each(&path.child("apiGroup"), group, names::dns_subdomain(group));
    }
    for key in ["kind", "name"] {
        match meta::text(of, &[key]) {
            "" => errors.required(&path.child(key), ""),
            text => errors.invalid_each(&path.child(key), text, names::path_segment(text)),
        }
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    errors.immutable(&new["spec"], &old["spec"], "controller", &Path::new("spec"));
}

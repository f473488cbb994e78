//! The bindings that put admission policies in force.

use super::{GROUP, rule};
use crate::field::{Errors, Path};
use crate::kinds::{Kind, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{label_selector, meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static VALIDATING_BINDING: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    type_name: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    storage: "admissionregistration.k8s.io/validatingadmissionpolicybindings",
    validate: |object, errors| {
        validate(object, errors);
        validate_actions(object, errors);
    },
    ..BINDING
};

pub(in crate::kinds) static MUTATING_BINDING: Kind = Kind {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    type_name: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    storage: "admissionregistration.k8s.io/mutatingadmissionpolicybindings",
    validate,
    ..BINDING
};

const BINDING: Kind = Kind {
    group: GROUP,
    namespaced: false,
    categories: &["api-extensions"],
    columns: COLUMNS,
    cells,
    default: |object| {
        meta::ensure(object, "spec");
        rule::default_match_resources(&mut object["spec"], "matchResources");
    },
    prepare_create: strategy::first_generation,
    prepare_update: strategy::update_spec,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("PolicyName", 0, "The policy that it puts in force."),
    text("ParamRef", 0, "Where the parameters stand."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let parameters = match meta::at(object, &["spec", "paramRef"]) {
        None => "<unset>".to_owned(),
        Some(of) => match (meta::text(of, &["namespace"]), meta::text(of, &["name"])) {
            (_, "") => match of.get("selector") {
                Some(selector) => label_selector::debug(selector),
                None => "<unset>".to_owned(),
            },
            ("", name) => format!("*/{name}"),
            (namespace, name) => format!("{namespace}/{name}"),
        },
    };
    vec![
        meta::name(object).into(),
        meta::text(object, &["spec", "policyName"]).into(),
        parameters.into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let at = path.child("policyName");
    match meta::text(spec, &["policyName"]) {
        "" => errors.required(&at, ""),
        name => errors.invalid_each(&at, name, names::dns_subdomain(name)),
    }
    if let Some(reference) = spec.get("paramRef") {
        validate_param_ref(reference, &path.child("paramRef"), errors);
    }
    if let Some(resources) = spec.get("matchResources") {
        // Upstream's path is misspelled so.
        let at = path.child("matchResouces");
        rule::validate_match_resources(resources, &at, errors);
    }
}

fn validate_param_ref(of: &Value, path: &Path, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["Deny", "Allow"];
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let name = meta::text(of, &["name"]);
    let selector = of.get("selector");
    if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::path_segment(name));
        if selector.is_some() {
            errors.forbidden(&path.child("name"), EXCLUSIVE);
        }
    }
    if let Some(selector) = selector {
        label_selector::validate(selector, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&path.child("selector"), EXCLUSIVE);
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.required(path, "one of name or selector must be specified");
    }
    let at = path.child("parameterNotFoundAction");
    match meta::text(of, &["parameterNotFoundAction"]) {
        "" => errors.required(&at, ""),
        action if !ACTIONS.contains(&action) => errors.not_supported(&at, action, ACTIONS),
        _ => {}
    }
}

fn validate_actions(object: &Value, errors: &mut Errors) {
    const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
    let path = Path::new("spec").child("validationActions");
    let actions: Vec<&str> = meta::list(object, &["spec", "validationActions"])
        .iter()
        .map(|a| a.as_str().unwrap_or_default())
        .collect();
    for (i, action) in actions.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.not_supported(&path.index(i), action, ACTIONS);
        }
        if actions[..i].contains(action) {
            errors.duplicate(&path.index(i), *action);
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.invalid(&path, actions.clone(), why);
    }
    if actions.is_empty() {
        errors.required(&path, "at least one validation action is required");
    }
}

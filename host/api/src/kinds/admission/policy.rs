//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: expressions that
//! judge or change requests.

use super::expression::{Result, Scope};
use super::{FAILURE_POLICIES, GROUP, REINVOCATION_POLICIES, rule};
use crate::field::{Errors, Path};
use crate::kinds::{Kind, Subresource, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, int, text};
use crate::{meta, names};
use expressions::Type;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

pub(in crate::kinds) static VALIDATING_POLICY: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    type_name: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    storage: "admissionregistration.k8s.io/validatingadmissionpolicies",
    subresources: &[Subresource::Status],
    columns: &[
        NAME,
        int("Validations", 0, "How many expressions judge."),
        PARAM_KIND,
        AGE,
    ],
    cells: |object, now| cells(object, "validations", now),
    validate: |object, errors| {
        validate(object, errors);
        let scope = validate_variables(object, errors);
        validate_validations(object, &scope, errors);
    },
    prepare_create: strategy::create_spec_status,
    prepare_update: strategy::update_spec_status,
    ..POLICY
};

pub(in crate::kinds) static MUTATING_POLICY: Kind = Kind {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    type_name: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    storage: "admissionregistration.k8s.io/mutatingadmissionpolicies",
    columns: &[
        NAME,
        int("Mutations", 0, "How many expressions change."),
        PARAM_KIND,
        AGE,
    ],
    cells: |object, now| cells(object, "mutations", now),
    validate: |object, errors| {
        validate(object, errors);
        let mut scope = validate_variables(object, errors);
        scope.builds = true;
        validate_mutations(object, &scope, errors);
    },
    prepare_create: strategy::first_generation,
    prepare_update: strategy::update_spec,
    ..POLICY
};

const POLICY: Kind = Kind {
    group: GROUP,
    namespaced: false,
    categories: &["api-extensions"],
    default,
    ..Kind::BASE
};

const PARAM_KIND: Column = text("ParamKind", 0, "The kind of its parameters.");
const AUDIT_ANNOTATIONS_MAX: usize = 20;
const AUDIT_EXPRESSION_MAX: usize = 5 * 1024;

fn cells(object: &Value, counted: &str, now: Timestamp) -> Cells {
    let kind = match meta::at(object, &["spec", "paramKind"]) {
        None => "<unset>".to_owned(),
        Some(of) => format!(
            "{}/{}",
            meta::text(of, &["apiVersion"]),
            meta::text(of, &["kind"])
        ),
    };
    vec![
        meta::name(object).into(),
        meta::list(object, &["spec", counted]).len().into(),
        kind.into(),
        age(object, now),
    ]
}

fn default(object: &mut Value) {
    let spec = meta::ensure(object, "spec");
    meta::default(spec, "failurePolicy", "Fail");
    rule::default_match_resources(&mut object["spec"], "matchConstraints");
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let policy = meta::text(spec, &["failurePolicy"]);
    if !FAILURE_POLICIES.contains(&policy) {
        errors.not_supported(&path.child("failurePolicy"), policy, FAILURE_POLICIES);
    }
    if let Some(kind) = spec.get("paramKind") {
        validate_param_kind(kind, &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    match spec.get("matchConstraints") {
        None => errors.required(&at, ""),
        Some(constraints) => {
            rule::validate_match_resources(constraints, &at, errors);
            if meta::list(constraints, &["resourceRules"]).is_empty() {
                errors.required(&at.child("resourceRules"), "");
            }
        }
    }
    let scope = Scope {
        params: spec.get("paramKind").is_some(),
        ..Scope::default()
    };
    rule::validate_conditions(spec, &scope, &path, errors);
}

/// Checks the composed variables; what the expressions of the policy see.
fn validate_variables(object: &Value, errors: &mut Errors) -> Scope {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mut scope = Scope {
        params: spec.get("paramKind").is_some(),
        variables: Some(BTreeMap::new()),
        ..Scope::default()
    };
    for (i, variable) in meta::list(spec, &["variables"]).iter().enumerate() {
        let at = path.child("variables").index(i);
        let name = meta::text(variable, &["name"]);
        if name.trim().is_empty() {
            errors.required(&at.child("name"), "name is not specified");
        } else if !expressions::is_identifier(name) {
            let why = "name is not a valid CEL identifier";
            errors.invalid(&at.child("name"), name, why);
        }
        let found = check(
            variable,
            "expression",
            Result::Anything,
            &scope,
            &at,
            errors,
        );
        scope.declare(name, found);
    }
    scope
}

/// Checks the expression at `key`, which has to be there; its type.
fn check(
    of: &Value,
    key: &str,
    wanted: Result,
    scope: &Scope,
    path: &Path,
    errors: &mut Errors,
) -> Type {
    require_expression(of, key, path, errors);
    match meta::text(of, &[key]).trim() {
        "" => Type::Dyn,
        text => scope.check(text, wanted, &path.child(key), errors),
    }
}

fn require_expression(of: &Value, key: &str, path: &Path, errors: &mut Errors) {
    if meta::text(of, &[key]).trim().is_empty() {
        errors.required(&path.child(key), format!("{key} is not specified"));
    }
}

fn validate_param_kind(of: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("apiVersion");
    let version = meta::text(of, &["apiVersion"]);
    match version.split('/').collect::<Vec<&str>>().as_slice() {
        [""] => errors.required(&at, ""),
        [version] => errors.invalid_each(&at, version, names::dns1035_label(version)),
        [group, name] => {
            if !group.is_empty() {
                let wrong = names::dns_subdomain(group);
                if !wrong.is_empty() {
                    errors.invalid(&at, *group, wrong.join(","));
                }
            }
            let wrong = names::dns1035_label(name);
            if name.is_empty() {
                errors.invalid(&at, version, "version must be specified");
            } else if !wrong.is_empty() {
                errors.invalid(&at, *name, wrong.join(","));
            }
        }
        _ => {
            let why = format!("unexpected GroupVersion string: {version}");
            errors.invalid(&at, version, why);
        }
    }
    let at = path.child("kind");
    let kind = meta::text(of, &["kind"]);
    let wrong = names::dns1035_label(&kind.to_lowercase());
    if kind.is_empty() {
        errors.required(&at, "");
    } else if !wrong.is_empty() {
        let why = "may have mixed case, but should otherwise match: ";
        errors.invalid(&at, kind, format!("{why}{}", wrong.join(",")));
    }
}

fn validate_validations(object: &Value, scope: &Scope, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let validations = meta::list(spec, &["validations"]);
    let annotations = meta::list(spec, &["auditAnnotations"]);
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.required(&path.child("validations"), why);
        errors.required(&path.child("auditAnnotations"), why);
        return;
    }
    for (i, of) in validations.iter().enumerate() {
        validate_validation(of, scope, &path.child("validations").index(i), errors);
    }
    let path = path.child("auditAnnotations");
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        let why = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        errors.invalid(&path, annotations, why);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, of) in annotations.iter().enumerate() {
        let at = path.index(i);
        let key = meta::text(of, &["key"]);
        let full = format!("{}/{key}", meta::name(object));
        errors.invalid_each(&at.child("key"), &full, names::qualified_name(&full));
        check(
            of,
            "valueExpression",
            Result::TextOrNull,
            scope,
            &at,
            errors,
        );
        if meta::text(of, &["valueExpression"]).trim().len() > AUDIT_EXPRESSION_MAX {
            let why = format!("must not exceed {AUDIT_EXPRESSION_MAX} bytes in length");
            errors.required(&at.child("valueExpression"), why);
        }
        if seen.contains(&key) {
            errors.duplicate(&at.child("key"), key);
        }
        seen.push(key);
    }
}

fn validate_validation(of: &Value, scope: &Scope, path: &Path, errors: &mut Errors) {
    const REASONS: &[&str] = &[
        "Forbidden",
        "Invalid",
        "RequestEntityTooLarge",
        "Unauthorized",
    ];
    check(of, "expression", Result::Bool, scope, path, errors);
    let expression = meta::text(of, &["messageExpression"]);
    if !expression.is_empty() && expression.trim().is_empty() {
        let why = "must be non-empty if specified";
        errors.invalid(&path.child("messageExpression"), expression, why);
    } else if !expression.is_empty() {
        let at = path.child("messageExpression");
        let scope = Scope {
            is_message: true,
            ..scope.clone()
        };
        scope.check(expression.trim(), Result::Text, &at, errors);
    }
    let message = meta::text(of, &["message"]);
    if !message.is_empty() && message.trim().is_empty() {
        let why = "message must be non-empty if specified";
        errors.invalid(&path.child("message"), message, why);
    } else if message.trim().contains(['\n', '\r']) {
        let why = "message must not contain line breaks";
        errors.invalid(&path.child("message"), message, why);
    }
    if let Some(reason) = of.get("reason").and_then(Value::as_str)
        && !REASONS.contains(&reason)
    {
        errors.not_supported(&path.child("reason"), reason, REASONS);
    }
}

fn validate_mutations(object: &Value, scope: &Scope, errors: &mut Errors) {
    const PATCHES: &[&str] = &["ApplyConfiguration", "JSONPatch"];
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let mutations = meta::list(spec, &["mutations"]);
    let at = path.child("mutations");
    if mutations.is_empty() {
        errors.required(&at, "mutations must contain at least one item");
    }
    for (i, of) in mutations.iter().enumerate() {
        let at = at.index(i);
        let held = |key: &str, name: &str| (of.get(key).is_some(), name.to_owned());
        let patch = meta::text(of, &["patchType"]);
        let (mine, other, other_name) = match patch {
            "" => {
                errors.required(&at.child("patchType"), "");
                continue;
            }
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", "jsonPatch"),
            "JSONPatch" => ("jsonPatch", "applyConfiguration", "applyConfiguration"),
            other => {
                errors.not_supported(&at.child("patchType"), other, PATCHES);
                continue;
            }
        };
        match held(mine, mine) {
            (true, _) => {
                let (of, at) = (&of[mine], at.child(mine));
                check(of, "expression", Result::Anything, scope, &at, errors);
            }
            (false, name) => {
                let why = format!("must be specified when patchType is {patch}");
                errors.required(&at.child(&name), why);
            }
        }
        if let (true, name) = held(other, other_name) {
            let why = format!("must not be specified when patchType is {patch}");
            errors.invalid(&at.child(&name), of[other].clone(), why);
        }
    }
    match meta::text(spec, &["reinvocationPolicy"]) {
        "" => errors.required(&path.child("reinvocationPolicy"), ""),
        policy if !REINVOCATION_POLICIES.contains(&policy) => {
            let at = path.child("reinvocationPolicy");
            errors.not_supported(&at, policy, REINVOCATION_POLICIES);
        }
        _ => {}
    }
}

//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration.

use super::expression::Scope;
use super::{FAILURE_POLICIES, GROUP, REINVOCATION_POLICIES, rule, webhook_client};
use crate::field::{Errors, Path};
use crate::kinds::{Kind, domains, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, int};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static MUTATING_WEBHOOKS: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    type_name: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    storage: "admissionregistration.k8s.io/mutatingwebhookconfigurations",
    default: |object| default(object, true),
    ..WEBHOOKS
};

pub(in crate::kinds) static VALIDATING_WEBHOOKS: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    type_name: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    storage: "admissionregistration.k8s.io/validatingwebhookconfigurations",
    default: |object| default(object, false),
    ..WEBHOOKS
};

const WEBHOOKS: Kind = Kind {
    group: GROUP,
    namespaced: false,
    categories: &["api-extensions"],
    columns: COLUMNS,
    cells,
    validate,
    prepare_create: strategy::first_generation,
    prepare_update: |new, old| strategy::count_generation(new, old, "webhooks"),
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[NAME, int("Webhooks", 0, "How many webhooks it has."), AGE];

fn cells(object: &Value, now: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::list(object, &["webhooks"]).len().into(),
        age(object, now),
    ]
}

fn default(object: &mut Value, mutating: bool) {
    let webhooks = object.get_mut("webhooks").and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten() {
        rule::default_selectors(webhook);
        rule::default_rules(webhook, "rules");
        let Some(map) = webhook.as_object_mut() else {
            continue;
        };
        meta::default(map, "failurePolicy", "Fail");
        meta::default(map, "timeoutSeconds", 10);
        if mutating {
            meta::default(map, "reinvocationPolicy", "Never");
        }
        let service = map
            .get_mut("clientConfig")
            .and_then(|c| c.get_mut("service"))
            .and_then(Value::as_object_mut);
        if let Some(service) = service {
            meta::default(service, "port", 443);
        }
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, webhook) in meta::list(object, &["webhooks"]).iter().enumerate() {
        let path = Path::new("webhooks").index(i);
        validate_webhook(webhook, &path, errors);
        validate_versions(webhook, &path.child("admissionReviewVersions"), errors);
        let name = meta::text(webhook, &["name"]);
        if !name.is_empty() && seen.contains(&name) {
            errors.duplicate(&path.child("name"), name);
        }
        seen.push(name);
    }
}

fn validate_webhook(webhook: &Value, path: &Path, errors: &mut Errors) {
    const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
    let name = meta::text(webhook, &["name"]);
    domains::fully_qualified_name(name, &path.child("name"), errors);
    for (i, of) in meta::list(webhook, &["rules"]).iter().enumerate() {
        rule::validate_rule(of, &path.child("rules").index(i), errors);
    }
    let policy = meta::text(webhook, &["failurePolicy"]);
    if !FAILURE_POLICIES.contains(&policy) {
        errors.not_supported(&path.child("failurePolicy"), policy, FAILURE_POLICIES);
    }
    match meta::text(webhook, &["sideEffects"]) {
        "" => {
            let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
            errors.required(&path.child("sideEffects"), why);
        }
        effects if !SIDE_EFFECTS.contains(&effects) => {
            errors.not_supported(&path.child("sideEffects"), effects, SIDE_EFFECTS);
        }
        _ => {}
    }
    if let Some(seconds) = meta::int(webhook, &["timeoutSeconds"])
        && !(1..=30).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, why);
    }
    rule::validate_selectors(webhook, path, errors);
    if let Some(policy) = webhook.get("reinvocationPolicy").and_then(Value::as_str)
        && !REINVOCATION_POLICIES.contains(&policy)
    {
        let at = path.child("reinvocationPolicy");
        errors.not_supported(&at, policy, REINVOCATION_POLICIES);
    }
    webhook_client::validate(
        &webhook["clientConfig"],
        &path.child("clientConfig"),
        errors,
    );
    rule::validate_conditions(webhook, &Scope::default(), path, errors);
}

fn validate_versions(webhook: &Value, path: &Path, errors: &mut Errors) {
    const ACCEPTED: &[&str] = &["v1", "v1beta1"];
    let versions = meta::list(webhook, &["admissionReviewVersions"]);
    if versions.is_empty() {
        let why = format!("must specify one of {}", ACCEPTED.join(", "));
        return errors.required(path, why);
    }
    for (i, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if versions[..i].contains(version) {
            errors.invalid(&path.index(i), text, "duplicate version");
            continue;
        }
        errors.invalid_each(&path.index(i), text, names::dns1035_label(text));
    }
    let known = |v: &Value| v.as_str().is_some_and(|v| ACCEPTED.contains(&v));
    if !versions.iter().any(known) {
        let why = format!("must include at least one of {}", ACCEPTED.join(", "));
        errors.invalid(path, versions, why);
    }
}

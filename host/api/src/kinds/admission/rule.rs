//! Rules and match conditions: which requests a webhook or policy is about.

use super::expression::{self, Scope};
use crate::field::{Errors, Path};
use crate::{label_selector, meta, names};
use serde_json::{Value, json};

const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
const CONDITIONS_MAX: usize = 64;

pub(super) fn default_rules(holder: &mut Value, key: &str) {
    let rules = holder.get_mut(key).and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        if let Some(map) = rule.as_object_mut() {
            meta::default(map, "scope", "*");
        }
    }
}

/// What webhooks and match resources have in common.
pub(super) fn default_selectors(holder: &mut Value) {
    if let Some(map) = holder.as_object_mut() {
        meta::default(map, "matchPolicy", "Equivalent");
        meta::default(map, "namespaceSelector", json!({}));
        meta::default(map, "objectSelector", json!({}));
    }
}

pub(super) fn default_match_resources(holder: &mut Value, key: &str) {
    if let Some(resources) = holder.get_mut(key) {
        default_selectors(resources);
        default_rules(resources, "resourceRules");
        default_rules(resources, "excludeResourceRules");
    }
}

pub(super) fn validate_selectors(holder: &Value, path: &Path, errors: &mut Errors) {
    let policy = meta::text(holder, &["matchPolicy"]);
    if !MATCH_POLICIES.contains(&policy) {
        errors.not_supported(&path.child("matchPolicy"), policy, MATCH_POLICIES);
    }
    for key in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = holder.get(key) {
            label_selector::validate(selector, &path.child(key), errors);
        }
    }
}

/// `MatchResources` of a policy.
pub(super) fn validate_match_resources(of: &Value, path: &Path, errors: &mut Errors) {
    validate_selectors(of, path, errors);
    for key in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in meta::list(of, &[key]).iter().enumerate() {
            let at = path.child(key).index(i);
            let listed = meta::list(rule, &["resourceNames"]);
            for (i, name) in listed.iter().enumerate() {
                let text = name.as_str().unwrap_or_default();
                let at = at.child("resourceNames").index(i);
                errors.invalid_each(&at, text, names::path_segment(text));
                if listed[..i].contains(name) {
                    errors.duplicate(&at, text);
                }
            }
            validate_rule(rule, &at, errors);
        }
    }
}

fn texts<'a>(of: &'a Value, key: &str) -> Vec<&'a str> {
    meta::list(of, &[key])
        .iter()
        .map(|v| v.as_str().unwrap_or_default())
        .collect()
}

/// `RuleWithOperations`.
pub(super) fn validate_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let at = path.child("operations");
    let operations = texts(rule, "operations");
    if operations.is_empty() {
        errors.required(&at, "");
    }
    if operations.len() > 1 && operations.contains(&"*") {
        let why = "if '*' is present, must not specify other operations";
        errors.invalid(&at, operations.clone(), why);
    }
    for (i, operation) in operations.iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            errors.not_supported(&at.index(i), operation, OPERATIONS);
        }
    }
    for (key, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let at = path.child(key);
        let listed = texts(rule, key);
        if listed.is_empty() {
            errors.required(&at, "");
        }
        if listed.len() > 1 && listed.contains(&"*") {
            let why = format!("if '*' is present, must not specify other {what}");
            errors.invalid(&at, listed.clone(), why);
        }
        for (i, text) in listed.iter().enumerate() {
            if key == "apiVersions" && text.is_empty() {
                errors.required(&at.index(i), "");
            }
        }
    }
    validate_resources(&texts(rule, "resources"), &path.child("resources"), errors);
    let scope = meta::text(rule, &["scope"]);
    if !SCOPES.contains(&scope) {
        errors.not_supported(&path.child("scope"), scope, SCOPES);
    }
}

fn validate_resources(resources: &[&str], path: &Path, errors: &mut Errors) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    // `x/*` and `*/x`, as far as they have been seen.
    let (mut whole, mut everywhere): (Vec<&str>, Vec<&str>) = Default::default();
    let mut plain = false;
    for (i, resource) in resources.iter().enumerate() {
        let at = path.index(i);
        if resource.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some((name, sub)) = resource.split_once('/') else {
            plain = *resource != "*";
            continue;
        };
        if whole.contains(&name) {
            let why = format!("if '{name}/*' is present, must not specify {resource}");
            errors.invalid(&at, *resource, why);
        }
        if everywhere.contains(&sub) {
            let why = format!("if '*/{sub}' is present, must not specify {resource}");
            errors.invalid(&at, *resource, why);
        }
        if sub == "*" {
            whole.push(name);
        }
        if name == "*" {
            everywhere.push(sub);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.invalid(path, resources, why);
    }
    if plain && resources.contains(&"*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, resources, why);
    }
}

pub(super) fn validate_conditions(holder: &Value, scope: &Scope, path: &Path, errors: &mut Errors) {
    let conditions = meta::list(holder, &["matchConditions"]);
    let path = path.child("matchConditions");
    if conditions.len() > CONDITIONS_MAX {
        errors.too_many(&path, conditions.len(), CONDITIONS_MAX);
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        match meta::text(condition, &["expression"]).trim() {
            "" => errors.required(&at.child("expression"), ""),
            text => {
                let at = at.child("expression");
                scope.check(text, expression::Result::Bool, &at, errors);
            }
        }
        let name = meta::text(condition, &["name"]);
        let at = at.child("name");
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        errors.invalid_each(&at, name, names::qualified_name(name));
        if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        seen.push(name);
    }
}

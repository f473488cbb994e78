//! The restart policy and rules of a container (KEP-5307, KEP-5532): what they
//! have to be, and what they mean for a container that ended.

use crate::field::{Errors, Path};
use crate::meta;
use serde_json::Value;

const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const RULES_MAX: usize = 20;
const CODES_MAX: usize = 255;

pub(super) fn validate(container: &Value, at: &Path, errors: &mut Errors) {
    let rules = meta::list(container, &["restartPolicyRules"]);
    let path = at.child("restartPolicy");
    match container.get("restartPolicy").and_then(Value::as_str) {
        None if !rules.is_empty() => {
            errors.required(
                &path,
                "must specify restartPolicy when restart rules are used",
            );
        }
        Some(policy) if !POLICIES.contains(&policy) => {
            errors.not_supported(&path, policy, POLICIES);
        }
        None | Some(_) => {}
    }
    let path = at.child("restartPolicyRules");
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, &path.index(i), errors);
    }
}

fn validate_rule(rule: &Value, at: &Path, errors: &mut Errors) {
    let action = meta::text(rule, &["action"]);
    if !ACTIONS.contains(&action) {
        errors.not_supported(&at.child("action"), action, ACTIONS);
    }
    let path = at.child("exitCodes");
    let Some(codes) = rule.get("exitCodes") else {
        errors.required(&path, "must be specified");
        return;
    };
    let operator = meta::text(codes, &["operator"]);
    if !OPERATORS.contains(&operator) {
        errors.not_supported(&path.child("operator"), operator, OPERATORS);
    }
    let values = meta::list(codes, &["values"]).len();
    if values > CODES_MAX {
        errors.too_many(&path.child("values"), values, CODES_MAX);
    }
}

/// Whether a main container that ended so may run again: by its rules, its own
/// policy or its pod's, or because another's end may restart all.
pub(super) fn may_run_again(pod: &Value, name: &str, exit_code: i64) -> bool {
    let spec = &pod["spec"];
    let lists = ["containers", "initContainers"];
    let mut all = lists.iter().flat_map(|list| meta::list(spec, &[list]));
    if all.any(|container| has_action(container, "RestartAllContainers")) {
        return true;
    }
    let mut mains = meta::list(spec, &["containers"]).iter();
    let own = mains.find(|container| meta::text(container, &["name"]) == name);
    let rules = own.map_or(&[][..], |own| meta::list(own, &["restartPolicyRules"]));
    if rules.iter().any(|rule| matches(rule, exit_code)) {
        return true;
    }
    let own = own.map_or("", |own| meta::text(own, &["restartPolicy"]));
    let policy = match own {
        "" => meta::text(spec, &["restartPolicy"]),
        own => own,
    };
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

fn has_action(container: &Value, action: &str) -> bool {
    let mut rules = meta::list(container, &["restartPolicyRules"]).iter();
    rules.any(|rule| meta::text(rule, &["action"]) == action)
}

fn matches(rule: &Value, exit_code: i64) -> bool {
    let mut values = meta::list(rule, &["exitCodes", "values"]).iter();
    let within = values.any(|value| value.as_i64() == Some(exit_code));
    match meta::text(rule, &["exitCodes", "operator"]) {
        "In" => within,
        "NotIn" => !within,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_may_run_again_is_said_by_rules_then_by_policies() {
        let rule = |action: &str, operator: &str| json!([{"action": action, "exitCodes": {"operator": operator, "values": [42]}}]);
        let in_rule = rule("Restart", "In");
        for (policy, own, rules, code, again) in [
            ("Never", json!(null), json!(null), 1, false),
            ("OnFailure", json!(null), json!(null), 1, true),
            ("OnFailure", json!(null), json!(null), 0, false),
            ("Always", json!(null), json!(null), 0, true),
            ("Never", json!("Always"), json!(null), 0, true),
            ("Always", json!("Never"), json!(null), 1, false),
            ("Always", json!("OnFailure"), json!(null), 0, false),
            ("Never", json!("Never"), in_rule.clone(), 42, true),
            ("Never", json!("Never"), in_rule, 41, false),
            ("Never", json!("Never"), rule("Restart", "NotIn"), 41, true),
            (
                "Never",
                json!("Never"),
                rule("RestartAllContainers", "In"),
                0,
                true,
            ),
        ] {
            let mut pod = json!({"spec": {"restartPolicy": policy, "containers": [{"name": "a"}]}});
            for (field, value) in [("restartPolicy", &own), ("restartPolicyRules", &rules)] {
                if !value.is_null() {
                    pod["spec"]["containers"][0][field] = value.clone();
                }
            }
            assert_eq!(may_run_again(&pod, "a", code), again, "{pod} {code}");
        }
    }
}

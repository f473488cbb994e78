//! What validating policies have to say to the audit log.

use super::Ask;
use super::policy::Action;
use super::validation::Refusal;
use crate::audit::{Level, Trail};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most bytes of an annotation's value.
const MOST_VALUE: usize = 10 << 10;
const MOST_FAILURES: usize = 50;
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

#[derive(Default)]
pub(super) struct Findings {
    /// Several parameters may have given one key different values.
    annotations: BTreeMap<String, Vec<String>>,
    failures: Vec<Value>,
}

impl Findings {
    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(MOST_VALUE)];
        let values = self.annotations.entry(key.to_owned()).or_default();
        if !values.iter().any(|v| v == value) {
            values.push(value.to_owned());
        }
    }

    /// A refusal that the binding wants recorded.
    pub(super) fn fail(&mut self, ask: &Ask<'_>, refusal: &Refusal) {
        let actions: Vec<&str> = ask.binding.actions.iter().map(|a| name(*a)).collect();
        self.failures.push(json!({
            "message": refusal.message,
            "policy": ask.policy.name,
            "binding": ask.binding.name,
            "expressionIndex": refusal.index,
            "validationActions": actions,
        }));
    }

    pub(super) fn publish(mut self, trail: &Trail) {
        for (key, values) in &self.annotations {
            trail.annotate(Level::Metadata, key, &values.join(", "));
        }
        if !self.failures.is_empty() {
            self.failures.truncate(MOST_FAILURES);
            let failures = Value::from(self.failures).to_string();
            trail.annotate(Level::Metadata, FAILURES, &failures);
        }
    }
}

fn name(action: Action) -> &'static str {
    match action {
        Action::Deny => "Deny",
        Action::Warn => "Warn",
        Action::Audit => "Audit",
    }
}

//! What the expressions of a validating policy say of one request with one
//! parameter (`policy/validating/validator.go`).

use super::composition::Composition;
use super::policy::{Policy, Validation};
use super::with_namespace;
use crate::admission::conditions::{Bound, Fault};
use expressions::Value as Cel;
use serde_json::Value;

/// Most bytes of a message that an expression makes.
const MOST_MESSAGE: usize = 5 << 10;

/// Why a policy doesn't admit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    /// Empty: of an expression that failed.
    pub(super) reason: String,
    /// Which of the policy's validations it is.
    pub(super) index: usize,
    /// Whether the binding's actions have a say; a failed annotation is
    /// always a refusal.
    pub(super) is_actionable: bool,
}

impl Refusal {
    pub(super) fn failed(message: &str) -> Refusal {
        Refusal {
            message: message.to_owned(),
            reason: String::new(),
            index: 0,
            is_actionable: true,
        }
    }
}

/// What a policy came to.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) refusals: Vec<Refusal>,
    /// For the audit log.
    pub(super) annotations: Vec<(String, String)>,
}

/// Judges a request; `bound` has everything but the namespace, which conditions
/// don't see, and the variables. Call it within [`expressions::isolated`].
pub(super) fn judge(policy: &Policy, bound: Bound, namespace: &Value) -> Judgement {
    let mut out = Judgement::default();
    let failed = |why: &str| policy.fails.then(|| Refusal::failed(why));
    match policy.conditions.hold(&bound, true) {
        Ok(true) => {}
        Ok(false) => return out,
        Err(why) => {
            out.refusals.extend(failed(&why));
            return out;
        }
    }
    let mut composition = Composition::new(policy, with_namespace(bound, namespace));
    for (index, validation) in policy.validations.iter().enumerate() {
        match composition.evaluate(&validation.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => out.refusals.push(Refusal {
                message: message(validation, &mut composition),
                reason: match validation.reason.as_str() {
                    "" => "Invalid".to_owned(),
                    reason => reason.to_owned(),
                },
                index,
                is_actionable: true,
            }),
            Err(Fault::Expression(why)) => {
                let refusal = failed(&why);
                out.refusals.extend(refusal.map(|r| Refusal { index, ..r }));
            }
            // Nothing that was found before counts beside it.
            Err(Fault::Budget(why)) => {
                out.refusals = failed(&why).into_iter().collect();
                return out;
            }
        }
    }
    for (key, expression) in &policy.annotations {
        let why = match composition.evaluate(expression) {
            Ok(Cel::String(text)) if !text.trim().is_empty() => {
                let annotation = (format!("{}/{key}", policy.name), text.trim().to_owned());
                out.annotations.push(annotation);
                continue;
            }
            Ok(Cel::String(_) | Cel::Null) => continue,
            Ok(_) => format!(
                "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
                expression.text
            ),
            Err(_) if !policy.fails => continue,
            Err(fault) => fault.text().to_owned(),
        };
        out.refusals.push(Refusal {
            is_actionable: false,
            ..Refusal::failed(&why)
        });
    }
    out
}

/// The message: what its expression says, or its text, or the rule itself.
fn message(of: &Validation, composition: &mut Composition<'_>) -> String {
    let made = of
        .message_expression
        .as_ref()
        .map(|e| composition.evaluate(e));
    if let Some(Ok(Cel::String(text))) = made {
        let text = text.trim();
        if !text.is_empty() && text.len() <= MOST_MESSAGE && !text.contains('\n') {
            return text.to_owned();
        }
    }
    match of.message.as_str() {
        "" => format!("failed expression: {}", of.expression.text.trim()),
        message => message.to_owned(),
    }
}

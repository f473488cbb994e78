//! Running the rules of a schema over an object, within one budget for all of
//! them (`apiserver/schema/cel/validation.go`). A fault of what an update
//! leaves as it was is forgiven, unless the rule speaks of `oldSelf`.

use super::{Rule, types};
use crate::custom::schema::{Additional, ListType, Schema, lists};
use crate::field::{Errors, Fault, FieldError, Path};
use expressions::{Budget, EvalError, Program, Spent, Value as Cel, isolated};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Steps for one object, as many as upstream has units.
const STEPS: u64 = 10_000_000;
/// For one object, whatever its rules do.
const TIME: Duration = Duration::from_secs(2);
/// Most bytes of a message that an expression makes.
const MOST_MESSAGE: usize = 5 << 10;

/// What the rules say of an object, made or updated.
pub(crate) fn evaluate(object: &Value, old: Option<&Value>, schema: &Schema, errors: &mut Errors) {
    let blocked = errors.0.iter().any(|e| {
        matches!(
            e.fault,
            Fault::NotSupported(_)
                | Fault::Required
                | Fault::TooLong
                | Fault::TooMany(_)
                | Fault::TypeInvalid(_)
        )
    });
    if blocked {
        errors.invalid(
            &Path::new("<nil>"),
            Value::Null,
            "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        );
        return;
    }
    let found = run(object, old, schema, true);
    errors.0.extend(found.0);
}

/// What the rules of a schema say of one of its defaults.
pub(crate) fn check_default(default: &Value, schema: &Schema) -> Errors {
    match super::any(schema) {
        true => run(default, Some(default), schema, false),
        false => Errors::default(),
    }
}

fn run(value: &Value, old: Option<&Value>, schema: &Schema, whole: bool) -> Errors {
    let found = isolated(|| {
        let mut walk = Walk {
            budget: Budget {
                steps: STEPS,
                deadline: Instant::now() + TIME,
            },
            errors: Errors::default(),
            over: false,
            // Of a default every rule counts.
            ratchets: whole,
        };
        walk.node(value, old, schema, whole, &Path::default());
        walk.errors
    });
    found.unwrap_or_else(|| {
        let mut errors = Errors::default();
        let why = "the evaluation of validation rules failed";
        errors.invalid(&Path::new("<nil>"), Value::Null, why);
        errors
    })
}

struct Walk {
    budget: Budget,
    errors: Errors,
    over: bool,
    ratchets: bool,
}

impl Walk {
    fn node(
        &mut self,
        value: &Value,
        old: Option<&Value>,
        schema: &Schema,
        whole: bool,
        path: &Path,
    ) {
        if value.is_null() || self.over {
            return;
        }
        self.rules(value, old, schema, whole, path);
        match value {
            Value::Array(items) => {
                let Some(of) = schema.items.as_deref().filter(|of| super::any(of)) else {
                    return;
                };
                let before = match (schema.list_type, old) {
                    (ListType::Map, Some(Value::Array(old))) => Some(old),
                    _ => None,
                };
                for (i, item) in items.iter().enumerate() {
                    let was = before.and_then(|old| {
                        let key = lists::key(item, schema);
                        old.iter().find(|o| lists::key(o, schema) == key)
                    });
                    self.node(item, was, of, false, &path.index(i));
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let (of, at) = match (schema.properties.get(name), &schema.additional) {
                        (Some(of), _) => (of, path.child(name)),
                        (None, Some(Additional::Each(of))) => (&**of, path.key(name)),
                        (None, _) => continue,
                    };
                    if super::any(of) {
                        let was = old.and_then(|o| o.get(name));
                        self.node(member, was, of, false, &at);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rules(
        &mut self,
        value: &Value,
        old: Option<&Value>,
        schema: &Schema,
        whole: bool,
        path: &Path,
    ) {
        if schema.rules.is_empty() {
            return;
        }
        let old = old.filter(|o| !o.is_null());
        let own = types::value(value, schema, whole);
        let before = old.map(|o| types::value(o, schema, whole));
        for rule in &schema.rules {
            if self.over {
                return;
            }
            let program = match rule.program() {
                Ok(program) => program,
                Err(why) => {
                    self.fault(path, schema, format!("rule compile error: {why}"));
                    continue;
                }
            };
            let optional = rule.optional_old_self == Some(true);
            let transition = program.uses("oldSelf");
            if transition && before.is_none() && !optional {
                continue;
            }
            let mut variables = vec![("self", own.clone())];
            if optional {
                variables.push(("oldSelf", expressions::optional(before.clone())));
            } else if let Some(before) = &before {
                variables.push(("oldSelf", before.clone()));
            }
            if self.holds(program, &variables, rule, schema, path) {
                continue;
            }
            if self.ratchets && !transition && old == Some(value) {
                continue;
            }
            let message = self.message(rule, &variables);
            self.refuse(value, rule, schema, path, message);
        }
    }

    /// Whether the rule holds, or its failure is already noted.
    fn holds(
        &mut self,
        program: &Program,
        variables: &[(&str, Cel)],
        rule: &Rule,
        schema: &Schema,
        path: &Path,
    ) -> bool {
        let why = match program.evaluate(variables, &mut self.budget) {
            Ok(Cel::Bool(true)) => return true,
            Ok(Cel::Bool(false)) => return false,
            Ok(_) => format!("must evaluate to a bool evaluating rule: {}", rule.shown()),
            Err(EvalError::Spent(Spent::Budget)) => {
                self.over = true;
                "validation failed due to running out of cost budget, no further validation rules will be run".to_owned()
            }
            Err(EvalError::Spent(_)) => {
                self.over = true;
                format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                    rule.shown()
                )
            }
            Err(EvalError::Failed(why)) => {
                if why.starts_with("no such overload") {
                    format!(
                        "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                        rule.shown()
                    )
                } else {
                    format!("{why} evaluating rule: {}", rule.shown())
                }
            }
        };
        self.fault(path, schema, why);
        true
    }

    fn fault(&mut self, path: &Path, schema: &Schema, why: String) {
        self.errors.invalid(path, schema.kind.as_str(), why);
    }

    fn message(&mut self, rule: &Rule, variables: &[(&str, Cel)]) -> String {
        if let Some(program) = rule.message_program()
            && let Ok(Cel::String(text)) = program.evaluate(variables, &mut self.budget)
        {
            let text = text.trim();
            let fits = !text.is_empty() && text.len() <= MOST_MESSAGE && !text.contains('\n');
            if fits {
                return text.to_owned();
            }
        }
        match rule.message.trim() {
            "" => format!("failed rule: {}", rule.shown()),
            message => message.to_owned(),
        }
    }

    fn refuse(&mut self, value: &Value, rule: &Rule, schema: &Schema, path: &Path, why: String) {
        let steps = types::steps(&rule.field_path).unwrap_or_default();
        let path = steps.iter().fold(path.clone(), |p, name| p.child(name));
        let hidden = matches!(schema.kind.as_str(), "object" | "array");
        let fault = match rule.reason.as_deref() {
            Some("FieldValueForbidden") => Fault::Forbidden,
            Some("FieldValueRequired") => Fault::Required,
            Some("FieldValueDuplicate") => Fault::Duplicate(value.clone()),
            _ if hidden => Fault::InvalidUnshown,
            _ => Fault::Invalid(value.clone()),
        };
        self.errors.0.push(FieldError {
            path,
            fault,
            detail: why,
        });
    }
}

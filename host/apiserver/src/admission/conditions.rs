//! Expressions over a request, and match conditions made of them
//! (`plugin/cel`, `webhook/matchconditions`).

use api::meta;
use expressions::authorizer::{AUTHORIZER, REQUEST_RESOURCE};
use expressions::{Budget, EvalError, Program, Spent, Value as Cel};
use serde_json::Value;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What the conditions of one webhook or policy may use together.
const CONDITION_STEPS: u64 = 2_500_000;
const TIME: Duration = Duration::from_secs(2);

/// An expression, compiled when it is first needed.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    /// Whether it may build objects.
    builds: bool,
    names: &'static [&'static str],
    program: OnceLock<Result<Program, String>>,
}

/// Why an expression has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It alone failed.
    Expression(String),
    /// Nothing more may be evaluated.
    Budget(String),
}

impl Fault {
    pub(super) fn text(&self) -> &str {
        match self {
            Fault::Expression(why) | Fault::Budget(why) => why,
        }
    }
}

/// Variables by name, as expressions see them.
pub(super) type Bound = Vec<(&'static str, Cel)>;

pub(super) fn budget(steps: u64) -> Budget {
    Budget {
        steps,
        deadline: Instant::now() + TIME,
    }
}

impl Expression {
    /// Over the variables `names`.
    pub(super) fn new(text: &str, names: &'static [&'static str]) -> Expression {
        Expression {
            text: text.to_owned(),
            builds: false,
            names,
            program: OnceLock::new(),
        }
    }

    /// One that may build objects, as mutations do.
    pub(super) fn building(mut self) -> Expression {
        self.builds = true;
        self
    }

    pub(super) fn program(&self) -> Result<&Program, Fault> {
        let compile = || {
            let compiled = match self.builds {
                true => Program::compile_building(&self.text, self.names),
                false => Program::compile(&self.text, self.names),
            };
            compiled.map_err(|e| e.to_string())
        };
        let compiled = self.program.get_or_init(compile).as_ref();
        compiled.map_err(|why| Fault::Expression(format!("compilation error: {why}")))
    }

    /// Its result. Call it within [`expressions::isolated`].
    pub(super) fn evaluate(
        &self,
        bound: &[(&'static str, Cel)],
        budget: &mut Budget,
    ) -> Result<Cel, Fault> {
        self.attempt(bound, budget).map_err(|fault| match fault {
            Fault::Expression(why) if self.program().is_ok() => {
                let text = &self.text;
                Fault::Expression(format!("expression '{text}' resulted in error: {why}"))
            }
            other => other,
        })
    }

    /// The same, with the bare reason of a failure.
    pub(super) fn attempt(
        &self,
        bound: &[(&'static str, Cel)],
        budget: &mut Budget,
    ) -> Result<Cel, Fault> {
        let outcome = self.program()?.evaluate(bound, budget);
        outcome.map_err(|e| match e {
            EvalError::Spent(Spent::Budget) => Fault::Budget("validation failed due to running out of cost budget, no further validation rules will be run".to_owned()),
            EvalError::Spent(_) => {
                Fault::Expression("operation cancelled: actual cost limit exceeded".to_owned())
            }
            EvalError::Failed(why) => Fault::Expression(why),
        })
    }
}

/// `matchConditions` of a webhook or a policy.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Expression>);

/// What conditions of webhooks see.
pub(super) const REQUEST: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    AUTHORIZER,
    REQUEST_RESOURCE,
];

impl Conditions {
    pub(super) fn parse(of: &Value, names: &'static [&'static str]) -> Conditions {
        let listed = meta::list(of, &["matchConditions"]).iter();
        Conditions(
            listed
                .map(|c| Expression::new(meta::text(c, &["expression"]), names))
                .collect(),
        )
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that doesn't decides, whatever else failed;
    /// a failure is an error if failures count (`fails`), else no match.
    /// Call it within [`expressions::isolated`].
    pub(super) fn hold(&self, bound: &[(&'static str, Cel)], fails: bool) -> Result<bool, String> {
        let mut budget = budget(CONDITION_STEPS);
        let mut faults: Vec<String> = Vec::new();
        for condition in &self.0 {
            match condition.evaluate(bound, &mut budget) {
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => {}
                Err(fault) => {
                    faults.push(fault.text().to_owned());
                    if matches!(fault, Fault::Budget(_)) {
                        break;
                    }
                }
            }
        }
        match (faults.as_slice(), fails) {
            ([], _) => Ok(true),
            (_, false) => Ok(false),
            ([one], true) => Err(one.clone()),
            (many, true) => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// What every expression over a request sees; conditions see no namespace.
pub(super) fn bind(object: &Value, old: &Value, request: &Value) -> Bound {
    vec![
        ("object", expressions::from_json(object)),
        ("oldObject", expressions::from_json(old)),
        ("request", expressions::from_json(request)),
        ("namespaceObject", Cel::Null),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hold(conditions: &[&str], fails: bool) -> Result<bool, String> {
        let listed: Vec<Value> = conditions
            .iter()
            .map(|c| json!({"name": "c", "expression": c}))
            .collect();
        let conditions = Conditions::parse(&json!({"matchConditions": listed}), REQUEST);
        let object = json!({"metadata": {"name": "a"}});
        let request = json!({"operation": "CREATE"});
        let bound = bind(&object, &Value::Null, &request);
        expressions::isolated(|| conditions.hold(&bound, fails)).unwrap_or(Ok(false))
    }

    #[test]
    fn a_condition_that_does_not_hold_decides() {
        let fault = "expression 'object.spec.x' resulted in error: no such key: spec";
        for (conditions, fails, wanted) in [
            (&[][..], true, Ok(true)),
            (&["object.metadata.name == 'a'"], true, Ok(true)),
            (
                &["oldObject == null && request.operation == 'CREATE'"],
                true,
                Ok(true),
            ),
            (&["object.spec.x", "false"], true, Ok(false)),
            (&["object.spec.x", "true"], true, Err(fault.to_owned())),
            (&["object.spec.x", "true"], false, Ok(false)),
            (
                &["object.spec.x", "object.spec.x"],
                true,
                Err(format!("[{fault}, {fault}]")),
            ),
        ] {
            assert_eq!(hold(conditions, fails), wanted, "{conditions:?}");
        }
        let endless = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(a, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(b, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(c, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(d, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(e, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(f, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(g, true)))))))";
        let spent = hold(&[endless], true);
        assert!(
            spent.is_err_and(|why| why.contains("cost limit exceeded")),
            "a loop ends"
        );
    }
}

//! From checked claims to a user: by the names of claims or by expressions
//! over them, and the rules that have to hold. Pure (upstream's
//! `plugin/pkg/authenticator/token/oidc`, KEP-3331).
//!
//! Expressions see `claims`, rules for users `user`; all of one token together
//! have one budget.

use crate::user::User;
use expressions::{Budget, EvalError, Program, Type};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of all expressions over one token.
const STEPS: u64 = 1_000_000;
const TIME: Duration = Duration::from_secs(1);

/// A program and its text.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    text: String,
    program: Program,
}

impl Expression {
    /// Over `variable`, with a result that may be of type `wanted`.
    pub(super) fn compile(
        text: &str,
        variable: &str,
        wanted: Option<&Type>,
    ) -> Result<Expression, String> {
        let program = Program::compile(text, &[variable]).map_err(|e| e.to_string())?;
        let found = program
            .check(&[(variable, Type::Dyn)])
            .map_err(|e| e.to_string())?;
        match wanted {
            Some(wanted) if found != Type::Dyn && found != *wanted => {
                Err(format!("must evaluate to {wanted:?}").to_lowercase())
            }
            _ => Ok(Expression {
                text: text.to_owned(),
                program,
            }),
        }
    }

    /// Whether it speaks of a member of `claims`.
    pub(super) fn uses(&self, claim: &str) -> bool {
        self.program.members("claims").contains(claim)
    }

    fn evaluate(
        &self,
        variable: &'static str,
        value: &expressions::Value,
        budget: &mut Budget,
    ) -> Result<Value, String> {
        let found = self.program.evaluate(&[(variable, value.clone())], budget);
        let found = found.map_err(|e| match e {
            EvalError::Failed(why) => {
                format!("expression '{}' resulted in error: {why}", self.text)
            }
            EvalError::Spent(spent) => format!("expression '{}': {spent}", self.text),
        })?;
        expressions::to_json(&found)
    }
}

/// Where a part of a user comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// What has to be true.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: String,
}

/// What claims become.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(crate) username: Source,
    pub(crate) groups: Option<Source>,
    pub(crate) uid: Option<Source>,
    /// Keys, and expressions for what they hold.
    pub(crate) extra: Vec<(String, Expression)>,
    /// Claims that have to be there with this very text.
    pub(crate) required: BTreeMap<String, String>,
    pub(crate) claim_rules: Vec<Rule>,
    pub(crate) user_rules: Vec<Rule>,
}

impl Mapping {
    fn evaluates(&self) -> bool {
        let by = |source: &Option<Source>| matches!(source, Some(Source::Expression(_)));
        matches!(self.username, Source::Expression(_))
            || by(&self.groups)
            || by(&self.uid)
            || !(self.extra.is_empty() && self.claim_rules.is_empty() && self.user_rules.is_empty())
    }

    /// Whom checked claims name.
    pub(super) fn user(&self, claims: &Value) -> Result<User, String> {
        if !self.evaluates() {
            return Evaluation::of(claims).user(self);
        }
        let found = expressions::isolated(|| Evaluation::of(claims).user(self));
        found.unwrap_or_else(|| Err("oidc: an expression failed".to_owned()))
    }
}

/// One token's claims, and what its expressions may still use.
struct Evaluation<'a> {
    claims: &'a Value,
    /// The same for expressions.
    values: expressions::Value,
    budget: Budget,
}

impl<'a> Evaluation<'a> {
    fn of(claims: &'a Value) -> Evaluation<'a> {
        Evaluation {
            claims,
            values: expressions::from_json(claims),
            budget: Budget {
                steps: STEPS,
                deadline: Instant::now() + TIME,
            },
        }
    }

    fn user(&mut self, mapping: &Mapping) -> Result<User, String> {
        let name = self.username(&mapping.username)?;
        if name.is_empty() {
            return Err("oidc: the user's name is empty".to_owned());
        }
        let groups = self.groups(mapping.groups.as_ref())?;
        let uid = self.uid(mapping.uid.as_ref())?;
        let mut extra = BTreeMap::new();
        for (key, expression) in &mapping.extra {
            let values = self.value(expression).and_then(|v| texts(&v));
            let values = values.map_err(|why| {
                let text = &expression.text;
                format!("oidc: error evaluating extra claim expression: {text}: {why}")
            })?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        self.required(&mapping.required)?;
        let values = self.values.clone();
        self.hold(&mapping.claim_rules, "claims", &values)
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        let info =
            serde_json::json!({"username": name, "uid": uid, "groups": groups, "extra": extra});
        self.hold(&mapping.user_rules, "user", &expressions::from_json(&info))
            .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        Ok(User {
            uid,
            extra,
            ..User::new(name, groups)
        })
    }

    fn value(&mut self, expression: &Expression) -> Result<Value, String> {
        expression.evaluate("claims", &self.values, &mut self.budget)
    }

    fn username(&mut self, source: &Source) -> Result<String, String> {
        let (claim, prefix) = match source {
            Source::Claim { name, prefix } => (name, prefix),
            Source::Expression(expression) => {
                let wrong =
                    |why| format!("oidc: error evaluating username claim expression: {why}");
                return match self.value(expression).map_err(wrong)? {
                    Value::String(name) => Ok(name),
                    _ => Err(wrong(
                        "username claim expression must return a string".to_owned(),
                    )),
                };
            }
        };
        let wrong = |why| format!("oidc: parse username claims {claim:?}: {why}");
        let found = self.claims.get(claim);
        let found = found.ok_or_else(|| wrong("claim not present"))?;
        let name = found.as_str().ok_or_else(|| wrong("not a string"))?;
        if claim == "email" {
            match self.claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                Some(_) => {
                    return Err("oidc: parse 'email_verified' claim: not a boolean".to_owned());
                }
            }
        }
        Ok(format!("{prefix}{name}"))
    }

    /// A text is a list of one.
    fn groups(&mut self, source: Option<&Source>) -> Result<Vec<String>, String> {
        let (claim, prefix) = match source {
            None => return Ok(Vec::new()),
            Some(Source::Claim { name, prefix }) => (name, prefix),
            Some(Source::Expression(expression)) => {
                let found = self.value(expression).and_then(|v| texts(&v));
                return found.map_err(|why| {
                    format!("oidc: error evaluating group claim expression: {why}")
                });
            }
        };
        let prefixed = |group: &str| format!("{prefix}{group}");
        let wrong = || format!("oidc: parse groups claim {claim:?}: not a string or strings");
        match self.claims.get(claim) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![prefixed(one)]),
            Some(Value::Array(many)) => many
                .iter()
                .map(|g| g.as_str().map(prefixed).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn uid(&mut self, source: Option<&Source>) -> Result<String, String> {
        match source {
            None => Ok(String::new()),
            Some(Source::Claim { name, .. }) => {
                let found = self.claims.get(name).and_then(Value::as_str);
                let found =
                    found.ok_or_else(|| format!("oidc: parse uid claim {name:?}: no string"));
                found.map(str::to_owned)
            }
            Some(Source::Expression(expression)) => {
                let wrong = |why| format!("oidc: error evaluating uid claim expression: {why}");
                match self.value(expression).map_err(wrong)? {
                    Value::String(uid) => Ok(uid),
                    _ => Err(wrong(
                        "uid claim expression must return a string".to_owned(),
                    )),
                }
            }
        }
    }

    fn required(&self, required: &BTreeMap<String, String>) -> Result<(), String> {
        for (claim, wanted) in required {
            let Some(found) = self.claims.get(claim) else {
                return Err(format!(
                    "oidc: required claim {claim} not present in ID token"
                ));
            };
            let Some(found) = found.as_str() else {
                return Err(format!("oidc: parse claim {claim}: not a string"));
            };
            if found != wanted {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"
                ));
            }
        }
        Ok(())
    }

    fn hold(
        &mut self,
        rules: &[Rule],
        variable: &'static str,
        value: &expressions::Value,
    ) -> Result<(), String> {
        for Rule {
            expression,
            message,
        } in rules
        {
            match expression.evaluate(variable, value, &mut self.budget)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    let text = &expression.text;
                    return Err(format!("validation expression '{text}' failed: {message}"));
                }
                _ => return Err("validation expression must return a boolean".to_owned()),
            }
        }
        Ok(())
    }
}

/// A text or texts; empty ones are none.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let all = match value {
        Value::Null => Vec::new(),
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many
            .iter()
            .map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong()),
    };
    Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;

//! `x-kubernetes-validations`: rules in CEL. Here are their form and their
//! compilation; [`evaluation`] runs them.

mod evaluation;
mod types;

pub(crate) use evaluation::{check_default, evaluate};

use super::schema::{Additional, Schema};
use crate::field::{Errors, Path};
use crate::meta;
use expressions::{Program, Type};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

const VARIABLES: &[&str] = &["self", "oldSelf"];

/// A rule of a schema, compiled when it is first needed.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    pub reason: Option<String>,
    pub field_path: String,
    pub optional_old_self: Option<bool>,
    compiled: Arc<OnceLock<Result<Program, String>>>,
    compiled_message: Arc<OnceLock<Option<Program>>>,
}

impl Rule {
    pub(super) fn parse(value: &Value) -> Rule {
        let text = |key: &str| meta::text(value, &[key]).to_owned();
        Rule {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: value
                .get("reason")
                .and_then(Value::as_str)
                .map(str::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool),
            ..Rule::default()
        }
    }

    fn program(&self) -> &Result<Program, String> {
        self.compiled
            .get_or_init(|| Program::compile(&self.rule, VARIABLES).map_err(|e| e.to_string()))
    }

    fn message_program(&self) -> Option<&Program> {
        let compile = || Program::compile(&self.message_expression, VARIABLES).ok();
        let wanted = !self.message_expression.is_empty();
        self.compiled_message
            .get_or_init(|| wanted.then(compile).flatten())
            .as_ref()
    }

    /// What names the rule in messages.
    fn shown(&self) -> &str {
        match self.message.trim() {
            "" => self.rule.trim(),
            message => message,
        }
    }
}

/// Checks the rules of one node of a schema; if it is `sound`, they are
/// compiled too. Below `uncorrelated` an update has nothing to compare with.
pub(crate) fn validate(
    of: &Value,
    path: &Path,
    sound: bool,
    uncorrelated: Option<&Path>,
    errors: &mut Errors,
) {
    let listed = meta::list(of, &["x-kubernetes-validations"]);
    let before = errors.0.len();
    for (i, rule) in listed.iter().enumerate() {
        let at = path.child("x-kubernetes-validations").index(i);
        form(rule, &at, errors);
        let field = meta::text(rule, &["fieldPath"]);
        if !field.is_empty() && types::at_path(of, field).is_none() {
            errors.invalid(&at.child("fieldPath"), field, "must be a valid path");
        }
    }
    if !sound || errors.0.len() > before {
        return;
    }
    let schema = Schema::parse(of);
    let own = types::of(&schema, path_is_root(path));
    for (i, rule) in listed.iter().enumerate() {
        let at = path.child("x-kubernetes-validations").index(i);
        compiles(rule, &own, &at, uncorrelated, errors);
    }
}

/// The root of a schema has apiVersion, kind and metadata.
fn path_is_root(path: &Path) -> bool {
    path.to_string().ends_with("openAPIV3Schema")
}

fn form(rule: &Value, path: &Path, errors: &mut Errors) {
    let text = |key: &str| meta::text(rule, &[key]);
    let lines = |text: &str| text.contains(['\n', '\r']);
    let (source, message) = (text("rule").trim(), text("message").trim());
    let at = path.child("message");
    if source.is_empty() {
        errors.required(&path.child("rule"), "rule is not specified");
    } else if !text("message").is_empty() && message.is_empty() {
        errors.invalid(&at, text("message"), "must be non-empty if specified");
    } else if lines(message) {
        errors.invalid(&at, text("message"), "must not contain line breaks");
    } else if lines(source) && message.is_empty() {
        errors.required(
            &at,
            "message must be specified if rule contains line breaks",
        );
    }
    if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.required(&path.child("messageExpression"), why);
    }
    if let Some(reason) = rule.get("reason").and_then(Value::as_str)
        && !REASONS.contains(&reason)
    {
        errors.not_supported(&path.child("reason"), reason, REASONS);
    }
    let at = path.child("fieldPath");
    if !text("fieldPath").is_empty() && text("fieldPath").trim().is_empty() {
        errors.invalid(&at, text("fieldPath"), "must be non-empty if specified");
    }
    if lines(text("fieldPath")) {
        errors.invalid(&at, text("fieldPath"), "must not contain line breaks");
    }
}

fn compiles(
    rule: &Value,
    own: &Type,
    path: &Path,
    uncorrelated: Option<&Path>,
    errors: &mut Errors,
) {
    let optional = meta::flag(rule, &["optionalOldSelf"]);
    let old = if optional { Type::Dyn } else { own.clone() };
    let scope = [("self", own.clone()), ("oldSelf", old)];
    let compile = |key: &str, wanted: &Type, why: &str| -> Result<Program, String> {
        let program = Program::compile(meta::text(rule, &[key]), VARIABLES);
        let program = program.map_err(|e| e.to_string())?;
        let found = program.check(&scope).map_err(|e| e.to_string())?;
        match found == *wanted || found == Type::Dyn {
            true => Ok(program),
            false => Err(why.to_owned()),
        }
    };
    match compile("rule", &Type::Bool, "must evaluate to a bool") {
        Err(why) => errors.invalid(&path.child("rule"), rule.clone(), why),
        Ok(program) if program.uses("oldSelf") => {
            if let Some(above) = uncorrelated {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {above}"
                );
                errors.invalid(&path.child("rule"), meta::text(rule, &["rule"]), why);
            }
        }
        Ok(_) => {
            if let Some(set) = rule.get("optionalOldSelf") {
                let why = "may not be set if oldSelf is not used in rule";
                errors.invalid(&path.child("optionalOldSelf"), set.clone(), why);
            }
        }
    }
    if !meta::text(rule, &["messageExpression"]).is_empty() {
        let why = "must evaluate to a string";
        if let Err(why) = compile("messageExpression", &Type::String, why) {
            let why = why.replacen(
                "compilation failed",
                "messageExpression compilation failed",
                1,
            );
            errors.invalid(&path.child("messageExpression"), rule.clone(), why);
        }
    }
}

/// Whether a schema has rules anywhere.
pub(crate) fn any(schema: &Schema) -> bool {
    !schema.rules.is_empty()
        || schema.properties.values().any(any)
        || schema.items.as_deref().is_some_and(any)
        || match &schema.additional {
            Some(Additional::Each(of)) => any(of),
            Some(Additional::Any | Additional::None) | None => false,
        }
}

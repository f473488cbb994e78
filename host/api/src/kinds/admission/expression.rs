//! Expressions of webhooks and policies: whether they compile, over which
//! variables, and to what (`plugin/cel/compile.go`).

use crate::field::{Errors, Path};
use expressions::authorizer::{AUTHORIZER, REQUEST_RESOURCE};
use expressions::{Program, Type};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What every expression over a request sees.
const REQUEST: &[&str] = &["object", "oldObject", "request", "namespaceObject"];

/// What an expression has to come to, as far as that is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    Bool,
    Text,
    TextOrNull,
    Anything,
}

impl Result {
    /// What is wrong with `found`.
    fn refuses(self, found: &Type) -> Option<&'static str> {
        match (self, found) {
            (_, Type::Dyn) | (Result::Anything, _) => None,
            (Result::Bool, Type::Bool) | (Result::Text | Result::TextOrNull, Type::String) => None,
            (Result::Bool, _) => Some("must evaluate to bool"),
            (Result::Text, _) => Some("must evaluate to string"),
            (Result::TextOrNull, _) => Some("must evaluate to one of [string null_type]"),
        }
    }
}

/// The variables of one policy or webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Whether there are parameters.
    pub(super) params: bool,
    /// Messages can't ask the authorizer.
    pub(super) is_message: bool,
    /// Whether expressions build objects.
    pub(super) builds: bool,
    /// Composed variables, as far as they are declared yet.
    pub(super) variables: Option<BTreeMap<String, Type>>,
}

impl Scope {
    pub(super) fn declare(&mut self, name: &str, of: Type) {
        let variables = self.variables.get_or_insert_default();
        variables.insert(name.to_owned(), of);
    }

    /// Checks `text`; the type of its result.
    pub(super) fn check(
        &self,
        text: &str,
        wanted: Result,
        path: &Path,
        errors: &mut Errors,
    ) -> Type {
        let mut names = REQUEST.to_vec();
        if !self.is_message {
            names.extend([AUTHORIZER, REQUEST_RESOURCE]);
        }
        names.extend(self.params.then_some("params"));
        names.extend(self.variables.as_ref().map(|_| "variables"));
        let compile = match self.builds {
            true => Program::compile_building,
            false => Program::compile,
        };
        let compiled = compile(text, &names).and_then(|program| {
            let composed = self.variables.clone().unwrap_or_default();
            let types = [("variables", Type::Object(Arc::new(composed)))];
            program.check(&types)
        });
        match compiled {
            Ok(found) => {
                if let Some(why) = wanted.refuses(&found) {
                    errors.invalid(path, text, why);
                }
                found
            }
            Err(e) => {
                errors.invalid(path, text, e.to_string());
                Type::Dyn
            }
        }
    }
}

//! CEL as Kubernetes has it: expressions compiled once, evaluated within a
//! budget of steps, time and memory. For `x-kubernetes-validations`, admission
//! policies and match conditions.
//!
//! The interpreter has no budget of its own, so the program is given one: each
//! turn of a loop, and each call that can make text or lists grow, passes
//! through a function that counts ([`budget`]). Text is bounded before it is
//! parsed, programs in depth afterwards, and everything that parses or
//! evaluates runs in [`isolated`]: on a stack of known size, where a panic is
//! an error.
//!
//! Of upstream's libraries there are: lists, regex, URLs, quantity, IP and
//! CIDR, format, semver, sets, math, strings, base64, two-variable
//! comprehensions apart; and the [`authorizer`], where its variable is given.

pub mod authorizer;
mod budget;
mod building;
mod check;
mod place;
mod program;
mod signatures;
mod types;
mod value;

pub use budget::{Budget, Spent};
pub use program::{CompileError, Program};
pub use types::Type;
pub use value::{
    Value, bytes, duration, escape, from_json, is_identifier, list, map, optional, text, timestamp,
    to_json,
};

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, ExecutionError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

/// For parsing and evaluating: what the deepest allowed program needs, and
/// more.
const STACK: usize = 64 << 20;

/// All functions; variables live in scopes below it.
static FUNCTIONS: LazyLock<Context<'static>> = LazyLock::new(|| {
    let mut context = Context::default().with_all();
    budget::register(&mut context);
    authorizer::register(&mut context);
    context
});

/// Why an evaluation has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Spent(Spent),
}

/// Runs `work` on a thread of its own with enough stack; a panic in it is
/// `None`.
pub fn isolated<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new()
            .name("cel".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, || catch_unwind(AssertUnwindSafe(work)).ok());
        running.ok()?.join().ok()?
    })
}

impl Program {
    /// The result with these variables. Call it within [`isolated`].
    pub fn evaluate(
        &self,
        variables: &[(&str, Value)],
        budget: &mut Budget,
    ) -> Result<Value, EvalError> {
        let mut scope = FUNCTIONS.new_inner_scope();
        for (name, value) in variables {
            scope.add_variable_from_value(*name, value.clone());
        }
        let (outcome, spent) = budget.spend(|| Value::resolve(self.expression(), &scope));
        match (outcome, spent) {
            (_, Some(spent)) => Err(EvalError::Spent(spent)),
            (Ok(value), None) => Ok(value),
            (Err(ExecutionError::FunctionError { function, message }), None)
                if authorizer::FUNCTIONS.contains(&function.as_str()) =>
            {
                Err(EvalError::Failed(message))
            }
            (Err(e), None) => {
                let why: String = e.to_string().chars().take(1024).collect();
                Err(EvalError::Failed(lowered(&why)))
            }
        }
    }
}

/// The interpreter begins its messages with a capital, upstream's doesn't.
fn lowered(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;

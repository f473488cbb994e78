//! What an evaluation may use. The counters are the running thread's: an
//! evaluation never leaves its thread.

use kube_cel::cel::extractors::Arguments;
use kube_cel::cel::objects::Value;
use kube_cel::cel::{Context, ExecutionError, ResolveResult};
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Turns of loops in one expression (upstream's limit of a call, in its own
/// units).
pub(crate) const PER_CALL: u64 = 1_000_000;
/// Most bytes of a text, and items of a list, that an expression makes.
const MOST_BYTES: usize = 4 << 20;
const MOST_ITEMS: usize = 100_000;

pub(crate) const TICK: &str = "@tick";
pub(crate) const CHECK: &str = "@check";

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// One expression alone was too dear.
    Call,
    /// All expressions together were.
    Budget,
    Time,
    Memory,
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Spent::Call => "call cost exceeds limit",
            Spent::Budget => "running out of cost budget",
            Spent::Time => "running out of time",
            Spent::Memory => "a value grows too large",
        })
    }
}

/// What is left of steps, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub steps: u64,
    pub deadline: Instant,
}

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
    static SPENT: Cell<Option<Spent>> = const { Cell::new(None) };
}

impl Budget {
    /// Runs `work` and takes what it used.
    pub(crate) fn spend<T>(&mut self, work: impl FnOnce() -> T) -> (T, Option<Spent>) {
        let granted = self.steps.min(PER_CALL);
        STEPS.set(granted);
        DEADLINE.set(Some(self.deadline));
        SPENT.set(None);
        let out = work();
        let used = granted - STEPS.get();
        let spent = SPENT.get().map(|s| match s {
            Spent::Call if granted < PER_CALL => Spent::Budget,
            other => other,
        });
        self.steps = self.steps.saturating_sub(used.max(1));
        (out, spent)
    }
}

fn refuse(why: Spent) -> ExecutionError {
    if SPENT.get().is_none() {
        SPENT.set(Some(why));
    }
    ExecutionError::function_error("budget", why)
}

pub(crate) fn take(steps: u64) -> Result<(), ExecutionError> {
    if let Some(spent) = SPENT.get() {
        return Err(refuse(spent));
    }
    let left = STEPS.get().checked_sub(steps);
    STEPS.set(left.unwrap_or(0));
    if left.is_none() {
        return Err(refuse(Spent::Call));
    }
    if DEADLINE.get().is_some_and(|d| Instant::now() > d) {
        return Err(refuse(Spent::Time));
    }
    Ok(())
}

/// A turn of a loop.
fn tick() -> ResolveResult {
    take(1)?;
    Ok(Value::Bool(true))
}

/// Passes what a call made on, if it isn't too large.
fn check(Arguments(arguments): Arguments) -> ResolveResult {
    let Some(value) = arguments.first() else {
        return Err(ExecutionError::function_error(CHECK, "no value"));
    };
    let (size, most) = match value {
        Value::String(text) => (text.len(), MOST_BYTES),
        Value::Bytes(bytes) => (bytes.len(), MOST_BYTES),
        Value::List(items) => (items.len(), MOST_ITEMS),
        _ => (0, 1),
    };
    if size > most {
        return Err(refuse(Spent::Memory));
    }
    take(1 + size as u64 / 64)?;
    Ok(value.clone())
}

pub(crate) fn register(context: &mut Context<'_>) {
    context.add_function(TICK, tick);
    context.add_function(CHECK, check);
    context.add_function("matches", matches);
}

/// Go's `matches` finds a match anywhere; the pattern's size is bounded.
fn matches(
    kube_cel::cel::extractors::This(text): kube_cel::cel::extractors::This<Arc<String>>,
    pattern: Arc<String>,
) -> ResolveResult {
    take(1 + text.len() as u64 * (1 + pattern.len() as u64 / 16) / 64)?;
    let regex = regex::RegexBuilder::new(&pattern)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .build()
        .map_err(|e| ExecutionError::function_error("matches", e))?;
    Ok(Value::Bool(regex.is_match(&text)))
}

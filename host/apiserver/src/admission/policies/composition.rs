//! A policy's expressions with its composed variables. A variable is evaluated
//! when an expression that names it is, once; its failure is the expression's
//! only if that comes to use it.

use super::policy::Policy;
use crate::admission::conditions::{Bound, Expression, Fault, budget};
use expressions::{Budget, Value as Cel};
use std::collections::BTreeMap;

/// What the expressions of one policy may use for one request.
const STEPS: u64 = 10_000_000;

pub(super) struct Composition<'a> {
    policy: &'a Policy,
    bound: Bound,
    values: BTreeMap<&'a str, Result<Cel, String>>,
    budget: Budget,
}

impl<'a> Composition<'a> {
    /// `bound` has everything but the variables.
    pub(super) fn new(policy: &'a Policy, bound: Bound) -> Composition<'a> {
        Composition {
            policy,
            bound,
            values: BTreeMap::new(),
            budget: budget(STEPS),
        }
    }

    /// The result of an expression. Call it within [`expressions::isolated`].
    pub(super) fn evaluate(&mut self, expression: &Expression) -> Result<Cel, Fault> {
        let needed = expression.program()?.members("variables");
        for (name, of) in &self.policy.variables {
            if needed.contains(name.as_str()) {
                self.settle(name, of)?;
            }
        }
        self.bind_variables();
        let outcome = expression.evaluate(&self.bound, &mut self.budget);
        let missing = |name: &str| format!("no such key: {name}");
        match outcome {
            Err(Fault::Expression(why)) => {
                let broken = self.values.iter().find_map(|(name, value)| match value {
                    Err(e) if why.ends_with(&missing(name)) => Some((*name, e)),
                    _ => None,
                });
                Err(Fault::Expression(match broken {
                    Some((name, e)) => why.replace(
                        &missing(name),
                        &format!("composited variable {name:?} fails to evaluate: {e}"),
                    ),
                    None => why,
                }))
            }
            other => other,
        }
    }

    /// Evaluates a variable, and those that it names, if it isn't yet.
    fn settle(&mut self, name: &'a str, of: &'a Expression) -> Result<(), Fault> {
        if self.values.contains_key(name) {
            return Ok(());
        }
        let needed = of.program()?.members("variables");
        let variables = self.policy.variables.iter();
        // Only those before it are in its sight: this ends.
        for (earlier, expression) in variables.take_while(|(other, _)| other != name) {
            if needed.contains(earlier.as_str()) {
                self.settle(earlier, expression)?;
            }
        }
        self.bind_variables();
        let value = match of.attempt(&self.bound, &mut self.budget) {
            Err(Fault::Budget(why)) => return Err(Fault::Budget(why)),
            Err(Fault::Expression(why)) => Err(why),
            Ok(value) => Ok(value),
        };
        self.values.insert(name, value);
        Ok(())
    }

    fn bind_variables(&mut self) {
        let known = self.values.iter().filter_map(|(name, value)| {
            let value = value.as_ref().ok()?;
            Some(((*name).to_owned(), value.clone()))
        });
        let variables = expressions::map(known);
        self.bound.retain(|(name, _)| *name != "variables");
        self.bound.push(("variables", variables));
    }
}

//! What can be said of an expression before it runs: fields that a type
//! doesn't have, operators and functions that don't take what they are given.
//! What isn't known passes: there is no inference backwards, no type
//! parameter, and a function that `signatures.txt` doesn't list takes and gives
//! anything.

use crate::authorizer::{AUTHORIZER, REQUEST_RESOURCE, types};
use crate::place::Places;
use crate::program::{CompileError, Program};
use crate::signatures::{applied, apply};
use crate::types::Type;
use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most of an expression that are told, as upstream.
const MOST_FAULTS: usize = 100;

/// Functions whose result is a bool.
const BOOLEAN: &[&str] = &[
    "isCIDR",
    "isSemver",
    "containsIP",
    "containsCIDR",
    "hasValue",
    "isGreaterThan",
    "isLessThan",
];

struct Fault<'a> {
    at: &'a IdedExpr,
    why: String,
    /// A field that isn't there.
    is_field: bool,
}

struct Checker<'a> {
    scope: BTreeMap<String, Type>,
    faults: Vec<Fault<'a>>,
}

impl Program {
    /// The type of the result, if these are the types of the variables; an
    /// error if a field is named that isn't there.
    pub fn check(&self, variables: &[(&str, Type)]) -> Result<Type, CompileError> {
        let (found, faults) = self.checked(variables, true);
        match faults {
            None => Ok(found),
            Some(faults) => Err(CompileError(faults)),
        }
    }

    /// The same with everything that is wrong, in upstream's form; `None`:
    /// nothing is known to be.
    pub fn faults(&self, variables: &[(&str, Type)]) -> (Type, Option<String>) {
        self.checked(variables, false)
    }

    fn checked(&self, variables: &[(&str, Type)], fields: bool) -> (Type, Option<String>) {
        let checked = crate::isolated(|| {
            let variables = variables.iter();
            let mut checker = Checker {
                scope: [
                    (AUTHORIZER, Type::Opaque(types::AUTHORIZER)),
                    (REQUEST_RESOURCE, Type::Opaque(types::RESOURCE)),
                ]
                .iter()
                .chain(variables)
                .map(|(name, of)| ((*name).to_owned(), of.clone()))
                .collect(),
                faults: Vec::new(),
            };
            let found = checker.infer(self.source());
            checker.faults.retain(|fault| fault.is_field || !fields);
            (found, self.told(&checker.faults))
        });
        checked.unwrap_or((Type::Dyn, None))
    }

    fn told(&self, faults: &[Fault<'_>]) -> Option<String> {
        if faults.is_empty() {
            return None;
        }
        let places = Places::of(self.text(), self.source());
        let mut told: Vec<(usize, String)> = faults
            .iter()
            .map(|fault| {
                let at = places.find(fault.at).unwrap_or_default();
                (at, places.describe(at, &fault.why))
            })
            .collect();
        told.sort();
        told.dedup();
        let told: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
        Some(told.join("\n"))
    }
}

impl<'a> Checker<'a> {
    fn fault(&mut self, at: &'a IdedExpr, why: String) -> Type {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault {
                at,
                why,
                is_field: false,
            });
        }
        Type::Dyn
    }

    fn no_overload(&mut self, at: &'a IdedExpr, name: &str, to: &str) -> Type {
        let why = format!("found no matching overload for '{name}' applied to '{to}'");
        self.fault(at, why)
    }

    fn infer(&mut self, of: &'a IdedExpr) -> Type {
        match &of.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Unspecified | Expr::Struct(_) => Type::Dyn,
            Expr::Ident(name) => self.scope.get(name).cloned().unwrap_or(Type::Dyn),
            Expr::List(list) => {
                let found: Vec<Type> = list.elements.iter().map(|e| self.infer(e)).collect();
                let joined = found.into_iter().reduce(Type::joined);
                Type::List(Arc::new(joined.unwrap_or(Type::Dyn)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(e) = &entry.expr {
                        self.infer(&e.key);
                        self.infer(&e.value);
                    }
                }
                Type::Map(Arc::new(Type::Dyn))
            }
            Expr::Select(select) => self.select(of, select),
            Expr::Call(call) => self.call(of, call),
            Expr::Comprehension(c) => self.comprehension(c),
        }
    }

    fn select(&mut self, of: &'a IdedExpr, select: &'a SelectExpr) -> Type {
        let field = &select.field;
        let found = match self.infer(&select.operand) {
            Type::Object(fields) => fields.get(field).cloned(),
            Type::Map(values) => Some((*values).clone()),
            Type::Dyn => Some(Type::Dyn),
            other => {
                let why = format!("type '{other}' does not support field selection");
                self.fault(of, why);
                self.mark_field();
                Some(Type::Dyn)
            }
        };
        if found.is_none() {
            self.fault(of, format!("undefined field '{field}'"));
            self.mark_field();
        }
        match select.test {
            true => Type::Bool,
            false => found.unwrap_or(Type::Dyn),
        }
    }

    fn mark_field(&mut self) {
        if let Some(fault) = self.faults.last_mut() {
            fault.is_field = true;
        }
    }

    fn call(&mut self, of: &'a IdedExpr, call: &'a CallExpr) -> Type {
        let target = call.target.as_deref().map(|target| self.infer(target));
        let found: Vec<Type> = call.args.iter().map(|a| self.infer(a)).collect();
        let name = call.func_name.as_str();
        let result = match (&target, found.as_slice()) {
            (None, [one]) => unary(name, one),
            (None, [a, b]) => binary(name, a, b),
            (None, [condition, a, b]) if name == "_?_:_" => {
                let fits = condition.fits(&Type::Bool) && a.fits(b);
                Some(fits.then(|| a.clone().joined(b.clone())))
            }
            _ => None,
        };
        match result {
            Some(Some(result)) => return result,
            Some(None) => return self.no_overload(of, name, &applied(&found)),
            None => {}
        }
        if BOOLEAN.contains(&name) {
            return Type::Bool;
        }
        // A library's own name before the dot isn't a receiver.
        let qualified = call.target.as_deref().is_some_and(
            |t| matches!(&t.expr, Expr::Ident(name) if !self.scope.contains_key(name)),
        );
        match apply(name, target.as_ref(), &found) {
            Ok(result) => result,
            Err(_) if qualified => Type::Dyn,
            Err(to) => self.no_overload(of, name, &to),
        }
    }

    fn comprehension(&mut self, c: &'a ComprehensionExpr) -> Type {
        let (first, second) = match self.infer(&c.iter_range) {
            Type::List(of) => ((*of).clone(), Type::Scalar("int")),
            Type::Map(of) => (Type::String, (*of).clone()),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.fault(&c.iter_range, why);
                (Type::Dyn, Type::Dyn)
            }
        };
        let accumulator = self.infer(&c.accu_init);
        let mut bound = vec![(c.accu_var.clone(), accumulator)];
        match &c.iter_var2 {
            None => bound.push((c.iter_var.clone(), first)),
            // Of a list the index comes first.
            Some(name) => {
                let is_list = second == Type::Scalar("int");
                let (key, value) = if is_list {
                    (second, first)
                } else {
                    (first, second)
                };
                bound.extend([(c.iter_var.clone(), key), (name.clone(), value)]);
            }
        }
        let outer: Vec<(String, Option<Type>)> = bound
            .into_iter()
            .map(|(name, of)| (name.clone(), self.scope.insert(name, of)))
            .collect();
        self.infer(&c.loop_cond);
        let step = self.infer(&c.loop_step);
        self.scope.insert(c.accu_var.clone(), step);
        let result = self.infer(&c.result);
        for (name, before) in outer.into_iter().rev() {
            match before {
                Some(before) => self.scope.insert(name, before),
                None => self.scope.remove(&name),
            };
        }
        result
    }
}

fn of_literal(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::String(_) => Type::String,
        LiteralValue::Int(_) => Type::Scalar("int"),
        LiteralValue::UInt(_) => Type::Scalar("uint"),
        LiteralValue::Double(_) => Type::Scalar("double"),
        LiteralValue::Bytes(_) => Type::Scalar("bytes"),
        LiteralValue::Null => Type::Scalar("null"),
    }
}

/// What an operator comes to: no operator; no overload of it; a type.
type Found = Option<Option<Type>>;

fn unary(name: &str, of: &Type) -> Found {
    match (name, of) {
        ("!_", of) => Some(of.fits(&Type::Bool).then_some(Type::Bool)),
        ("@not_strictly_false", _) => Some(Some(Type::Bool)),
        ("-_", Type::Dyn) => Some(Some(Type::Dyn)),
        ("-_", Type::Scalar("int" | "double")) => Some(Some(of.clone())),
        ("-_", _) => Some(None),
        _ => None,
    }
}

fn binary(name: &str, a: &Type, b: &Type) -> Found {
    let bool_if = |holds: bool| Some(holds.then_some(Type::Bool));
    match name {
        "_&&_" | "_||_" => bool_if(a.fits(&Type::Bool) && b.fits(&Type::Bool)),
        "_==_" | "_!=_" => bool_if(a.fits(b)),
        "_<_" | "_<=_" | "_>_" | "_>=_" => bool_if(compares(a, b)),
        "@in" => bool_if(match b {
            Type::Dyn => true,
            Type::List(of) => a.fits(of),
            Type::Map(_) => a.fits(&Type::String),
            _ => false,
        }),
        "_[_]" => Some(indexed(a, b)),
        "_+_" | "_-_" | "_*_" | "_/_" | "_%_" => Some(calculated(name, a, b)),
        _ => None,
    }
}

fn compares(a: &Type, b: &Type) -> bool {
    let ordered = |of: &Type| {
        of.is_number()
            || matches!(
                of,
                Type::Dyn
                    | Type::Bool
                    | Type::String
                    | Type::Scalar("bytes" | "timestamp" | "duration")
            )
    };
    ordered(a) && ordered(b) && (a.fits(b) || (a.is_number() && b.is_number()))
}

fn indexed(of: &Type, by: &Type) -> Option<Type> {
    match (of, by) {
        (Type::Dyn, _) => Some(Type::Dyn),
        (Type::List(item), Type::Dyn | Type::Scalar("int" | "uint" | "double")) => {
            Some((**item).clone())
        }
        (Type::Map(value), Type::Dyn | Type::String) => Some((**value).clone()),
        _ => None,
    }
}

fn calculated(name: &str, a: &Type, b: &Type) -> Option<Type> {
    const TIME: Type = Type::Scalar("timestamp");
    const SPAN: Type = Type::Scalar("duration");
    match (name, a, b) {
        (_, Type::Dyn, Type::Dyn) => Some(Type::Dyn),
        // Of which type the other is, is open where times are concerned.
        (_, Type::Dyn, of) | (_, of, Type::Dyn) => calculated(name, of, of)
            .or_else(|| (*of == TIME).then_some(Type::Dyn))
            .map(|found| if *of == SPAN { Type::Dyn } else { found }),
        ("_+_", Type::String, Type::String) => Some(Type::String),
        ("_+_", Type::Scalar("bytes"), Type::Scalar("bytes")) => Some(a.clone()),
        ("_+_", Type::List(x), Type::List(y)) if x.fits(y) => Some(match **x {
            Type::Dyn => b.clone(),
            _ => a.clone(),
        }),
        ("_+_", Type::Scalar("timestamp"), Type::Scalar("duration"))
        | ("_+_", Type::Scalar("duration"), Type::Scalar("timestamp"))
        | ("_-_", Type::Scalar("timestamp"), Type::Scalar("duration")) => Some(TIME),
        ("_-_", Type::Scalar("timestamp"), Type::Scalar("timestamp"))
        | ("_+_" | "_-_", Type::Scalar("duration"), Type::Scalar("duration")) => Some(SPAN),
        ("_%_", Type::Scalar("double"), _) => None,
        (_, a, b) if a.is_number() && a == b => Some(a.clone()),
        _ => None,
    }
}

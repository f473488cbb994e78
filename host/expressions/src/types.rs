//! What can be known of types before an expression runs: fields that a schema
//! doesn't have, and results that aren't what is wanted. What isn't known is
//! [`Type::Dyn`] and passes.

use crate::program::{CompileError, Program};
use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{CallExpr, Expr, LiteralValue};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Dyn,
    Bool,
    String,
    /// Another scalar, by its name.
    Scalar(&'static str),
    List(Arc<Type>),
    Map(Arc<Type>),
    /// These fields, by the names that expressions use, and no others.
    Object(Arc<BTreeMap<String, Type>>),
}

/// Functions whose result is a bool.
const BOOLEAN: &[&str] = &[
    "_&&_",
    "_||_",
    "!_",
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "@in",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "isURL",
    "isIP",
    "isCIDR",
    "isQuantity",
    "isSemver",
    "isSorted",
    "containsIP",
    "containsCIDR",
    "hasValue",
    "isGreaterThan",
    "isLessThan",
    "allowed",
    "errored",
];

impl Program {
    /// The type of the result, if these are the types of the variables.
    pub fn check(&self, variables: &[(&str, Type)]) -> Result<Type, CompileError> {
        let scope = variables
            .iter()
            .map(|(name, of)| ((*name).to_owned(), of.clone()))
            .collect();
        let found = crate::isolated(|| infer(self.source(), &scope));
        found
            .unwrap_or(Ok(Type::Dyn))
            .map_err(|name| CompileError(format!("ERROR: <input>:1:1: undefined field '{name}'")))
    }
}

type Scope = BTreeMap<String, Type>;

/// The error is the name of a field that isn't there.
fn infer(of: &IdedExpr, scope: &Scope) -> Result<Type, String> {
    Ok(match &of.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => Type::Bool,
        Expr::Literal(LiteralValue::String(_)) => Type::String,
        Expr::Literal(LiteralValue::Int(_)) => Type::Scalar("int"),
        Expr::Literal(LiteralValue::Double(_)) => Type::Scalar("double"),
        Expr::Literal(_) | Expr::Unspecified | Expr::Struct(_) => Type::Dyn,
        Expr::Ident(name) => scope.get(name).cloned().unwrap_or(Type::Dyn),
        Expr::List(list) => {
            for element in &list.elements {
                infer(element, scope)?;
            }
            Type::List(Arc::new(Type::Dyn))
        }
        Expr::Map(_) => Type::Map(Arc::new(Type::Dyn)),
        Expr::Select(select) => {
            let operand = infer(&select.operand, scope)?;
            let found = match &operand {
                Type::Object(fields) => match fields.get(&select.field) {
                    Some(field) => field.clone(),
                    None => return Err(select.field.clone()),
                },
                Type::Map(values) => (**values).clone(),
                Type::Bool | Type::String | Type::Scalar(_) => return Err(select.field.clone()),
                Type::Dyn | Type::List(_) => Type::Dyn,
            };
            if select.test { Type::Bool } else { found }
        }
        Expr::Call(call) => infer_call(call, scope)?,
        Expr::Comprehension(c) => {
            let items = match infer(&c.iter_range, scope)? {
                Type::List(of) => (*of).clone(),
                Type::Map(_) | Type::Object(_) => Type::String,
                _ => Type::Dyn,
            };
            let accumulator = infer(&c.accu_init, scope)?;
            let mut inner = scope.clone();
            inner.insert(c.iter_var.clone(), items);
            if let Some(second) = &c.iter_var2 {
                inner.insert(c.iter_var.clone(), Type::Dyn);
                inner.insert(second.clone(), Type::Dyn);
            }
            inner.insert(c.accu_var.clone(), accumulator);
            infer(&c.loop_step, &inner)?;
            infer(&c.result, &inner)?
        }
    })
}

fn infer_call(call: &CallExpr, scope: &Scope) -> Result<Type, String> {
    let target = match &call.target {
        Some(target) => Some(infer(target, scope)?),
        None => None,
    };
    let mut arguments = Vec::new();
    for argument in &call.args {
        arguments.push(infer(argument, scope)?);
    }
    Ok(match call.func_name.as_str() {
        name if BOOLEAN.contains(&name) => Type::Bool,
        "_[_]" => match arguments.first() {
            Some(Type::List(of) | Type::Map(of)) => (**of).clone(),
            _ => Type::Dyn,
        },
        "_?_:_" => arguments.get(1).cloned().unwrap_or(Type::Dyn),
        "size" => Type::Scalar("int"),
        "_-_" | "_*_" | "_/_" | "_%_" | "_+_" => match arguments.first() {
            Some(scalar @ (Type::Scalar(_) | Type::String)) => scalar.clone(),
            _ => Type::Dyn,
        },
        "lowerAscii" | "upperAscii" | "trim" | "replace" | "join" | "string"
            if target.is_some() || call.func_name == "string" =>
        {
            Type::String
        }
        "reason" | "error" if target.is_some() => Type::String,
        _ => Type::Dyn,
    })
}

//! From text to a program that counts what it does.

use crate::authorizer::{AUTHORIZER, REQUEST_RESOURCE};
use crate::budget::{CHECK, TICK};
use crate::building;
use crate::isolated;
use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr};
use kube_cel::cel::parser::Parser;
use std::collections::{BTreeMap, BTreeSet};

/// Most bytes of an expression.
const MOST_TEXT: usize = 32 << 10;
/// How deep brackets of an expression nest.
const MOST_NESTING: usize = 48;
/// How deep a program nests; it is evaluated by recursion.
const MOST_DEPTH: usize = 400;

const AND: &str = "_&&_";
const OPT_SELECT: &str = "_?._";
const OPT_INDEX: &str = "_[?_]";
/// Calls whose results can be larger than what they are given.
const GROWING: &[&str] = &[
    "_+_",
    "replace",
    "join",
    "format",
    "split",
    "flatten",
    "concat",
    "lists.range",
    "strings.quote",
    "base64.encode",
    "string",
    "findAll",
];
/// Functions that upstream declares beside operators and macros.
const FUNCTIONS: &str = include_str!("functions.txt");
/// Types and enclosing names that an expression may name.
const NAMES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
    "math",
    "sets",
    "strings",
    "lists",
    "optional",
    "base64",
    "format",
    "jsonpatch",
    "ip",
    "google",
];

/// Upstream's words of what doesn't compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compilation failed: {0}")]
pub struct CompileError(pub String);

/// A program ready to run.
#[derive(Clone, Debug)]
pub struct Program {
    text: String,
    source: IdedExpr,
    counted: IdedExpr,
    variables: BTreeSet<String>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Program {
    /// Compiles an expression over `variables`.
    pub fn compile(text: &str, variables: &[&str]) -> Result<Program, CompileError> {
        Program::compile_with(text, variables, false)
    }

    /// Compiles one that may build objects: `Object{…}`, `Object.spec{…}`,
    /// `JSONPatch{…}`. They come out as maps.
    pub fn compile_building(text: &str, variables: &[&str]) -> Result<Program, CompileError> {
        Program::compile_with(text, variables, true)
    }

    fn compile_with(text: &str, variables: &[&str], builds: bool) -> Result<Program, CompileError> {
        let fail = |why: String| {
            Err(CompileError(format!(
                "ERROR: <input>:1:1: {why}\n | {text}\n | ^"
            )))
        };
        if text.len() > MOST_TEXT {
            return fail(format!(
                "expression code point size exceeds limit: size: {}, limit {MOST_TEXT}",
                text.len()
            ));
        }
        if nesting(text) > MOST_NESTING {
            return fail("Syntax error: expression recursion limit exceeded".to_owned());
        }
        let parsed = isolated(|| {
            let parsed = Parser::default().enable_optional_syntax(true).parse(text);
            parsed.map_err(|e| e.to_string()).and_then(|expression| {
                let mut expression = match builds {
                    true => building::lowered(expression)?,
                    false => expression,
                };
                let mut walk = Walk::default();
                if variables.contains(&REQUEST_RESOURCE) {
                    qualify(&mut expression);
                }
                walk.node(&expression, 0)?;
                Ok((counted(expression.clone()), expression, walk))
            })
        });
        let (counted, source, walk) = match parsed {
            Some(Ok(parsed)) => parsed,
            Some(Err(why)) if why.starts_with("ERROR") => return Err(CompileError(why)),
            Some(Err(why)) => return fail(why),
            None => return fail("Syntax error: expression recursion limit exceeded".to_owned()),
        };
        for name in &walk.variables {
            if !variables.contains(&name.as_str()) && !NAMES.contains(&name.as_str()) {
                return fail(format!(
                    "undeclared reference to '{name}' (in container '')"
                ));
            }
        }
        for name in &walk.functions {
            if !FUNCTIONS.lines().any(|known| known == name) {
                return fail(format!(
                    "undeclared reference to '{name}' (in container '')"
                ));
            }
        }
        Ok(Program {
            text: text.to_owned(),
            source,
            counted,
            variables: walk.variables,
            members: walk.members,
        })
    }

    /// As it was written, for those who look at its types.
    pub fn source(&self) -> &IdedExpr {
        &self.source
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn expression(&self) -> &IdedExpr {
        &self.counted
    }

    /// The members of a variable that the expression speaks of.
    pub fn members(&self, variable: &str) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.members.get(variable).unwrap_or(&NONE)
    }

    /// Whether the expression speaks of a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }
}

/// How deep brackets nest, and signs stand before one another.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut signs): (usize, usize, usize) = (0, 0, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' | '?' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match c {
            '!' | '-' => signs += 1,
            c if c.is_whitespace() => {}
            _ => signs = 0,
        }
        deepest = deepest.max(depth + signs);
    }
    deepest
}

/// What an expression names; refuses what can't be evaluated.
#[derive(Default)]
struct Walk {
    variables: BTreeSet<String>,
    functions: BTreeSet<String>,
    members: BTreeMap<String, BTreeSet<String>>,
    bound: Vec<String>,
}

impl Walk {
    fn node(&mut self, of: &IdedExpr, depth: usize) -> Result<(), String> {
        if depth > MOST_DEPTH {
            return Err("Syntax error: expression recursion limit exceeded".to_owned());
        }
        match &of.expr {
            Expr::Unspecified => Err("Syntax error: an empty expression".to_owned()),
            Expr::Struct(s) => Err(format!(
                "undeclared reference to '{}' (in container '')",
                s.type_name
            )),
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => {
                if !self.bound.contains(name) {
                    self.variables.insert(name.clone());
                }
                Ok(())
            }
            Expr::Select(select) => {
                if let Expr::Ident(name) = &select.operand.expr
                    && !self.bound.contains(name)
                {
                    let members = self.members.entry(name.clone()).or_default();
                    members.insert(select.field.clone());
                }
                self.node(&select.operand, depth + 1)
            }
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|e| self.node(e, depth + 1)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(e) => {
                    self.node(&e.key, depth + 1)?;
                    self.node(&e.value, depth + 1)
                }
                EntryExpr::StructField(_) => Err("Syntax error: a field in a map".to_owned()),
            }),
            Expr::Call(call) => {
                if !call.func_name.starts_with(['_', '!', '-', '@']) {
                    self.functions.insert(call.func_name.clone());
                }
                if let Some(target) = &call.target {
                    self.node(target, depth + 1)?;
                }
                call.args.iter().try_for_each(|a| self.node(a, depth + 1))
            }
            Expr::Comprehension(c) => {
                self.node(&c.iter_range, depth + 1)?;
                self.node(&c.accu_init, depth + 1)?;
                let before = self.bound.len();
                self.bound.push(c.iter_var.clone());
                self.bound.extend(c.iter_var2.clone());
                self.bound.push(c.accu_var.clone());
                for part in [&c.loop_cond, &c.loop_step, &c.result] {
                    self.node(part, depth + 1)?;
                }
                self.bound.truncate(before);
                Ok(())
            }
        }
    }
}

/// Puts the variable with a dot in its name where its parts stand.
fn qualify(of: &mut IdedExpr) {
    if let Expr::Select(select) = &of.expr
        && matches!(&select.operand.expr, Expr::Ident(name) if name == AUTHORIZER)
        && REQUEST_RESOURCE.ends_with(&format!(".{}", select.field))
    {
        of.expr = Expr::Ident(REQUEST_RESOURCE.to_owned());
        return;
    }
    for part in parts(&mut of.expr) {
        qualify(part);
    }
}

/// What an expression consists of.
fn parts(of: &mut Expr) -> Vec<&mut IdedExpr> {
    match of {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) => Vec::new(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => {
            let entries = map.entries.iter_mut();
            let parts = entries.flat_map(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(e) => vec![&mut e.key, &mut e.value],
                EntryExpr::StructField(field) => vec![&mut field.value],
            });
            parts.collect()
        }
        Expr::Call(call) => {
            let target = call.target.iter_mut().map(|target| &mut **target);
            target.chain(&mut call.args).collect()
        }
        Expr::Comprehension(c) => vec![
            &mut c.iter_range,
            &mut c.accu_init,
            &mut c.loop_cond,
            &mut c.loop_step,
            &mut c.result,
        ],
    }
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Call(CallExpr {
            func_name: name.to_owned(),
            target: None,
            args,
        }),
    }
}

/// The same program with counting calls in it.
fn counted(of: IdedExpr) -> IdedExpr {
    let id = of.id;
    let expr = match of.expr {
        Expr::Select(mut select) => {
            select.operand = Box::new(counted(*select.operand));
            Expr::Select(select)
        }
        Expr::List(mut list) => {
            list.elements = list.elements.into_iter().map(counted).collect();
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(e) = &mut entry.expr {
                    e.key = counted(std::mem::take(&mut e.key));
                    e.value = counted(std::mem::take(&mut e.value));
                }
            }
            Expr::Map(map)
        }
        Expr::Call(mut of) => {
            of.target = of.target.map(|t| Box::new(counted(*t)));
            of.args = of.args.into_iter().map(counted).collect();
            if of.func_name == OPT_SELECT {
                // The interpreter knows the other form of the same.
                of.func_name = OPT_INDEX.to_owned();
            }
            let grows = GROWING.contains(&of.func_name.as_str());
            let expr = Expr::Call(of);
            if grows {
                return call(CHECK, vec![IdedExpr { id, expr }]);
            }
            expr
        }
        Expr::Comprehension(mut c) => {
            c.iter_range = counted(c.iter_range);
            c.loop_step = counted_step(c.loop_step, &c.accu_var);
            c.loop_cond = call(AND, vec![call(TICK, Vec::new()), c.loop_cond]);
            Expr::Comprehension(c)
        }
        other => other,
    };
    IdedExpr { id, expr }
}

/// The step of `map` and `filter` appends to the accumulator: that isn't
/// measured again at each turn, the turns are.
fn counted_step(of: IdedExpr, accumulator: &str) -> IdedExpr {
    let IdedExpr { id, expr } = of;
    match expr {
        Expr::Call(mut of)
            if of.func_name == "_+_"
                && matches!(of.args.first(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == accumulator) =>
        {
            of.args = of.args.into_iter().map(counted).collect();
            IdedExpr {
                id,
                expr: Expr::Call(of),
            }
        }
        Expr::Call(mut of) if of.func_name == "_?_:_" => {
            of.args = of
                .args
                .into_iter()
                .map(|a| counted_step(a, accumulator))
                .collect();
            IdedExpr {
                id,
                expr: Expr::Call(of),
            }
        }
        expr => counted(IdedExpr { id, expr }),
    }
}

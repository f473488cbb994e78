//! Where in an expression's text a part of it stands. The parser keeps no
//! places, but numbers what it reads in order: the n-th selection of a field is
//! the n-th place where the text selects it. Where the counts differ, because a
//! macro made parts of its own, the place isn't known.

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{EntryExpr, Expr};
use std::collections::{BTreeMap, BTreeSet};

/// Of a part, or of a token: what they have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Field(String),
    Call(String),
    Operator(&'static str),
}

const OPERATORS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "*", "/", "%", "?", "[", "!",
];

pub(crate) struct Places<'a> {
    text: &'a str,
    parts: BTreeMap<Sign, BTreeSet<u64>>,
    tokens: BTreeMap<Sign, Vec<usize>>,
}

impl<'a> Places<'a> {
    pub(crate) fn of(text: &'a str, expression: &IdedExpr) -> Places<'a> {
        let mut places = Places {
            text,
            parts: BTreeMap::new(),
            tokens: BTreeMap::new(),
        };
        places.count(expression);
        places.lex();
        places
    }

    /// The byte at which a part stands.
    pub(crate) fn find(&self, part: &IdedExpr) -> Option<usize> {
        let sign = sign(part)?;
        let (parts, tokens) = (self.parts.get(&sign)?, self.tokens.get(&sign)?);
        if parts.len() != tokens.len() {
            return None;
        }
        let at = parts.iter().position(|id| *id == part.id)?;
        tokens.get(at).copied()
    }

    /// What is wrong there, as upstream shows it.
    pub(crate) fn describe(&self, at: usize, why: &str) -> String {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default();
        let column = column.chars().count();
        let snippet = self.text.lines().nth(line).unwrap_or_default();
        let dots = ".".repeat(column);
        format!(
            "ERROR: <input>:{}:{}: {why}\n | {snippet}\n | {dots}^",
            line + 1,
            column + 1
        )
    }

    fn count(&mut self, of: &IdedExpr) {
        if let Some(sign) = sign(of) {
            self.parts.entry(sign).or_default().insert(of.id);
        }
        match &of.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) => {}
            Expr::Select(select) => self.count(&select.operand),
            Expr::List(list) => list.elements.iter().for_each(|e| self.count(e)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(e) = &entry.expr {
                        self.count(&e.key);
                        self.count(&e.value);
                    }
                }
            }
            Expr::Call(call) => {
                let target = call.target.as_deref();
                target
                    .into_iter()
                    .chain(&call.args)
                    .for_each(|e| self.count(e));
            }
            Expr::Comprehension(c) => {
                for part in [
                    &c.iter_range,
                    &c.accu_init,
                    &c.loop_cond,
                    &c.loop_step,
                    &c.result,
                ] {
                    self.count(part);
                }
            }
        }
    }

    fn lex(&mut self) {
        let mut at = 0;
        let mut dotted = None;
        while let Some(rest) = self.text.get(at..).filter(|rest| !rest.is_empty()) {
            let c = rest.chars().next().unwrap_or_default();
            if c.is_whitespace() {
                at += c.len_utf8();
                continue;
            }
            let before = dotted.take();
            let width = if c == '"' || c == '\'' {
                quoted(rest)
            } else if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if c.is_ascii_alphabetic() || c == '_' {
                self.word(at, rest, before)
            } else if c.is_ascii_digit() {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.';
                rest.find(|c| !is_part(c)).unwrap_or(rest.len())
            } else if rest.starts_with(".?") || rest.starts_with("[?") {
                2
            } else if c == '.' {
                dotted = Some(at);
                1
            } else if let Some(operator) = OPERATORS.iter().find(|o| rest.starts_with(**o)) {
                let tokens = self.tokens.entry(Sign::Operator(operator)).or_default();
                tokens.push(at);
                operator.len()
            } else {
                c.len_utf8()
            };
            at += width.max(1);
        }
    }

    /// Notes a name; how long it is.
    fn word(&mut self, at: usize, rest: &str, dot: Option<usize>) -> usize {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if after.starts_with(['"', '\'']) {
            // The prefix of a raw text, or of bytes.
            let raw = word.contains(['r', 'R']);
            return end + if raw { unescaped(after) } else { quoted(after) };
        }
        let opening = after.len() - after.trim_start().len();
        match (dot, after.trim_start().starts_with('(')) {
            (_, true) => {
                let tokens = self.tokens.entry(Sign::Call(word.to_owned())).or_default();
                tokens.push(at + end + opening);
            }
            (Some(dot), false) => {
                let tokens = self.tokens.entry(Sign::Field(word.to_owned())).or_default();
                tokens.push(dot);
            }
            (None, false) => {}
        }
        end
    }
}

/// How long the text in quotes is that this begins with.
fn quoted(rest: &str) -> usize {
    closed(rest, true)
}

fn unescaped(rest: &str) -> usize {
    closed(rest, false)
}

fn closed(rest: &str, escapes: bool) -> usize {
    let quote = &rest[..1];
    let triple = quote.repeat(3);
    let quote = match rest.starts_with(&triple) {
        true => triple.as_str(),
        false => quote,
    };
    let mut at = quote.len();
    while let Some(left) = rest.get(at..).and_then(|left| left.chars().next()) {
        if rest[at..].starts_with(quote) {
            return at + quote.len();
        }
        at += left.len_utf8();
        if escapes && left == '\\' {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    rest.len()
}

/// What to look for; nothing where a macro made the part.
fn sign(of: &IdedExpr) -> Option<Sign> {
    match &of.expr {
        Expr::Select(select) => Some(Sign::Field(select.field.clone())),
        Expr::Call(call) => {
            let own = |e: &IdedExpr| matches!(&e.expr, Expr::Ident(name) if name.starts_with('@') || name == "__result__");
            if call.args.iter().any(own) {
                return None;
            }
            let name = call.func_name.as_str();
            let operator = match name {
                "@in" | "-_" | "_-_" => return None,
                "_?_:_" => "?",
                "_[_]" => "[",
                "!_" => "!",
                other => other.trim_matches('_'),
            };
            match OPERATORS.iter().find(|o| **o == operator) {
                Some(operator) => Some(Sign::Operator(operator)),
                None if name.starts_with(['_', '@']) => None,
                None => Some(Sign::Call(name.to_owned())),
            }
        }
        _ => None,
    }
}

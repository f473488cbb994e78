//! JSONPath as printer columns use it: the language of `client-go/util/jsonpath`
//! inside its braces, without `range`.
//!
//! ```text
//! .name  .a\.b  .*  ..name  ['name']  [n]  [from:to:step]  [*]  [0,2]  ['a','b']
//! [?(@.path)]  [?(@.path OP value)], OP one of == != < <= > >=
//! ```
//! A step that upstream calls an error, such as an index into a map, makes the
//! whole path find nothing; a field that isn't there is no error. Values nest
//! no deeper than decoding lets them, which bounds `..`.

use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Filters and unions in filters nest no deeper than that.
const DEPTH_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Slice(Slice),
    All,
    Recursive,
    Union(Vec<Vec<Step>>),
    Filter {
        left: Vec<Step>,
        /// Without one: the left side finds something.
        compared: Option<(Operator, Vec<Step>)>,
    },
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Slice {
    from: Option<i64>,
    /// `None`: up to the end.
    to: Option<i64>,
    /// `to` follows from `from`: one element.
    single: bool,
    step: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessEqual),
    (">=", Operator::GreaterEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

type Found<'a> = Vec<Cow<'a, Value>>;

impl JsonPath {
    /// `None` for what isn't a path.
    pub fn parse(text: &str) -> Option<JsonPath> {
        parse(text, 0).map(JsonPath)
    }

    /// The first value that is found.
    pub fn first<'a>(&'a self, object: &'a Value) -> Option<Cow<'a, Value>> {
        let found = walk(&self.0, vec![Cow::Borrowed(object)])?;
        found.into_iter().next()
    }
}

/// `None` is upstream's error.
fn walk<'a>(steps: &'a [Step], from: Found<'a>) -> Option<Found<'a>> {
    steps.iter().try_fold(from, |found, step| take(step, found))
}

fn take<'a>(step: &'a Step, input: Found<'a>) -> Option<Found<'a>> {
    let mut out = Vec::new();
    match step {
        Step::Literal(value) => {
            let same = input.iter().map(|_| Cow::Borrowed(value));
            out.extend(same);
        }
        Step::Field(name) => {
            for value in &input {
                out.extend(below(value, |v| v.get(name.as_str()).into_iter().collect()));
            }
        }
        Step::All => {
            for value in &input {
                out.extend(below(value, members));
            }
        }
        Step::Recursive => {
            for value in input {
                descend(value, &mut out);
            }
        }
        Step::Slice(slice) => {
            for value in &input {
                let Some(items) = items(value)? else {
                    continue;
                };
                match slice.bounds(items.len())? {
                    // Upstream gives up on the rest, too.
                    (from, to, _) if from == to => return Some(out),
                    (from, to, step) => {
                        out.extend(below(value, |v| {
                            let chosen = members(v).into_iter().take(to).skip(from);
                            chosen.step_by(step).collect()
                        }));
                    }
                }
            }
        }
        Step::Union(parts) => {
            for part in parts {
                out.extend(walk(part, input.clone())?);
            }
        }
        Step::Filter { left, compared } => {
            for value in &input {
                let Value::Array(_) = value.as_ref() else {
                    return None;
                };
                for item in below(value, members) {
                    if passes(&item, left, compared.as_ref())? {
                        out.push(item);
                    }
                }
            }
        }
    }
    Some(out)
}

/// What `choose` finds in a value, as long-lived as the value.
fn below<'a>(value: &Cow<'a, Value>, choose: impl Fn(&Value) -> Vec<&Value>) -> Found<'a> {
    match value {
        Cow::Borrowed(value) => {
            let value: &'a Value = value;
            choose_in(value, choose)
        }
        Cow::Owned(value) => choose(value).into_iter().cloned().map(Cow::Owned).collect(),
    }
}

fn choose_in<'a>(value: &'a Value, choose: impl Fn(&Value) -> Vec<&Value>) -> Found<'a> {
    choose(value).into_iter().map(Cow::Borrowed).collect()
}

fn members(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => members.values().collect(),
        _ => Vec::new(),
    }
}

/// The elements; nothing of null, an error of what isn't a list.
fn items(value: &Value) -> Option<Option<&[Value]>> {
    match value {
        Value::Array(items) => Some(Some(items)),
        Value::Null => Some(None),
        _ => None,
    }
}

/// The value and all that is below it, where anything is.
fn descend<'a>(value: Cow<'a, Value>, out: &mut Found<'a>) {
    let found = below(&value, members);
    if found.is_empty() {
        return;
    }
    out.push(value);
    for member in found {
        descend(member, out);
    }
}

impl Slice {
    /// First, end and step for a list of `length`; `None` out of bounds.
    fn bounds(self, length: usize) -> Option<(usize, usize, usize)> {
        let length = i64::try_from(length).ok()?;
        let mut from = self.from.unwrap_or(0);
        if from < 0 {
            from = from.checked_add(length)?;
        }
        let mut to = self.to.unwrap_or(length);
        if to < 0 || (to == 0 && self.single) {
            to = to.checked_add(length)?;
        }
        if from == to {
            return Some((0, 0, 1));
        }
        if !(0..length).contains(&from) || !(from..=length).contains(&to) {
            return None;
        }
        let step = self.step.unwrap_or(1);
        Some((
            usize::try_from(from).ok()?,
            usize::try_from(to).ok()?,
            usize::try_from(step).ok().filter(|s| *s > 0)?,
        ))
    }
}

fn passes(item: &Value, left: &[Step], compared: Option<&(Operator, Vec<Step>)>) -> Option<bool> {
    let find = |steps| walk(steps, vec![Cow::Borrowed(item)]);
    let Some((operator, right)) = compared else {
        return Some(find(left).is_some_and(|f| !f.is_empty()));
    };
    let (left, right) = (find(left)?, find(right)?);
    match (left.as_slice(), right.as_slice()) {
        ([], _) | (_, []) => Some(false),
        ([left], [right]) => compares(left, *operator, right),
        _ => None,
    }
}

/// As Go's templates compare: values of one basic type.
fn compares(left: &Value, operator: Operator, right: &Value) -> Option<bool> {
    let whole = |v: &Value| v.is_i64() || v.is_u64();
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) if whole(left) == whole(right) => {
            match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.as_f64()?.partial_cmp(&b.as_f64()?)?,
            }
        }
        (Value::Bool(a), Value::Bool(b)) if a == b => Ordering::Equal,
        (Value::Bool(_), Value::Bool(_)) => match operator {
            Operator::Equal => return Some(false),
            Operator::NotEqual => return Some(true),
            _ => return None,
        },
        _ => return None,
    };
    Some(match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterEqual => order.is_ge(),
    })
}

fn parse(text: &str, depth: usize) -> Option<Vec<Step>> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix("[?(") {
            let (inside, tail) = filter_end(after)?;
            steps.push(filter(inside, depth)?);
            rest = tail;
            continue;
        }
        if let Some(after) = rest.strip_prefix("..") {
            if steps.last() == Some(&Step::Recursive) {
                return None;
            }
            steps.push(Step::Recursive);
            rest = after;
            if rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()) {
                rest = field(rest, &mut steps);
            }
            continue;
        }
        let mut chars = rest.chars();
        match chars.next() {
            // What stands after the closing brace is another expression.
            None | Some('}') => return Some(steps),
            Some(' ' | '@' | '$') => rest = chars.as_str(),
            Some('.') => rest = field(chars.as_str(), &mut steps),
            Some('[') => {
                let (inside, tail) = chars.as_str().split_once(']')?;
                steps.extend(bracket(inside, depth)?);
                rest = tail;
            }
            Some(quote @ ('"' | '\'')) => {
                let (text, tail) = quoted(chars.as_str(), quote)?;
                steps.push(Step::Literal(text.into()));
                rest = tail;
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-') => {
                let end = rest[1..].find(|c: char| c != '.' && !c.is_ascii_digit());
                let (number, tail) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
                steps.push(Step::Literal(literal(number)?));
                rest = tail;
            }
            Some(_) => {
                let end = rest.find(is_terminator).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                steps.push(Step::Literal(word.parse::<bool>().ok()?.into()));
                rest = tail;
            }
        }
    }
}

fn literal(number: &str) -> Option<Value> {
    if let Ok(whole) = number.parse::<i64>() {
        return Some(whole.into());
    }
    serde_json::Number::from_f64(number.parse().ok()?).map(Value::Number)
}

fn is_terminator(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}

/// A name up to a terminator; a backslash takes the next character as it is.
fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> &'t str {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut rest = "";
    while let Some((i, c)) = chars.next() {
        if c == '\\' {
            name.extend(chars.next().map(|(_, c)| c));
        } else if is_terminator(c) {
            rest = &text[i..];
            break;
        } else {
            name.push(c);
        }
    }
    steps.push(match name.as_str() {
        "*" => Step::All,
        _ => Step::Field(name),
    });
    rest
}

/// The text up to an unescaped `quote`, and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c if c == quote => return Some((out, &text[i + 1..])),
            c => out.push(c),
        }
    }
    None
}

/// Where the filter ends that was opened before `text`.
fn filter_end(text: &str) -> Option<(&str, &str)> {
    let mut open = None;
    let mut before = '\0';
    for (i, c) in text.char_indices() {
        match (open, c) {
            (None, '"' | '\'') => open = Some(c),
            (Some(quote), c) if c == quote && before != '\\' => open = None,
            (None, ')') => {
                let tail = text[i + 1..].strip_prefix(']')?;
                return Some((&text[..i], tail));
            }
            _ => {}
        }
        before = c;
    }
    None
}

fn filter(text: &str, depth: usize) -> Option<Step> {
    let is_sign = |c: char| matches!(c, '!' | '<' | '>' | '=');
    let Some(at) = text.find(is_sign).filter(|at| *at > 0) else {
        let left = parse(text, depth + 1)?;
        return Some(Step::Filter {
            left,
            compared: None,
        });
    };
    let (left, rest) = text.split_at(at);
    let end = rest.find(|c| !is_sign(c))?;
    let (_, operator) = OPERATORS.iter().find(|(sign, _)| *sign == &rest[..end])?;
    Some(Step::Filter {
        left: parse(left, depth + 1)?,
        compared: Some((*operator, parse(&rest[end..], depth + 1)?)),
    })
}

fn bracket(text: &str, depth: usize) -> Option<Vec<Step>> {
    if text.contains(',') {
        let parts = text.split(',').map(|p| bracket(p.trim_matches(' '), depth));
        let parts: Option<Vec<_>> = parts.collect();
        return Some(vec![Step::Union(parts?)]);
    }
    let key = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
    if let Some(key) = key.filter(|k| !k.contains('\'')) {
        return parse(&format!(".{key}"), depth + 1);
    }
    slice(if text == "*" { ":" } else { text }).map(|s| vec![Step::Slice(s)])
}

fn slice(text: &str) -> Option<Slice> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |at: usize| match parts.get(at) {
        None | Some(&"") => Some(None),
        Some(text) => text.parse::<i64>().ok().map(Some),
    };
    let (from, to, step) = (number(0)?, number(1)?, number(2)?);
    match parts.len() {
        1 => Some(Slice {
            from,
            to: from.unwrap_or(0).checked_add(1),
            single: true,
            step: None,
        }),
        2 | 3 => Some(Slice {
            from,
            to,
            single: false,
            step,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_the_first_value() {
        let object = json!({
            "spec": {"a": 1, "b.c": "dot", "list": [{"type": "X", "n": 1}, {"type": "Ready", "n": 2, "more": [7]}]},
            "deep": {"er": {"n": 5}}, "nested": [[1, 2], [3]], "text": "t",
        });
        for (path, wanted) in [
            (".spec.a", json!(1)),
            (".spec.b\\.c", json!("dot")),
            (".spec['b\\.c']", json!("dot")),
            // A dot is one within brackets, too.
            (".spec['b.c']", Value::Null),
            (".spec.list[0].type", json!("X")),
            (".spec.list[-1].n", json!(2)),
            (".spec.list[-2:].n", json!(1)),
            (".spec.list[1:2].n", json!(2)),
            (".spec.list[0:2:1].n", json!(1)),
            (".spec.list[2].n", Value::Null),
            (".spec.list[-3].n", Value::Null),
            (".spec.list[1,0].n", json!(2)),
            (".spec['list','a'][0].n", Value::Null),
            (".spec.list[*].n", json!(1)),
            (".spec.list.n", Value::Null),
            (".spec.*", json!(1)),
            (".nested[1][0]", json!(3)),
            (".nested[*][1]", Value::Null),
            (".deep..n", json!(5)),
            ("..er.n", json!(5)),
            (".spec.list[?(@.type==\"Ready\")].n", json!(2)),
            (".spec.list[?(@.type=='Ready')].n", json!(2)),
            (".spec.list[?(@.n>=2)].type", json!("Ready")),
            (".spec.list[?(@.n<2)].type", json!("X")),
            (".spec.list[?(@.n!=1)].type", json!("Ready")),
            (".spec.list[?(@.more)].n", json!(2)),
            (".spec.list[?(@.more[0]==7)].n", json!(2)),
            (".spec.list[?(@.type=='None')].n", Value::Null),
            // Values of different types can't be compared.
            (".spec.list[?(@.type==1)].n", Value::Null),
            (".spec[?(@.a==1)].n", Value::Null),
            (".spec.nothing.at.all", Value::Null),
            (".text[0]", Value::Null),
            (".", Value::Null),
        ] {
            let parsed = JsonPath::parse(path);
            let found = parsed.as_ref().and_then(|p| p.first(&object));
            let found = found.map(Cow::into_owned).unwrap_or_default();
            assert!(parsed.is_some(), "{path}");
            assert_eq!(found, wanted, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_none() {
        let deep = "[?(@".repeat(40);
        for path in [
            "spec",
            ".spec[",
            ".spec[a]",
            ".spec[\"a\"]",
            ".l[?(",
            ".l[?(@.a=!1)]",
            "....a",
            &deep,
        ] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}

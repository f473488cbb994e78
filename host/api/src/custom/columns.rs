//! `additionalPrinterColumns`: the subset of JSONPath that they may use, and
//! cells by type.
//!
//! A path is `.name`, `['name']`, `[n]` (from the end where negative), `[*]`,
//! `..` nowhere, and `[?(@.name=="text")]` with `==`, `!=`, `<`, `<=`, `>`,
//! `>=`. A path of another form finds nothing.

use crate::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: JsonPath,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter {
        path: Vec<String>,
        operator: String,
        literal: Value,
    },
}

/// A parsed path; of a malformed one nothing is left, and it finds nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPath(Option<Vec<Step>>);

impl JsonPath {
    pub fn parse(text: &str) -> JsonPath {
        JsonPath(parse(text))
    }

    /// The first value that is found.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        let mut found = vec![object];
        for step in self.0.as_ref()? {
            found = found.into_iter().flat_map(|v| take(step, v)).collect();
        }
        found.into_iter().next()
    }
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(members)) => members.get(name).into_iter().collect(),
        (Step::Index(i), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let at = if *i < 0 { length + i } else { *i };
            usize::try_from(at)
                .ok()
                .and_then(|at| items.get(at))
                .into_iter()
                .collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(members)) => members.values().collect(),
        (
            Step::Filter {
                path,
                operator,
                literal,
            },
            Value::Array(items),
        ) => items
            .iter()
            .filter(|item| {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                meta::at(item, &path).is_some_and(|v| compares(v, operator, literal))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn compares(value: &Value, operator: &str, literal: &Value) -> bool {
    let order = match (value, literal) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.is_some_and(|order| match operator {
        "==" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        _ => false,
    })
}

fn parse(text: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = text
        .strip_prefix('{')
        .map_or(text, |t| t.trim_end_matches('}'));
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = closing(inside)?;
            steps.push(bracket(&inside[..end])?);
            rest = &inside[end + 1..];
        } else if let Some(after) = rest.strip_prefix('.') {
            let (name, tail) = name(after);
            match name.as_str() {
                "" if tail.is_empty() || tail.starts_with('[') => {}
                "" => return None,
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
            rest = tail;
        } else {
            return None;
        }
    }
    Some(steps)
}

/// A name up to the next dot or bracket; a backslash takes the next character
/// as it is.
fn name(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '.' | '[' => return (out, &text[i..]),
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    (out, "")
}

/// Where the bracket ends that was opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<String> {
    let inner = text
        .strip_prefix('\'')
        .and_then(|t| t.strip_suffix('\''))
        .or_else(|| text.strip_prefix('"').and_then(|t| t.strip_suffix('"')))?;
    Some(inner.replace('\\', ""))
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(text) {
        return Some(Step::Field(name));
    }
    let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) else {
        return text.parse().ok().map(Step::Index);
    };
    let operator = ["==", "!=", "<=", ">=", "<", ">"]
        .into_iter()
        .filter_map(|o| filter.find(o).map(|at| (at, o)))
        .min_by_key(|(at, o)| (*at, usize::MAX - o.len()))?;
    let (left, right) = (
        &filter[..operator.0],
        &filter[operator.0 + operator.1.len()..],
    );
    let left = left.trim().strip_prefix("@.")?;
    let right = right.trim();
    let literal = match quoted(right) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Filter {
        path: left.split('.').map(str::to_owned).collect(),
        operator: operator.1.to_owned(),
        literal,
    })
}

impl Column {
    pub fn parse(value: &Value) -> Column {
        let path = meta::text(value, &["jsonPath"]);
        Column {
            name: meta::text(value, &["name"]).to_owned(),
            kind: meta::text(value, &["type"]).to_owned(),
            format: meta::text(value, &["format"]).to_owned(),
            description: match meta::text(value, &["description"]) {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                text => text.to_owned(),
            },
            priority: meta::int(value, &["priority"]).unwrap_or(0),
            path: JsonPath::parse(path),
        }
    }

    /// As a table's `columnDefinitions` has it.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.first(object) else {
            return Value::Null;
        };
        match (self.kind.as_str(), value) {
            (_, Value::Null) => Value::Null,
            ("string", Value::String(text)) => text.as_str().into(),
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => n.into(),
                #[expect(clippy::cast_possible_truncation, reason = "saturates, as wanted")]
                (None, Some(f)) => (f as i64).into(),
                (None, None) => Value::Null,
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(text)) if crate::time::parse(text).is_none() => {
                "<invalid>".into()
            }
            ("date", Value::String(text)) => crate::time::age(Some(text), now).into(),
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_the_first_value() {
        let object = json!({
            "spec": {"a": 1, "b.c": "dot", "list": [{"type": "X", "n": 1}, {"type": "Ready", "n": 2}]},
        });
        for (path, wanted) in [
            (".spec.a", json!(1)),
            (".spec.b\\.c", json!("dot")),
            (".spec['b.c']", json!("dot")),
            (".spec.list[0].type", json!("X")),
            (".spec.list[-1].n", json!(2)),
            (".spec.list[*].n", json!(1)),
            (".spec.list[?(@.type==\"Ready\")].n", json!(2)),
            (".spec.list[?(@.n>=2)].type", json!("Ready")),
            (".spec.list[?(@.type=='None')].n", Value::Null),
            (".spec.nothing.at.all", Value::Null),
            ("spec", Value::Null),
            (".spec[", Value::Null),
            (".spec.list[?(", Value::Null),
        ] {
            let found = JsonPath::parse(path).first(&object).cloned();
            assert_eq!(found.unwrap_or_default(), wanted, "{path}");
        }
    }

    #[test]
    fn cells_are_of_their_columns_type() {
        let object =
            json!({"n": 2.5, "s": "x", "b": true, "at": "2024-01-01T00:00:00Z", "o": {"k": 1}});
        let now: Timestamp = "2024-01-01T01:00:00Z".parse().unwrap_or_default();
        for (kind, path, wanted) in [
            ("integer", ".n", json!(2)),
            ("number", ".n", json!(2.5)),
            ("string", ".n", json!("2.5")),
            ("string", ".o", json!("{\"k\":1}")),
            ("integer", ".s", Value::Null),
            ("boolean", ".b", json!(true)),
            ("date", ".at", json!("60m")),
            ("date", ".s", json!("<invalid>")),
        ] {
            let column = Column::parse(&json!({"name": "c", "type": kind, "jsonPath": path}));
            let cell = column.cell(&object, now);
            assert_eq!(cell, wanted, "{kind} {path}");
        }
    }
}

//! Path elements: one step from a value into one of its parts, as FieldsV1
//! spells it: `f:name` a member, `k:{"name":"a"}` an item of a list by its
//! keys, `v:"a"` an item of a set, `i:3` an item by its place.
//!
//! The order of elements is FieldsV1's: fields, keys, values, indices.

use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use std::fmt;

/// A value that a key or a set can hold. Numbers compare as numbers, integers
/// and others alike; kinds order as number, text, flag, null.
#[derive(Clone, Debug)]
pub enum Scalar {
    Number(Number),
    Text(Box<str>),
    Flag(bool),
    Null,
}

impl Scalar {
    /// `None` for a list or a map.
    pub fn of(value: &Value) -> Option<Scalar> {
        Some(match value {
            Value::Null => Scalar::Null,
            Value::Bool(b) => Scalar::Flag(*b),
            Value::Number(n) => Scalar::Number(n.clone()),
            Value::String(s) => Scalar::Text(s.as_str().into()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Scalar::Number(_) => 0,
            Scalar::Text(_) => 1,
            Scalar::Flag(_) => 2,
            Scalar::Null => 3,
        }
    }

    /// JSON, with `<`, `>`, `&` and the line separators escaped as Go does.
    fn write(&self, out: &mut String) {
        match self {
            Scalar::Number(n) => out.push_str(&n.to_string()),
            Scalar::Text(s) => write_text(s, out),
            Scalar::Flag(b) => out.push_str(if *b { "true" } else { "false" }),
            Scalar::Null => out.push_str("null"),
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    let plain = Value::String(text.to_owned()).to_string();
    for c in plain.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let float = |n: &Number| n.as_f64().unwrap_or(f64::NAN);
            float(a).total_cmp(&float(b))
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Scalar) -> Ordering {
        match (self, other) {
            (Scalar::Number(a), Scalar::Number(b)) => compare_numbers(a, b),
            (Scalar::Text(a), Scalar::Text(b)) => a.cmp(b),
            (Scalar::Flag(a), Scalar::Flag(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Scalar) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Scalar) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

/// As error messages show it: text in quotes.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Number(n) => write!(f, "{n}"),
            Scalar::Text(s) => write!(f, "{s:?}"),
            Scalar::Flag(b) => write!(f, "{b}"),
            Scalar::Null => f.write_str("null"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    Field(Box<str>),
    /// Names and values, sorted by name.
    Key(Vec<(Box<str>, Scalar)>),
    Value(Scalar),
    Index(i64),
}

impl PathElement {
    pub fn field(name: &str) -> PathElement {
        PathElement::Field(name.into())
    }

    /// Reads FieldsV1's spelling.
    pub(super) fn parse(text: &str) -> Result<PathElement, String> {
        let (kind, rest) = match text.as_bytes() {
            [_, b':', ..] => text.split_at(2),
            [_, _, ..] => return Err(format!("missing colon: {text}")),
            _ => return Err("key must be 2 characters long:".to_owned()),
        };
        let json = |text: &str| -> Result<Value, String> {
            serde_json::from_str(text).map_err(|e| e.to_string())
        };
        match kind {
            "f:" => Ok(PathElement::field(rest)),
            "v:" => {
                let value = json(rest)?;
                let scalar = Scalar::of(&value).ok_or("a set's item must be a scalar")?;
                Ok(PathElement::Value(scalar))
            }
            "k:" => {
                let Value::Object(keys) = json(rest)? else {
                    return Err("a list's key must be an object".to_owned());
                };
                PathElement::key(&keys)
            }
            "i:" => rest
                .parse()
                .map(PathElement::Index)
                .map_err(|_| format!("not an index: {rest:?}")),
            _ => Err("unknown path element type".to_owned()),
        }
    }

    fn key(keys: &Map<String, Value>) -> Result<PathElement, String> {
        let mut fields = keys
            .iter()
            .map(|(name, value)| {
                let scalar = Scalar::of(value).ok_or("a list's key must hold scalars")?;
                Ok((name.as_str().into(), scalar))
            })
            .collect::<Result<Vec<(Box<str>, Scalar)>, String>>()?;
        fields.sort();
        Ok(PathElement::Key(fields))
    }

    /// Writes FieldsV1's spelling.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            PathElement::Field(name) => {
                out.push_str("f:");
                out.push_str(name);
            }
            PathElement::Key(fields) => {
                out.push_str("k:{");
                for (i, (name, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
            PathElement::Value(value) => {
                out.push_str("v:");
                value.write(out);
            }
            PathElement::Index(i) => out.push_str(&format!("i:{i}")),
        }
    }
}

/// As conflicts show it: `.name`, `[name="a"]`, `[="a"]`, `[3]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathElement::Field(name) => write!(f, ".{name}"),
            PathElement::Key(fields) => {
                f.write_str("[")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            PathElement::Value(value) => write!(f, "[={value}]"),
            PathElement::Index(i) => write!(f, "[{i}]"),
        }
    }
}

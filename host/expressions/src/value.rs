//! Values from JSON, and texts that are more than texts: times, durations,
//! bytes.

pub use kube_cel::cel::objects::Value;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// JSON as it is: numbers without a fraction are int.
pub fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => Value::Int(n),
            (None, Some(f)) => Value::Float(f),
            (None, None) => Value::Null,
        },
        Json::String(text) => self::text(text),
        Json::Array(items) => list(items.iter().map(from_json).collect()),
        Json::Object(members) => map(members.iter().map(|(k, v)| (k.clone(), from_json(v)))),
    }
}

/// A value as JSON has it; the error says what JSON hasn't.
pub fn to_json(value: &Value) -> Result<Json, String> {
    use base64::Engine as _;
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::UInt(n) => (*n).into(),
        Value::Float(f) => (*f).into(),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => base64::engine::general_purpose::STANDARD
            .encode(bytes.as_slice())
            .into(),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Value::Map(members) => {
            let mut out: Vec<(String, Json)> = Vec::new();
            for (key, member) in members.map.iter() {
                let Key::String(name) = key else {
                    return Err("a key of a map isn't text".to_owned());
                };
                out.push((name.to_string(), to_json(member)?));
            }
            // The map has no order of its own.
            out.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(out.into_iter().collect())
        }
        Value::Timestamp(at) => at.to_rfc3339().into(),
        other => return Err(format!("a {} isn't JSON", other.type_of())),
    })
}

pub fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

pub fn bytes(bytes: Vec<u8>) -> Value {
    Value::Bytes(Arc::new(bytes))
}

pub fn list(items: Vec<Value>) -> Value {
    Value::List(Arc::new(items))
}

pub fn map(members: impl Iterator<Item = (String, Value)>) -> Value {
    let map: HashMap<Key, Value> = members
        .map(|(name, value)| (Key::String(Arc::new(name)), value))
        .collect();
    Value::Map(Map { map: Arc::new(map) })
}

/// What a conversion function of CEL makes of a text.
fn through(program: &LazyLock<Option<Program>>, source: &str) -> Option<Value> {
    static ROOT: LazyLock<Context<'static>> = LazyLock::new(Context::default);
    let mut scope = ROOT.new_inner_scope();
    scope.add_variable_from_value("x", text(source));
    program.as_ref()?.execute(&scope).ok()
}

/// A time as RFC 3339 has it; another text stays one.
pub fn timestamp(source: &str) -> Value {
    static PROGRAM: LazyLock<Option<Program>> =
        LazyLock::new(|| Program::compile("timestamp(x)").ok());
    through(&PROGRAM, source).unwrap_or_else(|| text(source))
}

/// A duration as Go has it; another text stays one.
pub fn duration(source: &str) -> Value {
    static PROGRAM: LazyLock<Option<Program>> =
        LazyLock::new(|| Program::compile("duration(x)").ok());
    through(&PROGRAM, source).unwrap_or_else(|| text(source))
}

/// A value that may be absent.
pub fn optional(value: Option<Value>) -> Value {
    static SOME: LazyLock<Option<Program>> =
        LazyLock::new(|| Program::compile("optional.of(x)").ok());
    static NONE: LazyLock<Option<Program>> =
        LazyLock::new(|| Program::compile("optional.none()").ok());
    static ROOT: LazyLock<Context<'static>> = LazyLock::new(Context::default);
    let mut scope = ROOT.new_inner_scope();
    let program = match value {
        Some(value) => {
            scope.add_variable_from_value("x", value);
            &SOME
        }
        None => &NONE,
    };
    let made = program.as_ref().and_then(|p| p.execute(&scope).ok());
    made.unwrap_or(Value::Null)
}

const KEYWORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a variable may be called so.
pub fn is_identifier(name: &str) -> bool {
    let head = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let rest = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
    head && rest && !KEYWORDS.contains(&name)
}

/// The name by which expressions reach a property; `None`: they can't.
pub fn escape(name: &str) -> Option<String> {
    if KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        return None;
    }
    let mut out = String::new();
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (escaped, width) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            c if c.is_ascii_alphanumeric() || c == '_' => ("", 1),
            _ => return None,
        };
        match escaped {
            "" => out.push(c),
            escaped => out.push_str(escaped),
        }
        rest = &rest[width..];
    }
    Some(out)
}

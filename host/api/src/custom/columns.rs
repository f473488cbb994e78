//! `additionalPrinterColumns`: cells by type
//! (`customresource/tableconvertor`). Their paths are `json_path`'s.

use super::json_path::JsonPath;
use crate::meta;
use jiff::Timestamp;
use serde_json::{Number, Value, json};

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    pub path: JsonPath,
}

impl Column {
    /// `None` if its path isn't one.
    pub fn parse(value: &Value) -> Option<Column> {
        let path = meta::text(value, &["jsonPath"]);
        Some(Column {
            name: meta::text(value, &["name"]).to_owned(),
            kind: meta::text(value, &["type"]).to_owned(),
            format: meta::text(value, &["format"]).to_owned(),
            description: match meta::text(value, &["description"]) {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                text => text.to_owned(),
            },
            priority: meta::int(value, &["priority"]).unwrap_or(0),
            path: JsonPath::parse(path)?,
        })
    }

    /// As a table's `columnDefinitions` has it.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    pub fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(found) = self.path.first(object) else {
            return Value::Null;
        };
        match (self.kind.as_str(), found.as_ref()) {
            ("string", value) => shown(value).into(),
            ("integer", Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => n.into(),
                #[expect(clippy::cast_possible_truncation, reason = "saturates, as wanted")]
                (None, Some(f)) => (f as i64).into(),
                (None, None) => Value::Null,
            },
            ("number", Value::Number(n)) => number(n).map_or(Value::Null, Value::Number),
            ("boolean", Value::Bool(_)) => found.into_owned(),
            ("date", Value::String(text)) => match text.as_str() {
                "" | "null" => "<unknown>".into(),
                text if crate::time::parse(text).is_none() => "<invalid>".into(),
                text => crate::time::age(Some(text), now).into(),
            },
            _ => Value::Null,
        }
    }
}

/// A number of any kind as a float; whole ones are written without a fraction.
fn number(n: &Number) -> Option<Number> {
    let float = n.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "compared right after")]
    let whole = float as i64;
    #[expect(clippy::cast_precision_loss, reason = "the loss is what is asked")]
    let same = whole as f64 == float && whole.unsigned_abs() < 1 << 62;
    match same {
        true => Some(whole.into()),
        false => Number::from_f64(float),
    }
}

/// A value of any type as text, as Go prints it; lists and maps as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::String(text) => text.clone(),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (None, Some(float)) => float_text(float),
            _ => n.to_string(),
        },
        Value::Array(_) | Value::Object(_) => json_text(value),
    }
}

/// Go's `%v`: the shortest digits, with an exponent below -4 and from 21.
fn float_text(float: f64) -> String {
    let scientific = format!("{float:e}");
    let exponent = scientific.split_once('e');
    let (digits, exponent) = exponent.unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..21 => float.to_string(),
        n if n < 0 => format!("{digits}e-{:02}", n.unsigned_abs()),
        n => format!("{digits}e+{n:02}"),
    }
}

/// JSON as Go writes it: members by name, and `<`, `>` and `&` escaped.
fn json_text(value: &Value) -> String {
    let mut out = sorted(value).to_string();
    for (plain, escaped) in [
        ("&", "\\u0026"),
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        out = out.replace(plain, escaped);
    }
    out
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let copied = members.into_iter().map(|(k, v)| (k.clone(), sorted(v)));
            Value::Object(copied.collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Number(n) if n.as_i64().is_none() => number(n).map_or(Value::Null, Value::Number),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_of_their_columns_type() {
        let object = json!({
            "n": 2.5, "w": 3, "f": 4.0, "big": 1e21, "small": 0.00001, "s": "x", "b": true,
            "at": "2024-01-01T00:00:00Z", "empty": "", "nil": null,
            "o": {"z": "<&>", "k": 1}, "l": [[1, 2.0], {"b": 1, "a": null}],
        });
        let now: Timestamp = "2024-01-01T01:00:00Z".parse().unwrap_or_default();
        for (kind, path, wanted) in [
            ("integer", ".n", json!(2)),
            ("integer", ".w", json!(3)),
            ("integer", ".s", Value::Null),
            ("integer", ".nil", Value::Null),
            ("number", ".n", json!(2.5)),
            ("number", ".w", json!(3)),
            ("number", ".f", json!(4)),
            ("number", ".s", Value::Null),
            ("string", ".n", json!("2.5")),
            ("string", ".f", json!("4")),
            ("string", ".big", json!("1e+21")),
            ("string", ".small", json!("1e-05")),
            ("string", ".w", json!("3")),
            ("string", ".b", json!("true")),
            ("string", ".empty", json!("")),
            ("string", ".nil", json!("<no value>")),
            ("string", ".none", Value::Null),
            ("string", ".o", json!(r#"{"k":1,"z":"\u003c\u0026\u003e"}"#)),
            ("string", ".l", json!(r#"[[1,2],{"a":null,"b":1}]"#)),
            ("string", ".l[0]", json!("[1,2]")),
            ("string", ".l[*][0]", Value::Null),
            ("boolean", ".b", json!(true)),
            ("boolean", ".s", Value::Null),
            ("date", ".at", json!("60m")),
            ("date", ".s", json!("<invalid>")),
            ("date", ".empty", json!("<unknown>")),
            ("date", ".n", Value::Null),
            ("date", ".none", Value::Null),
        ] {
            let column = json!({"name": "c", "type": kind, "jsonPath": path});
            let cell = Column::parse(&column).map(|c| c.cell(&object, now));
            assert_eq!(cell, Some(wanted), "{kind} {path}");
        }
    }
}

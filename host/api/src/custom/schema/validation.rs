//! Validation of values against a schema, with the messages of upstream's
//! validator (kube-openapi's `pkg/validation`), and its ratcheting: a fault of
//! a part that an update leaves as it was is forgiven.

use super::{Additional, Bound, ListType, Schema, formats, lists};
use crate::field::{Errors, Fault, FieldError, Path};
use serde_json::Value;

/// Most faults of one object that are reported.
const MAX_REPORTED: usize = 100;

/// Validates `value`, which stands at `path` ("" for a whole object). With an
/// `old` value this is an update of it.
pub fn validate(value: &Value, old: Option<&Value>, schema: &Schema, path: &str) -> Errors {
    let mut found = node(value, old, schema, path);
    found.errors.truncate(MAX_REPORTED);
    Errors(found.errors)
}

/// What a schema says of a value, and how much of it matched: of alternatives
/// that all fail, the one with most matches is reported.
#[derive(Default)]
struct Found {
    errors: Vec<FieldError>,
    matches: u32,
}

impl Found {
    fn merge(&mut self, other: Found) {
        if self.errors.len() < MAX_REPORTED {
            self.errors.extend(other.errors);
        }
        self.matches += other.matches;
    }

    fn add(&mut self, path: &str, fault: Fault, detail: impl Into<String>) {
        self.errors.push(FieldError {
            path: Path::new(path.trim_start_matches('.')),
            fault,
            detail: detail.into(),
        });
    }

    fn invalid(&mut self, path: &str, value: impl Into<Value>, why: String) {
        self.add(path, Fault::Invalid(value.into()), why);
    }

    /// A fault that upstream reports without a field.
    fn pathless(&mut self, why: String) {
        self.add("<nil>", Fault::Invalid("".into()), why);
    }
}

fn child(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn node(value: &Value, old: Option<&Value>, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    found.merge(type_of(value, schema, path));
    found.matches += 1;
    if !value.is_null() {
        found.merge(junctors(value, old, schema, path));
        match value {
            Value::String(text) => found.merge(string(text, schema, path)),
            Value::Number(_) => found.merge(number(value, schema, path)),
            Value::Array(items) => found.merge(array(items, old, schema, path)),
            Value::Object(_) => found.merge(object(value, old, schema, path)),
            Value::Null | Value::Bool(_) => {}
        }
    }
    if !schema.enumerated.is_empty() && !schema.enumerated.iter().any(|e| same(e, value)) {
        let supported: Vec<String> = schema
            .enumerated
            .iter()
            .map(|v| match v {
                Value::String(text) => format!("{text:?}"),
                other => format!("{:?}", other.to_string()),
            })
            .collect();
        let detail = format!("supported values: {}", supported.join(", "));
        found.add(path, Fault::NotSupported(value.clone()), detail);
    } else {
        found.matches += 1;
    }
    found
}

/// Equal as JSON values are: 1 is 1.0, members have no order.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

/// A child that is as it was before an update is forgiven its faults.
fn ratcheted(value: &Value, old: Option<&Value>, schema: &Schema, path: &str) -> Found {
    let mut found = node(value, old, schema, path);
    if !found.errors.is_empty() && old == Some(value) {
        found.errors.clear();
    }
    found
}

/// The JSON type of a value, and the format that Go would give it.
fn go_type(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(n) if n.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

fn type_of(value: &Value, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    let types = schema.types();
    if types.is_empty() && schema.format.is_empty() {
        return found;
    }
    let (kind, format) = go_type(value);
    let mut wrong = |wanted: &str, is: &str| {
        let shown = if path.is_empty() { "" } else { path };
        found.add(
            path,
            Fault::TypeInvalid(is.into()),
            format!("{shown} in body must be of type {wanted}: {is:?}"),
        );
    };
    if value.is_null() {
        if !types.is_empty() && !schema.nullable {
            wrong(&types.join(","), "null");
        }
        return found;
    }
    let has = |name: &str| types.contains(&name);
    let whole = value.as_f64().is_some_and(|f| f.fract() == 0.0) && has("integer");
    let number = kind == "integer" && has("number");
    let textual = matches!(kind, "string" | "array");
    let fits = has(kind) || (kind == "number" && whole) || number;
    if !(textual || schema.format.is_empty() || fits || format == schema.format) {
        wrong(&schema.format, format);
        return found;
    }
    if textual && !schema.format.is_empty() && !has("number") && !has("integer") {
        return found;
    }
    if !fits {
        wrong(&types.join(","), kind);
    }
    found
}

fn string(text: &str, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    let length = text.chars().count() as u64;
    if let Some(max) = schema.max_length.filter(|max| length > *max) {
        let detail = format!("may not be more than {max} bytes");
        found.add(path, Fault::TooLong, detail);
    } else if let Some(min) = schema.min_length.filter(|min| length < *min) {
        let why = format!("{path} in body should be at least {min} chars long");
        found.invalid(path, text, why);
    } else if let Some(pattern) = &schema.pattern {
        let expected = match &pattern.regex {
            Ok(regex) if regex.is_match(text) => None,
            Ok(_) => Some(pattern.text.clone()),
            Err(e) => Some(format!("{}, but pattern is invalid: {e}", pattern.text)),
        };
        if let Some(expected) = expected {
            found.invalid(
                path,
                text,
                format!("{path} in body should match '{expected}'"),
            );
        }
    }
    if found.errors.is_empty() {
        found.matches += 1;
    }
    if !schema.format.is_empty() && !formats::is_valid(&schema.format, text) {
        let why = format!("{path} in body must be of type {}: {text:?}", schema.format);
        found.add(path, Fault::TypeInvalid(text.into()), why);
    }
    found
}

fn number(value: &Value, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    let at = value.as_f64().unwrap_or_default();
    let in_range = match (schema.kind.as_str(), schema.format.as_str()) {
        ("integer", "int32") => at >= f64::from(i32::MIN) && at <= f64::from(i32::MAX),
        ("integer", _) => value.as_i64().is_some() || at.fract() == 0.0 && at.abs() < 9.3e18,
        ("number", "float") => at.abs() <= f64::from(f32::MAX),
        _ => true,
    };
    if !in_range {
        let what = match schema.format.as_str() {
            "" => format!("type {} (default format)", schema.kind),
            format => format!("type {} with format {format}", schema.kind),
        };
        found.pathless(format!("Checked value must be of {what} in {path}"));
    }
    if let Some(factor) = schema.multiple_of {
        let times = at / factor;
        if factor <= 0.0 {
            let why = format!("factor MultipleOf declared for {path} must be positive: {factor}");
            found.invalid(path, factor, why);
        } else if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
            let why = format!("{path} in body should be a multiple of {factor}");
            found.invalid(path, value.clone(), why);
        }
    }
    let outside = |bound: &Bound, over: bool| match (bound.exclusive, over) {
        (true, true) => at >= bound.at,
        (false, true) => at > bound.at,
        (true, false) => at <= bound.at,
        (false, false) => at < bound.at,
    };
    for (bound, over, words) in [
        (schema.maximum, true, "less than"),
        (schema.minimum, false, "greater than"),
    ] {
        if let Some(bound) = bound.filter(|b| outside(b, over)) {
            let or_equal = if bound.exclusive { "" } else { " or equal to" };
            let why = format!("{path} in body should be {words}{or_equal} {}", bound.at);
            found.invalid(path, value.clone(), why);
        }
    }
    found.matches += 1;
    found
}

fn array(items: &[Value], old: Option<&Value>, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    let old_items = match (schema.list_type, old) {
        (ListType::Map, Some(Value::Array(old))) => Some(old),
        _ => None,
    };
    if let Some(of) = &schema.items {
        for (i, item) in items.iter().enumerate() {
            let before = old_items.and_then(|old| {
                let key = lists::key(item, schema);
                old.iter().find(|o| lists::key(o, schema) == key)
            });
            found.merge(ratcheted(item, before, of, &format!("{path}[{i}]")));
        }
    }
    let size = items.len() as u64;
    if let Some(min) = schema.min_items.filter(|min| size < *min) {
        let why = format!("{path} in body should have at least {min} items");
        found.invalid(path, size, why);
    }
    if let Some(max) = schema.max_items.filter(|max| size > *max) {
        let detail = format!("must have at most {max} items");
        found.add(
            path,
            Fault::TooMany(usize::try_from(size).unwrap_or(usize::MAX)),
            detail,
        );
    }
    found.matches += 1;
    found
}

fn object(value: &Value, old: Option<&Value>, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    let Value::Object(members) = value else {
        return found;
    };
    let size = members.len() as u64;
    if let Some(min) = schema.min_properties.filter(|min| size < *min) {
        let why = format!("{path} in body should have at least {min} properties");
        found.invalid(path, size, why);
    }
    if let Some(max) = schema.max_properties.filter(|max| size > *max) {
        let detail = format!("must have at most {max} items");
        found.add(
            path,
            Fault::TooMany(usize::try_from(size).unwrap_or(usize::MAX)),
            detail,
        );
    }
    let before = old.filter(|_| !schema.atomic_map);
    for (name, member) in members {
        let known = schema.properties.get(name);
        let of = match (known, &schema.additional) {
            (Some(of), _) => of,
            (None, Some(Additional::Each(of))) => of,
            (None, Some(Additional::None)) => {
                let why = format!("{path}.{name} in body is a forbidden property");
                found.invalid(path, name.as_str(), why);
                continue;
            }
            (None, Some(Additional::Any) | None) => continue,
        };
        let at = child(path, name);
        let typed = path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind");
        found.merge(match before.and_then(|o| o.get(name)) {
            Some(was) if !typed => ratcheted(member, Some(was), of, &at),
            _ => node(member, None, of, &at),
        });
    }
    for name in &schema.required {
        if !members.contains_key(name) {
            found.add(&child(path, name), Fault::Required, "");
        }
    }
    found.matches += 1;
    found
}

/// allOf, anyOf, oneOf and not.
fn junctors(value: &Value, old: Option<&Value>, schema: &Schema, path: &str) -> Found {
    let mut found = Found::default();
    let shown = format!("{path:?}");
    let tried = |schemas: &[Schema]| -> (usize, Option<Found>) {
        let mut valid = 0;
        let mut best: Option<Found> = None;
        for of in schemas {
            let result = node(value, old, of, path);
            if result.errors.is_empty() {
                valid += 1;
            } else if best.as_ref().is_none_or(|b| result.matches > b.matches) {
                best = Some(result);
            }
        }
        (valid, best)
    };
    if !schema.any_of.is_empty()
        && let (0, best) = tried(&schema.any_of)
    {
        found.pathless(format!("{shown} must validate at least one schema (anyOf)"));
        found.merge(best.unwrap_or_default());
    }
    if !schema.one_of.is_empty() {
        match tried(&schema.one_of) {
            (1, _) => {}
            (0, best) => {
                found.pathless(format!(
                    "{shown} must validate one and only one schema (oneOf). Found none valid"
                ));
                found.merge(best.unwrap_or_default());
            }
            (n, _) => found.pathless(format!(
                "{shown} must validate one and only one schema (oneOf). Found {n} valid alternatives"
            )),
        }
    }
    let mut valid = 0;
    for of in &schema.all_of {
        let result = node(value, old, of, path);
        valid += usize::from(result.errors.is_empty());
        found.merge(result);
    }
    if valid < schema.all_of.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        found.pathless(format!(
            "{shown} must validate all the schemas (allOf){none}"
        ));
    }
    if let Some(not) = &schema.not
        && node(value, old, not, path).errors.is_empty()
    {
        found.pathless(format!("{shown} must not validate the schema (not)"));
    }
    found.matches += 1;
    found
}

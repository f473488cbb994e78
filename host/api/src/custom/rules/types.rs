//! Values and types of CEL by schema: what `self` is.

use crate::custom::schema::{Additional, Schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use expressions::{Type, Value as Cel};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The type of a node's values; a `whole` object has its metadata too.
pub(super) fn of(schema: &Schema, whole: bool) -> Type {
    if schema.int_or_string {
        return Type::Dyn;
    }
    match schema.kind.as_str() {
        "boolean" => Type::Bool,
        "integer" => Type::Scalar("int"),
        "number" => Type::Scalar("double"),
        "string" => match schema.format.replace('-', "").as_str() {
            "date" | "datetime" | "duration" | "byte" => Type::Dyn,
            _ => Type::String,
        },
        "array" => Type::List(Arc::new(match &schema.items {
            Some(items) => of(items, false),
            None => Type::Dyn,
        })),
        "object" => match &schema.additional {
            Some(Additional::Each(each)) => Type::Map(Arc::new(of(each, false))),
            Some(Additional::Any) => Type::Map(Arc::new(Type::Dyn)),
            Some(Additional::None) | None if whole || !schema.properties.is_empty() => {
                Type::Object(Arc::new(fields(schema, whole)))
            }
            Some(Additional::None) | None => Type::Dyn,
        },
        _ => Type::Dyn,
    }
}

fn fields(schema: &Schema, whole: bool) -> BTreeMap<String, Type> {
    let mut out: BTreeMap<String, Type> = schema
        .properties
        .iter()
        .filter_map(|(name, field)| Some((expressions::escape(name)?, of(field, false))))
        .collect();
    if whole || schema.embedded {
        let names = ["name", "generateName"].map(|n| (n.to_owned(), Type::String));
        out.insert("metadata".to_owned(), Type::Object(Arc::new(names.into())));
        out.insert("apiVersion".to_owned(), Type::String);
        out.insert("kind".to_owned(), Type::String);
    }
    out
}

/// A value as expressions see it. What the schema doesn't name isn't seen.
pub(super) fn value(value: &Value, schema: &Schema, whole: bool) -> Cel {
    match value {
        Value::Number(n) if schema.kind == "number" => match n.as_f64() {
            Some(f) => Cel::Float(f),
            None => Cel::Null,
        },
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number by validation"
        )]
        Value::Number(n) if schema.kind == "integer" && !n.is_i64() => {
            Cel::Int(n.as_f64().unwrap_or_default() as i64)
        }
        Value::String(text) => match schema.format.replace('-', "").as_str() {
            "datetime" => expressions::timestamp(text),
            "date" => expressions::timestamp(&format!("{text}T00:00:00Z")),
            "duration" => expressions::duration(text),
            "byte" => expressions::bytes(STANDARD.decode(text).unwrap_or_default()),
            _ => expressions::text(text),
        },
        Value::Array(items) => expressions::list(
            items
                .iter()
                .map(|item| match &schema.items {
                    Some(of) => self::value(item, of, false),
                    None => expressions::from_json(item),
                })
                .collect(),
        ),
        Value::Object(members) => match &schema.additional {
            Some(Additional::Each(of)) => expressions::map(
                members
                    .iter()
                    .map(|(name, member)| (name.clone(), self::value(member, of, false))),
            ),
            Some(Additional::Any | Additional::None) | None => {
                object(value, members, schema, whole || schema.embedded)
            }
        },
        other => expressions::from_json(other),
    }
}

fn object(
    value: &Value,
    members: &serde_json::Map<String, Value>,
    schema: &Schema,
    whole: bool,
) -> Cel {
    if schema.properties.is_empty() && !whole {
        return expressions::from_json(value);
    }
    let own = members.iter().filter_map(|(name, member)| {
        let field = schema.properties.get(name)?;
        if whole && name == "metadata" {
            return None;
        }
        Some((
            expressions::escape(name)?,
            self::value(member, field, false),
        ))
    });
    let mut fields: BTreeMap<String, Cel> = own.collect();
    if whole {
        for key in ["apiVersion", "kind"] {
            if let Some(text) = members.get(key).and_then(Value::as_str) {
                fields.insert(key.to_owned(), expressions::text(text));
            }
        }
        let names = ["name", "generateName"].into_iter().filter_map(|key| {
            let text = members.get("metadata")?.get(key)?.as_str()?;
            Some((key.to_owned(), expressions::text(text)))
        });
        fields.insert("metadata".to_owned(), expressions::map(names));
    }
    expressions::map(fields.into_iter())
}

/// The node that a `fieldPath` leads to: `.a.b`, `.a['b']`.
pub(super) fn at_path<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path)?.iter().try_fold(schema, |of, name| {
        let properties = of.get("properties").filter(|p| p.is_object());
        match properties {
            Some(properties) => properties.get(name),
            None => of.get("additionalProperties").filter(|a| a.is_object()),
        }
    })
}

/// The names along a path; `None` for one of another form.
pub(super) fn steps(path: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("['") {
            let (name, tail) = after.split_once("']")?;
            out.push(name.replace("\\'", "'"));
            rest = tail;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if name.is_empty() {
                return None;
            }
            out.push(name.to_owned());
            rest = tail;
        }
    }
    Some(out)
}

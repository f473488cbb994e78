//! Structural schemas: what a CustomResourceDefinition says of the objects of
//! one version, parsed once. Pruning, defaulting and validation walk it.
//!
//! [`Schema::parse`] takes what definition validation has let through, and of
//! anything else makes the most permissive sense: a stored definition never
//! stops the server. Regular expressions are compiled here, bounded in size.

pub mod defaulting;
pub mod embedded;
pub mod formats;
pub mod lists;
pub mod pruning;
pub mod validation;

use super::rules::Rule;
use crate::field::Path;
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most bytes that one compiled pattern takes.
const REGEX_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// `additionalProperties`.
#[derive(Clone, Debug)]
pub enum Additional {
    Any,
    None,
    Each(Box<Schema>),
}

/// A bound, and whether it is itself out of bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub at: f64,
    pub exclusive: bool,
}

#[derive(Clone, Debug)]
pub struct Pattern {
    pub text: String,
    /// The message of the compiler for one that doesn't compile.
    pub regex: Result<Regex, String>,
}

/// One node. Absent members are at their default.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`; empty where there is none.
    pub kind: String,
    pub nullable: bool,
    pub format: String,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    pub enumerated: Vec<Value>,
    pub minimum: Option<Bound>,
    pub maximum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub pattern: Option<Pattern>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list_type: ListType,
    pub list_keys: Vec<String>,
    pub atomic_map: bool,
    pub rules: Vec<Rule>,
}

/// Compiles a pattern as Go would, or says why not.
pub fn compile_pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
        .map_err(|e| e.to_string().replace('\n', " "))
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(str::to_owned))
        .collect()
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn bound(value: &Value, key: &str, exclusive: &str) -> Option<Bound> {
    Some(Bound {
        at: value.get(key)?.as_f64()?,
        exclusive: flag(value, exclusive),
    })
}

fn several(value: Option<&Value>) -> Vec<Schema> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(Schema::parse)
        .collect()
}

fn rules(value: Option<&Value>) -> Vec<Rule> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(Rule::parse)
        .collect()
}

impl Schema {
    /// A node of `openAPIV3Schema` and all below it.
    pub fn parse(value: &Value) -> Schema {
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        Schema {
            kind: text(value, "type"),
            nullable: flag(value, "nullable"),
            format: formats::supported(&text(value, "format"), &text(value, "type")),
            default: value.get("default").filter(|v| !v.is_null()).cloned(),
            properties: value
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(name, of)| (name.clone(), Schema::parse(of)))
                .collect(),
            additional: value.get("additionalProperties").and_then(|v| match v {
                Value::Bool(true) => Some(Additional::Any),
                Value::Bool(false) => Some(Additional::None),
                Value::Object(_) => Some(Additional::Each(Box::new(Schema::parse(v)))),
                _ => None,
            }),
            items: value
                .get("items")
                .filter(|v| v.is_object())
                .map(|v| Box::new(Schema::parse(v))),
            required: strings(value.get("required")),
            enumerated: value
                .get("enum")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            minimum: bound(value, "minimum", "exclusiveMinimum"),
            maximum: bound(value, "maximum", "exclusiveMaximum"),
            multiple_of: value.get("multipleOf").and_then(Value::as_f64),
            min_length: number("minLength"),
            max_length: number("maxLength"),
            min_items: number("minItems"),
            max_items: number("maxItems"),
            min_properties: number("minProperties"),
            max_properties: number("maxProperties"),
            pattern: Some(text(value, "pattern"))
                .filter(|p| !p.is_empty())
                .map(|text| Pattern {
                    regex: compile_pattern(&text),
                    text,
                }),
            all_of: several(value.get("allOf")),
            any_of: several(value.get("anyOf")),
            one_of: several(value.get("oneOf")),
            not: value.get("not").map(|v| Box::new(Schema::parse(v))),
            ..Schema::extensions(value)
        }
    }

    /// The `x-kubernetes-…` members.
    fn extensions(value: &Value) -> Schema {
        Schema {
            preserve_unknown: flag(value, "x-kubernetes-preserve-unknown-fields"),
            embedded: flag(value, "x-kubernetes-embedded-resource"),
            int_or_string: flag(value, "x-kubernetes-int-or-string"),
            list_type: match value.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => ListType::Set,
                Some("map") => ListType::Map,
                _ => ListType::Atomic,
            },
            list_keys: strings(value.get("x-kubernetes-list-map-keys")),
            atomic_map: text(value, "x-kubernetes-map-type") == "atomic",
            rules: rules(value.get("x-kubernetes-validations")),
            ..Schema::default()
        }
    }

    /// The schema of a member, by its own property or `additionalProperties`.
    pub fn member(&self, name: &str) -> Option<&Schema> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Some(Additional::Each(schema))) => Some(schema),
            (None, _) => None,
        }
    }

    /// What stands right below `value`: each value, its schema, where it stands.
    pub fn below(&self, value: &Value, path: &Path, mut each: impl FnMut(&Value, &Schema, &Path)) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let Some(of) = self.member(name) {
                        let at = match self.properties.contains_key(name) {
                            true => path.child(name),
                            false => path.key(name),
                        };
                        each(member, of, &at);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(of) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        each(item, of, &path.index(i));
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// The types that a value may have; none: any.
    pub fn types(&self) -> Vec<&str> {
        match (self.int_or_string, self.kind.as_str()) {
            (true, _) => vec!["integer", "string"],
            (false, "") => Vec::new(),
            (false, kind) => vec![kind],
        }
    }
}

/// Whether members of an object with apiVersion, kind and metadata are those.
pub(crate) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

//! Pruning: drops what a schema doesn't know, as upstream's
//! `apiserver/schema/pruning` does.

use super::{Additional, Schema, is_meta};
use serde_json::Value;

/// Most unknown fields that one body reports.
const MAX_REPORTED: usize = 100;

/// Prunes `object`, whose own apiVersion, kind and metadata stay. The paths of
/// what was dropped go to `unknown`.
pub fn prune(object: &mut Value, schema: &Schema, unknown: &mut Vec<String>) {
    let mut walk = Pruning {
        path: String::new(),
        unknown,
    };
    walk.node(object, Some(schema), true, false);
}

/// Whether `value`, no whole object, would lose anything.
pub fn is_pruned(value: &Value, schema: &Schema) -> bool {
    let mut unknown = Vec::new();
    let mut walk = Pruning {
        path: String::new(),
        unknown: &mut unknown,
    };
    walk.node(&mut value.clone(), Some(schema), false, false);
    unknown.is_empty()
}

struct Pruning<'a> {
    path: String,
    unknown: &'a mut Vec<String>,
}

impl Pruning<'_> {
    fn below<T>(&mut self, segment: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 && !segment.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(segment);
        let out = act(self);
        self.path.truncate(length);
        out
    }

    fn report(&mut self, name: &str) {
        if self.unknown.len() < MAX_REPORTED {
            let path = self.below(name, |walk| walk.path.clone());
            self.unknown.push(path);
        }
    }

    /// `keep`: what isn't known stays, as below a list that preserves.
    fn node(&mut self, value: &mut Value, schema: Option<&Schema>, whole: bool, keep: bool) {
        let keep = keep || schema.is_some_and(|s| s.preserve_unknown);
        let embedded = whole || schema.is_some_and(|s| s.embedded);
        match value {
            Value::Array(items) => {
                let of = schema.and_then(|s| s.items.as_deref());
                if keep && of.is_none() {
                    return;
                }
                for (i, item) in items.iter_mut().enumerate() {
                    self.below(&format!("[{i}]"), |walk| walk.node(item, of, false, keep));
                }
            }
            Value::Object(members) => {
                let mut dropped = Vec::new();
                for (name, member) in members.iter_mut() {
                    if embedded && is_meta(name) {
                        continue;
                    }
                    match known(schema, name) {
                        Known::As(of) => {
                            self.below(name, |walk| walk.node(member, Some(of), false, false));
                        }
                        Known::Untyped => {
                            self.below(name, |walk| walk.node(member, None, false, false));
                        }
                        Known::No if keep => {}
                        Known::No => dropped.push(name.clone()),
                    }
                }
                for name in dropped {
                    self.report(&name);
                    members.shift_remove(&name);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

enum Known<'a> {
    As(&'a Schema),
    /// `additionalProperties: true`: known, and nothing below it is.
    Untyped,
    No,
}

fn known<'a>(schema: Option<&'a Schema>, name: &str) -> Known<'a> {
    let Some(schema) = schema else {
        return Known::No;
    };
    match (schema.properties.get(name), &schema.additional) {
        (Some(of), _) => Known::As(of),
        (None, Some(Additional::Each(of))) => Known::As(of),
        (None, Some(Additional::Any | Additional::None)) => Known::Untyped,
        (None, None) => Known::No,
    }
}

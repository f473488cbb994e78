//! A type's fields in the order of their protobuf numbers, messages that JSON
//! inlines as a level of their own. Made once from the facts table.

use crate::facts::{self, Field, Type};
use std::collections::HashMap;
use std::sync::OnceLock;

#[derive(Debug)]
pub(super) struct Layout {
    /// Sorted by number.
    nodes: Vec<(u32, Node)>,
}

#[derive(Debug)]
pub(super) enum Node {
    Field(&'static Field, Form),
    Inline(Layout),
}

/// How a value of free JSON lies in its message. The three last ones are
/// CustomResourceDefinition schemas' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// schema = 1, or schemas = 2.
    SchemaOrArray,
    /// allows = 1, schema = 2.
    SchemaOrBool,
    /// schema = 1, or strings = 2.
    SchemaOrStrings,
}

pub(super) const SCHEMA: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

impl Layout {
    pub(super) fn nodes(&self) -> &[(u32, Node)] {
        &self.nodes
    }

    pub(super) fn node(&self, number: u32) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        self.nodes.get(at).map(|(_, node)| node)
    }

    fn of(t: &'static Type) -> Layout {
        let fields: Vec<_> = t
            .fields
            .iter()
            .map(|f| (f.numbers.as_slice(), f, form(t, f)))
            .collect();
        Layout::level(&fields)
    }

    /// `fields` by what is left of their paths.
    fn level(fields: &[(&[u32], &'static Field, Form)]) -> Layout {
        let mut nodes = Vec::new();
        let mut inner: HashMap<u32, Vec<_>> = HashMap::new();
        for (path, field, form) in fields {
            match path {
                [] => {}
                [number] => nodes.push((*number, Node::Field(field, *form))),
                [number, rest @ ..] => {
                    inner
                        .entry(*number)
                        .or_default()
                        .push((rest, *field, *form));
                }
            }
        }
        for (number, fields) in inner {
            nodes.push((number, Node::Inline(Layout::level(&fields))));
        }
        nodes.sort_by_key(|(number, _)| *number);
        Layout { nodes }
    }
}

fn form(t: &Type, field: &Field) -> Form {
    if t.name != SCHEMA {
        return Form::Plain;
    }
    match field.name {
        "items" => Form::SchemaOrArray,
        "additionalItems" | "additionalProperties" => Form::SchemaOrBool,
        "dependencies" => Form::SchemaOrStrings,
        _ => Form::Plain,
    }
}

pub(super) fn of(type_name: &str) -> Option<&'static Layout> {
    static TABLE: OnceLock<HashMap<&'static str, Layout>> = OnceLock::new();
    TABLE
        .get_or_init(|| facts::all().map(|t| (t.name, Layout::of(t))).collect())
        .get(type_name)
}

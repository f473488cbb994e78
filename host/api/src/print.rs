//! Tables for `kubectl get`: columns and cells of a kind, in upstream's words
//! (`pkg/printers/internalversion`), and the `Table` object.

use crate::kinds::KindRef;
use crate::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

pub type Cells = Vec<Value>;

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: &'static str,
    /// `name` where the cells name objects.
    pub format: &'static str,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: u8,
    pub description: &'static str,
}

/// A column of strings.
pub const fn text(name: &'static str, priority: u8, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        priority,
        description,
    }
}

/// A column of whole numbers.
pub const fn int(name: &'static str, priority: u8, description: &'static str) -> Column {
    Column {
        kind: "integer",
        ..text(name, priority, description)
    }
}

pub const AGE: Column = text("Age", 0, "Time since the object was created.");
pub const NAME: Column = Column {
    format: "name",
    ..text("Name", 0, "The object's name, unique in its namespace.")
};

pub const NAME_AGE: &[Column] = &[NAME, AGE];

pub fn name_age(object: &Value, now: Timestamp) -> Cells {
    vec![meta::name(object).into(), age(object, now)]
}

/// Of kinds without columns of their own (`registry/rest/table.go`).
pub const NAME_CREATED: &[Column] = &[
    NAME,
    Column {
        kind: "date",
        ..text("Created At", 0, "When the object was created, as RFC 3339.")
    },
];

pub fn name_created(object: &Value, _: Timestamp) -> Cells {
    let created = match meta::text(object, &["metadata", "creationTimestamp"]) {
        "" => "0001-01-01T00:00:00Z",
        at => at,
    };
    vec![meta::name(object).into(), created.into()]
}

/// A column of truth values.
pub const fn flag(name: &'static str, description: &'static str) -> Column {
    Column {
        kind: "boolean",
        ..text(name, 0, description)
    }
}

pub fn age(object: &Value, now: Timestamp) -> Value {
    let at = meta::at(object, &["metadata", "creationTimestamp"]).and_then(Value::as_str);
    crate::time::age(at, now).into()
}

/// The text at `path` that may be absent, which isn't the same as empty.
pub fn or_unset(object: &Value, path: &[&str]) -> Value {
    match meta::at(object, path).and_then(Value::as_str) {
        Some(text) => text.into(),
        None => "<unset>".into(),
    }
}

/// `value`, or upstream's word for nothing.
pub fn or_none(value: &str) -> Value {
    match value {
        "" => "<none>".into(),
        v => v.into(),
    }
}

/// What a table's rows carry beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

/// A table of `objects`, which are complete with apiVersion and kind.
pub fn table(
    kind: &KindRef,
    mut objects: Vec<Value>,
    metadata: Value,
    include: Include,
    with_columns: bool,
    now: Timestamp,
) -> Value {
    objects.sort_by(|a, b| kind.order(a, b));
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| row(kind, object, include, now))
        .collect();
    let columns: Value = if with_columns {
        kind.column_definitions()
    } else {
        Value::Null
    };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

pub(crate) fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(kind: &KindRef, object: Value, include: Include, now: Timestamp) -> Value {
    let mut row = json!({"cells": kind.cells(&object, now)});
    if let Some(conditions) = kind.row_conditions(&object) {
        row["conditions"] = conditions;
    }
    match include {
        Include::None => row["object"] = Value::Null,
        Include::Metadata => row["object"] = partial(&object),
        Include::Object => row["object"] = object,
    }
    row
}

/// Only the metadata of an object.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

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

/// The versions of meta.k8s.io in which tables and metadata alone are given;
/// but for their names they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V1Beta1,
}

impl Version {
    pub fn parse(version: &str) -> Option<Version> {
        match version {
            "v1" => Some(Version::V1),
            "v1beta1" => Some(Version::V1Beta1),
            _ => None,
        }
    }

    pub fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "meta.k8s.io/v1",
            Version::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// How a table is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub version: Version,
    pub include: Include,
    /// Only the first table of a watch has them.
    pub columns: bool,
}

/// A table of `objects`, which are complete with apiVersion and kind.
pub fn table(
    kind: &KindRef,
    mut objects: Vec<Value>,
    metadata: Value,
    layout: Layout,
    now: Timestamp,
) -> Value {
    objects.sort_by(|a, b| kind.order(a, b));
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let (cells, done) = (kind.cells(&object, now), kind.row_conditions(&object));
            row(cells, done, object, layout)
        })
        .collect();
    with_rows(kind.column_definitions(), rows, metadata, layout)
}

/// The table of one scale, whose object a workload of `kind` is.
pub fn scale_table(kind: &KindRef, scale: Value, layout: Layout, now: Timestamp) -> Value {
    let replicas = |part| Value::from(meta::int(&scale, &[part, "replicas"]).unwrap_or(0));
    let name = match kind {
        KindRef::Row(_) => text("Name", 0, NAME.description),
        KindRef::Custom(_) => NAME,
    };
    let columns = [
        name,
        int("Desired", 0, "Replicas that are wanted."),
        int("Available", 0, "Replicas that there are."),
        match kind {
            KindRef::Row(_) => AGE,
            KindRef::Custom(_) => Column {
                kind: "date",
                ..AGE
            },
        },
    ];
    let cells = vec![
        meta::name(&scale).into(),
        replicas("spec"),
        replicas("status"),
        age(&scale, now),
    ];
    let metadata = json!({"resourceVersion": meta::resource_version(&scale)});
    let rows = vec![row(cells, None, scale, layout)];
    let columns = columns.iter().map(definition).collect();
    with_rows(columns, rows, metadata, layout)
}

fn with_rows(columns: Value, rows: Vec<Value>, metadata: Value, layout: Layout) -> Value {
    json!({
        "kind": "Table", "apiVersion": layout.version.api_version(), "metadata": metadata,
        "columnDefinitions": if layout.columns { columns } else { Value::Null }, "rows": rows,
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

fn row(cells: Cells, conditions: Option<Value>, object: Value, layout: Layout) -> Value {
    let mut row = json!({"cells": cells});
    if let Some(conditions) = conditions {
        row["conditions"] = conditions;
    }
    match layout.include {
        Include::None => row["object"] = Value::Null,
        Include::Metadata => row["object"] = partial(&object, layout.version),
        Include::Object => row["object"] = object,
    }
    row
}

/// Only the metadata of an object.
pub fn partial(object: &Value, version: Version) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": version.api_version(),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

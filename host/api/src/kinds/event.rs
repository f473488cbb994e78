//! Event: stored as core/v1, seen as core/v1 and as events.k8s.io/v1.

use super::Kind;
use crate::field::{Errors, Path};
use crate::meta;
use crate::print::{Cells, Column, text};
use jiff::Timestamp;
use serde_json::{Map, Value};

pub(super) static CORE: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    type_name: "io.k8s.api.core.v1.Event",
    storage: "core/events",
    selectable: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    columns: COLUMNS,
    cells,
    validate,
    ..Kind::BASE
};

pub(super) static EVENTS: Kind = Kind {
    group: "events.k8s.io",
    type_name: "io.k8s.api.events.v1.Event",
    selectable: &[
        "reason",
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reportingController",
        "type",
    ],
    cells: |object, now| {
        let mut stored = object.clone();
        to_stored(&mut stored);
        cells(&stored, now)
    },
    validate: |object, errors| {
        let mut stored = object.clone();
        to_stored(&mut stored);
        validate(&stored, errors);
    },
    view: true,
    to_stored,
    from_stored,
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage: "core/events",
    columns: COLUMNS,
    ..Kind::BASE
};

/// events.k8s.io's names and core's.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename(object: &mut Value, api_version: &str, name: impl Fn(&str) -> Option<&'static str>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let mut out = Map::new();
    for (key, value) in std::mem::take(map) {
        match name(&key) {
            Some(other) => out.insert(other.to_owned(), value),
            None => out.insert(key, value),
        };
    }
    if out.contains_key("apiVersion") {
        out.insert("apiVersion".to_owned(), api_version.into());
    }
    *map = out;
}

fn to_stored(object: &mut Value) {
    rename(object, "v1", |k| {
        RENAMED.iter().find(|(e, _)| *e == k).map(|(_, c)| *c)
    });
}

fn from_stored(object: &mut Value) {
    rename(object, "events.k8s.io/v1", |k| {
        RENAMED.iter().find(|(_, c)| *c == k).map(|(e, _)| *e)
    });
}

const COLUMNS: &[Column] = &[
    text("Last Seen", 0, "When it was seen last."),
    text("Type", 0, "Normal or Warning."),
    text("Reason", 0, "Why, in one word."),
    text("Object", 0, "What it is about."),
    text("Subobject", 1, "Which part of it."),
    text("Source", 1, "Who says so."),
    text("Message", 0, "What happened."),
    text("First Seen", 1, "When it was seen first."),
    text("Count", 1, "How often it was seen."),
    crate::print::Column {
        priority: 1,
        ..crate::print::NAME
    },
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let stamp = |path: &[&str]| Some(meta::text(object, path)).filter(|t| !t.is_empty());
    let first = stamp(&["firstTimestamp"]).or(stamp(&["eventTime"]));
    let (last, count) = match object.get("series").filter(|s| s.is_object()) {
        Some(series) => (
            stamp(&["series", "lastObservedTime"]),
            meta::int(series, &["count"]).unwrap_or(0),
        ),
        None => (
            stamp(&["lastTimestamp"]).or(first),
            match meta::int(object, &["count"]) {
                None | Some(0) => 1,
                Some(count) => count,
            },
        ),
    };
    let involved = |key| meta::text(object, &["involvedObject", key]);
    let target = match involved("name") {
        "" => involved("kind").to_lowercase(),
        name => format!("{}/{name}", involved("kind").to_lowercase()),
    };
    let mut source = match meta::text(object, &["source", "component"]) {
        "" => meta::text(object, &["reportingComponent"]).to_owned(),
        component => component.to_owned(),
    };
    let host = match meta::text(object, &["source", "host"]) {
        "" => meta::text(object, &["reportingInstance"]),
        host => host,
    };
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    vec![
        crate::time::age(last, now).into(),
        meta::text(object, &["type"]).into(),
        meta::text(object, &["reason"]).into(),
        target.into(),
        involved("fieldPath").into(),
        source.into(),
        meta::text(object, &["message"]).trim().into(),
        crate::time::age(first, now).into(),
        count.into(),
        meta::name(object).into(),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let involved = meta::text(object, &["involvedObject", "namespace"]);
    let namespace = meta::namespace(object);
    let fits = match involved {
        "" => matches!(namespace, "default" | "kube-system"),
        ns => ns == namespace,
    };
    if !fits {
        errors.invalid(
            &Path::new("involvedObject").child("namespace"),
            involved,
            "does not match event.namespace",
        );
    }
    let kind = meta::text(object, &["type"]);
    if !kind.is_empty() && !matches!(kind, "Normal" | "Warning") {
        let why = "has invalid value: ";
        errors.invalid(&Path::new("type"), kind, format!("{why}{kind}"));
    }
}

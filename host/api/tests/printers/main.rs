//! What a table shows of every kind, against upstream's printers
//! (`pkg/printers/internalversion`, 1.36): columns, and rows by each rule.
#![expect(clippy::unwrap_used, reason = "tests")]

mod columns;
mod core;
mod groups;
mod metrics;
mod pods;
mod storage;
mod workloads;

use api::kinds::{KindRef, by_resource};
use api::print::{Include, Layout, Version, table};
use jiff::Timestamp;
use serde_json::{Value, json};

/// `v1/pods`, `apps/v1/deployments`.
fn kind(path: &str) -> KindRef {
    let parts: Vec<&str> = path.split('/').collect();
    let found = match parts.as_slice() {
        [version, plural] => by_resource("", version, plural),
        [group, version, plural] => by_resource(group, version, plural),
        _ => None,
    };
    found.unwrap_or_else(|| panic!("no kind {path}"))
}

fn now() -> Timestamp {
    "2026-01-06T00:00:00Z".parse().unwrap()
}

/// An object made five days ago, with `more` in it.
fn object(more: Value) -> Value {
    let mut object = json!({"metadata": {"name": "x", "namespace": "ns",
        "creationTimestamp": "2026-01-01T00:00:00Z"}});
    merge(&mut object, more);
    object
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn going(more: Value) -> Value {
    let mut object = object(json!({"metadata": {"deletionTimestamp": "2026-01-05T00:00:00Z"}}));
    merge(&mut object, more);
    object
}

const LAYOUT: Layout = Layout {
    version: Version::V1,
    include: Include::None,
    columns: false,
};

/// Objects of a kind and their cells.
fn check(path: &str, rows: Vec<(Value, Value)>) {
    let kind = kind(path);
    for (object, wanted) in rows {
        let made = table(&kind, vec![object.clone()], json!({}), LAYOUT, now());
        assert_eq!(made["rows"][0]["cells"], wanted, "{path}: {object:#}");
    }
}

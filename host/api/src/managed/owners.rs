//! `metadata.managedFields` read and written: managers and what they own.
//!
//! A manager is a name, an operation, for updates the version that it wrote
//! in, and a subresource. Entries come sorted by operation, time, name,
//! version, subresource.

use super::set::Set;
use crate::meta;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Who owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    /// Empty for appliers: they are the same in every version.
    pub version: String,
    pub subresource: String,
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub set: Set,
    /// The version that the set is of.
    pub version: String,
    /// RFC 3339, as it is served; empty if none is known.
    pub time: String,
}

pub type Managers = BTreeMap<Manager, Owned>;

/// Most update managers; the oldest of more are joined.
const MAX_UPDATERS: usize = 10;
/// The name of those that were joined.
const ANCIENT: &str = "ancient-changes";

/// The managers of an object. An error names the entry that can't be read.
pub(super) fn of(object: &Value) -> Result<Managers, String> {
    let entries = meta::list(object, &["metadata", "managedFields"]);
    entries
        .iter()
        .enumerate()
        .map(|(i, e)| entry(i, e))
        .collect()
}

fn entry(i: usize, entry: &Value) -> Result<(Manager, Owned), String> {
    let text = |key: &str| meta::text(entry, &[key]).to_owned();
    let operation = match meta::text(entry, &["operation"]) {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let version = text("apiVersion");
    if version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match meta::text(entry, &["fieldsType"]) {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
        other => {
            return Err(format!(
                "invalid fieldsType {other:?} in managed fields entry {i}"
            ));
        }
    }
    let set = match entry.get("fieldsV1") {
        None | Some(Value::Null) => Set::default(),
        Some(fields) => Set::from_fields(fields).map_err(|e| format!("error decoding set: {e}"))?,
    };
    let manager = Manager {
        name: text("manager"),
        operation,
        version: match operation {
            Operation::Apply => String::new(),
            Operation::Update => version.clone(),
        },
        subresource: text("subresource"),
    };
    let time = text("time");
    Ok((manager, Owned { set, version, time }))
}

/// Whether the managers of an object can be read.
pub fn check(object: &Value) -> Result<(), String> {
    of(object).map(drop)
}

/// A client resets ownership by an empty list or one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    let list = meta::at(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    match list.map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.is_empty(),
        _ => false,
    }
}

fn seconds(time: &str) -> i64 {
    crate::time::parse(time).map_or(0, |t| t.as_second())
}

/// Writes `managers` into the object's metadata, or removes what stands there.
pub(super) fn set(object: &mut Value, managers: &Managers) {
    let metadata = meta::ensure_metadata(object);
    if managers.is_empty() {
        metadata.shift_remove("managedFields");
        return;
    }
    let mut entries: Vec<(&Manager, &Owned)> = managers.iter().collect();
    entries.sort_by_key(|(m, o)| {
        let order = (m.operation, seconds(&o.time));
        (order, &m.name, &o.version, &m.subresource)
    });
    let list = entries.into_iter().map(|(m, o)| written(m, o)).collect();
    metadata.insert("managedFields".to_owned(), Value::Array(list));
}

fn written(manager: &Manager, owned: &Owned) -> Value {
    let mut out = Map::with_capacity(7);
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            out.insert(key.to_owned(), value.into());
        }
    };
    put("manager", &manager.name);
    put("operation", manager.operation.name());
    put("apiVersion", &owned.version);
    put("time", &owned.time);
    put("fieldsType", "FieldsV1");
    out.insert("fieldsV1".to_owned(), owned.set.to_fields());
    if !manager.subresource.is_empty() {
        out.insert(
            "subresource".to_owned(),
            manager.subresource.as_str().into(),
        );
    }
    Value::Object(out)
}

/// Joins the oldest update managers of each version until few enough are left.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<(i64, Manager)> = managers
        .iter()
        .filter(|(m, _)| m.operation == Operation::Update)
        .map(|(m, o)| (seconds(&o.time), m.clone()))
        .collect();
    let mut left = updaters.len();
    updaters.sort();
    let mut firsts: BTreeMap<String, Manager> = BTreeMap::new();
    for (_, manager) in updaters {
        if left <= MAX_UPDATERS {
            return;
        }
        let bucket = Manager {
            name: ANCIENT.to_owned(),
            operation: Operation::Update,
            version: manager.version.clone(),
            subresource: String::new(),
        };
        let Some(first) = firsts.get(&manager.version) else {
            firsts.insert(manager.version.clone(), manager);
            continue;
        };
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owned);
        }
        let joined = managers.remove(&manager);
        if let (Some(owned), Some(all)) = (joined, managers.get_mut(&bucket)) {
            all.set = all.set.union(&owned.set);
            all.time = owned.time;
        }
        left -= 1;
    }
}

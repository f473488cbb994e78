//! What upstream's strategies do alike before validation: a status has an
//! endpoint of its own, and changes to what is wanted count a generation.

use crate::meta;
use serde_json::Value;

/// A new object has the status that its controllers will give it.
pub(super) fn drop_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("status");
    }
}

pub(super) fn keep_status(new: &mut Value, old: &Value) {
    meta::keep(new, old, "status");
}

/// A status update through which metadata may change too.
pub(super) fn keep_spec(new: &mut Value, old: &Value) {
    meta::keep(new, old, "spec");
}

pub(super) fn first_generation(object: &mut Value) {
    meta::ensure_metadata(object).insert("generation".to_owned(), 1.into());
}

/// Counts a generation if `changed`.
pub(super) fn next_generation(new: &mut Value, old: &Value, changed: bool) {
    if changed {
        let was = meta::int(old, &["metadata", "generation"]).unwrap_or(0);
        meta::ensure_metadata(new).insert("generation".to_owned(), (was + 1).into());
    }
}

/// Counts a generation if what stands at `key` differs.
pub(super) fn count_generation(new: &mut Value, old: &Value, key: &str) {
    let changed = new.get(key) != old.get(key);
    next_generation(new, old, changed);
}

/// For kinds with `spec` and `status`.
pub(super) fn create_spec_status(object: &mut Value) {
    drop_status(object);
    first_generation(object);
}

pub(super) fn update_spec_status(new: &mut Value, old: &Value) {
    keep_status(new, old);
    count_generation(new, old, "spec");
}

/// For kinds with `spec` alone.
pub(super) fn update_spec(new: &mut Value, old: &Value) {
    count_generation(new, old, "spec");
}

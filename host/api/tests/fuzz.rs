//! Random and mutated bytes against every reader of client's bytes: no panic,
//! and what is accepted stays stable.
#![expect(clippy::unwrap_used, reason = "tests")]

use api::field::Errors;
use api::kinds::{self, KINDS, KindRef};
use api::selector::{FieldSelector, LabelSelector};
use api::{decode, patch, protobuf, quantity::Quantity};
use fuzzing::{Random, rounds};
use serde_json::{Value, json};

trait Shapes {
    fn value(&mut self, depth: usize) -> Value;
}

impl Shapes for Random {
    /// A value that often has the fields that kinds look for.
    fn value(&mut self, depth: usize) -> Value {
        const KEYS: &[&str] = &[
            "metadata",
            "spec",
            "status",
            "name",
            "containers",
            "initContainers",
            "volumes",
            "env",
            "valueFrom",
            "labels",
            "annotations",
            "data",
            "resources",
            "limits",
            "requests",
            "cpu",
            "memory",
            "ports",
            "containerPort",
            "image",
            "livenessProbe",
            "httpGet",
            "port",
            "tolerations",
            "key",
            "taints",
            "finalizers",
            "ownerReferences",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "volumeMounts",
            "secret",
            "items",
            "conditions",
            "containerStatuses",
            "state",
            "terminated",
            "type",
            "capacity",
        ];
        const TEXTS: &[&str] = &[
            "",
            "a",
            "1Gi",
            "-1",
            "A_b",
            "é",
            "2026-01-01T00:00:00Z",
            "delete",
            "replace",
            "Always",
            "0.1n",
        ];
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => (self.below(2) == 0).into(),
            2 => (self.draw().cast_signed() >> self.below(64)).into(),
            3 | 4 => TEXTS[self.below(TEXTS.len())].into(),
            5 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(
                (0..self.below(7))
                    .map(|_| {
                        (
                            KEYS[self.below(KEYS.len())].to_owned(),
                            self.value(depth - 1),
                        )
                    })
                    .collect(),
            ),
        }
    }
}

fn seeds() -> (u64, Random) {
    let random = Random::seeded();
    (random.0, random)
}

#[test]
fn every_kind_survives_any_value() {
    let (seed, mut r) = seeds();
    for _ in 0..rounds(4000) {
        let kind = KindRef::Row(KINDS[r.below(KINDS.len())]);
        let (mut value, mut old) = (r.value(7), r.value(7));
        // Both as decoded, and as nobody decodes them.
        if r.below(2) == 0 {
            let mut unknown = Vec::new();
            if kind.conform(&mut value, &mut unknown).is_err() {
                continue;
            }
            let once = value.clone();
            kind.conform(&mut value, &mut unknown).unwrap();
            assert_eq!(once, value, "seed {seed}");
        }
        if !value.is_object() || !old.is_object() {
            continue;
        }
        let mut errors = Errors::default();
        kind.default(&mut old);
        kind.prepare_create(&mut value);
        kind.default(&mut value);
        kinds::validate_metadata(&kind, &value, &mut errors);
        kind.validate(&value, &mut errors);
        kind.prepare_update(&mut value, &old);
        kinds::validate_metadata_update(&value, &old, &mut errors);
        kind.validate_update(&value, &old, &mut errors);
        kind.validate_status(&value, &old, &mut errors);
        kind.to_stored(&mut value);
        kind.from_stored(&mut value);
        let cells = kind.cells(&value, jiff::Timestamp::UNIX_EPOCH);
        // Upstream's rows may have more cells than columns.
        assert!(cells.len() >= kind.column_definitions().as_array().unwrap().len());
        let _ = errors.aggregate();
    }
}

#[test]
fn patches_of_any_kind_survive_any_value() {
    let (_, mut r) = seeds();
    for _ in 0..rounds(4000) {
        let (mut target, change) = (r.value(6), r.value(6));
        let _ = patch::strategic_merge(&mut target, change.clone(), "io.k8s.api.core.v1.Pod");
        patch::merge(&mut target, change.clone());
        let _ = patch::json_patch(&mut target, change);
        let paths = ["", "/", "/a", "/a/0", "/a/-", "/~1", "/~"];
        let mut path = || json!(paths[r.below(paths.len())]);
        let ops = json!([
            {"op": "add", "path": path(), "value": 1}, {"op": "move", "from": path(), "path": path()},
            {"op": "copy", "from": path(), "path": path()}, {"op": "remove", "path": path()}]);
        let _ = patch::json_patch(&mut target, ops);
    }
}

/// A strategic merge is idempotent where it deletes nothing by position.
#[test]
fn a_merge_done_twice_changes_nothing_more() {
    let (seed, mut r) = seeds();
    for _ in 0..rounds(2000) {
        let names = ["a", "b", "c"];
        let mut list = || -> Value {
            (0..r.below(4))
                .map(|_| json!({"name": names[r.below(3)], "image": names[r.below(3)]}))
                .collect()
        };
        let mut target = json!({"spec": {"containers": list()}});
        let change = json!({"spec": {"containers": list()}});
        patch::strategic_merge(&mut target, change.clone(), "io.k8s.api.core.v1.Pod").unwrap();
        let once = target.clone();
        patch::strategic_merge(&mut target, change, "io.k8s.api.core.v1.Pod").unwrap();
        assert_eq!(once, target, "seed {seed}");
    }
}

#[test]
fn readers_survive_any_bytes() {
    let (seed, mut r) = seeds();
    let alphabet = b"{}[]\",:.=!()<>-+eE0123456789KMGinumk abz/\\\xff\x00\x12\x0a\x80";
    for _ in 0..rounds(20_000) {
        let bytes: Vec<u8> = (0..r.below(40))
            .map(|_| alphabet[r.below(alphabet.len())])
            .collect();
        let _ = decode::json(&bytes);
        let _ = decode::yaml(&bytes);
        let _ = protobuf::decode(
            &[b"k8s\0".as_slice(), &bytes].concat(),
            "io.k8s.api.core.v1.Pod",
        );
        let text = String::from_utf8_lossy(&bytes);
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
        let _ = api::time::parse(&text);
        if let Ok(q) = Quantity::parse(&text) {
            let canonical = q.to_string();
            let again = Quantity::parse(&canonical).unwrap();
            assert_eq!(
                (again, again.to_string()),
                (q, canonical),
                "seed {seed} {text:?}"
            );
        }
    }
}

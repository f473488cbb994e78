//! What a store must hold, computed the simple way, and what a real one does.

use crate::engine::{Decided, Engine};
use crate::types::{Compare, EventKind, Op, Outcome, Range, Revision, Txn};
use bytes::Bytes;
use fuzzing::Random;
use std::collections::BTreeMap;

const KEYS: usize = 24;

/// Value, created, modified, version.
pub(super) type Items = BTreeMap<Bytes, (Bytes, u64, u64, u64)>;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) items: Items,
    pub(super) revision: u64,
}

impl Model {
    /// The revision that a transaction gets, or `None` for a conflict.
    pub(super) fn apply(&mut self, txn: &Txn) -> Option<u64> {
        let modified = |key| self.items.get(key).map_or(0, |item| item.2);
        if txn
            .compare
            .iter()
            .any(|c| modified(&c.key) != c.mod_revision.0)
        {
            return None;
        }
        let next = self.revision + 1;
        let mut changed = false;
        for op in &txn.then {
            match op {
                Op::Put { key, value } | Op::PutLeased { key, value, .. } => {
                    let old = self
                        .items
                        .get(key)
                        .map_or((next, 0), |item| (item.1, item.3));
                    let item = (value.clone(), old.0, next, old.1 + 1);
                    self.items.insert(key.clone(), item);
                    changed = true;
                }
                Op::Delete { key } => changed |= self.items.remove(key).is_some(),
            }
        }
        if changed {
            self.revision = next;
        }
        Some(self.revision)
    }

    pub(super) fn random_txn(&self, random: &mut Random) -> Txn {
        let key = |random: &mut Random| Bytes::from(format!("k{:02}", random.below(KEYS)));
        let mut txn = Txn::default();
        for _ in 0..random.below(3) {
            let key = key(random);
            let actual = self.items.get(&key).map_or(0, |item| item.2);
            let wrong = u64::from(random.one_in(8));
            txn.compare.push(Compare {
                key,
                mod_revision: Revision(actual + wrong),
            });
        }
        let mut keys: Vec<Bytes> = (0..1 + random.below(3)).map(|_| key(random)).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let length = if random.one_in(10) {
                2000
            } else {
                random.below(60)
            };
            let value = Bytes::from(vec![random.draw() as u8; length]);
            txn.then.push(match random.one_in(4) {
                true => Op::Delete { key },
                false => Op::Put { key, value },
            });
        }
        txn
    }

    /// As the engine must have answered.
    pub(super) fn check_outcome(expected: Option<u64>, outcome: &Decided) {
        match (expected, outcome.as_ref().unwrap()) {
            (Some(revision), Outcome::Committed(found)) => assert_eq!(found.0, revision),
            (None, Outcome::Conflict { .. }) => {}
            (expected, found) => panic!("expected {expected:?}, found {found:?}"),
        }
    }
}

pub(super) fn items_at(engine: &Engine, revision: Option<Revision>) -> Items {
    let range = Range {
        revision,
        ..Range::prefix("")
    };
    let found = engine.shared().read().range(&range).unwrap();
    let item = |kv: crate::KeyValue| {
        let numbers = (kv.create_revision.0, kv.mod_revision.0, kv.version);
        (kv.key, (kv.value, numbers.0, numbers.1, numbers.2))
    };
    found.items.into_iter().map(item).collect()
}

/// From the oldest readable revision on, the history leads to what is there.
pub(super) fn check_history(engine: &Engine) {
    let shared = engine.shared();
    let state = shared.read();
    let compacted = state.compacted();
    let (events, reached) = state.events(b"", b"", compacted, usize::MAX).unwrap();
    assert_eq!(reached, state.revision());
    drop(state);
    let mut items = items_at(engine, Some(compacted));
    let mut last = compacted;
    for event in events {
        let current = event.current;
        assert!(current.mod_revision >= last, "events out of order");
        last = current.mod_revision;
        let previous = items.remove(&current.key);
        let told = event.previous.map(|kv| kv.mod_revision.0);
        assert_eq!(told, previous.map(|item| item.2), "the previous version");
        if event.kind == EventKind::Put {
            let numbers = (current.create_revision.0, last.0, current.version);
            items.insert(
                current.key,
                (current.value, numbers.0, numbers.1, numbers.2),
            );
        }
    }
    assert_eq!(items, items_at(engine, None), "history from {compacted}");
}

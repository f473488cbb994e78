//! Decides transactions, one after the other, on top of the state and of what
//! the same batch has already decided. Pure: nothing is changed until the
//! batch is durable and applied.

use crate::state::{Commit, State};
use crate::types::{Event, EventKind, KeyValue, LeaseId, Op, Outcome, Revision, StoreError, Txn};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// What etcd allows by default; clients know these limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub request_bytes: usize,
    pub operations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes: 3 << 19,
            operations: 128,
        }
    }
}

/// Refuses what is malformed whatever the state is.
pub(crate) fn check(txn: &Txn, limits: &Limits) -> Result<usize, StoreError> {
    let count = txn.compare.len().max(txn.then.len());
    if count > limits.operations {
        return Err(StoreError::TooManyOperations {
            count,
            max: limits.operations,
        });
    }
    let mut bytes: usize = txn.compare.iter().map(|c| c.key.len()).sum();
    let mut keys = HashSet::with_capacity(txn.then.len());
    for op in &txn.then {
        let (key, value) = match op {
            Op::Put { key, value } | Op::PutLeased { key, value, .. } => (key, value.len()),
            Op::Delete { key } => (key, 0),
        };
        bytes = bytes.saturating_add(key.len()).saturating_add(value);
        if !keys.insert(key) {
            return Err(StoreError::DuplicateKey { key: key.clone() });
        }
    }
    if bytes > limits.request_bytes {
        return Err(StoreError::TooLarge {
            bytes,
            max: limits.request_bytes,
        });
    }
    Ok(bytes)
}

pub(crate) struct Batch<'a> {
    state: &'a State,
    changed: HashMap<Bytes, Option<KeyValue>>,
    revision: Revision,
    pub(crate) commits: Vec<Commit>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(state: &'a State) -> Self {
        Batch {
            state,
            changed: HashMap::new(),
            revision: state.revision(),
            commits: Vec::new(),
        }
    }

    fn current(&self, key: &Bytes) -> Option<KeyValue> {
        match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.state.get(key),
        }
    }

    pub(crate) fn decide(&mut self, txn: Txn) -> Result<Outcome, StoreError> {
        let modified =
            |kv: &Option<KeyValue>| kv.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
        let current: Vec<_> = txn.compare.iter().map(|c| self.current(&c.key)).collect();
        let holds = txn
            .compare
            .iter()
            .zip(&current)
            .all(|(c, kv)| c.mod_revision == modified(kv));
        if !holds {
            return Ok(Outcome::Conflict {
                revision: self.revision,
                current,
            });
        }
        let attached = self.attached(&txn.then)?;
        let revision = Revision(self.revision.0 + 1);
        let events: Vec<_> = txn
            .then
            .into_iter()
            .filter_map(|op| self.event(op, revision))
            .collect();
        if events.is_empty() {
            return Ok(Outcome::Committed(self.revision));
        }
        for event in &events {
            let after = (event.kind == EventKind::Put).then(|| event.current.clone());
            self.changed.insert(event.current.key.clone(), after);
        }
        self.revision = revision;
        self.commits.push(Commit {
            revision,
            events: events.into(),
            attached,
        });
        Ok(Outcome::Committed(revision))
    }

    fn attached(&self, ops: &[Op]) -> Result<Vec<(Bytes, LeaseId)>, StoreError> {
        let leased = ops.iter().filter_map(|op| match op {
            Op::PutLeased { key, lease, .. } => Some((key, *lease)),
            Op::Put { .. } | Op::Delete { .. } => None,
        });
        leased
            .map(|(key, id)| match self.state.leases.has(id) {
                true => Ok((key.clone(), id)),
                false => Err(StoreError::LeaseNotFound { id }),
            })
            .collect()
    }

    fn event(&self, op: Op, revision: Revision) -> Option<Event> {
        match op {
            Op::Put { key, value } | Op::PutLeased { key, value, .. } => {
                let previous = self.current(&key);
                Some(put(previous, key, value, revision))
            }
            Op::Delete { key } => Some(delete(self.current(&key)?, revision)),
        }
    }
}

pub(crate) fn put(previous: Option<KeyValue>, key: Bytes, value: Bytes, at: Revision) -> Event {
    let current = KeyValue {
        // The known key's buffer is shared by all versions.
        key: previous.as_ref().map_or(key, |p| p.key.clone()),
        value,
        create_revision: previous.as_ref().map_or(at, |p| p.create_revision),
        mod_revision: at,
        version: previous.as_ref().map_or(1, |p| p.version + 1),
    };
    Event {
        kind: EventKind::Put,
        current,
        previous,
    }
}

pub(crate) fn delete(previous: KeyValue, at: Revision) -> Event {
    let current = KeyValue {
        key: previous.key.clone(),
        value: Bytes::new(),
        create_revision: Revision(0),
        mod_revision: at,
        version: 0,
    };
    Event {
        kind: EventKind::Delete,
        current,
        previous: Some(previous),
    }
}

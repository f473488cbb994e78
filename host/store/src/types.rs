//! The words of the store's contract, the same for every engine.

use bytes::Bytes;
use std::fmt;

/// A point in the store's one history. 0 is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One key at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    /// 1 when created, counted up by each put.
    pub version: u64,
}

/// What to read: `start <= key < end`, at a revision or now.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub start: Bytes,
    /// Empty is no upper bound.
    pub end: Bytes,
    /// 0 is no limit.
    pub limit: usize,
    pub revision: Option<Revision>,
}

impl Range {
    /// One key, now.
    pub fn key(key: impl Into<Bytes>) -> Range {
        let start: Bytes = key.into();
        let mut end = Vec::with_capacity(start.len() + 1);
        end.extend_from_slice(&start);
        end.push(0);
        Range {
            start,
            end: end.into(),
            ..Range::default()
        }
    }

    /// Every key that begins with `prefix`, now.
    pub fn prefix(prefix: impl Into<Bytes>) -> Range {
        let start: Bytes = prefix.into();
        Range {
            end: prefix_end(&start),
            start,
            ..Range::default()
        }
    }
}

/// The first key after all that begin with `prefix`; empty when there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end.into()
}

#[derive(Clone, Debug)]
pub struct RangeResult {
    pub items: Vec<KeyValue>,
    /// The revision at which was read.
    pub revision: Revision,
    /// How many keys of the range exist beyond `items`.
    pub remaining: usize,
}

/// A precondition: the key's `mod_revision`; `Revision(0)` is "absent".
#[derive(Clone, Debug)]
pub struct Compare {
    pub key: Bytes,
    pub mod_revision: Revision,
}

#[derive(Clone, Debug)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
    },
    /// A put whose key goes when the lease does, unless it is put anew.
    PutLeased {
        key: Bytes,
        value: Bytes,
        lease: LeaseId,
    },
    Delete {
        key: Bytes,
    },
}

/// A lease's number; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// Seconds; may be more than was asked for.
    pub ttl: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    pub ttl: u64,
    /// Whole seconds until it runs out.
    pub remaining: u64,
    /// In their order.
    pub keys: Vec<Bytes>,
}

/// All of `then`, at one revision, if all of `compare` holds.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// Durable. A transaction that changed nothing keeps the revision.
    Committed(Revision),
    /// What stands at the compared keys, in their order.
    Conflict {
        revision: Revision,
        current: Vec<Option<KeyValue>>,
    },
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventKind,
    /// For a deletion: the key, an empty value, the deletion's revision.
    pub current: KeyValue,
    pub previous: Option<KeyValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("revision {requested} has been compacted, the oldest is {compacted}")]
    Compacted {
        requested: Revision,
        compacted: Revision,
    },
    #[error("revision {requested} is in the future, the newest is {newest}")]
    FutureRevision {
        requested: Revision,
        newest: Revision,
    },
    #[error("request of {bytes} bytes, at most {max} are allowed")]
    TooLarge { bytes: usize, max: usize },
    #[error("{count} operations in a transaction, at most {max} are allowed")]
    TooManyOperations { count: usize, max: usize },
    #[error("{key:?} twice in one transaction")]
    DuplicateKey { key: Bytes },
    #[error("lease {id} is not there: revoked, run out or never granted")]
    LeaseNotFound { id: LeaseId },
    #[error("a lease of {ttl} seconds: 1 to {max} are allowed")]
    LeaseTtl { ttl: u64, max: u64 },
    #[error("{path}: in use by another process")]
    InUse { path: String },
    #[error("{path}: already there, and nothing is overwritten; move it away first")]
    Exists { path: String },
    #[error("a watcher fell behind and was cut off at revision {at}")]
    SlowWatcher { at: Revision },
    #[error("{path}: damaged at offset {offset}: {what}")]
    Damaged {
        path: String,
        offset: u64,
        what: String,
    },
    #[error("{operation} {path}: {source}")]
    Io {
        operation: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error("etcd: {what}")]
    EtcdOptions { what: String },
    #[error("this is not the etcd that it was: {what}")]
    EtcdChanged { what: String },
    /// etcd's own words; what was asked may have been carried out or not.
    #[error("{what}")]
    Etcd { what: String },
    /// What was asked may have been carried out or not.
    #[error("etcd is unavailable: {what}")]
    Unavailable { what: String },
    #[error("the store has stopped after a failed write")]
    Stopped,
}

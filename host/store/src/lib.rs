//! Revisions, ranges, transactions, watch: etcd's semantics for bytes.
//!
//! Owns the data directory of `control`. Knows keys and values, not kinds.

mod types;

pub use types::{
    Compare, Event, EventKind, KeyValue, Op, Outcome, Range, RangeResult, Revision, StoreError, Txn,
};

//! Revisions, ranges, transactions, watch, leases: etcd's semantics for bytes.
//!
//! Owns the data directory of `control`. Knows keys and values, not kinds.
//! Everything is kept in memory; the directory holds an append log and its
//! checkpoints (`format`), from which `Store::open` rebuilds it. Or an etcd
//! holds it (`etcd`), and `Store::connect` follows that; the contract and its
//! tests are the same.
//!
//! ```text
//! txn --queue--> writer thread: decide -> append, fdatasync -> apply, answer
//!                                plan       log, disk           state
//! range, watch ------------------------------- read lock --------^
//! ```

mod checkpoint;
mod disk;
mod engine;
mod etcd;
mod files;
mod format;
mod lease;
mod leases;
mod plan;
mod recover;
mod restore;
mod snapshot;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod types;
mod waiters;
mod writer;

pub use engine::Options;
pub use etcd::{EtcdOptions, restore_to_etcd};
pub use plan::Limits;
pub use restore::{BUMP, inspect, restore};
pub use snapshot::{Contents, Snapshot};
pub use store::{Store, Watch};
pub use types::{
    Compare, Event, EventKind, KeyValue, Lease, LeaseId, LeaseStatus, Op, Outcome, Range,
    RangeResult, Revision, StoreError, Txn, prefix_end,
};

//! Who waits for which keys, and whom a commit concerns.
//!
//! A watcher has no queue of its own: it holds the position in the shared
//! history from which something for it lies ahead, if so. So a slow one costs
//! nothing and delays nobody; it is cut off when compaction passes it, which
//! the bound on history (`Options::history_bytes`) makes sure of.

use crate::state::contains;
use crate::types::{Event, Revision};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    /// The revision after which something undelivered lies, or `NOTHING`.
    /// Only used under the state's lock, in either mode.
    pending: AtomicU64,
    pub(crate) wake: Notify,
}

const NOTHING: u64 = u64::MAX;

impl Waiter {
    pub(crate) fn new(start: Bytes, end: Bytes) -> Waiter {
        Waiter {
            start,
            end,
            pending: AtomicU64::new(NOTHING),
            wake: Notify::new(),
        }
    }

    pub(crate) fn pending(&self) -> Option<Revision> {
        let pending = self.pending.load(Ordering::Relaxed);
        (pending != NOTHING).then_some(Revision(pending))
    }

    pub(crate) fn set_pending(&self, after: Option<Revision>) {
        self.pending.store(
            after.map_or(NOTHING, |revision| revision.0),
            Ordering::Relaxed,
        );
    }
}

#[derive(Debug, Default)]
pub(crate) struct Waiters {
    all: Vec<Arc<Waiter>>,
}

impl Waiters {
    pub(crate) fn add(&mut self, waiter: Arc<Waiter>) {
        self.all.push(waiter);
    }

    pub(crate) fn remove(&mut self, waiter: &Arc<Waiter>) {
        self.all.retain(|other| !Arc::ptr_eq(other, waiter));
    }

    /// `events` come after `before`.
    pub(crate) fn mark(&self, before: Revision, events: &[Event]) {
        for waiter in &self.all {
            if waiter.pending().is_some() {
                continue;
            }
            let concerns = |e: &Event| contains(&waiter.start, &waiter.end, &e.current.key);
            if events.iter().any(concerns) {
                waiter.set_pending(Some(before));
                waiter.wake.notify_one();
            }
        }
    }

    /// All that hadn't anything ahead have now what nobody can read: after
    /// `before`.
    pub(crate) fn cut(&self, before: Revision) {
        for waiter in &self.all {
            if waiter.pending().is_none() {
                waiter.set_pending(Some(before));
            }
            waiter.wake.notify_one();
        }
    }

    /// After a stop: each finds out by itself.
    pub(crate) fn wake_all(&self) {
        for waiter in &self.all {
            waiter.wake.notify_one();
        }
    }
}

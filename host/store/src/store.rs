//! The handle that everybody holds, and the watch.
//!
//! Owns nothing but the shared state and the way to the writer thread. Reads
//! take the state's lock for as long as they copy handles of buffers; no I/O
//! happens under it. Writes wait in one bounded queue (`QUEUE` requests);
//! when that is full, `txn` waits for room.

use crate::engine::Options;
use crate::leases::{self, Clock};
use crate::plan::check;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::types::{
    Event, Lease, LeaseId, LeaseStatus, Outcome, Range, RangeResult, Revision, StoreError, Txn,
};
use crate::waiters::Waiter;
use crate::writer::{Action, Reply, Request, Writer};
use bytes::Bytes;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, mpsc, oneshot};

/// Requests that wait for the writer thread.
pub(crate) const QUEUE: usize = 1024;

/// Events that one `Watch::next` returns, rounded up to a whole revision.
const WATCH_PAGE: usize = 1024;

pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    pub(crate) stopped: AtomicBool,
    /// Told once, when the store stops.
    pub(crate) stop: Notify,
    /// No revision above it has been given out.
    high_water: AtomicU64,
    pub(crate) clock: Clock,
}

impl Shared {
    pub(crate) fn new(state: State, high_water: Revision) -> Shared {
        Shared {
            state: RwLock::new(state),
            stopped: AtomicBool::new(false),
            stop: Notify::new(),
            high_water: AtomicU64::new(high_water.0),
            clock: Clock::default(),
        }
    }

    pub(crate) fn high_water(&self) -> Revision {
        Revision(self.high_water.load(Ordering::Acquire))
    }

    pub(crate) fn set_high_water(&self, mark: Revision) {
        self.high_water.store(mark.0, Ordering::Release);
    }

    /// The writer changes the state only by functions that can't panic half
    /// way, so a poisoned lock (a reader panicked) is still a sound state.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// No write will be acknowledged any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.read().waiters.wake_all();
        self.stop.notify_waiters();
        // Held once, so that nobody is between looking and waiting.
        drop(self.clock.lock());
        self.clock.wake();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// A cheap handle; the store closes cleanly when the last one is dropped, or
/// with [`Store::close`], which waits for it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    /// Others write too.
    others: bool,
}

impl Store {
    /// Reads `dir` (made if absent) and starts the writer thread. Blocks for
    /// as long as reading takes. `Damaged` when what was once durable can't be
    /// read; then nothing in `dir` has been changed.
    pub fn open(dir: &Path, options: Options) -> Result<Store, StoreError> {
        let (requests, receiver) = mpsc::channel(QUEUE);
        let shared = Writer::start(dir, options, receiver)?;
        if !shared.read().leases.is_empty() {
            leases::tick(&shared, &requests);
        }
        Ok(Store {
            shared,
            requests,
            others: false,
        })
    }

    /// One whose writer is elsewhere.
    pub(crate) fn of_others(shared: Arc<Shared>, requests: mpsc::Sender<Request>) -> Store {
        Store {
            shared,
            requests,
            others: true,
        }
    }

    /// What anybody had written when this was called can be read when it
    /// returns; or what there was at revision `enough`, if the caller does with
    /// that. Nothing to do where nobody else writes.
    pub async fn fresh(&self, enough: Option<Revision>) -> Result<(), StoreError> {
        let there = |enough| enough <= self.revision();
        match !self.others || enough.is_some_and(there) {
            true => Ok(()),
            false => self.act(Action::Fresh).await,
        }
    }

    /// Durable when it returns. Cancelled halfway, it may or may not happen.
    /// Keys and values are kept as they are: pass buffers of their own, not
    /// slices of something larger.
    pub async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let bytes = check(&txn, &crate::Limits::default())?;
        let (reply, answer) = oneshot::channel();
        self.send(Request::Txn { txn, bytes, reply }).await?;
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    pub fn range(&self, range: &Range) -> Result<RangeResult, StoreError> {
        self.shared.read().range(range)
    }

    /// Everything in `[start, end)` that happens after `after`, in order and
    /// without gaps; an empty `end` is no bound.
    pub fn watch(&self, start: Bytes, end: Bytes, after: Revision) -> Result<Watch, StoreError> {
        Watch::open(&self.shared, start, end, after)
    }

    pub fn revision(&self) -> Revision {
        self.shared.read().revision()
    }

    /// The oldest revision that can be read and watched from.
    pub fn compacted(&self) -> Revision {
        self.shared.read().compacted()
    }

    /// Gives up history and superseded versions below `revision`. Memory is
    /// freed in small steps afterwards.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.act(|reply| Action::Compact(revision, reply)).await
    }

    /// A lease of at least `ttl` seconds from now.
    pub async fn grant(&self, ttl: u64) -> Result<Lease, StoreError> {
        let max = leases::MAX_TTL;
        if ttl == 0 || ttl > max {
            return Err(StoreError::LeaseTtl { ttl, max });
        }
        let lease = self.act(|reply| Action::Grant(ttl, reply)).await?;
        leases::tick(&self.shared, &self.requests);
        Ok(lease)
    }

    /// Its full time again, in seconds.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<u64, StoreError> {
        self.act(|reply| Action::KeepAlive(id, reply)).await
    }

    /// Ends a lease; its keys are deleted, all at the revision that is returned.
    pub async fn revoke(&self, id: LeaseId) -> Result<Revision, StoreError> {
        self.act(|reply| Action::Revoke(id, reply)).await
    }

    pub async fn lease(&self, id: LeaseId) -> Result<LeaseStatus, StoreError> {
        self.act(|reply| Action::Status(id, reply)).await
    }

    async fn act<T>(&self, action: impl FnOnce(Reply<T>) -> Action) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Act(action(reply))).await?;
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Everything at one revision, while writers go on. It costs a handle for
    /// each key, and keeps no history for the time it takes to write it out.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.shared)
    }

    /// Resolves when a failed write has stopped the store. Reads go on, but
    /// only a new `open` can write again: the process had better restart.
    pub async fn stopped(&self) {
        let mut notified = std::pin::pin!(self.shared.stop.notified());
        notified.as_mut().enable();
        if !self.shared.stopped.load(Ordering::Acquire) {
            notified.await;
        }
    }

    /// Ends the store for every handle, after what is already queued.
    pub async fn close(self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Close { reply }).await?;
        answer.await.unwrap_or(Err(StoreError::Stopped))
    }

    async fn send(&self, request: Request) -> Result<(), StoreError> {
        self.requests
            .send(request)
            .await
            .map_err(|_| StoreError::Stopped)
    }
}

/// A position in the history of a range of keys.
pub struct Watch {
    shared: Arc<Shared>,
    waiter: Arc<Waiter>,
}

impl Watch {
    pub(crate) fn open(
        shared: &Arc<Shared>,
        start: Bytes,
        end: Bytes,
        after: Revision,
    ) -> Result<Watch, StoreError> {
        let waiter = Arc::new(Waiter::new(start, end));
        shared.with(|state| {
            let (past, _) = state.events(&waiter.start, &waiter.end, after, 1)?;
            waiter.set_pending((!past.is_empty()).then_some(after));
            state.waiters.add(waiter.clone());
            Ok::<_, StoreError>(())
        })?;
        Ok(Watch {
            shared: shared.clone(),
            waiter,
        })
    }

    /// All events of one or more whole revisions, in order; waits for the
    /// first. Cancelling loses nothing. `SlowWatcher` when compaction has
    /// passed what was not yet fetched; `Stopped` after the last event of a
    /// stopped store.
    pub async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        loop {
            // Read before the state: what was committed before stays visible.
            let stopped = self.shared.stopped.load(Ordering::Acquire);
            let events = self.poll()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if stopped {
                return Err(StoreError::Stopped);
            }
            // A stored wake-up ends this at once; a superfluous one only
            // costs a turn.
            self.waiter.wake.notified().await;
        }
    }

    /// What is there already, as `next`; empty when nothing is.
    pub(crate) fn poll(&self) -> Result<Vec<Event>, StoreError> {
        let state = self.shared.read();
        let Some(at) = self.waiter.pending() else {
            return Ok(Vec::new());
        };
        let (start, end) = (&self.waiter.start, &self.waiter.end);
        let (events, reached) = match state.events(start, end, at, WATCH_PAGE) {
            Err(StoreError::Compacted { .. }) => return Err(StoreError::SlowWatcher { at }),
            other => other?,
        };
        self.waiter
            .set_pending((reached < state.revision()).then_some(reached));
        Ok(events)
    }

    /// Everything up to here was delivered.
    pub fn progress(&self) -> Revision {
        let state = self.shared.read();
        self.waiter.pending().unwrap_or_else(|| state.revision())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.with(|state| state.waiters.remove(&self.waiter));
    }
}

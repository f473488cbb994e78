//! Leases: numbers with a time to live, and the keys that go with them.
//!
//! `Leases` is what is durable: which there are, for how long, and which keys
//! hang on them; it is part of the state and moves with its commits.
//! `Deadlines` is what is not: when each runs out. As with etcd, a restart
//! gives every lease its full time again. `Clock` waits for the next deadline
//! on a thread of its own, which there is only once there is a lease, and asks
//! the writer to revoke; the writer looks again, because a lease may just have
//! been kept alive.

use crate::state::Commit;
use crate::store::Shared;
use crate::types::{LeaseId, StoreError};
use crate::writer::{Action, Request};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// The most that etcd grants.
pub(crate) const MAX_TTL: u64 = 9_000_000_000;
/// A revocation that found the queue full, or a failed one, is tried again.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Default)]
struct Granted {
    ttl: u64,
    keys: BTreeSet<Bytes>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    granted: BTreeMap<LeaseId, Granted>,
    of_key: HashMap<Bytes, LeaseId>,
}

impl Leases {
    pub(crate) fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    pub(crate) fn has(&self, id: LeaseId) -> bool {
        self.granted.contains_key(&id)
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl: u64) {
        self.granted.entry(id).or_default().ttl = ttl;
    }

    pub(crate) fn revoke(&mut self, id: LeaseId) {
        for key in self.granted.remove(&id).unwrap_or_default().keys {
            self.of_key.remove(&key);
        }
    }

    /// The key hangs on this lease and no other from now on.
    pub(crate) fn attach(&mut self, key: Bytes, id: LeaseId) {
        self.detach(&key);
        if let Some(granted) = self.granted.get_mut(&id) {
            granted.keys.insert(key.clone());
            self.of_key.insert(key, id);
        }
    }

    fn detach(&mut self, key: &Bytes) {
        let id = self.of_key.remove(key);
        if let Some(granted) = id.and_then(|id| self.granted.get_mut(&id)) {
            granted.keys.remove(key);
        }
    }

    /// A key that is put or deleted leaves its lease, unless it is put with one.
    pub(crate) fn apply(&mut self, commit: &Commit) {
        for event in commit.events.iter() {
            self.detach(&event.current.key);
        }
        for (key, id) in &commit.attached {
            self.attach(key.clone(), *id);
        }
    }

    /// Time to live and keys.
    pub(crate) fn get(&self, id: LeaseId) -> Result<(u64, Vec<Bytes>), StoreError> {
        let granted = self.granted.get(&id);
        let granted = granted.ok_or(StoreError::LeaseNotFound { id })?;
        Ok((granted.ttl, granted.keys.iter().cloned().collect()))
    }

    pub(crate) fn granted(&self) -> impl Iterator<Item = (LeaseId, u64)> {
        self.granted.iter().map(|(id, granted)| (*id, granted.ttl))
    }

    pub(crate) fn attached(&self) -> impl Iterator<Item = (&Bytes, LeaseId)> {
        self.of_key.iter().map(|(key, id)| (key, *id))
    }
}

/// When leases run out.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    at: HashMap<LeaseId, Instant>,
    ticking: bool,
}

impl Deadlines {
    pub(crate) fn extend(&mut self, id: LeaseId, ttl: u64, now: Instant) {
        self.at.insert(id, now + Duration::from_secs(ttl));
    }

    pub(crate) fn remove(&mut self, id: LeaseId) {
        self.at.remove(&id);
    }

    pub(crate) fn left(&self, id: LeaseId, now: Instant) -> Option<Duration> {
        Some(self.at.get(&id)?.saturating_duration_since(now))
    }

    /// What has run out, else how long nothing will.
    fn due(&self, now: Instant) -> Result<Vec<LeaseId>, Duration> {
        let over = self.at.iter().filter(|(_, at)| **at <= now);
        let due: Vec<LeaseId> = over.map(|(id, _)| *id).collect();
        if !due.is_empty() {
            return Ok(due);
        }
        let next = self.at.values().min();
        Err(next.map_or(Duration::MAX, |at| at.saturating_duration_since(now)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Clock {
    deadlines: Mutex<Deadlines>,
    changed: Condvar,
}

impl Clock {
    /// Held for a few instructions by lease requests only.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }
}

/// Makes the thread if there is none. Its end is the store's.
pub(crate) fn tick(shared: &Arc<Shared>, requests: &mpsc::Sender<Request>) {
    let mut deadlines = shared.clock.lock();
    if std::mem::replace(&mut deadlines.ticking, true) {
        shared.clock.wake();
        return;
    }
    drop(deadlines);
    let (of_thread, requests) = (shared.clone(), requests.downgrade());
    let thread = std::thread::Builder::new().name("store-leases".into());
    if let Err(error) = thread.spawn(move || run(&of_thread, &requests)) {
        log::error!("leases don't run out: no thread: {error}");
        shared.clock.lock().ticking = false;
    }
}

fn run(shared: &Shared, requests: &mpsc::WeakSender<Request>) {
    let mut deadlines = shared.clock.lock();
    while !shared.is_stopped() {
        let wait = match deadlines.due(Instant::now()) {
            Err(wait) => wait,
            Ok(due) => {
                drop(deadlines);
                let Some(requests) = requests.upgrade() else {
                    return;
                };
                for id in due {
                    // Full or closed: then later or never.
                    let _ = requests.try_send(Request::Act(Action::Expire(id)));
                }
                deadlines = shared.clock.lock();
                RETRY
            }
        };
        let waited = shared.clock.changed.wait_timeout(deadlines, wait);
        deadlines = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_move_and_run_out() {
        let mut deadlines = Deadlines::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (a, b) = (LeaseId(1), LeaseId(2));
        assert_eq!(deadlines.due(start), Err(Duration::MAX));
        deadlines.extend(a, 10, start);
        deadlines.extend(b, 20, start);
        assert_eq!(deadlines.due(at(4)), Err(Duration::from_secs(6)));
        assert_eq!(deadlines.due(at(10)), Ok(vec![a]));
        deadlines.extend(a, 10, at(9));
        assert_eq!(deadlines.due(at(10)), Err(Duration::from_secs(9)));
        assert_eq!(deadlines.left(a, at(12)), Some(Duration::from_secs(7)));
        deadlines.remove(a);
        assert_eq!(deadlines.due(at(30)), Ok(vec![b]));
        assert_eq!(deadlines.left(a, at(12)), None);
    }
}

//! A queue of keys for a controller's workers.
//!
//! ```text
//!            add                    next               finish
//!  (absent) -----> ready ---------------> running ----------------> (absent)
//!     \             ^  ^                     |  \__ added meanwhile: ready
//!      add_after    |  '-- due --.           '----- failed, after: delayed
//!       '-----> delayed ---------'
//! ```
//! One key is never with two workers. A key is in the queue at most once, so
//! that it holds no more than there are keys; beyond `capacity` keys a new one
//! is dropped and `overflowed` says so: add all keys again when it is empty.

use crate::backoff::{Backoff, random};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How work on a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Done,
    /// Again at that time, without anything having failed.
    After(Duration),
    /// Again, later with each failure in a row.
    Failed,
}

#[derive(Debug, Default)]
struct Entry {
    ready: bool,
    running: bool,
    due: Option<Instant>,
    failures: u32,
}

/// The queue without time, waiting or randomness of its own.
#[derive(Debug)]
pub(crate) struct Keys<K> {
    entries: HashMap<K, Entry>,
    ready: VecDeque<K>,
    delayed: BTreeSet<(Instant, K)>,
    capacity: usize,
    backoff: Backoff,
    overflowed: bool,
}

impl<K: Clone + Eq + Hash + Ord> Keys<K> {
    pub(crate) fn new(capacity: usize, backoff: Backoff) -> Keys<K> {
        Keys {
            entries: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeSet::new(),
            capacity,
            backoff,
            overflowed: false,
        }
    }

    fn entry(&mut self, key: &K) -> Option<&mut Entry> {
        if !self.entries.contains_key(key) {
            if self.entries.len() >= self.capacity {
                self.overflowed = true;
                return None;
            }
            self.entries.insert(key.clone(), Entry::default());
        }
        self.entries.get_mut(key)
    }

    pub(crate) fn add(&mut self, key: K) {
        let Some(entry) = self.entry(&key) else {
            return;
        };
        if std::mem::replace(&mut entry.ready, true) {
            return;
        }
        let running = entry.running;
        if let Some(due) = entry.due.take() {
            self.delayed.remove(&(due, key.clone()));
        }
        if !running {
            self.ready.push_back(key);
        }
    }

    /// The earlier one wins when the key already waits.
    pub(crate) fn add_at(&mut self, key: K, at: Instant) {
        let Some(entry) = self.entry(&key) else {
            return;
        };
        if entry.ready || entry.due.is_some_and(|due| due <= at) {
            return;
        }
        if let Some(due) = entry.due.replace(at) {
            self.delayed.remove(&(due, key.clone()));
        }
        self.delayed.insert((at, key));
    }

    /// A key to work on, or when to ask again.
    pub(crate) fn next(&mut self, now: Instant) -> Result<K, Option<Instant>> {
        while let Some((due, _)) = self.delayed.first() {
            if *due > now {
                break;
            }
            let Some((_, key)) = self.delayed.pop_first() else {
                break;
            };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.due = None;
            }
            self.add(key);
        }
        match self.ready.pop_front() {
            Some(key) => {
                if let Some(entry) = self.entries.get_mut(&key) {
                    entry.ready = false;
                    entry.running = true;
                }
                Ok(key)
            }
            None => Err(self.delayed.first().map(|(due, _)| *due)),
        }
    }

    pub(crate) fn finish(&mut self, key: &K, finish: Finish, now: Instant, random: f64) {
        let backoff = self.backoff;
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.running = false;
        entry.failures = match finish {
            Finish::Failed => entry.failures.saturating_add(1),
            Finish::Done | Finish::After(_) => 0,
        };
        if entry.ready {
            // Added while it ran; also after a failure, as something changed.
            self.ready.push_back(key.clone());
            return;
        }
        let delay = match finish {
            Finish::Done => None,
            Finish::After(delay) => Some(delay),
            Finish::Failed => Some(backoff.delay(entry.failures, random)),
        };
        match delay {
            Some(delay) => self.add_at(key.clone(), now + delay),
            None if entry.due.is_none() => {
                self.entries.remove(key);
            }
            None => {}
        }
    }
}

/// A cheap handle.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    keys: Mutex<Keys<K>>,
    changed: Notify,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub fn new(capacity: usize, backoff: Backoff) -> Queue<K> {
        let keys = Mutex::new(Keys::new(capacity, backoff));
        Queue {
            shared: Arc::new(Shared {
                keys,
                changed: Notify::new(),
            }),
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys<K>> {
        self.shared
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, key: K) {
        self.keys().add(key);
        self.shared.changed.notify_one();
    }

    pub fn add_after(&self, key: K, delay: Duration) {
        self.keys().add_at(key, Instant::now() + delay);
        self.shared.changed.notify_one();
    }

    /// Waits for a key; `finish` must follow. Cancelling takes none.
    pub async fn next(&self) -> K {
        loop {
            let changed = self.shared.changed.notified();
            let wait = match self.keys().next(Instant::now()) {
                Ok(key) => {
                    // There may be more, for another worker.
                    self.shared.changed.notify_one();
                    return key;
                }
                Err(due) => due,
            };
            match wait {
                None => changed.await,
                Some(due) => {
                    // Either way: look again.
                    let _ = tokio::time::timeout_at(due, changed).await;
                }
            }
        }
    }

    pub fn finish(&self, key: &K, finish: Finish) {
        self.keys().finish(key, finish, Instant::now(), random());
        self.shared.changed.notify_one();
    }

    /// Whether keys were dropped since the last call.
    pub fn overflowed(&self) -> bool {
        std::mem::take(&mut self.keys().overflowed)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;

//! What is derived from the objects under a prefix of the store, for decisions
//! that can't wait for a read: roles, webhooks, limits.
//!
//! There is no task behind it: each look first takes in what the store's watch
//! holds, so whoever was answered sees the effect of what they wrote. After a
//! gap (compaction passed it by) everything is read anew. Between looks the
//! watch holds a position and nothing else.

use api::status::Status;
use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use store::{EventKind, Range, Store, StoreError, Watch, prefix_end};

/// Built up from objects; the key is the one in the store.
pub(crate) trait Derived: Default + Send {
    fn put(&mut self, key: &str, object: Value);
    fn remove(&mut self, key: &str);
}

pub(crate) struct Mirror<T> {
    store: Store,
    prefix: &'static str,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    derived: T,
    watch: Option<Watch>,
}

impl<T: Derived> Mirror<T> {
    /// Of everything under `prefix`, which ends in a slash.
    pub(crate) fn new(store: Store, prefix: &'static str) -> Mirror<T> {
        Mirror {
            store,
            prefix,
            inner: Mutex::new(Inner {
                derived: T::default(),
                watch: None,
            }),
        }
    }

    /// Looks at what is derived, as of now.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&T) -> R) -> Result<R, Status> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut inner)
            .map_err(|e| Status::internal(format!("reading {}: {e}", self.prefix)))?;
        Ok(look(&inner.derived))
    }

    fn catch_up(&self, inner: &mut Inner<T>) -> Result<(), StoreError> {
        // A store that is written faster than this reads: later, then.
        const ROUNDS: usize = 64;
        for _ in 0..ROUNDS {
            let Some(watch) = &mut inner.watch else {
                self.read_all(inner)?;
                continue;
            };
            match watch.next().now_or_never() {
                None => return Ok(()),
                Some(Ok(events)) => {
                    for event in events {
                        let key = String::from_utf8_lossy(&event.current.key).into_owned();
                        match event.kind {
                            EventKind::Put => put(&mut inner.derived, &key, &event.current.value),
                            EventKind::Delete => inner.derived.remove(&key),
                        }
                    }
                }
                Some(Err(StoreError::SlowWatcher { .. })) => inner.watch = None,
                Some(Err(e)) => return Err(e),
            }
        }
        Ok(())
    }

    fn read_all(&self, inner: &mut Inner<T>) -> Result<(), StoreError> {
        let found = self.store.range(&Range::prefix(self.prefix))?;
        let mut derived = T::default();
        for item in found.items {
            put(
                &mut derived,
                &String::from_utf8_lossy(&item.key),
                &item.value,
            );
        }
        let start = Bytes::from_static(self.prefix.as_bytes());
        let end = prefix_end(&start);
        inner.watch = Some(self.store.watch(start, end, found.revision)?);
        inner.derived = derived;
        Ok(())
    }
}

fn put<T: Derived>(derived: &mut T, key: &str, bytes: &[u8]) {
    match serde_json::from_slice(bytes) {
        Ok(object) => derived.put(key, object),
        Err(e) => {
            log::error!("{key} can't be decoded: {e}");
            derived.remove(key);
        }
    }
}

//! Which streams of a connection are open in which direction.
//!
//! Shared by the connection's task and the writers; the lock is held for a
//! look-up, never across a wait.

use crate::pipe::StreamId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug)]
struct Open {
    local: bool,
    remote: bool,
}

#[derive(Debug, Default)]
struct Streams {
    open: HashMap<StreamId, Open>,
    last: StreamId,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Arc<Mutex<Streams>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a stream that is open in both directions; false if there are
    /// too many.
    pub(crate) fn enter(&self, stream: StreamId, most: usize) -> bool {
        let mut streams = self.lock();
        streams.last = streams.last.max(stream);
        if streams.open.len() >= most {
            return false;
        }
        let both = Open {
            local: true,
            remote: true,
        };
        streams.open.insert(stream, both);
        true
    }

    pub(crate) fn is_new(&self, stream: StreamId) -> bool {
        stream > self.lock().last
    }

    pub(crate) fn last(&self) -> StreamId {
        self.lock().last
    }

    pub(crate) fn is_writable(&self, stream: StreamId) -> bool {
        let streams = self.lock();
        streams.open.get(&stream).is_some_and(|open| open.local)
    }

    /// False if it was closed or reset before.
    pub(crate) fn local_end(&self, stream: StreamId) -> bool {
        self.end(stream, |open| std::mem::replace(&mut open.local, false))
    }

    pub(crate) fn remote_end(&self, stream: StreamId) {
        self.end(stream, |open| std::mem::replace(&mut open.remote, false));
    }

    fn end(&self, stream: StreamId, close: impl FnOnce(&mut Open) -> bool) -> bool {
        let mut streams = self.lock();
        let Some(open) = streams.open.get_mut(&stream) else {
            return false;
        };
        let was_open = close(open);
        if !open.local && !open.remote {
            streams.open.remove(&stream);
        }
        was_open
    }

    pub(crate) fn reset(&self, stream: StreamId) {
        self.lock().open.remove(&stream);
    }
}

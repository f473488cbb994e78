//! The one thread that writes: gathers what waits into a batch, has the
//! engine make it durable with one append and one sync, then answers.
//!
//! A batch takes what is queued at that moment, up to `BATCH` requests and
//! `BATCH_BYTES` bytes; it never waits for more. Between batches it does a
//! step of background work (checkpoint, freeing of compacted history).

use crate::disk::FileDisk;
use crate::engine::{Engine, Options};
use crate::store::Shared;
use crate::types::{Lease, LeaseId, LeaseStatus, Outcome, Revision, StoreError, Txn};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// Far below the engine's reserve of revisions.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(crate) enum Request {
    Txn {
        txn: Txn,
        bytes: usize,
        reply: Reply<Outcome>,
    },
    Act(Action),
    Close {
        reply: Reply<()>,
    },
}

/// What is done by itself, between batches.
pub(crate) enum Action {
    Compact(Revision, Reply<()>),
    Grant(u64, Reply<Lease>),
    KeepAlive(LeaseId, Reply<u64>),
    Revoke(LeaseId, Reply<Revision>),
    Status(LeaseId, Reply<LeaseStatus>),
    /// Revoke, if it still has run out.
    Expire(LeaseId),
    /// What others have written is here too.
    Fresh(Reply<()>),
}

/// Who waits for the end, and what to tell them.
type End = Option<(Reply<()>, Result<(), StoreError>)>;

/// What ends a batch.
enum Then {
    Nothing,
    Act(Action),
    Close(Option<Reply<()>>),
}

pub(crate) struct Writer {
    engine: Engine,
    requests: mpsc::Receiver<Request>,
}

impl Writer {
    pub(crate) fn start(
        dir: &Path,
        options: Options,
        requests: mpsc::Receiver<Request>,
    ) -> Result<Arc<Shared>, StoreError> {
        let disk = Box::new(FileDisk::open(dir)?);
        let engine = Engine::open(disk, options, RandomState::new().hash_one(0))?;
        let shared = engine.shared();
        let writer = Writer { engine, requests };
        let thread = std::thread::Builder::new().name("store".into());
        thread
            .spawn(move || writer.run())
            .map_err(|source| StoreError::Io {
                operation: "start the thread for",
                path: dir.display().to_string(),
                source,
            })?;
        Ok(shared)
    }

    fn run(mut self) {
        let end = loop {
            if let ControlFlow::Break(end) = self.turn() {
                break end;
            }
        };
        // Also after a failure: nobody may wait for a commit any more.
        self.engine.stop();
        // The directory is free when `close` returns.
        drop(self);
        if let Some((reply, closed)) = end {
            let _ = reply.send(closed);
        }
    }

    fn turn(&mut self) -> ControlFlow<End> {
        let more = match self.engine.work() {
            Ok(more) => more,
            Err(error) => {
                log::error!("{error}; the store stops");
                return ControlFlow::Break(None);
            }
        };
        let first = match more {
            true => match self.requests.try_recv() {
                Ok(request) => Some(request),
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Err(TryRecvError::Disconnected) => None,
            },
            false => self.requests.blocking_recv(),
        };
        let (txns, then) = self.gather(first);
        self.commit(txns)?;
        self.finish(then)
    }

    fn gather(&mut self, first: Option<Request>) -> (Vec<(Txn, Reply<Outcome>)>, Then) {
        let mut txns = Vec::new();
        let mut size = 0;
        let mut request = first;
        loop {
            match request {
                Some(Request::Txn { txn, bytes, reply }) => {
                    size += bytes;
                    txns.push((txn, reply));
                }
                Some(Request::Act(action)) => return (txns, Then::Act(action)),
                Some(Request::Close { reply }) => return (txns, Then::Close(Some(reply))),
                None => return (txns, Then::Close(None)),
            }
            if txns.len() >= BATCH || size >= BATCH_BYTES {
                return (txns, Then::Nothing);
            }
            request = match self.requests.try_recv() {
                Ok(request) => Some(request),
                Err(TryRecvError::Empty) => return (txns, Then::Nothing),
                Err(TryRecvError::Disconnected) => None,
            };
        }
    }

    fn commit(&mut self, waiting: Vec<(Txn, Reply<Outcome>)>) -> ControlFlow<End> {
        let (txns, replies): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        match self.engine.commit(txns) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Who no longer waits doesn't want to know.
                    let _ = reply.send(outcome);
                }
                ControlFlow::Continue(())
            }
            Err(error) => {
                log::error!("{error}; the store stops");
                let mut error = Some(error);
                for reply in replies {
                    let _ = reply.send(Err(error.take().unwrap_or(StoreError::Stopped)));
                }
                ControlFlow::Break(None)
            }
        }
    }

    /// Who no longer waits for a reply doesn't want to know. A failed write
    /// shows at the next turn.
    fn act(&mut self, action: Action) {
        let (engine, now) = (&mut self.engine, Instant::now());
        match action {
            Action::Compact(revision, reply) => drop(reply.send(engine.compact(revision))),
            Action::Grant(ttl, reply) => drop(reply.send(engine.grant(ttl, now))),
            Action::KeepAlive(id, reply) => drop(reply.send(engine.keep_alive(id, now))),
            Action::Revoke(id, reply) => drop(reply.send(engine.revoke(id))),
            Action::Status(id, reply) => drop(reply.send(engine.lease(id, now))),
            // Nobody else writes here.
            Action::Fresh(reply) => drop(reply.send(Ok(()))),
            Action::Expire(id) => {
                if let Err(error) = engine.expire(id, now) {
                    log::error!("revoking lease {id}: {error}");
                }
            }
        }
    }

    fn finish(&mut self, then: Then) -> ControlFlow<End> {
        match then {
            Then::Nothing => ControlFlow::Continue(()),
            Then::Act(action) => {
                self.act(action);
                ControlFlow::Continue(())
            }
            Then::Close(reply) => {
                let closed = self.engine.close();
                if let Err(error) = &closed {
                    log::error!("closing the store: {error}");
                }
                ControlFlow::Break(reply.map(|reply| (reply, closed)))
            }
        }
    }
}

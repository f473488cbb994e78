//! Requests of the store's handles, carried out by etcd; many at a time.

use super::calls::{self, Link};
use super::grpc::Status;
use super::load::{barrier, ours};
use super::proto;
use crate::types::{Lease, LeaseId, LeaseStatus, Op, Outcome, Revision, StoreError, Txn};
use crate::writer::{Action, Reply, Request};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Requests under way; beyond that they wait in the queue.
const IN_FLIGHT: usize = 256;

/// Commits that one step of freeing takes.
const TRIM: usize = 256;

const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";

pub(super) struct Remote {
    link: Link,
    requests: mpsc::Receiver<Request>,
    tasks: JoinSet<Done>,
    /// Who wants to see what is there now; for the next question.
    waiting: Vec<Reply<()>>,
    asking: bool,
}

enum Done {
    Request,
    Question,
}

impl Remote {
    pub(super) fn new(link: Link, requests: mpsc::Receiver<Request>) -> Remote {
        Remote {
            link,
            requests,
            tasks: JoinSet::new(),
            waiting: Vec::new(),
            asking: false,
        }
    }

    pub(super) async fn run(mut self) {
        let shared = self.link.shared.clone();
        let mut reply = None;
        loop {
            let mut stopped = std::pin::pin!(shared.stop.notified());
            stopped.as_mut().enable();
            if shared.is_stopped() {
                break;
            }
            let room = self.tasks.len() < IN_FLIGHT;
            tokio::select! {
                () = stopped => break,
                Some(done) = self.tasks.join_next() => {
                    self.asking &= !matches!(done, Ok(Done::Question));
                    self.ask();
                }
                request = self.requests.recv(), if room => match request {
                    Some(Request::Close { reply: to }) => {
                        reply = Some(to);
                        break;
                    }
                    Some(request) => self.begin(request),
                    None => break,
                },
            }
        }
        // What is queued comes first.
        self.tasks.join_all().await;
        shared.stop();
        if let Some(reply) = reply {
            let _ = reply.send(Ok(()));
        }
    }

    fn begin(&mut self, request: Request) {
        let link = self.link.clone();
        match request {
            Request::Act(Action::Fresh(reply)) => {
                self.waiting.push(reply);
                self.ask();
            }
            Request::Txn { txn, reply, .. } => self.answer(reply, txn_in(link, txn)),
            Request::Act(Action::Compact(at, reply)) => self.answer(reply, compact(link, at)),
            Request::Act(Action::Grant(ttl, reply)) => self.answer(reply, grant(link, ttl)),
            Request::Act(Action::KeepAlive(id, reply)) => self.answer(reply, keep_alive(link, id)),
            Request::Act(Action::Revoke(id, reply)) => self.answer(reply, revoke(link, id)),
            Request::Act(Action::Status(id, reply)) => self.answer(reply, status(link, id)),
            // etcd has its own clock; the end is seen by `run`.
            Request::Act(Action::Expire(_)) | Request::Close { .. } => {}
        }
    }

    fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            // Who no longer waits doesn't want to know.
            let _ = reply.send(work.await);
            Done::Request
        });
    }

    /// One question for all who wait; who comes while it is under way needs
    /// the next.
    fn ask(&mut self) {
        if self.asking || self.waiting.is_empty() {
            return;
        }
        self.asking = true;
        let (link, waiting) = (self.link.clone(), std::mem::take(&mut self.waiting));
        self.tasks.spawn(async move {
            let mut asked = fresh(link).await;
            for reply in waiting {
                let answer = match &asked {
                    Ok(()) => Ok(()),
                    Err(StoreError::Unavailable { what }) => {
                        let what = what.clone();
                        Err(StoreError::Unavailable { what })
                    }
                    Err(StoreError::Etcd { what }) => {
                        let what = what.clone();
                        Err(StoreError::Etcd { what })
                    }
                    Err(_) => std::mem::replace(&mut asked, Err(StoreError::Stopped)),
                };
                let _ = reply.send(answer);
            }
            Done::Question
        });
    }
}

async fn fresh(link: Link) -> Result<(), StoreError> {
    let channel = link.channel().await.map_err(calls::error)?;
    let header = barrier(&channel, &link.names).await.map_err(calls::error)?;
    link.reach(Some(&header)).await.map(drop)
}

async fn txn_in(link: Link, txn: Txn) -> Result<Outcome, StoreError> {
    let request = request(&link, &txn);
    let answer: Result<proto::TxnResponse, Status> = link.call(TXN, &request).await;
    let lease = txn.then.iter().find_map(|op| match op {
        Op::PutLeased { lease, .. } => Some(*lease),
        Op::Put { .. } | Op::Delete { .. } => None,
    });
    let answer = answer.map_err(|status| lease_error(status, lease.unwrap_or(LeaseId(0))))?;
    let revision = link.reach(answer.header.as_ref()).await?;
    if answer.succeeded {
        return Ok(Outcome::Committed(revision));
    }
    let current = answer.responses.into_iter().map(|response| {
        let kv = response.range?.kvs.into_iter().next()?;
        let key = kv.key.strip_prefix(&link.names.prefix[..])?;
        Some(ours(link.base, Bytes::copy_from_slice(key), &kv))
    });
    let current = current.collect();
    Ok(Outcome::Conflict { revision, current })
}

/// If all is as compared the operations, else what stands there.
fn request(link: &Link, txn: &Txn) -> proto::TxnRequest {
    let compare = txn.compare.iter().map(|c| proto::Compare {
        target: proto::Target::Mod.into(),
        key: link.names.key(&c.key),
        mod_revision: Some(link.theirs(c.mod_revision)),
    });
    let op = |request| proto::RequestOp {
        request: Some(request),
    };
    let success = txn.then.iter().map(|then| {
        let put = |key: &Bytes, value: &Bytes, lease: i64| {
            proto::Request::Put(proto::PutRequest {
                key: link.names.key(key),
                value: value.clone(),
                lease,
            })
        };
        op(match then {
            Op::Put { key, value } => put(key, value, 0),
            Op::PutLeased { key, value, lease } => put(key, value, lease.0.cast_signed()),
            Op::Delete { key } => proto::Request::DeleteRange(proto::DeleteRangeRequest {
                key: link.names.key(key),
            }),
        })
    });
    let failure = txn.compare.iter().map(|c| {
        op(proto::Request::Range(proto::RangeRequest {
            key: link.names.key(&c.key),
            ..proto::RangeRequest::default()
        }))
    });
    proto::TxnRequest {
        compare: compare.collect(),
        success: success.collect(),
        failure: failure.collect(),
    }
}

async fn compact(link: Link, revision: Revision) -> Result<(), StoreError> {
    link.shared.read().compactable(revision)?;
    let theirs = link.theirs(revision);
    if theirs > 0 {
        let request = proto::CompactionRequest { revision: theirs };
        let done: Result<proto::HeaderResponse, _> = link.call(COMPACT, &request).await;
        if let Err(status) = done {
            // Else another API server was faster.
            if !status.message.contains("has been compacted") {
                return Err(calls::error(status));
            }
        }
    }
    link.shared.with(|state| state.compact(revision))?;
    while link.shared.with(|state| state.trim(TRIM)) {}
    Ok(())
}

fn lease_error(status: Status, id: LeaseId) -> StoreError {
    match status.message.contains("requested lease not found") {
        true => StoreError::LeaseNotFound { id },
        false => calls::error(status),
    }
}

async fn grant(link: Link, ttl: u64) -> Result<Lease, StoreError> {
    let request = proto::LeaseGrantRequest {
        ttl: ttl.cast_signed(),
        id: 0,
    };
    let granted: proto::LeaseResponse = link.call(GRANT, &request).await.map_err(calls::error)?;
    Ok(Lease {
        id: LeaseId(granted.id.cast_unsigned()),
        ttl: granted.ttl.unsigned_abs(),
    })
}

async fn keep_alive(link: Link, id: LeaseId) -> Result<u64, StoreError> {
    let channel = link.channel().await.map_err(calls::error)?;
    let kept = channel.keep_alive(id.0.cast_signed()).await;
    match kept.map_err(|status| lease_error(status, id))?.ttl {
        0 => Err(StoreError::LeaseNotFound { id }),
        ttl => Ok(ttl.unsigned_abs()),
    }
}

async fn revoke(link: Link, id: LeaseId) -> Result<Revision, StoreError> {
    let request = proto::LeaseRequest {
        id: id.0.cast_signed(),
    };
    let done: Result<proto::HeaderResponse, _> = link.call(REVOKE, &request).await;
    let done = done.map_err(|status| lease_error(status, id))?;
    link.reach(done.header.as_ref()).await
}

async fn status(link: Link, id: LeaseId) -> Result<LeaseStatus, StoreError> {
    let request = proto::LeaseTimeToLiveRequest {
        id: id.0.cast_signed(),
        keys: true,
    };
    let found: Result<proto::LeaseTimeToLiveResponse, _> = link.call(TIME_TO_LIVE, &request).await;
    let found = found.map_err(|status| lease_error(status, id))?;
    if found.ttl < 0 {
        return Err(StoreError::LeaseNotFound { id });
    }
    let prefix = &link.names.prefix[..];
    let own = found.keys.iter().filter_map(|key| key.strip_prefix(prefix));
    let mut keys: Vec<Bytes> = own.map(Bytes::copy_from_slice).collect();
    keys.sort();
    Ok(LeaseStatus {
        ttl: found.granted_ttl.unsigned_abs(),
        remaining: found.ttl.unsigned_abs(),
        keys,
    })
}

//! Everything that etcd holds at one revision, read in pages.

use super::Names;
use super::grpc::{Channel, Status};
use super::proto::{KeyValue, RangeRequest, RangeResponse, ResponseHeader};
use crate::state::State;
use crate::types::{Revision, StoreError, prefix_end};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

const RANGE: &str = "/etcdserverpb.KV/Range";
/// Keys of a page; at 1.5 MiB each, still far below what a message may have.
const PAGE: i64 = 100;
const ANSWER: Duration = Duration::from_secs(10);
/// A load that compaction overtook begins anew, so often.
const ATTEMPTS: u32 = 5;

pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) base: u64,
    pub(super) cluster: u64,
    /// etcd's.
    pub(super) revision: i64,
    /// Leases of keys.
    pub(super) leased: Vec<(Bytes, i64)>,
}

async fn range(channel: &Channel, request: &RangeRequest) -> Result<RangeResponse, Status> {
    match timeout(ANSWER, channel.unary(RANGE, request)).await {
        Ok(done) => done,
        Err(_) => Err(Status::unavailable(format!("no answer within {ANSWER:?}"))),
    }
}

/// Where etcd is, agreed by its members at this moment.
pub(super) async fn barrier(channel: &Channel, names: &Names) -> Result<ResponseHeader, Status> {
    let request = RangeRequest {
        key: names.base.clone(),
        keys_only: true,
        ..RangeRequest::default()
    };
    Ok(range(channel, &request).await?.header.unwrap_or_default())
}

/// What stands at the base's key, if anything.
pub(super) async fn base(channel: &Channel, names: &Names) -> Result<Option<Bytes>, Status> {
    let request = RangeRequest {
        key: names.base.clone(),
        ..RangeRequest::default()
    };
    let found = range(channel, &request).await?;
    Ok(found.kvs.into_iter().next().map(|kv| kv.value))
}

pub(super) fn parse_base(value: Option<&Bytes>) -> Result<u64, StoreError> {
    let Some(value) = value else {
        return Ok(0);
    };
    let text = std::str::from_utf8(value).ok();
    let number = text.and_then(|text| text.parse().ok());
    number.ok_or_else(|| StoreError::EtcdOptions {
        what: format!(
            "the base of revisions is {:?}: a copy to this etcd is under way or was broken off",
            String::from_utf8_lossy(value)
        ),
    })
}

/// One key as it is here.
pub(super) fn ours(base: u64, key: Bytes, kv: &KeyValue) -> crate::KeyValue {
    let above = |revision: i64| Revision(base.saturating_add(revision.unsigned_abs()));
    crate::KeyValue {
        key,
        // Of its own, so that it doesn't keep the message alive.
        value: Bytes::copy_from_slice(&kv.value),
        create_revision: above(kv.create_revision),
        mod_revision: above(kv.mod_revision),
        version: kv.version.unsigned_abs(),
    }
}

pub(super) async fn load(channel: &Channel, names: &Names) -> Result<Loaded, StoreError> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match attempt(channel, names).await {
            Err(Failure::Status(status)) if left > 0 && status.message.contains("compacted") => {}
            Err(Failure::Status(status)) => return Err(super::calls::error(status)),
            Err(Failure::Store(error)) => return Err(error),
            Ok(loaded) => return Ok(loaded),
        }
    }
}

enum Failure {
    Status(Status),
    Store(StoreError),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Status(status)
    }
}

async fn attempt(channel: &Channel, names: &Names) -> Result<Loaded, Failure> {
    let base = base(channel, names).await?;
    let base = parse_base(base.as_ref()).map_err(Failure::Store)?;
    let mut state = State::default();
    let mut leased = Vec::new();
    let mut request = RangeRequest {
        key: names.prefix.clone(),
        range_end: prefix_end(&names.prefix),
        limit: PAGE,
        ..RangeRequest::default()
    };
    let mut cluster = 0;
    loop {
        let page = range(channel, &request).await?;
        if request.revision == 0 {
            let header = page.header.unwrap_or_default();
            (request.revision, cluster) = (header.revision, header.cluster_id);
        }
        for kv in &page.kvs {
            let Some(key) = kv.key.strip_prefix(&names.prefix[..]) else {
                continue;
            };
            let key = Bytes::copy_from_slice(key);
            if kv.lease != 0 {
                leased.push((key.clone(), kv.lease));
            }
            state.restore(ours(base, key, kv));
        }
        match page.kvs.last() {
            Some(last) if page.more => request.key = [&last.key[..], &[0]].concat().into(),
            _ => break,
        }
    }
    state.restored(Revision(
        base.saturating_add(request.revision.unsigned_abs()),
    ));
    Ok(Loaded {
        state,
        base,
        cluster,
        revision: request.revision,
        leased,
    })
}

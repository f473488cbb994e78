//! From etcd into a snapshot, and from a snapshot into an etcd that holds
//! nothing of ours yet.
//!
//! ```text
//! base: absent -> "copying" -> leases, keys -> read back -> base: a number
//! ```
//! An etcd with `copying` at the base is refused by everybody: a copy that was
//! broken off is seen, and has to be removed by hand. Keys get revisions of
//! etcd's own there, above the base and so above all that the snapshot's store
//! had given out.

use super::grpc::{Channel, Status};
use super::load::{Loaded, base, load};
use super::proto::{
    self, LeaseGrantRequest, LeaseResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use super::{Cluster, EtcdOptions, calls};
use crate::snapshot::{Contents, Snapshot};
use crate::state::State;
use crate::store::Shared;
use crate::types::{LeaseId, Revision, StoreError, prefix_end};
use bytes::Bytes;
use std::collections::HashMap;
use std::path::Path;

const COPYING: &[u8] = b"copying";
/// Bytes of keys and values that one transaction puts.
const BATCH: usize = 1 << 20;

impl Snapshot {
    /// Of an etcd, also while others use it.
    pub async fn of_etcd(etcd: &EtcdOptions) -> Result<Snapshot, StoreError> {
        let cluster = etcd.checked()?;
        let channel = connect(&cluster).await?;
        let Loaded {
            mut state, leased, ..
        } = load(&channel, &cluster.names).await?;
        let mut times: HashMap<i64, u64> = HashMap::new();
        for (key, lease) in leased {
            let ttl = match times.get(&lease) {
                Some(ttl) => *ttl,
                None => time_to_live(&channel, lease).await?,
            };
            times.insert(lease, ttl);
            let id = LeaseId(lease.cast_unsigned());
            state.leases.grant(id, ttl);
            state.leases.attach(key, id);
        }
        let revision = state.revision();
        Ok(Snapshot::of(&Shared::new(state, revision)))
    }
}

async fn connect(cluster: &Cluster) -> Result<Channel, StoreError> {
    let mut refused = StoreError::Stopped;
    for server in &cluster.servers {
        match Channel::connect(server, &cluster.tls).await {
            Ok(channel) => return Ok(channel),
            Err(status) => refused = calls::error(status),
        }
    }
    Err(refused)
}

/// As it was granted. One that has just run out takes its keys along soon.
async fn time_to_live(channel: &Channel, id: i64) -> Result<u64, StoreError> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let path = "/etcdserverpb.Lease/LeaseTimeToLive";
    let found: Result<LeaseTimeToLiveResponse, Status> = channel.unary(path, &request).await;
    let found = found.map_err(calls::error)?;
    Ok(found.granted_ttl.unsigned_abs().max(1))
}

/// As `restore`, into an etcd that has neither keys nor a base of ours.
pub async fn restore_to_etcd(
    path: &Path,
    etcd: &EtcdOptions,
    bump: u64,
) -> Result<Contents, StoreError> {
    let cluster = etcd.checked()?;
    let (state, contents) = crate::restore::load(path)?;
    let channel = connect(&cluster).await?;
    begin(&channel, &cluster).await?;
    for (id, ttl) in state.leases.granted() {
        let request = LeaseGrantRequest {
            ttl: ttl.cast_signed(),
            id: id.0.cast_signed(),
        };
        let path = "/etcdserverpb.Lease/LeaseGrant";
        let granted: Result<LeaseResponse, Status> = channel.unary(path, &request).await;
        granted.map_err(calls::error)?;
    }
    fill(&channel, &cluster, &state, contents.revision).await?;
    let base = contents.high_water.0.saturating_add(bump);
    finish(&channel, &cluster, base).await?;
    let found = load(&channel, &cluster.names).await?;
    let copied = Contents {
        revision: found.state.revision(),
        high_water: found.state.revision(),
        keys: found.state.keys() as u64,
        bytes: found.state.live_bytes() as u64,
    };
    if (copied.keys, copied.bytes) != (contents.keys, contents.bytes) {
        let what = format!("{contents:?} was copied, {copied:?} is there");
        return Err(StoreError::EtcdChanged { what });
    }
    Ok(copied)
}

async fn txn(channel: &Channel, request: &TxnRequest) -> Result<TxnResponse, StoreError> {
    let done = channel.unary("/etcdserverpb.KV/Txn", request).await;
    done.map_err(calls::error)
}

fn put(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    RequestOp {
        request: Some(proto::Request::Put(PutRequest { key, value, lease })),
    }
}

/// Takes the place, if it is free.
async fn begin(channel: &Channel, cluster: &Cluster) -> Result<(), StoreError> {
    let names = &cluster.names;
    let taken = || StoreError::Exists {
        path: format!(
            "{}{}",
            cluster.servers[0],
            String::from_utf8_lossy(&names.prefix)
        ),
    };
    let any = RangeRequest {
        key: names.prefix.clone(),
        range_end: prefix_end(&names.prefix),
        limit: 1,
        ..RangeRequest::default()
    };
    let found: Result<RangeResponse, Status> = channel.unary("/etcdserverpb.KV/Range", &any).await;
    if !found.map_err(calls::error)?.kvs.is_empty() {
        return Err(taken());
    }
    let absent = proto::Compare {
        target: proto::Target::Mod.into(),
        key: names.base.clone(),
        mod_revision: Some(0),
    };
    let request = TxnRequest {
        compare: vec![absent],
        success: vec![put(names.base.clone(), Bytes::from_static(COPYING), 0)],
        failure: Vec::new(),
    };
    match txn(channel, &request).await?.succeeded {
        true => Ok(()),
        false => Err(taken()),
    }
}

async fn fill(
    channel: &Channel,
    cluster: &Cluster,
    state: &State,
    revision: Revision,
) -> Result<(), StoreError> {
    let leases: HashMap<&Bytes, LeaseId> = state.leases.attached().collect();
    let operations = crate::Limits::default().operations;
    let mut after: Option<Bytes> = None;
    loop {
        let page = state.pinned_page(revision, after.as_ref(), BATCH);
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.key.clone());
        // A page is larger than a batch by one key at most: that goes alone.
        let (rest, last) = page.split_at(page.len() - 1);
        for batch in rest.chunks(operations).chain([last]) {
            let puts = batch.iter().map(|kv| {
                let lease = leases.get(&kv.key).map_or(0, |id| id.0.cast_signed());
                put(cluster.names.key(&kv.key), kv.value.clone(), lease)
            });
            let request = TxnRequest {
                success: puts.collect(),
                ..TxnRequest::default()
            };
            txn(channel, &request).await?;
        }
    }
}

async fn finish(channel: &Channel, cluster: &Cluster, number: u64) -> Result<(), StoreError> {
    let names = &cluster.names;
    let found = base(channel, names).await.map_err(calls::error)?;
    if found.as_deref() != Some(COPYING) {
        let what = "somebody else wrote the base of revisions".to_owned();
        return Err(StoreError::EtcdChanged { what });
    }
    let request = TxnRequest {
        success: vec![put(names.base.clone(), number.to_string().into(), 0)],
        ..TxnRequest::default()
    };
    txn(channel, &request).await.map(drop)
}

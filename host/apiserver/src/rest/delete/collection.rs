//! Deleting everything that a list selects: the plain ones together, as many
//! in a transaction as the store takes, the others one by one.

use super::super::list::{self, Page};
use super::super::{Answer, Call};
use super::mark::{self, mark};
use super::options::{DeleteOptions, Propagation, options};
use super::{delete_object, protect};
use crate::registry::{self, Stored, store_status};
use crate::rest::update::is_finished;
use api::kinds::Deletion;
use api::meta;
use api::pick::{Paths, pick};
use api::status::Status;
use bytes::Bytes;
use futures_util::future::join_all;
use store::{Compare, KeyValue, Limits, Op, Outcome, Txn};

/// Bytes of values in one transaction, with room for keys.
const TXN_BYTES: usize = 1 << 20;
/// Objects that are decided on before others get their turn.
const TURN: usize = 128;

pub(crate) async fn collection(call: Call) -> Answer {
    let options = options(&call)?;
    let page = match list::read(&call)? {
        Ok(page) => page,
        Err(refused) => return Ok(refused),
    };
    let judged = call.admission.judges_deletions(&call.user)?;
    if judged || is_service(&call) {
        let keys: Vec<Bytes> = page.items.iter().map(|kv| kv.key.clone()).collect();
        one_by_one(&call, &keys, &options).await?;
    } else if !options.dry_run {
        remove(&call, &page, &options).await?;
    }
    list::answer(&call, page).await
}

/// What is to be written for one object; `None` if there is nothing to do.
fn decide(
    call: &Call,
    kv: &KeyValue,
    options: &DeleteOptions,
    paths: &Paths,
) -> Result<Option<Op>, Status> {
    let key = kv.key.clone();
    if call.kind.deletion() == Deletion::Immediate && registry::is_direct(&call.kind) {
        let head = pick(&kv.value, paths).unwrap_or_default();
        let finalizers = meta::list(&head, &["metadata", "finalizers"]);
        let policy = mark::propagation(&call.kind, finalizers, options);
        let untouched = matches!(policy, None | Some(Propagation::Background));
        let conditions = options.uid.is_some() || options.resource_version.is_some();
        if finalizers.is_empty() && untouched && !conditions {
            return Ok(Some(Op::Delete { key }));
        }
    }
    let current = Stored {
        object: registry::decode(&call.kind, &kv.value, kv.mod_revision)?,
        revision: kv.mod_revision,
        bytes: kv.value.clone(),
    };
    protect(&call.kind, meta::name(&current.object))?;
    super::preconditions(&call.kind, &current, options)?;
    let marked = mark(&call.kind, &current.object, options, call.now);
    if is_finished(&call.kind, &marked) {
        return Ok(Some(Op::Delete { key }));
    }
    let value = registry::encode(&call.kind, &marked)?;
    Ok((value != kv.value).then_some(Op::Put { key, value }))
}

/// A transaction in the making.
#[derive(Default)]
struct Batch {
    txn: Txn,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, kv: &KeyValue, op: Op) {
        if let Op::Put { value, .. } = &op {
            self.bytes += value.len();
        }
        self.txn.compare.push(Compare {
            key: kv.key.clone(),
            mod_revision: kv.mod_revision,
        });
        self.txn.then.push(op);
    }

    fn is_full(&self) -> bool {
        self.txn.then.len() >= Limits::default().operations || self.bytes >= TXN_BYTES
    }
}

async fn remove(call: &Call, page: &Page, options: &DeleteOptions) -> Result<(), Status> {
    let mut paths = Paths::default();
    paths.add(&["metadata", "finalizers"]);
    let mut batches = vec![Batch::default()];
    for (i, kv) in page.items.iter().enumerate() {
        if i % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        let Some(op) = decide(call, kv, options, &paths)? else {
            continue;
        };
        if batches.last().is_some_and(Batch::is_full) {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.add(kv, op);
        }
    }
    // All are under way at once: they share the store's syncs.
    let commits = batches.into_iter().map(|batch| async {
        let keys: Vec<Bytes> = batch.txn.compare.iter().map(|c| c.key.clone()).collect();
        match call.store.txn(batch.txn).await.map_err(store_status)? {
            Outcome::Committed(_) => Ok(()),
            Outcome::Conflict { .. } => one_by_one(call, &keys, options).await,
        }
    });
    join_all(commits).await.into_iter().collect()
}

/// What a Service holds is given back with it.
fn is_service(call: &Call) -> bool {
    (call.kind.group(), call.kind.plural()) == ("", "services")
}

/// Where one transaction can't take them all, or somebody was faster.
async fn one_by_one(call: &Call, keys: &[Bytes], options: &DeleteOptions) -> Result<(), Status> {
    let prefix = registry::prefix(&call.kind, "");
    for key in keys {
        let path = String::from_utf8_lossy(key);
        let path = path.strip_prefix(&prefix).unwrap_or_default();
        let (namespace, name) = path.split_once('/').unwrap_or(("", path));
        match delete_object(
            &call.store,
            &call.kind,
            namespace,
            name,
            options,
            Some(call),
            call.now,
        )
        .await
        {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

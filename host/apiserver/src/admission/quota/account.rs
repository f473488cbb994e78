//! Keeps the status of quotas right: after a quota or its `spec.hard` changes,
//! and after something that it counts goes or shrinks, usage is counted anew
//! from one snapshot of the store. A charge that came between makes the write
//! fail and the count start over.

use super::usage::{self, Counted};
use super::{PREFIX, Quota};
use crate::admission::resources::{Amounts, add, amounts};
use crate::kinds::Kinds;
use crate::registry::{self, Along, Written};
use api::kinds::{self, KindRef};
use api::meta;
use api::quantity::Quantity;
use api::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use store::{EventKind, Range, Revision, Store, StoreError};
use tokio::sync::watch;

const ALL: &str = "/registry/";
const ATTEMPTS: usize = 16;
/// After a store that can't be read, and before a namespace is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// Kinds whose use shrinks by an update, too.
const SHRINKING: &[&str] = &[
    "core/pods/",
    "core/services/",
    "core/persistentvolumeclaims/",
];

/// Runs until `shutdown` turns true.
pub(crate) async fn run(store: Store, kinds: Arc<Kinds>, mut shutdown: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = follow(&store, &kinds) => {}
            _ = shutdown.wait_for(|down| *down) => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Counts everything once, then after each change; returns on an error.
async fn follow(store: &Store, kinds: &Kinds) {
    let after = store.revision();
    let mut dirty: BTreeSet<String> = match quotas(store, "") {
        Ok(found) => found
            .iter()
            .map(|q| meta::namespace(&q.object).to_owned())
            .collect(),
        Err(e) => return log::error!("reading quotas: {}", e.message),
    };
    let start = Bytes::from_static(ALL.as_bytes());
    let end = store::prefix_end(&start);
    let mut watch = match store.watch(start, end, after) {
        Ok(watch) => watch,
        Err(e) => return log::error!("watching for quotas: {e}"),
    };
    loop {
        let mut left = BTreeSet::new();
        for namespace in std::mem::take(&mut dirty) {
            if let Err(e) = settle(store, kinds, &namespace).await {
                log::warn!("quotas of namespace {namespace}: {}", e.message);
                left.insert(namespace);
            }
        }
        let events = match left.is_empty() {
            true => watch.next().await,
            false => tokio::time::timeout(PAUSE, watch.next())
                .await
                .unwrap_or(Ok(Vec::new())),
        };
        match events {
            Ok(events) => dirty.extend(
                events
                    .iter()
                    .filter_map(|e| touched(&String::from_utf8_lossy(&e.current.key), e.kind)),
            ),
            Err(StoreError::Stopped) => return std::future::pending().await,
            Err(e) => return log::warn!("watching for quotas: {e}"),
        }
        dirty.extend(left);
    }
}

/// The namespace whose quotas this change may concern.
fn touched(key: &str, kind: EventKind) -> Option<String> {
    let rest = key.strip_prefix(ALL)?;
    let mut parts = rest.split('/');
    let (_, _, namespace, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let counts = kind == EventKind::Delete
        || key.starts_with(PREFIX)
        || SHRINKING.iter().any(|s| rest.starts_with(s));
    counts.then(|| namespace.to_owned())
}

/// The quotas of a namespace, or all, as they stand.
fn quotas(store: &Store, namespace: &str) -> Result<Vec<Quota>, Status> {
    let kind = quota_kind()?;
    let prefix = registry::prefix(&kind, namespace);
    let found = store
        .range(&Range::prefix(prefix))
        .map_err(registry::store_status)?;
    found
        .items
        .into_iter()
        .map(|kv| {
            let object = registry::decode(&kind, &kv.value, kv.mod_revision)?;
            Ok(Quota::new(object, kv.mod_revision))
        })
        .collect()
}

fn quota_kind() -> Result<KindRef, Status> {
    kinds::by_resource("", "v1", "resourcequotas").ok_or_else(Status::no_such_path)
}

async fn settle(store: &Store, kinds: &Kinds, namespace: &str) -> Result<(), Status> {
    let kind = quota_kind()?;
    for _ in 0..ATTEMPTS {
        let at = store.revision();
        let mut lost = false;
        for quota in quotas(store, namespace)? {
            let hard = amounts(&quota.object, &["spec", "hard"]);
            let used = count(store, kinds, namespace, &quota.object, &hard, at)?;
            if quota.revision > at {
                lost = true;
                continue;
            }
            if quota.hard == hard && quota.used == used && has_status(&quota.object) {
                continue;
            }
            let mut next = quota.object.clone();
            let texts = |all: &Amounts| -> Value {
                let pairs = all.iter().map(|(n, a)| (n.clone(), a.to_string().into()));
                Value::Object(pairs.collect())
            };
            next["status"] = json!({"hard": texts(&hard), "used": texts(&used)});
            let key = registry::key(&kind, namespace, meta::name(&quota.object));
            let value = registry::encode(&kind, &next)?;
            let written =
                registry::update(store, key, value, quota.revision, Along::default()).await?;
            lost |= matches!(written, Written::Lost(_));
        }
        if !lost {
            return Ok(());
        }
    }
    Err(Status::unavailable("quotas change too fast to be counted"))
}

fn has_status(quota: &Value) -> bool {
    quota["status"]["hard"].is_object() && quota["status"]["used"].is_object()
}

/// What a namespace uses of what `quota` bounds, at one revision.
fn count(
    store: &Store,
    kinds: &Kinds,
    namespace: &str,
    quota: &Value,
    hard: &Amounts,
    at: Revision,
) -> Result<Amounts, Status> {
    let zero = Quantity::count(0);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), zero)).collect();
    let table = kinds.table();
    let mut seen: Vec<&str> = Vec::new();
    for kind in table.iter().filter(|k| k.namespaced()) {
        let counted = Counted {
            group: kind.group(),
            plural: kind.plural(),
        };
        let names = usage::concerned(counted, hard);
        // Versions of one kind share what is stored.
        if names.is_empty() || kind.storage().is_empty() || seen.contains(&kind.storage()) {
            continue;
        }
        seen.push(kind.storage());
        let mut range = Range::prefix(registry::prefix(kind, namespace));
        range.revision = Some(at);
        let found = store.range(&range).map_err(registry::store_status)?;
        for kv in found.items {
            let object: Value = match needs_object(quota, counted) {
                true => registry::decode(kind, &kv.value, kv.mod_revision)?,
                false => Value::Null,
            };
            if usage::in_scope(quota, counted, &object) {
                let of = usage::of(counted, &object);
                add(
                    &mut used,
                    &of.into_iter().filter(|(n, _)| names.contains(n)).collect(),
                );
            }
        }
    }
    Ok(used)
}

/// Most kinds are merely counted.
fn needs_object(quota: &Value, kind: Counted<'_>) -> bool {
    !meta::list(quota, &["spec", "scopes"]).is_empty()
        || quota["spec"].get("scopeSelector").is_some()
        || (kind.group.is_empty()
            && matches!(kind.plural, "pods" | "services" | "persistentvolumeclaims"))
}

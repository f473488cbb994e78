//! ResourceQuota: what is made counts at once against every quota that it
//! concerns, in the transaction that makes it, so no two requests pass
//! together what only one may. [`usage`] says what counts, [`account`] sets
//! `status.used` right when things go.
//!
//! ```text
//! create -> usage -> check against status.used -> txn: object + quotas' status
//! ```
//! Writers that a quota concerns go one after the other within a namespace.

pub(crate) mod account;
pub(crate) mod usage;

use super::objects::Collection;
use super::resources::{Amounts, add, amounts, beyond};
use super::{Also, Attributes, Operation};
use crate::registry;
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use store::{Compare, Op, Revision, Store};
use tokio::sync::OwnedMutexGuard;
use usage::Counted;

pub(crate) const PREFIX: &str = "/registry/core/resourcequotas/";

type Turn = Arc<tokio::sync::Mutex<()>>;

pub(crate) struct Quotas {
    store: Store,
    all: Collection,
    /// Whose turn it is, by namespace; gone when nobody waits.
    turns: Mutex<HashMap<String, Turn>>,
}

/// What a quota says.
pub(crate) struct Quota {
    pub(crate) object: Value,
    pub(crate) revision: Revision,
    pub(crate) hard: Amounts,
    pub(crate) used: Amounts,
}

impl Quota {
    pub(crate) fn new(object: Value, revision: Revision) -> Quota {
        Quota {
            hard: amounts(&object, &["status", "hard"]),
            used: amounts(&object, &["status", "used"]),
            object,
            revision,
        }
    }
}

impl Quotas {
    pub(crate) fn new(store: &Store) -> Quotas {
        Quotas {
            store: store.clone(),
            all: Collection::new(store, PREFIX),
            turns: Mutex::default(),
        }
    }

    /// Charges what `object` uses more than `old` did; the answer has to be
    /// committed with it.
    pub(crate) async fn charge(
        &self,
        a: &Attributes<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Also, Status> {
        if a.namespace.is_empty()
            || !matches!(a.subresource, "" | "resize")
            || matches!(a.operation, Operation::Delete | Operation::Connect)
        {
            return Ok(Also::default());
        }
        if self.all.of_namespace(a.namespace)?.is_empty() {
            return Ok(Also::default());
        }
        let turn = self.turn(a.namespace).await;
        let kind =
            kinds::by_resource("", "v1", "resourcequotas").ok_or_else(Status::no_such_path)?;
        let mut also = Also::default();
        for name in self.names(a.namespace)? {
            let found = match registry::get(&self.store, &kind, a.namespace, &name) {
                Err(status) if status.code == 404 => continue,
                found => found?,
            };
            let quota = Quota::new(found.object, found.revision);
            let Some(charged) = charged(a, &quota, object, old)? else {
                continue;
            };
            let key = registry::key(&kind, a.namespace, &name);
            also.compare.push(Compare {
                key: key.clone(),
                mod_revision: quota.revision,
            });
            also.then.push(put(&kind, key, &charged)?);
        }
        if !also.then.is_empty() {
            also.turn = Some(turn);
        }
        Ok(also)
    }

    fn names(&self, namespace: &str) -> Result<Vec<String>, Status> {
        let quotas = self.all.of_namespace(namespace)?;
        Ok(quotas.iter().map(|q| meta::name(q).to_owned()).collect())
    }

    async fn turn(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(namespace.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

fn put(kind: &KindRef, key: Bytes, object: &Value) -> Result<Op, Status> {
    Ok(Op::Put {
        key,
        value: registry::encode(kind, object)?,
    })
}

/// The quota after the charge; `None` if it isn't concerned. Pure.
fn charged(
    a: &Attributes<'_>,
    quota: &Quota,
    object: &Value,
    old: Option<&Value>,
) -> Result<Option<Value>, Status> {
    let kind = Counted {
        group: a.kind.group(),
        plural: a.kind.plural(),
    };
    let hard = amounts(&quota.object, &["spec", "hard"]);
    let names = usage::concerned(kind, &hard);
    if names.is_empty() || !usage::in_scope(&quota.object, kind, object) {
        return Ok(None);
    }
    let of = meta::name(&quota.object);
    let forbid = |why: String| Err(a.forbid(&why));
    if kind.plural == "pods" && kind.group.is_empty() && old.is_none() {
        let unnamed = usage::unnamed(object, &names);
        if !unnamed.is_empty() {
            return forbid(format!(
                "failed quota: {of}: must specify {}",
                unnamed.join("; ")
            ));
        }
    }
    let only =
        |all: Amounts| -> Amounts { all.into_iter().filter(|(n, _)| names.contains(n)).collect() };
    let mut delta = only(usage::of(kind, object));
    // What is known of an object that was counted before isn't counted again.
    let before = old.filter(|old| usage::in_scope(&quota.object, kind, old));
    if let Some(old) = before {
        delta = beyond(&delta, &only(usage::of(kind, old)));
    }
    delta.retain(|_, amount| *amount > api::quantity::Quantity::count(0));
    if delta.is_empty() {
        return Ok(None);
    }
    let unknown: Vec<&str> = names
        .iter()
        .filter(|n| delta.contains_key(*n))
        .filter(|n| !(quota.hard.contains_key(*n) && quota.used.contains_key(*n)))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        return forbid(format!(
            "status unknown for quota: {of}, resources: {}",
            unknown.join(",")
        ));
    }
    let mut used = quota.used.clone();
    add(&mut used, &delta);
    if let Some(why) = exceeded(quota, &delta, &used) {
        return forbid(why);
    }
    let mut charged = quota.object.clone();
    for (name, amount) in &used {
        charged["status"]["used"][name.as_str()] = amount.to_string().into();
    }
    Ok(Some(charged))
}

/// Upstream's words for what goes over the quota.
fn exceeded(quota: &Quota, delta: &Amounts, used: &Amounts) -> Option<String> {
    let of = meta::name(&quota.object);
    let over: Vec<&String> = delta
        .keys()
        .filter(|n| matches!((used.get(*n), quota.hard.get(*n)), (Some(u), Some(h)) if u > h))
        .collect();
    if !over.is_empty() {
        let show = |all: &Amounts| {
            let parts: Vec<String> = over
                .iter()
                .filter_map(|n| Some(format!("{n}={}", all.get(*n)?)))
                .collect();
            parts.join(",")
        };
        return Some(format!(
            "exceeded quota: {of}, requested: {}, used: {}, limited: {}",
            show(delta),
            show(&quota.used),
            show(&quota.hard)
        ));
    }
    None
}

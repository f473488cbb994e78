//! Delete: at once, or marked first and removed when its grace period and its
//! finalizers are over.
//!
//! ```text
//! live --delete--> marked (deletionTimestamp) --grace 0, no finalizers--> gone
//!   \--immediate, nothing holds it-------------------------------------/
//! ```
//! What becomes of dependents stands in finalizers (`orphan`,
//! `foregroundDeletion`), which the garbage collector takes off again.

mod collection;
mod mark;
mod options;

pub(crate) use collection::collection;
pub(crate) use options::{DeleteOptions, from_value, options};

use super::update::{ATTEMPTS, is_finished};
use super::{Answer, Call};
use crate::admission::{Operation, Options};
use crate::registry::{self, Along, Stored, Written};
use crate::services;
use api::kinds::{Deletion, KindRef};
use api::meta;
use api::status::{self, Status};
use http::Response;
use jiff::Timestamp;
use mark::mark;
use reconcile::Body;
use serde_json::Value;
use store::Store;

/// What a deletion led to.
pub(crate) enum Deleted {
    /// Removed, as it last was.
    Gone(Value),
    /// Marked; it goes later.
    Marked(Value),
}

pub(crate) async fn delete(call: Call) -> Answer {
    let options = options(&call)?;
    let outcome = delete_object(
        &call.store,
        &call.kind,
        &call.route.namespace,
        &call.route.name,
        &options,
        Some(&call),
        call.now,
    )
    .await?;
    Ok(match outcome {
        Deleted::Marked(object) => call.object(if options.accepted { 202 } else { 200 }, object),
        Deleted::Gone(object) if returns_object(&call.kind) => call.object(200, object),
        Deleted::Gone(object) => success(&call, &object),
    })
}

/// Of which kinds a deletion's answer is the object (`ReturnDeletedObject`).
fn returns_object(kind: &KindRef) -> bool {
    matches!(
        (kind.group(), kind.plural()),
        (
            "",
            "pods"
                | "podtemplates"
                | "services"
                | "serviceaccounts"
                | "resourcequotas"
                | "persistentvolumes"
                | "persistentvolumeclaims"
        ) | (
            "storage.k8s.io",
            "storageclasses" | "csidrivers" | "csinodes" | "csistoragecapacities"
        )
    )
}

fn success(call: &Call, object: &Value) -> Response<Body> {
    let done = status::success(Some((
        call.kind.resource(),
        meta::name(object),
        meta::uid(object),
    )));
    crate::respond::json(200, &done, call.accepted)
}

/// Deletes one object; `by` is the request that admission has to look at.
pub(crate) async fn delete_object(
    store: &Store,
    kind: &KindRef,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    by: Option<&Call>,
    now: Timestamp,
) -> Result<Deleted, Status> {
    protect(kind, name)?;
    for _ in 0..ATTEMPTS {
        let current = registry::get(store, kind, namespace, name)?;
        preconditions(kind, &current, options)?;
        if let Some(call) = by {
            let asked = Options::Deletion(options);
            let standing = &current.object;
            call.admit_action(Operation::Delete, &mut Value::Null, standing, asked)
                .await?;
        }
        let marked = mark(kind, &current.object, options, now);
        let finished = is_finished(kind, &marked);
        if options.dry_run {
            return Ok(match finished {
                true => Deleted::Gone(marked),
                false => Deleted::Marked(marked),
            });
        }
        let key = registry::key(kind, namespace, name);
        if finished {
            let along = services::release(store, kind, &current.object)?;
            match registry::remove(store, key, current.revision, along).await? {
                Written::At(_) if kind.deletion() == Deletion::Graceful => {
                    return Ok(Deleted::Gone(marked));
                }
                Written::At(_) => return Ok(Deleted::Gone(current.object)),
                Written::Lost(_) => continue,
            }
        }
        let value = registry::encode(kind, &marked)?;
        if value == current.bytes {
            return Ok(Deleted::Marked(current.object));
        }
        let along = Along::default();
        if let Written::At(revision) =
            registry::update(store, key, value, current.revision, along).await?
        {
            let mut marked = marked;
            registry::set_revision(&mut marked, revision);
            return Ok(Deleted::Marked(marked));
        }
    }
    Err(Status::modified(kind.resource(), name))
}

/// Namespaces without which the cluster isn't one.
fn protect(kind: &KindRef, name: &str) -> Result<(), Status> {
    const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];
    if kind.deletion() == Deletion::NamespaceLifecycle && IMMORTAL.contains(&name) {
        let why = "this namespace may not be deleted";
        return Err(Status::forbidden(kind.resource(), name, why));
    }
    Ok(())
}

pub(crate) fn preconditions(
    kind: &KindRef,
    current: &Stored,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let object = &current.object;
    let refused = |why: &str| {
        let name = meta::name(object);
        Err(Status::conflict(kind.qualified_kind(), name, why))
    };
    let (uid, version) = (meta::uid(object), meta::resource_version(object));
    if let Some(wanted) = options.uid.as_deref().filter(|wanted| *wanted != uid) {
        return refused(&format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    let wanted = options.resource_version.as_deref();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != version) {
        return refused(&format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

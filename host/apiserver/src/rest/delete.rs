//! Delete: at once, or marked first and removed when its grace period and its
//! finalizers are over.
//!
//! ```text
//! live --delete--> marked (deletionTimestamp) --grace 0, no finalizers--> gone
//!   \--immediate, nothing holds it-------------------------------------/
//! ```
//! There is no garbage collector here: the dependents of an owner are left to
//! the controllers, whatever `propagationPolicy` says.

use super::update::{ATTEMPTS, is_finished};
use super::{Answer, Call, body, list};
use crate::query::dry_run;
use crate::registry::{self, Along, Stored, Written};
use crate::services;
use api::decode;
use api::kinds::{self, Deletion, KindRef};
use api::meta;
use api::status::{self, Status};
use http::Response;
use jiff::{SignedDuration, Timestamp};
use reconcile::Body;
use serde_json::Value;
use store::Store;

/// Upstream's default where neither client nor pod says otherwise.
const DEFAULT_GRACE: i64 = 30;

/// `metav1.DeleteOptions`, as far as they matter here.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

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
        call.now,
    )
    .await?;
    Ok(match outcome {
        Deleted::Marked(object) => call.object(200, object),
        Deleted::Gone(object) if call.kind.deletion() != Deletion::Immediate => {
            call.object(200, object)
        }
        Deleted::Gone(object) => success(&call, &object),
    })
}

fn success(call: &Call, object: &Value) -> Response<Body> {
    let done = status::success(Some((
        call.kind.resource(),
        meta::name(object),
        meta::uid(object),
    )));
    crate::respond::json(200, &done, call.accepted)
}

/// From the body, and where it is silent from the query.
pub(crate) fn options(call: &Call) -> Result<DeleteOptions, Status> {
    let mut value = Value::Null;
    if !call.body.is_empty() {
        let facts = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
        let mut parsed = body::parse(call, facts)?;
        decode::conform(&mut parsed.value, facts, &mut Vec::new()).map_err(Status::bad_request)?;
        value = parsed.value;
    }
    from_value(call, &value)
}

pub(crate) fn from_value(call: &Call, value: &Value) -> Result<DeleteOptions, Status> {
    let text = |path: &[&str]| {
        Some(meta::text(value, path))
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    let policy = match text(&["propagationPolicy"]) {
        Some(policy) => policy,
        None => call.query.text("propagationPolicy").to_owned(),
    };
    if !matches!(policy.as_str(), "" | "Orphan" | "Background" | "Foreground") {
        return Err(Status::new(
            422,
            "Invalid",
            format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {policy:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            ),
        ));
    }
    let listed = meta::list(value, &["dryRun"])
        .iter()
        .filter_map(Value::as_str);
    Ok(DeleteOptions {
        grace: match meta::int(value, &["gracePeriodSeconds"]) {
            Some(grace) => Some(grace),
            None => call.query.number("gracePeriodSeconds")?,
        },
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
        dry_run: dry_run(listed)? || call.query.dry_run()?,
    })
}

pub(crate) async fn delete_object(
    store: &Store,
    kind: &KindRef,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Deleted, Status> {
    protect(kind, name)?;
    for _ in 0..ATTEMPTS {
        let current = registry::get(store, kind, namespace, name)?;
        preconditions(kind, &current, options)?;
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
    let check = |wanted: &Option<String>, what: &str, is: &str| match wanted {
        Some(wanted) if wanted != is => Err(Status::conflict(
            kind.resource(),
            meta::name(&current.object),
            &format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"
            ),
        )),
        _ => Ok(()),
    };
    check(&options.uid, "UID", meta::uid(&current.object))?;
    check(
        &options.resource_version,
        "ResourceVersion",
        meta::resource_version(&current.object),
    )
}

/// The object as its deletion leaves it.
fn mark(kind: &KindRef, object: &Value, options: &DeleteOptions, now: Timestamp) -> Value {
    let grace = match kind.deletion() {
        Deletion::Graceful => grace(object, options),
        Deletion::Immediate | Deletion::NamespaceLifecycle => 0,
    };
    let mut marked = object.clone();
    let before = meta::int(object, &["metadata", "deletionGracePeriodSeconds"]);
    let generation = meta::int(object, &["metadata", "generation"]);
    let deleting = meta::is_deleting(object);
    let metadata = meta::ensure_metadata(&mut marked);
    // A second deletion may only shorten what the first one granted.
    if !deleting || before.is_some_and(|b| grace < b) {
        let until = now
            .checked_add(SignedDuration::from_secs(grace))
            .unwrap_or(Timestamp::MAX);
        metadata.insert(
            "deletionTimestamp".to_owned(),
            api::time::rfc3339(until).into(),
        );
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        if let Some(generation) = generation {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }
    if kind.deletion() == Deletion::NamespaceLifecycle {
        metadata.shift_remove("deletionGracePeriodSeconds");
        meta::ensure(&mut marked, "status").insert("phase".to_owned(), "Terminating".into());
    }
    marked
}

/// Nothing waits for a pod that no node has, or that has ended.
fn grace(pod: &Value, options: &DeleteOptions) -> i64 {
    if meta::text(pod, &["spec", "nodeName"]).is_empty() || kinds::pod_is_terminal(pod) {
        return 0;
    }
    let asked = options
        .grace
        .or(meta::int(pod, &["spec", "terminationGracePeriodSeconds"]))
        .unwrap_or(DEFAULT_GRACE);
    match asked {
        i64::MIN..0 => 1,
        // Bounded, so that a timestamp stays one.
        other => other.min(i64::from(i32::MAX)),
    }
}

pub(crate) async fn collection(call: Call) -> Answer {
    let options = options(&call)?;
    let found = list::select(&call)?;
    let mut items = Vec::new();
    for kv in found {
        let object = registry::decode(&call.kind, &kv.value, kv.mod_revision)?;
        let (namespace, name) = (meta::namespace(&object), meta::name(&object));
        let outcome = delete_object(&call.store, &call.kind, namespace, name, &options, call.now);
        match outcome.await {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => items.push(object),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let body = serde_json::json!({
        "kind": call.kind.list_kind(),
        "apiVersion": call.kind.api_version(),
        "metadata": {"resourceVersion": call.store.revision().to_string()},
        "items": items,
    });
    Ok(crate::respond::json(200, &body, call.accepted))
}

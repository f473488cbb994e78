//! Update: what the client wants, onto what stands, if nobody was faster.
//! [`guaranteed`] is the one road of every write to an existing object.

use super::create::{Creation, create_object, parse_revision};
use super::options::{self, Verb, WriteOptions};
use super::{Answer, Call, body};
use crate::admission::Operation;
use crate::authz::Attributes;
use crate::authz::selection::Selection;
use crate::registry::{self, After, Along, Stored, Written};
use crate::route::Route;
use crate::{respond, services};
use api::field::{Errors, Path};
use api::kinds::{self, Deletion, KindRef, Subresource};
use api::managed::{Endpoint, Writer};
use api::meta;
use api::status::Status;
use serde_json::{Map, Value};
use std::time::{Duration, Instant};
use store::Store;

/// Which endpoint writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    Approval,
    Finalize,
    EphemeralContainers,
    Resize,
}

/// Rounds against other writers before what the server writes by itself gives
/// up.
pub(crate) const ATTEMPTS: usize = 32;
/// How long a client's write tries (upstream's `requestTimeoutUpperBound`).
const UPPER_BOUND: Duration = Duration::from_secs(34);

pub(crate) async fn update(call: Call, part: Part) -> Answer {
    let options = options::read(&call, Verb::Update)?;
    let decoded = body::object(&call, &call.kind, options.strictness)?;
    let (mut wanted, mut warnings) = (decoded.object, decoded.warnings);
    body::settle_namespace(&mut wanted, &call.kind, &call.route.namespace)?;
    body::check_name(&wanted, &call.route.name)?;
    warnings.extend(body::dedup_owners(&mut wanted, false));
    call.kind.default(&mut wanted);
    let how = Change {
        part,
        dry_run: options.dry_run,
        creates: part == Part::Main && call.kind.creates_on_update(),
    };
    let updated = guaranteed(&call, &how, |current| {
        let mut wanted = wanted.clone();
        precondition(&call, &wanted, current)?;
        own(&call, &options, current.map(|c| &c.object), &mut wanted);
        Ok(wanted)
    })
    .await?;
    let mut response = call.after(updated.code(), updated.after);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// A uid in the body is a precondition.
fn precondition(call: &Call, wanted: &Value, current: Option<&Stored>) -> Result<(), Status> {
    let (uid, name) = (meta::uid(wanted), &call.route.name);
    let standing = current.map_or("", |c| meta::uid(&c.object));
    if uid.is_empty() || uid == standing {
        return Ok(());
    }
    let prefix = registry::prefix(&call.kind, &call.route.namespace);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {prefix}{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {standing}"
    );
    Err(Status::conflict(call.kind.resource(), name, &why))
}

/// Whoever writes owns what changes.
pub(crate) fn own(call: &Call, options: &WriteOptions, live: Option<&Value>, new: &mut Value) {
    let subresource = call.route.subresource.as_str();
    let endpoint = Endpoint {
        kind: &call.kind,
        subresource,
    };
    let writer = Writer {
        manager: &options.manager,
        version: &call.kind.api_version(),
        subresource,
        time: &api::time::rfc3339(call.now),
    };
    endpoint.track(live, new, &writer);
}

/// How an object is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) part: Part,
    pub(crate) dry_run: bool,
    /// Whether it is made if it isn't there.
    pub(crate) creates: bool,
}

/// What a change came to.
pub(crate) struct Changed {
    pub(crate) after: After,
    pub(crate) is_new: bool,
}

impl Changed {
    pub(crate) fn code(&self) -> u16 {
        if self.is_new { 201 } else { 200 }
    }
}

/// Reads, lets `change` make the wanted object with its owners, checks,
/// writes; again while others win and the wanted object names no
/// resourceVersion that is too old. Upstream's `GuaranteedUpdate` counts no
/// rounds: the request's time ends it.
pub(crate) async fn guaranteed(
    call: &Call,
    how: &Change,
    mut change: impl FnMut(Option<&Stored>) -> Result<Value, Status>,
) -> Result<Changed, Status> {
    let deadline = Instant::now() + UPPER_BOUND;
    while Instant::now() < deadline {
        let current = match call.current() {
            Ok(current) => current,
            Err(status) if status.code == 404 && how.creates => {
                match make(call, how, change(None)?).await {
                    Err(status) if status.reason == "AlreadyExists" => continue,
                    outcome => return outcome,
                }
            }
            Err(status) => return Err(status),
        };
        let mut wanted = change(Some(&current))?;
        let old = Some(&current.object);
        call.mutate(Operation::Update, &mut wanted, old).await?;
        check_version(call, &wanted, &current)?;
        prepare(&call.kind, how.part, &mut wanted, &current.object);
        let mut along = services::plan(&call.store, &call.kind, &mut wanted, old, call.now)?;
        if how.part != Part::Main && call.kind.has(Subresource::Approval) {
            kinds::stamp_conditions(&mut wanted, &current.object, call.now);
        }
        check(&call.kind, how.part, &wanted, &current.object)?;
        let also = call.admit(Operation::Update, &wanted, old).await?;
        also.join(&mut along);
        settle_times(&mut wanted, &current);
        let outcome = if how.dry_run {
            registry::set_revision(&mut wanted, current.revision);
            Some(After::unstored(wanted))
        } else {
            write(&call.store, &call.kind, current, wanted, along).await?
        };
        if let Some(after) = outcome {
            return Ok(Changed {
                after,
                is_new: false,
            });
        }
    }
    Err(Status::timeout(registry::TIMED_OUT))
}

/// An update or an apply of what isn't there yet.
async fn make(call: &Call, how: &Change, mut wanted: Value) -> Result<Changed, Status> {
    let mut route = call.route.clone();
    route.verb = "create";
    let route = Route::Resource(route);
    let unselected = Selection::default();
    let attributes = Attributes::of(&route, &unselected);
    call.authorizer.authorize(&call.user, &attributes)?;
    let uid = meta::uid(&wanted);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        let (resource, name) = (call.kind.resource(), &call.route.name);
        return Err(Status::conflict(resource, name, &why));
    }
    meta::ensure_metadata(&mut wanted).shift_remove("resourceVersion");
    let creation = Creation {
        dry_run: how.dry_run,
        manager: None,
        now: call.now,
        by: Some(call),
    };
    let after = create_object(&call.store, &call.kind, wanted, &creation).await?;
    Ok(Changed {
        after,
        is_new: true,
    })
}

/// The version that the wanted object names has to stand; some kinds have to
/// be told.
fn check_version(call: &Call, wanted: &Value, current: &Stored) -> Result<(), Status> {
    let (kind, name) = (&call.kind, call.route.name.as_str());
    match meta::resource_version(wanted) {
        "" | "0" if kind.updates_unconditionally() => Ok(()),
        "" | "0" => {
            let mut errors = Errors::default();
            let path = Path::new("metadata").child("resourceVersion");
            errors.invalid(&path, 0, "must be specified for an update");
            Err(Status::invalid(kind.resource(), name, &errors))
        }
        version => match parse_revision(kind.resource(), name, version)? {
            named if named == current.revision => Ok(()),
            _ => Err(Status::modified(kind.resource(), name)),
        },
    }
}

/// A write that changes nothing but times of ownership changes nothing.
fn settle_times(wanted: &mut Value, current: &Stored) {
    const OWNERS: &[&str] = &["metadata", "managedFields"];
    let (new, old) = (
        meta::list(wanted, OWNERS),
        meta::list(&current.object, OWNERS),
    );
    let same = |(a, b): (&Value, &Value)| same_but(a, b, &["time"]);
    let only_times = new.len() == old.len() && new != old && new.iter().zip(old).all(same);
    if only_times && is_same_otherwise(wanted, &current.object) {
        let old = Value::Array(old.to_vec());
        meta::ensure_metadata(wanted).insert("managedFields".to_owned(), old);
        registry::set_revision(wanted, current.revision);
    }
}

/// Whether two objects differ at most in owners and revision.
fn is_same_otherwise(a: &Value, b: &Value) -> bool {
    let metadata = |object: &Value| object.get("metadata").is_some_and(Value::is_object);
    metadata(a)
        && metadata(b)
        && same_but(
            &a["metadata"],
            &b["metadata"],
            &["managedFields", "resourceVersion"],
        )
        && same_but(a, b, &["metadata"])
}

/// Whether two values have the same members, those of `names` apart.
fn same_but(a: &Value, b: &Value, names: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let counted = |members: &Map<String, Value>| {
        let named = names.iter().filter(|name| members.contains_key(**name));
        members.len() - named.count()
    };
    let mut members = a.iter().filter(|(key, _)| !names.contains(&key.as_str()));
    counted(a) == counted(b) && members.all(|(key, value)| b.get(key) == Some(value))
}

/// `None` if somebody else was faster.
pub(crate) async fn write(
    store: &Store,
    kind: &KindRef,
    current: Stored,
    mut wanted: Value,
    along: Along,
) -> Result<Option<After>, Status> {
    let key = registry::key(
        kind,
        meta::namespace(&current.object),
        meta::name(&current.object),
    );
    if is_finished(kind, &wanted) {
        let along = services::release(store, kind, &current.object)?;
        return Ok(
            match registry::remove(store, key, current.revision, along).await? {
                Written::At(revision) => {
                    registry::set_revision(&mut wanted, revision);
                    Some(After::unstored(wanted))
                }
                Written::Lost(_) => None,
            },
        );
    }
    registry::set_revision(&mut wanted, current.revision);
    if wanted == current.object {
        return Ok(Some(After::written(
            current.object,
            current.bytes,
            current.revision,
        )));
    }
    let mut value = registry::encode(kind, &wanted)?;
    let from = current.revision;
    let mut written =
        registry::update(store, key.clone(), value.clone(), from, along.clone()).await;
    if written.as_ref().is_err_and(|e| e.code == 413) {
        // Ownership can be what makes an object too large: better none.
        meta::ensure_metadata(&mut wanted).shift_remove("managedFields");
        value = registry::encode(kind, &wanted)?;
        written = registry::update(store, key, value.clone(), from, along).await;
    }
    Ok(match written? {
        Written::At(revision) => Some(After::written(wanted, value, revision)),
        Written::Lost(_) => None,
    })
}

/// Deleted, and nothing holds it any more.
pub(crate) fn is_finished(kind: &KindRef, object: &Value) -> bool {
    meta::is_deleting(object)
        && meta::list(object, &["metadata", "finalizers"]).is_empty()
        && match kind.deletion() {
            Deletion::Immediate => true,
            Deletion::Graceful => {
                meta::int(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
            }
            Deletion::NamespaceLifecycle => meta::list(object, &["spec", "finalizers"]).is_empty(),
        }
}

/// What the client can't change comes from what stands.
fn prepare(kind: &KindRef, part: Part, wanted: &mut Value, old: &Value) {
    keep_metadata(wanted, old);
    match part {
        Part::Main => kind.prepare_update(wanted, old),
        Part::Status => kind.prepare_status(wanted, old),
        Part::EphemeralContainers => kinds::prepare_ephemeral(wanted, old),
        Part::Approval => kind.prepare_approval(wanted, old),
        Part::Resize => kinds::prepare_resize(wanted, old),
        Part::Finalize => {
            let finalizers = meta::at(wanted, &["spec", "finalizers"]).cloned();
            let owners = meta::at(wanted, &["metadata", "managedFields"]).cloned();
            *wanted = old.clone();
            let spec = meta::ensure(wanted, "spec");
            match finalizers {
                Some(list) => {
                    spec.insert("finalizers".to_owned(), list);
                }
                None => {
                    spec.shift_remove("finalizers");
                }
            }
            let metadata = meta::ensure_metadata(wanted);
            metadata.extend(owners.map(|o| ("managedFields".to_owned(), o)));
        }
    }
    body::stamp(wanted, kind);
    kind.default(wanted);
}

fn keep_metadata(wanted: &mut Value, old: &Value) {
    let mut metadata = wanted.get("metadata").cloned().unwrap_or_default();
    let empty = Value::Null;
    let was = old.get("metadata").unwrap_or(&empty);
    for key in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        meta::keep(&mut metadata, was, key);
    }
    if meta::text(&metadata, &["uid"]).is_empty() {
        meta::keep(&mut metadata, was, "uid");
    }
    if let Some(map) = metadata.as_object_mut() {
        map.shift_remove("selfLink");
    }
    wanted["metadata"] = metadata;
}

fn check(kind: &KindRef, part: Part, wanted: &Value, old: &Value) -> Result<(), Status> {
    let mut errors = Errors::default();
    kinds::validate_metadata_update(wanted, old, &mut errors);
    match part {
        Part::Main => {
            kinds::validate_metadata(kind, wanted, &mut errors);
            kind.validate(wanted, &mut errors);
            kind.validate_update(wanted, old, &mut errors);
        }
        Part::Status => kind.validate_status(wanted, old, &mut errors),
        Part::Approval => kind.validate_approval(wanted, old, &mut errors),
        Part::Finalize => kind.validate(wanted, &mut errors),
        Part::EphemeralContainers => kinds::validate_ephemeral(wanted, old, &mut errors),
        Part::Resize => kinds::validate_resize(wanted, old, &mut errors),
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(
            kind.qualified_kind(),
            meta::name(wanted),
            &errors,
        )),
    }
}

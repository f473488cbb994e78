//! Update: what the client wants, onto what stands, if nobody was faster.
//! [`guaranteed`] is the one road of every write to an existing object.

use super::create::parse_revision;
use super::{Answer, Call, body};
use crate::registry::{self, Along, Stored, Written};
use crate::{respond, services};
use api::field::Errors;
use api::kinds::{self, Deletion, KindRef};
use api::meta;
use api::status::Status;
use serde_json::Value;
use store::Store;

/// Which endpoint writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
    Finalize,
    EphemeralContainers,
    Resize,
}

/// Rounds against other writers before a write without a version gives up.
pub(crate) const ATTEMPTS: usize = 32;

pub(crate) async fn update(call: Call, part: Part) -> Answer {
    let decoded = body::object(&call, &call.kind)?;
    let dry_run = call.query.dry_run()?;
    let mut wanted = decoded.object;
    body::settle_namespace(&mut wanted, &call.kind, &call.route.namespace)?;
    match meta::name(&wanted) {
        "" => {
            let name = call.route.name.clone();
            meta::ensure_metadata(&mut wanted).insert("name".to_owned(), name.into());
        }
        name if name != call.route.name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.route.name
            )));
        }
        _ => {}
    }
    let updated = guaranteed(&call, part, dry_run, |_| Ok(wanted.clone())).await?;
    let mut response = call.object(200, updated);
    respond::warn(&mut response, &decoded.warnings);
    Ok(response)
}

/// Reads, lets `change` make the wanted object, checks, writes; again while
/// others win and the wanted object names no resourceVersion of its own.
pub(crate) async fn guaranteed(
    call: &Call,
    part: Part,
    dry_run: bool,
    mut change: impl FnMut(&Stored) -> Result<Value, Status>,
) -> Result<Value, Status> {
    let (kind, name) = (&call.kind, call.route.name.as_str());
    for _ in 0..ATTEMPTS {
        let current = call.current()?;
        let mut wanted = change(&current)?;
        match meta::resource_version(&wanted) {
            "" => {}
            version => {
                if parse_revision(kind.resource(), name, version)? != current.revision {
                    return Err(Status::modified(kind.resource(), name));
                }
            }
        }
        prepare(kind, part, &mut wanted, &current.object)?;
        call.may_grant(&wanted, Some(&current.object))?;
        let old = Some(&current.object);
        let along = services::plan(&call.store, kind, &mut wanted, old, call.now)?;
        check(kind, part, &wanted, &current.object)?;
        if dry_run {
            registry::set_revision(&mut wanted, current.revision);
            return Ok(wanted);
        }
        if let Some(object) = write(&call.store, kind, current, wanted, along).await? {
            return Ok(object);
        }
    }
    Err(Status::modified(kind.resource(), name))
}

/// `None` if somebody else was faster.
pub(crate) async fn write(
    store: &Store,
    kind: &KindRef,
    current: Stored,
    mut wanted: Value,
    along: Along,
) -> Result<Option<Value>, Status> {
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
                    Some(wanted)
                }
                Written::Lost(_) => None,
            },
        );
    }
    let value = registry::encode(kind, &wanted)?;
    if value == current.bytes {
        return Ok(Some(current.object));
    }
    Ok(
        match registry::update(store, key, value, current.revision, along).await? {
            Written::At(revision) => {
                registry::set_revision(&mut wanted, revision);
                Some(wanted)
            }
            Written::Lost(_) => None,
        },
    )
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
fn prepare(kind: &KindRef, part: Part, wanted: &mut Value, old: &Value) -> Result<(), Status> {
    let uid = meta::uid(wanted).to_owned();
    let old_uid = meta::uid(old);
    if !uid.is_empty() && uid != old_uid {
        return Err(Status::conflict(
            kind.resource(),
            meta::name(old),
            &format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}"
            ),
        ));
    }
    // A change is judged, and a generation counted, after defaults.
    kind.default(wanted);
    match part {
        Part::Main => {
            keep_metadata(wanted, old);
            kind.prepare_update(wanted, old);
        }
        Part::Status => {
            keep_metadata(wanted, old);
            kind.prepare_status(wanted, old);
        }
        Part::EphemeralContainers => {
            keep_metadata(wanted, old);
            kinds::prepare_ephemeral(wanted, old);
        }
        Part::Resize => {
            keep_metadata(wanted, old);
            kinds::prepare_resize(wanted, old);
        }
        Part::Finalize => {
            let finalizers = meta::at(wanted, &["spec", "finalizers"]).cloned();
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
        }
    }
    body::stamp(wanted, kind);
    kind.default(wanted);
    Ok(())
}

fn keep_metadata(wanted: &mut Value, old: &Value) {
    let mut metadata = wanted.get("metadata").cloned().unwrap_or_default();
    let empty = Value::Null;
    let was = old.get("metadata").unwrap_or(&empty);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        meta::keep(&mut metadata, was, key);
    }
    if let Some(map) = metadata.as_object_mut() {
        map.shift_remove("selfLink");
        map.shift_remove("managedFields");
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

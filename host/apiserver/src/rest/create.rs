//! Create: decode, admit, default, validate, write; `generateName` too.

use super::{Answer, Call, body};
use crate::registry::{self, Written};
use crate::{respond, services};
use api::field::Errors;
use api::kinds::{self, KindRef};
use api::meta;
use api::status::{Qualified, Status};
use jiff::Timestamp;
use serde_json::Value;
use store::{Compare, Revision, Store};

/// Generated names that may collide before the client hears of it.
const NAME_ATTEMPTS: usize = 8;
/// Times that what a write relies on may change: its namespace, what a Service
/// was to be given.
const MEANWHILE_ATTEMPTS: usize = 64;

pub(crate) async fn create(call: Call) -> Answer {
    let decoded = body::object(&call, &call.kind)?;
    let dry_run = call.query.dry_run()?;
    let mut object = decoded.object;
    body::settle_namespace(&mut object, &call.kind, &call.route.namespace)?;
    if !meta::resource_version(&object).is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    call.may_grant(&object, None)?;
    let created = create_object(&call.store, &call.kind, object, dry_run, call.now).await?;
    let mut response = call.object(201, created);
    respond::warn(&mut response, &decoded.warnings);
    Ok(response)
}

/// Makes `object`, whose apiVersion, kind and namespace are settled.
pub(crate) async fn create_object(
    store: &Store,
    kind: &KindRef,
    mut object: Value,
    dry_run: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    let generate = meta::text(&object, &["metadata", "generateName"]).to_owned();
    let generated = meta::name(&object).is_empty() && !generate.is_empty();
    fill(&mut object, now);
    let mut attempts = NAME_ATTEMPTS;
    let mut meanwhile = MEANWHILE_ATTEMPTS;
    loop {
        // A name that is taken and a plan that others foiled leave no trace.
        let mut object = object.clone();
        if generated {
            let name = generate_name(&generate);
            meta::ensure_metadata(&mut object).insert("name".to_owned(), name.into());
        }
        kind.default(&mut object);
        kind.prepare_create(&mut object);
        let namespace = admit_namespace(store, kind, &object)?;
        let mut along = services::plan(store, kind, &mut object, None, now)?;
        along.compare.extend(namespace);
        check(kind, &object)?;
        let name = meta::name(&object).to_owned();
        let key = registry::key(kind, meta::namespace(&object), &name);
        let value = registry::encode(kind, &object)?;
        if dry_run {
            let taken = registry::get(store, kind, meta::namespace(&object), &name).is_ok();
            return match taken {
                true => Err(Status::already_exists(kind.resource(), &name)),
                false => Ok(object),
            };
        }
        match registry::create(store, key, value, along).await? {
            Written::At(revision) => {
                registry::set_revision(&mut object, revision);
                return Ok(object);
            }
            Written::Lost(current) if matches!(current.first(), Some(Some(_))) => {
                attempts -= 1;
                if !generated || attempts == 0 {
                    return Err(Status::already_exists(kind.resource(), &name));
                }
            }
            // What the write relies on changed meanwhile: look again.
            Written::Lost(_) => {
                meanwhile -= 1;
                if meanwhile == 0 {
                    return Err(Status::unavailable("the namespace is changing too fast"));
                }
            }
        }
    }
}

/// What the server alone decides of a new object.
fn fill(object: &mut Value, now: Timestamp) {
    let metadata = meta::ensure_metadata(object);
    for key in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
        "generation",
        "resourceVersion",
    ] {
        metadata.shift_remove(key);
    }
    metadata.insert(
        "uid".to_owned(),
        uuid::Uuid::new_v4().hyphenated().to_string().into(),
    );
    metadata.insert(
        "creationTimestamp".to_owned(),
        api::time::rfc3339(now).into(),
    );
}

fn check(kind: &KindRef, object: &Value) -> Result<(), Status> {
    let mut errors = Errors::default();
    kinds::validate_metadata(kind, object, &mut errors);
    kind.validate(object, &mut errors);
    kind.validate_create(object, &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    let name = match meta::name(object) {
        "" => meta::text(object, &["metadata", "generateName"]),
        name => name,
    };
    Err(Status::invalid(kind.qualified_kind(), name, &errors))
}

/// The namespace exists and isn't going; it has to stay so for the write.
fn admit_namespace(
    store: &Store,
    kind: &KindRef,
    object: &Value,
) -> Result<Option<Compare>, Status> {
    if !kind.namespaced() {
        return Ok(None);
    }
    let namespace = meta::namespace(object);
    let Some(namespaces) = kinds::by_resource("", "v1", "namespaces") else {
        return Ok(None);
    };
    let found = registry::get(store, &namespaces, "", namespace)?;
    if meta::text(&found.object, &["status", "phase"]) == "Terminating" {
        let name = meta::name(object);
        let mut status = Status::forbidden(
            kind.resource(),
            name,
            &format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            ),
        );
        if let Some(details) = &mut status.details {
            details["causes"] = serde_json::json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        return Err(status);
    }
    Ok(Some(Compare {
        key: registry::key(&namespaces, "", namespace),
        mod_revision: found.revision,
    }))
}

/// Five characters that spell no word, after at most 58 of the prefix.
fn generate_name(prefix: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const PREFIX_MAX: usize = 58;
    let cut: String = prefix.chars().take(PREFIX_MAX).collect();
    let random = uuid::Uuid::new_v4();
    let suffix: String = random
        .as_bytes()
        .iter()
        .take(5)
        .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
        .collect();
    cut + &suffix
}

/// An object that has to be there, made if it isn't.
pub(crate) async fn ensure(store: &Store, kind: &KindRef, object: Value) -> Result<(), Status> {
    match create_object(store, kind, object, false, Timestamp::now()).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        Err(status) => Err(status),
    }
}

/// The revision that a client's resourceVersion names.
pub(crate) fn parse_revision(
    resource: Qualified<'_>,
    name: &str,
    text: &str,
) -> Result<Revision, Status> {
    text.parse().map(Revision).map_err(|_| {
        Status::new(
            422,
            "Invalid",
            format!(
                "{resource} {name:?} is invalid: metadata.resourceVersion: Invalid value: {text:?}: must be an unsigned integer"
            ),
        )
    })
}

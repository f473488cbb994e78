//! Create: decode, admit, default, validate, write; `generateName` too.

use super::options::{self, Verb};
use super::{Answer, Call, body};
use crate::admission::{Also, Operation};
use crate::registry::{self, After, Along, Written};
use crate::{respond, services};
use api::field::Errors;
use api::kinds::{self, KindRef, Subresource};
use api::managed::{Endpoint, Writer};
use api::meta;
use api::pick::Paths;
use api::status::{Qualified, Status};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::LazyLock;
use store::{Compare, Revision, Store};

/// Generated names that may collide before the client hears of it.
const NAME_ATTEMPTS: usize = 8;
/// Times that what a write relies on may change: its namespace, what a Service
/// was to be given.
const MEANWHILE_ATTEMPTS: usize = 64;

pub(crate) async fn create(call: Call) -> Answer {
    let options = options::read(&call, Verb::Create)?;
    let decoded = body::object(&call, &call.kind, options.strictness)?;
    let (mut object, mut warnings) = (decoded.object, decoded.warnings);
    body::settle_namespace(&mut object, &call.kind, &call.route.namespace)?;
    warnings.extend(body::dedup_owners(&mut object, false));
    if call.kind.has(Subresource::Approval) {
        kinds::stamp_requester(&mut object, &call.user.info());
    }
    let how = Creation {
        dry_run: options.dry_run,
        manager: Some(&options.manager),
        now: call.now,
        by: Some(&call),
    };
    let created = create_object(&call.store, &call.kind, object, &how).await?;
    let mut response = call.after(201, created);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// How an object is made.
#[derive(Clone, Copy)]
pub(crate) struct Creation<'a> {
    pub(crate) dry_run: bool,
    /// Who owns what it says; `None`: the object says who.
    pub(crate) manager: Option<&'a str>,
    pub(crate) now: Timestamp,
    /// The request, for admission; `None`: the server itself makes it.
    pub(crate) by: Option<&'a Call>,
}

impl Creation<'_> {
    /// What the server makes by itself.
    pub(crate) fn by_server() -> Creation<'static> {
        Creation {
            dry_run: false,
            manager: Some("kube-apiserver"),
            now: Timestamp::now(),
            by: None,
        }
    }
}

/// Makes `object`, whose apiVersion, kind and namespace are settled.
pub(crate) async fn create_object(
    store: &Store,
    kind: &KindRef,
    mut object: Value,
    how: &Creation<'_>,
) -> Result<After, Status> {
    let generate = meta::text(&object, &["metadata", "generateName"]).to_owned();
    let generated = meta::name(&object).is_empty() && !generate.is_empty();
    if !matches!(meta::resource_version(&object), "" | "0") {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Status::new(500, "", why));
    }
    meta::ensure_metadata(&mut object).shift_remove("resourceVersion");
    wipe(&mut object);
    kind.default(&mut object);
    if let Some(manager) = how.manager {
        own(kind, &mut object, manager, how.now);
    }
    if let Some(call) = how.by {
        admit_namespace(store, kind, &object)?;
        call.mutate(Operation::Create, &mut object, None).await?;
        // What no client may set, no webhook may either.
        wipe(&mut object);
    }
    fill(&mut object, how.now);
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
        let mut along = services::plan(store, kind, &mut object, None, how.now)?;
        along.compare.extend(namespace);
        check(kind, &object)?;
        let also = match how.by {
            Some(call) => call.admit(Operation::Create, &object, None).await?,
            None => Also::default(),
        };
        also.join(&mut along);
        let name = meta::name(&object).to_owned();
        match commit(store, kind, object, along, how).await? {
            Made::Done(after) => return Ok(after),
            Made::Taken => {
                attempts -= 1;
                if !generated || attempts == 0 {
                    return Err(taken(kind, &name, !generate.is_empty()));
                }
            }
            // What the write relies on changed meanwhile: look again.
            Made::Foiled => {
                meanwhile -= 1;
                if meanwhile == 0 {
                    return Err(Status::unavailable("the namespace is changing too fast"));
                }
            }
        }
    }
}

/// What became of one try.
enum Made {
    Done(After),
    /// The name is taken.
    Taken,
    /// What the write relies on changed.
    Foiled,
}

async fn commit(
    store: &Store,
    kind: &KindRef,
    mut object: Value,
    along: Along,
    how: &Creation<'_>,
) -> Result<Made, Status> {
    let (in_namespace, name) = (meta::namespace(&object), meta::name(&object));
    if how.dry_run {
        let found = registry::get(store, kind, in_namespace, name);
        return Ok(match found {
            Ok(_) => Made::Taken,
            Err(_) => Made::Done(After::unstored(object)),
        });
    }
    let key = registry::key(kind, in_namespace, name);
    let mut value = registry::encode(kind, &object)?;
    let mut written = registry::create(store, key.clone(), value.clone(), along.clone()).await;
    if written.as_ref().is_err_and(|e| e.code == 413) {
        // Ownership can be what makes an object too large: better none.
        meta::ensure_metadata(&mut object).shift_remove("managedFields");
        value = registry::encode(kind, &object)?;
        written = registry::create(store, key, value.clone(), along).await;
    }
    Ok(match written? {
        Written::At(revision) => Made::Done(After::written(object, value, revision)),
        Written::Lost(current) if matches!(current.first(), Some(Some(_))) => Made::Taken,
        Written::Lost(_) => Made::Foiled,
    })
}

fn taken(kind: &KindRef, name: &str, generate: bool) -> Status {
    let mut status = Status::already_exists(kind.resource(), name);
    if generate {
        status.message += ", the server was not able to generate a unique name for the object";
        if let Some(details) = &mut status.details {
            details["retryAfterSeconds"] = 1.into();
        }
    }
    status
}

/// What no client may set.
fn wipe(object: &mut Value) {
    let metadata = meta::ensure_metadata(object);
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.shift_remove(key);
    }
}

/// Whoever makes an object owns what it says.
fn own(kind: &KindRef, object: &mut Value, manager: &str, now: Timestamp) {
    let endpoint = Endpoint {
        kind,
        subresource: "",
    };
    let writer = Writer {
        manager,
        version: &kind.api_version(),
        subresource: "",
        time: &api::time::rfc3339(now),
    };
    endpoint.track(None, object, &writer);
}

/// What the server alone decides of a new object.
fn fill(object: &mut Value, now: Timestamp) {
    let metadata = meta::ensure_metadata(object);
    metadata.shift_remove("generation");
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
    static NAMESPACES: LazyLock<Option<(KindRef, Paths)>> = LazyLock::new(|| {
        let mut paths = Paths::default();
        paths.add(&["status", "phase"]);
        Some((kinds::by_resource("", "v1", "namespaces")?, paths))
    });
    let Some((namespaces, paths)) = &*NAMESPACES else {
        return Ok(None);
    };
    let (found, revision) = registry::part(store, namespaces, ("", namespace), paths)?;
    if meta::text(&found, &["status", "phase"]) == "Terminating" {
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
        key: registry::key(namespaces, "", namespace),
        mod_revision: revision,
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
    match create_object(store, kind, object, &Creation::by_server()).await {
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

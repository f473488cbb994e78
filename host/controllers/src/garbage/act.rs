//! Carries out what the graph decided, on what the API shows now: a plan that
//! is out of date changes nothing and is made again.

use super::Classes;
use super::graph::{Action, FOREGROUND, ORPHAN, Object, Owner};
use super::watch::read;
use crate::recorder::{Report, Reporter};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::{Client, ClientError, DeleteOptions, Patch, Propagation};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) enum Outcome {
    Done,
    /// Something failed, or changed meanwhile.
    Again,
    Look(Vec<Arc<str>>),
    /// These owners are not in that namespace.
    Absent(Vec<Arc<str>>, String),
}

pub(super) async fn act(
    client: &Client,
    classes: &Classes,
    instance: &str,
    action: Action,
    misplaced: &[Owner],
) -> Outcome {
    let done = match action {
        Action::Nothing => Ok(Outcome::Done),
        Action::After(others) => Ok(Outcome::Look(others)),
        Action::LookUp(object, owners) => {
            if !misplaced.is_empty() {
                warn_of(client, instance, &object, misplaced).await;
            }
            look_up(client, classes, &object, &owners).await
        }
        Action::Release(object, owners) => release(client, &object, &owners).await,
        Action::Delete {
            object,
            foreground,
            unblock,
        } => delete(client, &object, foreground, unblock).await,
        Action::Orphan(owner, dependents) => orphan(client, &owner, &dependents).await,
        Action::Finish(object) => take_off(client, &object, FOREGROUND).await,
    };
    match done {
        Ok(outcome) => outcome,
        Err(error) if error.is_not_found() => Outcome::Done,
        Err(error) => {
            if !error.is_conflict() {
                log::warn!("garbage collection: {error}");
            }
            Outcome::Again
        }
    }
}

/// The object as it stands; `None` if it went or another one has its name.
async fn current(client: &Client, object: &Object) -> Result<Option<Value>, ClientError> {
    let key = &object.key;
    let found = client.get(&object.class.resource, key.namespace(), &key.name);
    match found.await {
        Ok(value) if value["metadata"]["uid"] == *object.uid => Ok(Some(value)),
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Upstream asks the API as well before it believes that an owner is gone.
async fn look_up(
    client: &Client,
    classes: &Classes,
    object: &Object,
    owners: &[Owner],
) -> Result<Outcome, ClientError> {
    let mut absent = Vec::new();
    for owner in owners {
        let Some(class) = classes.named(&owner.api_version, &owner.kind) else {
            // Nobody serves the kind; it may come yet.
            return Ok(Outcome::Again);
        };
        if class.resource.namespaced && object.key.namespace.is_empty() {
            // Upstream leaves such an object alone.
            return Ok(Outcome::Done);
        }
        let namespace = class
            .resource
            .namespaced
            .then_some(object.key.namespace.as_str());
        match client.get(&class.resource, namespace, &owner.name).await {
            Ok(found) if found["metadata"]["uid"] == *owner.uid => return Ok(Outcome::Again),
            Ok(_) => absent.push(owner.uid.clone()),
            Err(error) if error.is_not_found() => absent.push(owner.uid.clone()),
            Err(error) => return Err(error),
        }
    }
    Ok(Outcome::Absent(absent, object.key.namespace.clone()))
}

async fn warn_of(client: &Client, instance: &str, object: &Object, owners: &[Owner]) {
    let reporter = Reporter {
        component: "garbage-collector-controller",
        instance: instance.to_owned(),
    };
    let meta = ObjectMeta {
        name: Some(object.key.name.clone()),
        namespace: object.key.namespace().map(str::to_owned),
        uid: Some(object.uid.to_string()),
        ..ObjectMeta::default()
    };
    for owner in owners {
        let namespace = &object.key.namespace;
        let message = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        let resource = &object.class.resource;
        let api_version = match &*resource.group {
            "" => resource.version.to_string(),
            group => format!("{group}/{}", resource.version),
        };
        let report = Report {
            api_version: &api_version,
            kind: &object.class.kind,
            object: &meta,
            warning: true,
            reason: "OwnerRefInvalidNamespace",
            action: "Collecting",
            message: &message,
        };
        let event = reporter.event(&report, Timestamp::now());
        if let Err(error) = client.write(&event).await {
            log::warn!("garbage collection: {error}");
        }
    }
}

/// A patch of metadata that fails if the object has changed since `current`.
async fn patch(
    client: &Client,
    object: &Object,
    current: &Value,
    field: &str,
    value: Vec<Value>,
) -> Result<(), ClientError> {
    let value = match value.is_empty() {
        true => Value::Null,
        false => value.into(),
    };
    let body = json!({"metadata": {
        "uid": *object.uid,
        "resourceVersion": current["metadata"]["resourceVersion"],
        field: value,
    }});
    let (resource, key) = (&object.class.resource, &object.key);
    let patch = Patch::Merge(body);
    let done = client.patch(resource, key.namespace(), &key.name, None, &patch);
    done.await.map(drop)
}

fn listed<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    let list = object["metadata"][field].as_array();
    list.map(Vec::as_slice).unwrap_or_default()
}

async fn release(
    client: &Client,
    object: &Object,
    owners: &[Arc<str>],
) -> Result<Outcome, ClientError> {
    let Some(current) = current(client, object).await? else {
        return Ok(Outcome::Done);
    };
    let stays = |reference: &&Value| !owners.iter().any(|uid| reference["uid"] == **uid);
    let references = listed(&current, "ownerReferences");
    let kept: Vec<Value> = references.iter().filter(stays).cloned().collect();
    if kept.len() < references.len() {
        patch(client, object, &current, "ownerReferences", kept).await?;
    }
    Ok(Outcome::Done)
}

async fn delete(
    client: &Client,
    object: &Object,
    foreground: bool,
    unblock: bool,
) -> Result<Outcome, ClientError> {
    let Some(mut current) = current(client, object).await? else {
        return Ok(Outcome::Done);
    };
    let now = read(&object.class, &current);
    if now.is_none_or(|now| now.owners != object.owners || now.deleting) {
        // The event of that change brings it here again.
        return Ok(Outcome::Done);
    }
    if unblock {
        let free = |reference: &Value| {
            let mut reference = reference.clone();
            reference["blockOwnerDeletion"] = false.into();
            reference
        };
        let references = listed(&current, "ownerReferences")
            .iter()
            .map(free)
            .collect();
        patch(client, object, &current, "ownerReferences", references).await?;
        current = match self::current(client, object).await? {
            Some(current) => current,
            None => return Ok(Outcome::Done),
        };
    }
    let held = |by: &str| listed(&current, "finalizers").iter().any(|f| f == by);
    let propagation = match (held(ORPHAN), foreground) {
        (true, _) => Propagation::Orphan,
        (false, true) => Propagation::Foreground,
        (false, false) => Propagation::Background,
    };
    let version = current["metadata"]["resourceVersion"].as_str();
    let options = DeleteOptions {
        uid: Some(object.uid.to_string()),
        resource_version: version.map(str::to_owned),
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    let (resource, key) = (&object.class.resource, &object.key);
    client
        .delete(resource, key.namespace(), &key.name, &options)
        .await?;
    Ok(Outcome::Done)
}

async fn orphan(
    client: &Client,
    owner: &Object,
    dependents: &[Object],
) -> Result<Outcome, ClientError> {
    for dependent in dependents {
        match release(client, dependent, std::slice::from_ref(&owner.uid)).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    take_off(client, owner, ORPHAN).await
}

async fn take_off(
    client: &Client,
    object: &Object,
    finalizer: &str,
) -> Result<Outcome, ClientError> {
    let Some(current) = current(client, object).await? else {
        return Ok(Outcome::Done);
    };
    let finalizers = listed(&current, "finalizers");
    let kept: Vec<Value> = finalizers
        .iter()
        .filter(|f| *f != finalizer)
        .cloned()
        .collect();
    if kept.len() < finalizers.len() {
        patch(client, object, &current, "finalizers", kept).await?;
    }
    Ok(Outcome::Done)
}

//! The end of a namespace: everything in it is deleted, its pods first
//! (KEP-5080), and when nothing is left its finalizer `kubernetes` goes, with
//! which the API server removes it. Until then its conditions say what it waits
//! for.
//!
//! What there is to delete is read from discovery each time, so that kinds
//! that came later are not forgotten; a server of an aggregated API that doesn't
//! answer keeps the namespace, and the rest is deleted meanwhile.

mod conditions;
mod discovery;

use api::time::rfc3339;
use conditions::{Remaining, Trouble};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use reconcile::resource::core::{NAMESPACES, PODS};
use reconcile::{
    Backoff, Cache, Client, ClientError, DeleteOptions, ListOptions, ObjectKey, Propagation, Queue,
    Reflector, Requeue, Resource, Target, Write, work,
};
use serde_json::{Value, json};
use std::time::Duration;

const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(500),
    max: Duration::from_secs(60),
};
/// Until pods have ended gracefully and finalizers have gone.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const FINALIZER: &str = "kubernetes";
/// Objects listed at once.
const PAGE: u32 = 500;

/// Deletions of what is not yet being deleted.
pub(crate) fn deletions(resource: &Resource, items: &[Value]) -> Vec<Write> {
    let delete = |item: &Value| {
        let key = ObjectKey::of(item)?;
        let metadata = item.get("metadata")?;
        if metadata
            .get("deletionTimestamp")
            .is_some_and(|time| !time.is_null())
        {
            return None;
        }
        Some(Write::Delete {
            target: Target {
                resource: resource.clone(),
                namespace: Some(key.namespace),
                name: key.name,
            },
            options: DeleteOptions {
                uid: metadata
                    .get("uid")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                propagation: Some(Propagation::Background),
                ..DeleteOptions::default()
            },
        })
    };
    items.iter().filter_map(delete).collect()
}

/// Whether this controller has something to do for a namespace.
pub(crate) fn is_ending(namespace: &Namespace) -> bool {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.is_some_and(|all| all.iter().any(|f| f == FINALIZER))
}

/// The namespace without its finalizer.
pub(crate) fn finalize(namespace: &Namespace) -> Write {
    let finalizers = namespace
        .spec
        .as_ref()
        .and_then(|spec| spec.finalizers.clone());
    let others: Vec<_> = finalizers
        .into_iter()
        .flatten()
        .filter(|f| f != FINALIZER)
        .collect();
    let meta = &namespace.metadata;
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "spec": {"finalizers": others},
    });
    Write::UpdateSubresource {
        resource: NAMESPACES,
        namespace: None,
        subresource: "finalize",
        object,
    }
}

pub(crate) struct Ending {
    client: Client,
    namespaces: Cache<Namespace>,
    queue: Queue<ObjectKey>,
}

impl Ending {
    pub(crate) fn new(client: Client, namespaces: Cache<Namespace>) -> Ending {
        Ending {
            client,
            namespaces,
            queue: Queue::new(CAPACITY, BACKOFF),
        }
    }

    pub(crate) fn feed(&self, namespaces: Reflector<Namespace>) -> Reflector<Namespace> {
        let queue = self.queue.clone();
        namespaces.on_change(move |change| {
            if change
                .new
                .as_ref()
                .is_some_and(|namespace| is_ending(namespace))
            {
                queue.add(change.key.clone());
            }
        })
    }

    pub(crate) async fn run(&self) {
        work("namespace end", &self.queue, 4, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let Some(namespace) = self.namespaces.get(&key).filter(|ns| is_ending(ns)) else {
            return Ok(Requeue::Never);
        };
        let mut remaining = Remaining::default();
        let mut trouble = Trouble::default();
        let mut resources = Vec::new();
        // Nothing that a pod may need goes before it.
        self.empty(&PODS, &key.name, &mut remaining, &mut trouble)
            .await;
        if remaining.is_empty() && trouble.is_empty() {
            resources = discovery::resources(&self.client, &mut trouble).await?;
        }
        for resource in &resources {
            self.empty(resource, &key.name, &mut remaining, &mut trouble)
                .await;
        }
        if !remaining.is_empty() || !trouble.is_empty() {
            let now = rfc3339(Timestamp::now());
            if let Some(write) = conditions::write(&namespace, &remaining, &trouble, &now) {
                self.client.write(&write).await?;
            }
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        match self.client.write(&finalize(&namespace)).await {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(Requeue::Never),
        }
    }

    /// Deletes all objects; what stays is counted, what fails is told.
    async fn empty(
        &self,
        resource: &Resource,
        namespace: &str,
        remaining: &mut Remaining,
        trouble: &mut Trouble,
    ) {
        let left = match self.delete_all(resource, namespace).await {
            Ok(left) => left,
            Err(error) => return trouble.content.push(said(&error)),
        };
        remaining.add(resource, &left);
        let waits = |item: &Value| !item["metadata"]["finalizers"].is_null();
        // Pods end in their own time.
        if !left.is_empty() && *resource != PODS && !left.iter().any(waits) {
            let Resource {
                group,
                version,
                plural,
                ..
            } = resource;
            trouble.content.push(format!(
                "unexpected items still remain in namespace: {namespace} for gvr: {group}/{version}, Resource={plural}"
            ));
        }
    }

    /// What is left after everything was told to go.
    async fn delete_all(
        &self,
        resource: &Resource,
        namespace: &str,
    ) -> Result<Vec<Value>, ClientError> {
        let found = self.list(resource, namespace).await?;
        for write in deletions(resource, &found) {
            match self.client.write(&write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        match found.is_empty() {
            true => Ok(found),
            false => self.list(resource, namespace).await,
        }
    }

    async fn list(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>, ClientError> {
        let options = ListOptions {
            limit: Some(PAGE),
            ..ListOptions::default()
        };
        let listed = self.client.list_all(resource, Some(namespace), &options);
        match listed.await {
            Ok(list) => Ok(list.items),
            // A kind that went away meanwhile.
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// An error in the server's words, where it has said any.
fn said(error: &ClientError) -> String {
    match error.status() {
        Some(status) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        let items = [
            json!({"metadata": {"namespace": "n", "name": "a", "uid": "1"}}),
            json!({"metadata": {"namespace": "n", "name": "b",
                "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({}),
        ];
        let writes = deletions(&reconcile::resource::core::PODS, &items);
        let [Write::Delete { target, options }] = &writes[..] else {
            panic!("{writes:?}")
        };
        assert_eq!((&*target.name, options.uid.as_deref()), ("a", Some("1")));
    }

    #[test]
    fn only_the_own_finalizer_goes_and_only_at_the_end() {
        let time = "2026-01-01T00:00:00Z";
        for (namespace, ending, left) in [
            (
                json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}),
                false,
                0,
            ),
            (
                json!({"metadata": {"name": "n", "deletionTimestamp": time},
                    "spec": {"finalizers": ["x/y", "kubernetes"]}}),
                true,
                1,
            ),
            (
                json!({"metadata": {"name": "n", "deletionTimestamp": time},
                    "spec": {"finalizers": ["x/y"]}}),
                false,
                1,
            ),
        ] {
            let decoded: Namespace = serde_json::from_value(namespace.clone()).expect("a fixture");
            assert_eq!(is_ending(&decoded), ending, "{namespace}");
            let Write::UpdateSubresource { object, .. } = finalize(&decoded) else {
                panic!("another write")
            };
            let finalizers = object["spec"]["finalizers"].as_array();
            assert_eq!(finalizers.map(Vec::len), Some(left), "{namespace}");
        }
    }
}

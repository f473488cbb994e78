//! The end of a namespace: everything in it is deleted, its pods first
//! (KEP-5080), and when nothing is left its finalizer `kubernetes` goes, with
//! which the API server removes it. Until then its conditions say what it waits
//! for.
//!
//! What there is to delete is read from discovery each time, so that kinds
//! that came later are not forgotten.

mod conditions;

use api::time::rfc3339;
use conditions::Remaining;
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

/// The resources of a discovery document that hold objects of namespaces.
pub(crate) fn contents(document: &Value) -> Vec<Resource> {
    let text = |value: &Value, field| value.get(field)?.as_str().map(str::to_owned);
    let group_version = text(document, "groupVersion").unwrap_or_default();
    let (group, version) = group_version
        .split_once('/')
        .unwrap_or(("", &group_version));
    let listed = document.get("resources").and_then(Value::as_array);
    let keep = |entry: &Value| {
        let plural = text(entry, "name")?;
        let verbs = entry.get("verbs").and_then(Value::as_array)?;
        let has = |verb: &str| verbs.iter().any(|v| v == verb);
        let namespaced = entry.get("namespaced") == Some(&Value::Bool(true));
        let usable = namespaced && !plural.contains('/') && has("list") && has("delete");
        usable.then(|| Resource {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            plural: plural.into(),
            namespaced: true,
        })
    };
    listed.into_iter().flatten().filter_map(keep).collect()
}

/// The group versions of `/apis` to ask, each group's preferred one.
pub(crate) fn group_versions(groups: &Value) -> Vec<String> {
    let groups = groups.get("groups").and_then(Value::as_array);
    let preferred = |group: &Value| {
        let version = group.get("preferredVersion")?.get("groupVersion")?;
        version.as_str().map(str::to_owned)
    };
    groups.into_iter().flatten().filter_map(preferred).collect()
}

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
        // Nothing that a pod may need goes before it.
        self.empty(&PODS, &key.name, &mut remaining).await?;
        if remaining.is_empty() {
            for resource in self.resources().await? {
                self.empty(&resource, &key.name, &mut remaining).await?;
            }
        }
        if !remaining.is_empty() {
            let now = rfc3339(Timestamp::now());
            if let Some(write) = conditions::write(&namespace, &remaining, &now) {
                self.client.write(&write).await?;
            }
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        match self.client.write(&finalize(&namespace)).await {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(Requeue::Never),
        }
    }

    async fn resources(&self) -> Result<Vec<Resource>, ClientError> {
        let mut found = contents(&self.client.get_path("/api/v1").await?);
        for version in group_versions(&self.client.get_path("/apis").await?) {
            found.extend(contents(
                &self.client.get_path(&format!("/apis/{version}")).await?,
            ));
        }
        Ok(found)
    }

    /// Deletes all objects; what stays is counted.
    async fn empty(
        &self,
        resource: &Resource,
        namespace: &str,
        remaining: &mut Remaining,
    ) -> Result<(), ClientError> {
        let found = self.list(resource, namespace).await?;
        for write in deletions(resource, &found) {
            match self.client.write(&write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        if !found.is_empty() {
            remaining.add(resource, &self.list(resource, namespace).await?);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_tells_what_namespaces_hold() {
        let core = json!({"groupVersion": "v1", "resources": [
            {"name": "pods", "namespaced": true, "verbs": ["list", "delete", "get"]},
            {"name": "pods/status", "namespaced": true, "verbs": ["get", "list", "delete"]},
            {"name": "nodes", "namespaced": false, "verbs": ["list", "delete"]},
            {"name": "bindings", "namespaced": true, "verbs": ["create"]},
        ]});
        let found = contents(&core);
        assert_eq!(found, [Resource::namespaced("", "v1", "pods")]);
        let leases = json!({"groupVersion": "coordination.k8s.io/v1", "resources": [
            {"name": "leases", "namespaced": true, "verbs": ["list", "delete"]},
        ]});
        let expected = Resource::namespaced("coordination.k8s.io", "v1", "leases");
        assert_eq!(contents(&leases), [expected]);
        assert!(contents(&json!({"resources": 7})).is_empty());
        let groups = json!({"groups": [
            {"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}}, {}
        ]});
        assert_eq!(group_versions(&groups), ["apps/v1"]);
    }

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

//! Garbage collection on a real API server.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::Cluster;
use reconcile::resource::core::{CONFIG_MAPS, EVENTS, NAMESPACES, PODS, SECRETS};
use reconcile::{DeleteOptions, ListOptions, ObjectKey, Patch, Propagation, Resource};
use serde_json::{Value, json};
use std::time::Duration;

/// A name for what would else be a temporary.
const MAPS: &Resource = &CONFIG_MAPS;

impl Cluster {
    /// An object of a name with owners, each with `blockOwnerDeletion`.
    async fn make(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        owners: &[&Value],
    ) -> Value {
        let reference = |owner: &&Value| {
            json!({"apiVersion": "v1", "kind": owner["kind"], "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true})
        };
        let kind = if *resource == SECRETS {
            "Secret"
        } else {
            "ConfigMap"
        };
        let owners: Vec<Value> = owners.iter().map(reference).collect();
        let object = json!({"apiVersion": "v1", "kind": kind,
            "metadata": {"name": name, "ownerReferences": owners}});
        self.client
            .create(resource, Some(namespace), &object)
            .await
            .unwrap()
    }

    async fn delete(&self, name: &str, propagation: Propagation) {
        let options = DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let namespace = Some("default");
        self.client
            .delete(MAPS, namespace, name, &options)
            .await
            .unwrap();
    }

    async fn get(&self, resource: &Resource, name: &str) -> Option<Value> {
        match self.client.get(resource, Some("default"), name).await {
            Ok(found) => Some(found),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Until `good` says so of an object, or of its absence.
    async fn until(&self, resource: &Resource, name: &str, good: impl Fn(Option<&Value>) -> bool) {
        let mut last = None;
        for _ in 0..600 {
            last = self.get(resource, name).await;
            if good(last.as_ref()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{resource} {name}: {last:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_as_their_owners_deletion_says() {
    let c = Cluster::start().await;
    // In the background: the whole chain, over kinds; with another owner, only the reference.
    let a = c.make(&CONFIG_MAPS, "default", "a", &[]).await;
    let b = c.make(&SECRETS, "default", "b", &[&a]).await;
    c.make(&CONFIG_MAPS, "default", "c", &[&b]).await;
    let other = c.make(&CONFIG_MAPS, "default", "other", &[]).await;
    c.make(&CONFIG_MAPS, "default", "shared", &[&a, &other])
        .await;
    c.delete("a", Propagation::Background).await;
    c.until(&SECRETS, "b", |found| found.is_none()).await;
    c.until(&CONFIG_MAPS, "c", |found| found.is_none()).await;
    let one_owner = |found: Option<&Value>| {
        let owners = found.unwrap()["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.len() == 1)
    };
    c.until(&CONFIG_MAPS, "shared", one_owner).await;
    // Orphans lose their owner.
    c.delete("other", Propagation::Orphan).await;
    c.until(&CONFIG_MAPS, "other", |found| found.is_none())
        .await;
    c.until(&CONFIG_MAPS, "shared", |found| {
        found.unwrap()["metadata"].get("ownerReferences").is_none()
    })
    .await;
    // In the foreground the owner waits, here for a finalizer.
    let f = c.make(&CONFIG_MAPS, "default", "f", &[]).await;
    let held = c.make(&SECRETS, "default", "held", &[&f]).await;
    let finalizers =
        |list: Value| reconcile::Patch::Merge(json!({"metadata": {"finalizers": list}}));
    let patch = finalizers(json!(["example.com/hold"]));
    c.client
        .patch(&SECRETS, Some("default"), "held", None, &patch)
        .await
        .unwrap();
    drop(held);
    c.delete("f", Propagation::Foreground).await;
    c.until(&SECRETS, "held", |found| {
        found.unwrap()["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    assert!(c.get(&CONFIG_MAPS, "f").await.is_some());
    let patch = finalizers(Value::Null);
    c.client
        .patch(&SECRETS, Some("default"), "held", None, &patch)
        .await
        .unwrap();
    c.until(&CONFIG_MAPS, "f", |found| found.is_none()).await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_had_its_owner_goes_and_says_why() {
    let c = Cluster::start().await;
    let name = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}});
    c.client.create(&NAMESPACES, None, &name).await.unwrap();
    let far = c.make(&CONFIG_MAPS, "elsewhere", "far", &[]).await;
    c.make(&CONFIG_MAPS, "default", "stray", &[&far]).await;
    c.until(&CONFIG_MAPS, "stray", |found| found.is_none())
        .await;
    let mut reasons = Vec::new();
    for _ in 0..600 {
        let events = c
            .client
            .list(&EVENTS, Some("default"), &ListOptions::default())
            .await
            .unwrap();
        reasons = events.items.iter().map(|e| e["reason"].clone()).collect();
        if reasons.contains(&json!("OwnerRefInvalidNamespace")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        reasons.contains(&json!("OwnerRefInvalidNamespace")),
        "{reasons:?}"
    );
    let far = ObjectKey::of(&far).unwrap();
    assert!(
        c.client
            .get(&CONFIG_MAPS, far.namespace(), &far.name)
            .await
            .is_ok()
    );
    // A namespace takes everything with it.
    c.client
        .delete(&NAMESPACES, None, "elsewhere", &DeleteOptions::default())
        .await
        .unwrap();
    for _ in 0..600 {
        if c.client.get(&NAMESPACES, None, "elsewhere").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = c.client.get(&NAMESPACES, None, "elsewhere").await;
    assert!(gone.unwrap_err().is_not_found());
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_before_the_rest_of_their_namespace() {
    let c = Cluster::start().await;
    let name = json!({"metadata": {"name": "ordered"}});
    c.client.create(&NAMESPACES, None, &name).await.unwrap();
    let pod = json!({"metadata": {"name": "p", "finalizers": ["e2e.example.com/finalizer"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let inside = Some("ordered");
    c.client.create(&PODS, inside, &pod).await.unwrap();
    c.make(&CONFIG_MAPS, "ordered", "needed", &[]).await;
    c.client
        .delete(&NAMESPACES, None, "ordered", &DeleteOptions::default())
        .await
        .unwrap();
    let condition = |found: Option<&Value>, wanted: &str| {
        let conditions = found.and_then(|ns| ns["status"]["conditions"].as_array());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|c| c["type"] == wanted && c["status"] == "True")
    };
    c.until(&NAMESPACES, "ordered", |found| {
        condition(found, "NamespaceContentRemaining")
            && condition(found, "NamespaceFinalizersRemaining")
    })
    .await;
    let pod = c.client.get(&PODS, inside, "p").await.unwrap();
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let map = c.client.get(MAPS, inside, "needed").await.unwrap();
    assert_eq!(map["metadata"].get("deletionTimestamp"), None);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    c.client
        .patch(&PODS, inside, "p", None, &free)
        .await
        .unwrap();
    c.until(&NAMESPACES, "ordered", |found| found.is_none())
        .await;
    c.end().await;
}

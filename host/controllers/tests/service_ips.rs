//! ServiceCIDRs and IPAddresses on a real API server.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::Cluster;
use reconcile::resource::core::EVENTS;
use reconcile::{DeleteOptions, ListOptions, Patch, Resource};
use serde_json::{Value, json};
use std::time::Duration;

const CIDRS: Resource = Resource::cluster("networking.k8s.io", "v1", "servicecidrs");
const ADDRESSES: Resource = Resource::cluster("networking.k8s.io", "v1", "ipaddresses");
const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const NAMESPACE: Option<&str> = Some("default");
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

impl Cluster {
    /// Until the object, or its absence, is as wanted.
    async fn until(
        &self,
        resource: &Resource,
        name: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) {
        let mut last = None;
        for _ in 0..1200 {
            last = match self.client.get(resource, None, name).await {
                Ok(found) => Some(found),
                Err(error) if error.is_not_found() => None,
                Err(error) => panic!("{error}"),
            };
            if wanted(last.as_ref()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} is still {last:#?}");
    }

    async fn until_ready(&self, name: &str, state: &str, message: &str) {
        self.until(&CIDRS, name, |cidr| {
            cidr.is_some_and(|c| {
                let ready = &c["status"]["conditions"][0];
                ready["type"] == "Ready"
                    && ready["status"] == state
                    && ready["message"] == message
                    && c["metadata"]["finalizers"] == json!([FINALIZER])
            })
        })
        .await;
    }

    async fn service(&self, name: &str, ip: &str) -> Result<Value, reconcile::ClientError> {
        let service = json!({"metadata": {"name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
        self.client.create(&SERVICES, NAMESPACE, &service).await
    }

    async fn remove(&self, resource: &Resource, namespace: Option<&str>, name: &str) {
        let options = DeleteOptions::default();
        let removed = self.client.delete(resource, namespace, name, &options);
        removed.await.unwrap();
    }

    async fn has_event(&self, reason: &str) -> bool {
        let options = ListOptions::default();
        for _ in 0..200 {
            let all = self.client.list(&EVENTS, NAMESPACE, &options).await;
            if all.unwrap().items.iter().any(|e| e["reason"] == reason) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_goes_after_its_addresses() {
    let c = Cluster::start().await;
    c.until_ready("kubernetes", "True", "Kubernetes Service CIDR is ready")
        .await;
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}});
    c.client.create(&CIDRS, None, &more).await.unwrap();
    c.until_ready("more", "True", "Kubernetes Service CIDR is ready")
        .await;
    c.service("a", "10.200.0.7").await.unwrap();
    c.remove(&CIDRS, None, "more").await;
    c.until_ready("more", "False", "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR").await;
    // Nothing is given out of it any more.
    let refused = c.service("b", "10.200.0.8").await.unwrap_err();
    let refused = refused.status().unwrap();
    assert_eq!(refused.code, 422);
    assert!(
        refused.message.contains("is not in the valid range"),
        "{}",
        refused.message
    );
    c.remove(&SERVICES, NAMESPACE, "a").await;
    c.until(&CIDRS, "more", |cidr| cidr.is_none()).await;
    // One that isn't ready gives nothing out either.
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.201.0.0/24"]}});
    c.client.create(&CIDRS, None, &more).await.unwrap();
    c.until_ready("more", "True", "Kubernetes Service CIDR is ready")
        .await;
    c.service("c", "10.201.0.8").await.unwrap();
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_and_addresses_name_each_other_again() {
    let c = Cluster::start().await;
    c.service("a", "10.96.0.77").await.unwrap();
    c.remove(&ADDRESSES, None, "10.96.0.77").await;
    let names = |name: &'static str| {
        move |address: Option<&Value>| {
            address.is_some_and(|a| a["spec"]["parentRef"]["name"] == name)
        }
    };
    c.until(&ADDRESSES, "10.96.0.77", names("a")).await;
    assert!(c.has_event("ClusterIPNotAllocated").await);
    // An address that claims a Service which doesn't hold it.
    let false_one = json!({
        "metadata": {"name": "10.96.0.78", "labels": {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "a"}},
    });
    c.client.create(&ADDRESSES, None, &false_one).await.unwrap();
    c.until(&ADDRESSES, "10.96.0.78", |address| address.is_none())
        .await;
    assert!(c.has_event("IPAddressWrongReference").await);
    // One that somebody else manages is left alone.
    let mut others = false_one;
    others["metadata"]["labels"] = json!({});
    c.client.create(&ADDRESSES, None, &others).await.unwrap();
    // One whose labels were taken off is made anew.
    let patch = Patch::Merge(json!({"metadata": {"labels": null}}));
    let client = &c.client;
    client
        .patch(&ADDRESSES, None, "10.96.0.77", None, &patch)
        .await
        .unwrap();
    c.until(&ADDRESSES, "10.96.0.77", |address| {
        address
            .is_some_and(|a| a["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv4")
    })
    .await;
    c.until(&ADDRESSES, "10.96.0.78", |address| address.is_some())
        .await;
    c.end().await;
}

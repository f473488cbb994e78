//! Endpoints and EndpointSlices on a real API server, as upstream's
//! conformance tests want them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::Cluster;
use reconcile::resource::core::PODS;
use reconcile::{DeleteOptions, ListOptions, Resource};
use serde_json::{Value, json};
use std::time::Duration;

const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const ENDPOINTS: Resource = Resource::namespaced("", "v1", "endpoints");
const SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");
const NAMESPACE: Option<&str> = Some("default");

impl Cluster {
    async fn make(&self, resource: &Resource, object: Value) -> Value {
        self.client
            .create(resource, NAMESPACE, &object)
            .await
            .unwrap()
    }

    async fn remove(&self, resource: &Resource, name: &str) {
        let options = DeleteOptions::default();
        self.client
            .delete(resource, NAMESPACE, name, &options)
            .await
            .unwrap();
    }

    async fn slices(&self, service: &str) -> Vec<Value> {
        let options = ListOptions {
            label_selector: Some(format!("kubernetes.io/service-name={service}")),
            ..ListOptions::default()
        };
        self.client
            .list(&SLICES, NAMESPACE, &options)
            .await
            .unwrap()
            .items
    }

    async fn endpoints(&self, service: &str) -> Option<Value> {
        match self.client.get(&ENDPOINTS, NAMESPACE, service).await {
            Ok(found) => Some(found),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Until Endpoints and slices of a Service are as wanted.
    async fn until(&self, service: &str, wanted: impl Fn(Option<&Value>, &[Value]) -> bool) {
        let mut last = None;
        for _ in 0..600 {
            let found = (self.endpoints(service).await, self.slices(service).await);
            if wanted(found.0.as_ref(), &found.1) {
                return;
            }
            last = Some(found);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{service}: {last:#?}");
    }

    async fn running(&self, name: &str, label: &str, port: i32, ip: &str) {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": label}},
            "spec": {"containers": [{"name": "c", "image": "i",
                "ports": [{"name": "web", "containerPort": port}]}]},
        });
        let mut pod = self.make(&PODS, pod).await;
        pod["status"] = json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]});
        // The scheduler says in between that there is no node.
        pod["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        self.client
            .update_status(&PODS, NAMESPACE, &pod)
            .await
            .unwrap();
    }
}

fn service(name: &str, selector: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": selector,
        "ports": [{"name": "example", "port": 80, "targetPort": "web"}]}})
}

/// The addresses of all slices, sorted.
fn addresses(slices: &[Value]) -> Vec<&str> {
    let endpoints = slices
        .iter()
        .flat_map(|s| s["endpoints"].as_array().into_iter().flatten());
    let mut all: Vec<&str> = endpoints
        .flat_map(|e| e["addresses"].as_array().unwrap())
        .map(|a| a.as_str().unwrap())
        .collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_nobody_matches_has_empty_endpoints_until_it_goes() {
    let c = Cluster::start().await;
    c.make(&SERVICES, service("empty", json!({"app": "nothing"})))
        .await;
    c.until("empty", |endpoints, slices| {
        endpoints.is_some() && slices.len() == 1 && addresses(slices).is_empty()
    })
    .await;
    let slice = &c.slices("empty").await[0];
    let manager = &slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    assert_eq!(manager, "endpointslice-controller.k8s.io");
    c.remove(&SERVICES, "empty").await;
    c.until("empty", |endpoints, slices| {
        endpoints.is_none() && slices.is_empty()
    })
    .await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_those_of_the_pods_that_match() {
    let c = Cluster::start().await;
    c.running("one", "web", 3000, "10.1.0.1").await;
    c.running("two", "web", 3001, "10.1.0.2").await;
    c.running("other", "db", 3000, "10.1.0.3").await;
    c.make(&SERVICES, service("web", json!({"app": "web"})))
        .await;
    let both = |endpoints: Option<&Value>, slices: &[Value]| {
        let subsets = endpoints.and_then(|e| e["subsets"].as_array());
        // Each pod has its own number of the port: two slices, two subsets.
        subsets.is_some_and(|s| s.len() == 2)
            && slices.len() == 2
            && addresses(slices) == ["10.1.0.1", "10.1.0.2"]
    };
    c.until("web", both).await;
    // What is taken away is made again.
    for slice in c.slices("web").await {
        c.remove(&SLICES, slice["metadata"]["name"].as_str().unwrap())
            .await;
    }
    c.remove(&ENDPOINTS, "web").await;
    c.until("web", both).await;
    c.client
        .delete(
            &PODS,
            NAMESPACE,
            "two",
            &DeleteOptions {
                grace_period_seconds: Some(0),
                ..DeleteOptions::default()
            },
        )
        .await
        .unwrap();
    c.until("web", |endpoints, slices| {
        let subsets = endpoints.and_then(|e| e["subsets"].as_array());
        subsets.is_some_and(|s| s.len() == 1) && addresses(slices) == ["10.1.0.1"]
    })
    .await;
    c.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_kept_by_hand_are_mirrored() {
    let c = Cluster::start().await;
    c.make(&SERVICES, service("custom", Value::Null)).await;
    let endpoints = |ip: &str| {
        json!({"metadata": {"name": "custom"},
        "subsets": [{"ports": [{"port": 80}], "addresses": [{"ip": ip}]}]})
    };
    c.make(&ENDPOINTS, endpoints("10.1.2.3")).await;
    c.until("custom", |_, slices| addresses(slices) == ["10.1.2.3"])
        .await;
    let slice = &c.slices("custom").await[0];
    assert_eq!(slice["ports"][0]["port"], 80);
    let changed = endpoints("10.2.3.4");
    c.client
        .update(&ENDPOINTS, NAMESPACE, &changed)
        .await
        .unwrap();
    c.until("custom", |_, slices| {
        slices.len() == 1 && addresses(slices) == ["10.2.3.4"]
    })
    .await;
    c.remove(&ENDPOINTS, "custom").await;
    c.until("custom", |_, slices| slices.is_empty()).await;
    // Endpoints that no Service asks for stay as they are.
    let mut alone = endpoints("10.3.4.5");
    alone["metadata"]["name"] = "alone".into();
    c.make(&ENDPOINTS, alone).await;
    c.make(&ENDPOINTS, endpoints("10.4.5.6")).await;
    c.until("custom", |_, slices| addresses(slices) == ["10.4.5.6"])
        .await;
    c.remove(&SERVICES, "custom").await;
    c.until("custom", |endpoints, slices| {
        endpoints.is_none() && slices.is_empty()
    })
    .await;
    assert!(c.endpoints("alone").await.is_some());
    c.end().await;
}

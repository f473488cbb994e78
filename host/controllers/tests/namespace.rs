//! The end of a namespace on a real API server, with an extension server that
//! doesn't answer.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::Cluster;
use reconcile::resource::core::{CONFIG_MAPS, NAMESPACES};
use reconcile::{DeleteOptions, ListOptions, Resource};
use serde_json::{Value, json};
use std::time::Duration;

const SERVICES: Resource = Resource::cluster("apiregistration.k8s.io", "v1", "apiservices");

impl Cluster {
    async fn namespace(&self) -> Option<Value> {
        match self.client.get(&NAMESPACES, None, "n").await {
            Ok(found) => Some(found),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Until what asks extension servers has found none.
    async fn until_unavailable(&self) {
        let mut last = Value::Null;
        for _ in 0..600 {
            let found = self.client.get(&SERVICES, None, "v1.ext.example.com").await;
            last = found.unwrap();
            if last["status"]["conditions"][0]["reason"] == "ServiceNotFound" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{last:#}");
    }

    async fn until(&self, wanted: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let mut last = None;
        for _ in 0..600 {
            last = self.namespace().await;
            if wanted(last.as_ref()) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{last:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_keeps_a_namespace_that_is_emptied_meanwhile() {
    let c = Cluster::start().await;
    let service = json!({"metadata": {"name": "v1.ext.example.com"}, "spec": {
        "group": "ext.example.com", "version": "v1",
        "groupPriorityMinimum": 100, "versionPriority": 10, "insecureSkipTLSVerify": true,
        "service": {"namespace": "default", "name": "ext"},
    }});
    c.client.create(&SERVICES, None, &service).await.unwrap();
    c.until_unavailable().await;
    let namespace = json!({"metadata": {"name": "n"}});
    c.client
        .create(&NAMESPACES, None, &namespace)
        .await
        .unwrap();
    let map = json!({"metadata": {"name": "m"}});
    let made = c.client.create(&CONFIG_MAPS, Some("n"), &map).await;
    made.unwrap();
    let options = DeleteOptions::default();
    let deleted = c.client.delete(&NAMESPACES, None, "n", &options).await;
    deleted.unwrap();
    let found = c
        .until(|n| {
            n.is_some_and(|n| {
                let failure = &n["status"]["conditions"][0];
                failure["type"] == "NamespaceDeletionDiscoveryFailure"
                    && failure["status"] == "True"
            })
        })
        .await;
    let conditions = found.unwrap()["status"]["conditions"].clone();
    assert_eq!(conditions[0]["reason"], "DiscoveryFailed");
    assert_eq!(
        conditions[0]["message"],
        "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: ext.example.com/v1: stale GroupVersion discovery: ext.example.com/v1"
    );
    assert_eq!(conditions[1]["status"], "False");
    let client = &c.client;
    let all = ListOptions::default();
    let maps = client.list(&CONFIG_MAPS, Some("n"), &all).await;
    assert_eq!(maps.unwrap().items.len(), 0);
    client
        .delete(&SERVICES, None, "v1.ext.example.com", &options)
        .await
        .unwrap();
    c.until(|n| n.is_none()).await;
    c.end().await;
}

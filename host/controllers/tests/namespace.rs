//! The end of a namespace on a real API server, with an extension server that
//! doesn't answer, and with one that does: another Atoll with a definition.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cluster;

use cluster::Cluster;
use reconcile::resource::core::{CONFIG_MAPS, NAMESPACES};
use reconcile::{Client, DeleteOptions, Kubeconfig, ListOptions, Patch, Resource, TlsTransport};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

const SERVICES: Resource = Resource::cluster("apiregistration.k8s.io", "v1", "apiservices");

impl Cluster {
    async fn namespace(&self) -> Option<Value> {
        match self.client.get(&NAMESPACES, None, "n").await {
            Ok(found) => Some(found),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Until what asks extension servers says so.
    async fn until_extension(&self, reason: &str) {
        let mut last = Value::Null;
        for _ in 0..600 {
            let found = self.client.get(&SERVICES, None, "v1.ext.example.com").await;
            last = found.unwrap();
            if last["status"]["conditions"][0]["reason"] == reason {
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

fn extension() -> Value {
    json!({"metadata": {"name": "v1.ext.example.com"}, "spec": {
        "group": "ext.example.com", "version": "v1",
        "groupPriorityMinimum": 100, "versionPriority": 10, "insecureSkipTLSVerify": true,
        "service": {"namespace": "default", "name": "ext"},
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_keeps_a_namespace_that_is_emptied_meanwhile() {
    let c = Cluster::start().await;
    c.client
        .create(&SERVICES, None, &extension())
        .await
        .unwrap();
    c.until_extension("ServiceNotFound").await;
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

/// Every Service is a port of this machine.
struct Leading(AtomicU16);

impl apiserver::Dialer for Leading {
    fn connect<'a>(&'a self, _: &'a apiserver::Destination) -> apiserver::Connecting<'a> {
        Box::pin(async {
            let stream = TcpStream::connect(("127.0.0.1", self.0.load(Ordering::SeqCst))).await?;
            Ok(Box::new(stream) as Box<dyn apiserver::Stream>)
        })
    }
}

const DEFINITIONS: Resource =
    Resource::cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions");
const NOTES: Resource = Resource::namespaced("ext.example.com", "v1", "notes");

fn definition() -> Value {
    json!({"metadata": {"name": "notes.ext.example.com"}, "spec": {
        "group": "ext.example.com", "scope": "Namespaced",
        "names": {"plural": "notes", "singular": "note", "kind": "Note"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
    }})
}

/// An API server that believes a front proxy, with notes in it.
async fn another(front_proxy: &Path, dir: &Path) -> (apiserver::Running, Client) {
    let config = json!({"listen": ["127.0.0.1:0"], "dataDir": dir, "requestHeader": {
        "clientCaFile": front_proxy,
        "usernameHeaders": ["X-Remote-User"], "groupHeaders": ["X-Remote-Group"],
        "extraHeadersPrefix": ["X-Remote-Extra-"],
    }});
    let config = serde_json::from_value(config).unwrap();
    let running = apiserver::run(config).await.unwrap();
    let kubeconfig = Kubeconfig::parse(running.kubeconfig(), dir).unwrap();
    let client = Client::new(Arc::new(TlsTransport::new(&kubeconfig).unwrap()));
    let made = client.create(&DEFINITIONS, None, &definition()).await;
    made.unwrap();
    let namespace = json!({"metadata": {"name": "n"}});
    let made = client.create(&NAMESPACES, None, &namespace).await;
    made.unwrap();
    (running, client)
}

/// All that makes the other server an extension of `c`, and two notes in it.
async fn extend(c: &Cluster) {
    let client = &c.client;
    let services = Resource::namespaced("", "v1", "services");
    let slices = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");
    let service = json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"port": 443}]}});
    let slice = json!({
        "metadata": {"name": "ext-1", "labels": {"kubernetes.io/service-name": "ext"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 443}],
        "endpoints": [{"addresses": ["10.9.9.9"], "conditions": {"ready": true}}],
    });
    for (resource, object) in [(&services, service), (&slices, slice)] {
        let made = client.create(resource, Some("default"), &object).await;
        made.unwrap();
    }
    client.create(&SERVICES, None, &extension()).await.unwrap();
    c.until_extension("Passed").await;
    let namespace = json!({"metadata": {"name": "n"}});
    let made = client.create(&NAMESPACES, None, &namespace).await;
    made.unwrap();
    for (name, finalizers) in [("free", json!([])), ("held", json!(["x.example.com/hold"]))] {
        let note = json!({"apiVersion": "ext.example.com/v1", "kind": "Note",
            "metadata": {"name": name, "finalizers": finalizers}});
        client.create(&NOTES, Some("n"), &note).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_extension_server_has_goes_with_its_namespace() {
    let leading = Arc::new(Leading(AtomicU16::new(0)));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let c = Cluster::start_in(dirs[0].path(), Some(leading.clone())).await;
    let front_proxy = dirs[0].path().join("pki/front-proxy/ca.crt");
    let (other, its) = another(&front_proxy, dirs[1].path()).await;
    leading
        .0
        .store(other.addresses()[0].port(), Ordering::SeqCst);
    extend(&c).await;
    let all = ListOptions::default();
    let notes = its.list(&NOTES, Some("n"), &all).await.unwrap().items;
    assert_eq!(notes.len(), 2);
    let options = DeleteOptions::default();
    let deleted = c.client.delete(&NAMESPACES, None, "n", &options).await;
    deleted.unwrap();
    let has = |n: &Value, kind: &str, message: &str| {
        let all = n["status"]["conditions"].as_array();
        let found = all.into_iter().flatten().find(|c| c["type"] == kind);
        found.is_some_and(|c| c["status"] == "True" && c["message"] == message)
    };
    c.until(|n| {
        n.is_some_and(|n| {
            has(
                n,
                "NamespaceContentRemaining",
                "Some resources are remaining: notes.ext.example.com has 1 resource instances",
            ) && has(
                n,
                "NamespaceFinalizersRemaining",
                "Some content in the namespace has finalizers remaining: x.example.com/hold in 1 resource instances",
            )
        })
    })
    .await;
    let notes = its.list(&NOTES, Some("n"), &all).await.unwrap().items;
    assert_eq!(notes.len(), 1);
    assert_eq!(notes[0]["metadata"]["name"], "held");
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let freed = c.client.patch(&NOTES, Some("n"), "held", None, &free).await;
    freed.unwrap();
    c.until(|n| n.is_none()).await;
    let notes = its.list(&NOTES, Some("n"), &all).await.unwrap().items;
    assert_eq!(notes.len(), 0);
    // What is only the other's stays its own.
    its.get(&NAMESPACES, None, "n").await.unwrap();
    c.end().await;
    other.stop().await.unwrap();
}

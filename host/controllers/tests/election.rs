//! Two processes on one API server: one leads.
#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use controllers::{Candidate, Clients, Config, Timing};
use http::{Request, Response};
use reconcile::resource::core::{LEASES, NAMESPACES, SERVICE_ACCOUNTS};
use reconcile::{Body, Client, Kubeconfig, TlsTransport, Transport, TransportError};
use serde_json::{Value, json};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A way to the server that can be cut: then nothing is answered.
struct Way {
    inner: Arc<dyn Transport>,
    cut: AtomicBool,
}

impl Transport for Way {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, TransportError>> + Send + '_>> {
        match self.cut.load(Ordering::Relaxed) {
            true => Box::pin(pending()),
            false => self.inner.send(request),
        }
    }
}

struct Process {
    way: Arc<Way>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Server {
    running: apiserver::Running,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"listen": ["127.0.0.1:0"], "dataDir": dir.path()});
        let config = serde_json::from_value(config).unwrap();
        let running = apiserver::run(config).await.unwrap();
        let kubeconfig = Kubeconfig::parse(running.kubeconfig(), dir.path()).unwrap();
        let client = Client::new(Arc::new(TlsTransport::new(&kubeconfig).unwrap()));
        Server {
            running,
            client,
            _dir: dir,
        }
    }

    fn process(&self, identity: &str) -> Process {
        let user = apiserver::User::controllers();
        let way = Arc::new(Way {
            inner: self.running.server().local_transport(user),
            cut: AtomicBool::new(false),
        });
        let candidate = Candidate {
            identity: identity.to_owned(),
            timing: Timing {
                lease: Duration::from_secs(2),
                renew: Duration::from_secs(1),
                retry: Duration::from_millis(100),
            },
        };
        let config = Config {
            candidate: Some(candidate),
            ..Config::new("ca")
        };
        let clients = Clients::from(Client::new(way.clone()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(controllers::run(clients, config, async {
            drop(stopped.await);
        }));
        Process { way, stop, task }
    }

    async fn lease(&self) -> Value {
        let name = "atoll-controllers";
        let found = self.client.get(&LEASES, Some("kube-system"), name).await;
        found.map_or(Value::Null, |lease| lease["spec"].clone())
    }

    /// Waits for the holder, and gives the Lease's spec.
    async fn until_leads(&self, identity: &str) -> Value {
        for _ in 0..300 {
            let spec = self.lease().await;
            if spec["holderIdentity"] == identity {
                return spec;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{identity} doesn't lead: {}", self.lease().await);
    }

    /// Waits for the controllers to do something.
    async fn controllers_work(&self, namespace: &str) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        self.client
            .create(&NAMESPACES, None, &object)
            .await
            .unwrap();
        for _ in 0..300 {
            let account = self
                .client
                .get(&SERVICE_ACCOUNTS, Some(namespace), "default")
                .await;
            if account.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody works");
    }
}

#[tokio::test]
async fn a_leader_that_stops_gives_the_lead_back() {
    let server = Server::start().await;
    let first = server.process("first");
    assert_eq!(server.until_leads("first").await["leaseTransitions"], 0);
    let second = server.process("second");
    server.controllers_work("one").await;
    assert_eq!(server.lease().await["holderIdentity"], "first");
    drop(first.stop);
    first.task.await.unwrap();
    assert_eq!(server.lease().await["holderIdentity"], "");
    assert_eq!(server.until_leads("second").await["leaseTransitions"], 1);
    server.controllers_work("two").await;
    drop(second.stop);
    second.task.await.unwrap();
    server.running.stop().await.unwrap();
}

#[tokio::test]
async fn one_that_is_cut_off_is_succeeded_and_comes_back_as_a_candidate() {
    let server = Server::start().await;
    let first = server.process("first");
    server.until_leads("first").await;
    let second = server.process("second");
    first.way.cut.store(true, Ordering::Relaxed);
    let spec = server.until_leads("second").await;
    assert_eq!(spec["leaseTransitions"], 1);
    first.way.cut.store(false, Ordering::Relaxed);
    server.controllers_work("one").await;
    // It doesn't take the lead from one that renews.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(server.lease().await["holderIdentity"], "second");
    second.task.abort();
    let spec = server.until_leads("first").await;
    assert_eq!(spec["leaseTransitions"], 2);
    drop(first.stop);
    first.task.await.unwrap();
    server.running.stop().await.unwrap();
}

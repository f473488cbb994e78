//! A real API server and all controllers on it, in one process.

use reconcile::{Client, Kubeconfig, TlsTransport};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

pub(crate) struct Cluster {
    pub(crate) client: Client,
    running: apiserver::Running,
    stop: tokio::sync::oneshot::Sender<()>,
    controllers: tokio::task::JoinHandle<()>,
    _dir: Option<tempfile::TempDir>,
}

impl Cluster {
    pub(crate) async fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start_in(dir.path(), None).await;
        cluster._dir = Some(dir);
        cluster
    }

    /// With its files below `dir`, and another way to Services.
    pub(crate) async fn start_in(
        dir: &Path,
        dialer: Option<Arc<dyn apiserver::Dialer>>,
    ) -> Cluster {
        let config = json!({"listen": ["127.0.0.1:0"], "dataDir": dir});
        let config = serde_json::from_value(config).unwrap();
        let running = apiserver::run_through(config, dialer).await.unwrap();
        let user = apiserver::User::controllers();
        let controllers_client = Client::new(running.server().local_transport(user));
        let kubeconfig = Kubeconfig::parse(running.kubeconfig(), dir).unwrap();
        let client = Client::new(Arc::new(TlsTransport::new(&kubeconfig).unwrap()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let controllers = tokio::spawn(controllers::run(
            controllers_client,
            controllers::Config::new("ca"),
            async { drop(stopped.await) },
        ));
        Cluster {
            client,
            running,
            stop,
            controllers,
            _dir: None,
        }
    }

    pub(crate) async fn end(self) {
        drop(self.stop);
        self.controllers.await.unwrap();
        self.running.stop().await.unwrap();
    }
}

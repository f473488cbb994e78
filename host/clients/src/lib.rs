//! A server for a session of somebody's client: the API server alone, in this
//! process, at an address of its own, told of by a kubeconfig as an operator
//! would hand it out. The sessions are the tests.

use std::io;
use std::path::PathBuf;

use apiserver::Running;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Ends with its value.
pub struct Server {
    runtime: Runtime,
    running: Option<Running>,
    directory: TempDir,
}

impl Server {
    /// With a new store.
    ///
    /// # Errors
    /// What the runtime, the directory or the server fails with.
    pub fn start() -> io::Result<Server> {
        let directory = tempfile::tempdir()?;
        let config = serde_json::from_value(serde_json::json!({
            "listen": ["127.0.0.1:0"],
            "dataDir": directory.path().join("data"),
            "kubeconfigOut": directory.path().join("kubeconfig"),
            "nodeNames": ["n1"],
        }))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let running = runtime
            .block_on(apiserver::run(config))
            .map_err(io::Error::other)?;
        Ok(Server {
            runtime,
            running: Some(running),
            directory,
        })
    }

    /// The administrator's.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Where the server runs; clients in this process may run there too.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Gives up all history before now: watches from before are 410.
    ///
    /// # Errors
    /// The store's.
    pub fn compact(&self) -> io::Result<()> {
        let Some(running) = &self.running else {
            return Ok(());
        };
        let store = running.server().store().clone();
        let newest = store.revision();
        self.runtime
            .block_on(store.compact(newest))
            .map_err(io::Error::other)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let ended = self.runtime.block_on(running.stop());
            if let (Err(error), false) = (ended, std::thread::panicking()) {
                panic!("the server ended with: {error}");
            }
        }
    }
}

//! Sessions of kube-rs, unchanged, against the API server alone: typed and
//! dynamic objects, discovery, watchers and reflectors, a controller of a
//! derived custom resource.
#![expect(clippy::unwrap_used, reason = "tests")]

mod controller;
mod objects;
mod watchers;

use std::future::Future;
use std::time::Duration;

use clients::Server;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::core::Status;

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a session against a server of its own, within the deadline.
fn session<F: Future<Output = ()>>(of: impl FnOnce(Client) -> F) {
    let server = Server::start().unwrap();
    with(&server, of);
}

fn with<F: Future<Output = ()>>(server: &Server, of: impl FnOnce(Client) -> F) {
    server.runtime().block_on(async {
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let client = Client::try_from(config.unwrap()).unwrap();
        let ended = tokio::time::timeout(DEADLINE, of(client)).await;
        ended.expect("the session ends in time");
    });
}

/// The refusal that is expected, with part of its message.
#[track_caller]
fn refused<T>(outcome: kube::Result<T>, code: u16, reason: &str, message: &str) -> Status {
    match outcome {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (code, reason));
            assert!(status.message.contains(message), "{}", status.message);
            *status
        }
        Err(other) => panic!("wanted {code} {reason}, failed with {other}"),
        Ok(_) => panic!("wanted {code} {reason}, succeeded"),
    }
}

//! Whether the server is of use: what `/healthz`, `/livez` and `/readyz` ask.
//! What isn't asked about, or excluded, isn't looked at.

use super::Server;
use crate::begun;
use crate::health::{self, Check};
use crate::query::Query;
use crate::respond;
use crate::rest::Answer;
use api::status::Status;
use http::{HeaderValue, header};
use std::time::Duration;

/// Upstream's `--etcd-healthcheck-timeout` and `--etcd-readycheck-timeout`.
const STORE_CHECK: Duration = Duration::from_secs(2);
/// Checks that ask the store; the second is of readiness.
const STORE: [&str; 2] = ["etcd", "etcd-readiness"];

/// The paths of every check.
pub(crate) fn paths() -> Vec<String> {
    let mut out = Vec::new();
    for endpoint in ["healthz", "livez", "readyz"] {
        let ready: &[&str] = match endpoint {
            "readyz" => &["etcd-readiness", "informer-sync", "shutdown"],
            _ => &[],
        };
        let names = ["ping", "etcd"].into_iter().chain(ready.iter().copied());
        out.push(format!("/{endpoint}"));
        out.extend(
            names
                .chain(begun::names())
                .map(|name| format!("/{endpoint}/{name}")),
        );
    }
    out
}

impl Server {
    /// What has to hold for the server to be of use, where it is `wanted`.
    async fn checks(&self, endpoint: &str, wanted: impl Fn(&str) -> bool) -> Vec<Check> {
        let store = match STORE.iter().any(|name| wanted(name)) {
            true => self.store_check().await,
            false => Ok(()),
        };
        let mut all = vec![("ping", Ok(())), (STORE[0], store.clone())];
        let is_ready = endpoint == "readyz";
        if is_ready {
            all.push((STORE[1], store));
            all.push(("informer-sync", self.authorizer.check()));
        }
        all.extend(begun::checks(self.begun.get()));
        if is_ready {
            let ending = match *self.ending.borrow() {
                true => Err("process is shutting down".to_owned()),
                false => Ok(()),
            };
            all.push(("shutdown", ending));
        }
        all
    }

    /// A store that can't read can't serve. It answers from memory; whether an
    /// etcd behind it is there, it has to be asked.
    async fn store_check(&self) -> Result<(), String> {
        let failed = |why: &str| Err(format!("error getting data from etcd: {why}"));
        match tokio::time::timeout(STORE_CHECK, self.store.fresh(None)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return failed(&e.to_string()),
            Err(_) => return failed("context deadline exceeded"),
        }
        let probe = store::Range::key("/registry/core/namespaces/default");
        match self.store.range(&probe) {
            Ok(_) => Ok(()),
            Err(e) => failed(&e.to_string()),
        }
    }

    /// Of all checks, or of the one that is named.
    pub(super) async fn health(&self, endpoint: &str, check: &[&str], query: &Query) -> Answer {
        if !check.is_empty() {
            let named = check.join("/");
            let checks = self.checks(endpoint, |name| name == named).await;
            return health::one(&checks, &named)
                .map(|(code, text)| respond::text(code, text))
                .ok_or_else(Status::no_such_path);
        }
        let included = |name: &str| query.all("exclude").all(|e| e != name);
        let checks = self.checks(endpoint, included).await;
        let (code, text) = health::all(endpoint, &checks, query);
        let mut response = respond::text(code, text);
        response.headers_mut().insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        Ok(response)
    }
}

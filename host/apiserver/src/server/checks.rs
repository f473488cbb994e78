//! Whether the server is of use: what `/healthz`, `/livez` and `/readyz` ask.

use super::Server;
use crate::query::Query;
use crate::rest::Answer;
use crate::{health, respond};
use api::status::Status;
use http::{HeaderValue, header};
use std::time::Duration;

/// Upstream's `--etcd-healthcheck-timeout`.
const STORE_CHECK: Duration = Duration::from_secs(2);

impl Server {
    /// What has to hold for the server to be of use.
    async fn checks(&self) -> [health::Check; 2] {
        [("ping", Ok(())), ("etcd", self.store_check().await)]
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
        let checks = self.checks().await;
        if !check.is_empty() {
            return health::one(&checks, &check.join("/"))
                .map(|(code, text)| respond::text(code, text))
                .ok_or_else(Status::no_such_path);
        }
        let (code, text) = health::all(endpoint, &checks, query);
        let mut response = respond::text(code, text);
        response.headers_mut().insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        Ok(response)
    }
}

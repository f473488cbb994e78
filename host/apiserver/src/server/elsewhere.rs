//! Requests that another server answers: which these are, and passing them on.

use super::{Asked, Noted, REQUEST_TIMEOUT, Server};
use crate::aggregated::Remote;
use crate::metrics::Labels;
use crate::proxy::forward::{self, Passing};
use crate::query::Query;
use crate::respond;
use crate::rest::Answer;
use crate::route::{Route, route};
use api::status::Status;
use std::sync::Arc;

impl Server {
    /// Whether a request's body is passed on as it comes.
    pub(crate) fn streams(&self, parts: &http::request::Parts) -> bool {
        let query = Query::default();
        match route(&parts.method, parts.uri.path(), &query) {
            Some(found) if self.elsewhere(&found).is_some() => true,
            Some(Route::Resource(found)) => found.group.is_empty() && found.subresource == "proxy",
            Some(Route::Other { .. }) | None => false,
        }
    }

    /// Answers a request that may be, or has another server answer it.
    pub(super) async fn answer(
        &self,
        mut asked: Asked,
        route: Route,
        id: &str,
        noted: &mut Noted,
    ) -> Answer {
        if let Some(front) = &self.authenticator.front {
            front.clear(&mut asked.parts.headers);
        }
        if let Some(remote) = self.elsewhere(&route) {
            let (verb, long) = match &route {
                Route::Other { verb, .. } => (*verb, false),
                Route::Resource(found) => (found.verb, found.is_long() || asked.upgrade.is_some()),
            };
            noted.labels = Labels::other(verb);
            return self.pass_on(asked, &remote, long, noted, id).await;
        }
        match route {
            Route::Other { verb, path } => {
                noted.labels = Labels::other(verb);
                self.other(&asked.parts, verb, &path, &asked.query).await
            }
            Route::Resource(found) => self.resource(asked, found, noted).await,
        }
    }

    /// The server that a request is for, if it isn't this one.
    fn elsewhere(&self, route: &Route) -> Option<Arc<Remote>> {
        let table = self.kinds.table();
        let remote = match route {
            Route::Resource(found) => table.remote(&found.group, &found.version),
            Route::Other { path, .. } => {
                let words: Vec<&str> = path.split('/').filter(|w| !w.is_empty()).collect();
                match words.as_slice() {
                    ["apis", group, version] | ["openapi", "v3", "apis", group, version] => {
                        table.remote(group, version)
                    }
                    _ => None,
                }
            }
        };
        remote.cloned()
    }

    /// Passes a request on to the server that it is for.
    async fn pass_on(
        &self,
        asked: Asked,
        to: &Remote,
        long: bool,
        noted: &Noted,
        id: &str,
    ) -> Answer {
        let Asked { parts, user, .. } = asked;
        let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let passing = Passing {
            method: parts.method,
            headers: parts.headers,
            body: match asked.streamed {
                Some(body) => forward::coming(body),
                None => respond::body(asked.body),
            },
            upgrade: asked.upgrade,
            remote: asked.remote,
            trail: noted.trail.clone(),
        };
        let passed = to.pass(&self.streams.peers, &user, target, id, passing);
        if long {
            return passed.await;
        }
        tokio::time::timeout(REQUEST_TIMEOUT, passed)
            .await
            .unwrap_or_else(|_| {
                Err(Status::timeout(
                    "Timeout: request did not complete within the allotted timeout",
                ))
            })
    }
}

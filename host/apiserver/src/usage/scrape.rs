//! The task: asks all nodes at once and stores what they say.

use super::points::Batch;
use super::{GROUP, RESOLUTION, Usages, VERSION, parse};
use crate::endpoints::row;
use crate::kinds::Kinds;
use crate::peers::Peer;
use crate::proxy::Streams;
use crate::registry;
use crate::respond;
use crate::rest::pod::Endpoint;
use api::meta;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use store::{Range, Store};
use tokio::sync::watch;

/// metrics-server's, for one node.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between rounds until there are two of each node.
const FIRST: Duration = Duration::from_secs(6);
/// Of one node's answer.
const ANSWER_MAX: usize = 16 << 20;

/// Asks until `stopped` is told.
pub(crate) async fn run(
    store: Store,
    kinds: Arc<Kinds>,
    streams: Arc<Streams>,
    usages: Arc<Usages>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let elsewhere = kinds.table().remote(GROUP, VERSION).is_some();
        let batch = match elsewhere {
            true => Batch::default(),
            false => round(&store, &streams).await,
        };
        let pause = {
            let mut points = usages.lock();
            points.store(batch);
            if points.is_settled() {
                RESOLUTION
            } else {
                FIRST
            }
        };
        tokio::select! {
            _ = stopped.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn round(store: &Store, streams: &Streams) -> Batch {
    let endpoints = nodes(store);
    let asked = endpoints.into_iter().map(|endpoint| async move {
        let name = endpoint.node.clone();
        let answer = tokio::time::timeout(TIMEOUT, ask(streams, endpoint)).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        (name, answer)
    });
    let mut batch = Batch::default();
    for (name, answer) in join_all(asked).await {
        match answer {
            Ok(text) => {
                let now = i64::try_from(Timestamp::now().as_nanosecond());
                parse::take(&mut batch, &name, &text, now.unwrap_or(i64::MAX));
            }
            Err(why) => log::debug!("metrics of node {name}: {why}"),
        }
    }
    batch
}

/// Where the nodes are that have said so.
fn nodes(store: &Store) -> Vec<Endpoint> {
    let Ok(kind) = row("", "nodes") else {
        return Vec::new();
    };
    let found = store.range(&Range::prefix(registry::prefix(&kind, "")));
    let items = found.map(|found| found.items).unwrap_or_default();
    let read = items.iter().filter_map(|kv| {
        let node = registry::decode(&kind, &kv.value, kv.mod_revision).ok()?;
        Endpoint::of(&node)
            .inspect_err(|e| log::debug!("node {}: {}", meta::name(&node), e.message))
            .ok()
    });
    read.collect()
}

async fn ask(streams: &Streams, endpoint: Endpoint) -> Result<String, String> {
    let peer = Peer::node(endpoint, streams.tls.clone())?;
    let request = Request::get("/metrics/resource").header(header::HOST, peer.authority());
    let request = request.body(respond::body(Bytes::new()));
    let request = request.map_err(|e| e.to_string())?;
    let response = streams.peers.send(&peer, request).await?;
    let code = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX);
    let body = body.collect().await.map_err(|e| e.to_string())?;
    match code {
        StatusCode::OK => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        code => Err(format!("the node answers {code}")),
    }
}

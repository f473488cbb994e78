//! The task of APIServices: who serves what, whether it answers, and what it
//! says. Looks again when an APIService, a Service or its endpoints change, and
//! every `RESYNC`: a network fails without telling.

use super::check::{self, Verdict};
use super::{Remote, fetch};
use crate::endpoints::row;
use crate::kinds::Kinds;
use crate::peers::Peers;
use crate::pki::Credential;
use crate::registry::{self, Along, Written};
use api::kinds::KindRef;
use api::meta;
use api::status::Status;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use store::{Range, Revision, Store};

/// Upstream's.
const RESYNC: Duration = Duration::from_secs(30);
/// Before a server that failed is asked again.
const RETRY: Duration = Duration::from_secs(2);
/// A burst of changes is one change.
const BURST: Duration = Duration::from_millis(50);

/// The task's state.
pub(crate) struct Aggregator {
    store: Store,
    kinds: Arc<Kinds>,
    peers: Arc<Peers>,
    /// The front proxy's certificate.
    identity: Credential,
    kind: KindRef,
}

/// An APIService as it stands in the store.
struct Found {
    object: Value,
    revision: Revision,
}

impl Aggregator {
    pub(crate) fn new(
        store: Store,
        kinds: Arc<Kinds>,
        peers: Arc<Peers>,
        identity: Credential,
    ) -> Result<Aggregator, Status> {
        Ok(Aggregator {
            store,
            kinds,
            peers,
            identity,
            kind: row("apiregistration.k8s.io", "apiservices")?,
        })
    }

    /// Works until `stopped` is told.
    pub(crate) async fn run(self, mut stopped: tokio::sync::watch::Receiver<bool>) {
        loop {
            let seen = self.store.revision();
            let pause = match self.pass().await {
                Ok(true) => RESYNC,
                Ok(false) => RETRY,
                Err(e) => {
                    log::warn!("aggregated APIs: {}", e.message);
                    RETRY
                }
            };
            tokio::select! {
                _ = stopped.changed() => return,
                () = self.changed(seen) => {}
                () = tokio::time::sleep(pause) => {}
            }
            tokio::time::sleep(BURST).await;
        }
    }

    /// Waits for a change of anything that counts since `seen`.
    async fn changed(&self, seen: Revision) {
        let others = match self.kinds.table().remotes().is_empty() {
            true => Vec::new(),
            false => vec![
                ("", "services"),
                ("", "endpoints"),
                ("discovery.k8s.io", "endpointslices"),
            ],
        };
        let kinds = others.into_iter().filter_map(|(g, p)| row(g, p).ok());
        let waits = kinds.chain([self.kind.clone()]).map(|kind| {
            Box::pin(async move { registry::changed(&self.store, &kind, seen, RETRY).await })
        });
        drop(futures_util::future::select_all(waits).await);
    }

    /// What is registered is known from the first request on; whether it
    /// answers, `run` finds out.
    pub(crate) fn begin(&self) -> Result<(), Status> {
        let found = self.list()?;
        self.publish(self.remotes(&found));
        Ok(())
    }

    /// One look at everything; whether all servers answer.
    async fn pass(&self) -> Result<bool, Status> {
        let found = self.list()?;
        let remotes = self.remotes(&found);
        self.publish(remotes.clone());
        let looks = remotes.iter().map(|remote| self.look(remote));
        let looked = join_all(looks).await;
        let mut well = true;
        let mut now = Vec::new();
        for (remote, (verdict, said)) in remotes.iter().zip(looked) {
            well &= verdict.status == "True";
            let name = format!("{}.{}", remote.version(), remote.group());
            let Some(of) = found.iter().find(|f| meta::name(&f.object) == name) else {
                continue;
            };
            well &= self.tell(of, &verdict).await?;
            now.push(Arc::new(Remote {
                spec: remote.spec.clone(),
                available: verdict.status == "True",
                secured: remote.secured.clone(),
                said,
            }));
        }
        for local in found
            .iter()
            .filter(|f| f.object["spec"].get("service").is_none())
        {
            well &= self.tell(local, &Verdict::local()).await?;
        }
        self.publish(now);
        Ok(well)
    }

    fn list(&self) -> Result<Vec<Found>, Status> {
        let range = Range::prefix(registry::prefix(&self.kind, ""));
        let found = self.store.range(&range).map_err(registry::store_status)?;
        let read = found.items.iter().map(|kv| {
            Ok(Found {
                object: registry::decode(&self.kind, &kv.value, kv.mod_revision)?,
                revision: kv.mod_revision,
            })
        });
        read.collect()
    }

    /// With what is known of those that were there before.
    fn remotes(&self, found: &[Found]) -> Vec<Arc<Remote>> {
        let table = self.kinds.table();
        let all = found
            .iter()
            .filter_map(|f| Remote::of(&f.object, &self.identity));
        all.map(|mut remote| {
            let before = table.remote(remote.group(), remote.version());
            // The very same settings: connections are kept by them.
            if let Some(same) = before.filter(|b| b.spec == remote.spec) {
                remote.secured = same.secured.clone();
            }
            if let Some(before) = before.filter(|b| b.spec["service"] == remote.spec["service"]) {
                remote.said = before.said.clone();
            } else {
                remote.said.discovery = fetch::stale(remote.version(), &Value::Null);
            }
            Arc::new(remote)
        })
        .collect()
    }

    fn publish(&self, remotes: Vec<Arc<Remote>>) {
        let table = self.kinds.table();
        let same = table.remotes().len() == remotes.len()
            && table
                .remotes()
                .iter()
                .zip(&remotes)
                .all(|(a, b)| a.is_same(b));
        if !same {
            self.kinds.set_remote(remotes);
        }
    }

    async fn look(&self, remote: &Remote) -> (Verdict, super::Said) {
        let verdict = match check::by_objects(&self.store, remote) {
            Some(verdict) => verdict,
            None => {
                let url = check::url(&self.store, remote);
                match fetch::probe(&self.peers, remote, &url).await {
                    Ok(()) => Verdict::passed(),
                    Err(why) => Verdict::failed(why),
                }
            }
        };
        if verdict.status == "True" {
            let said = fetch::said(&self.peers, remote, &remote.said).await;
            return (verdict, said);
        }
        let mut said = remote.said.clone();
        said.discovery = fetch::stale(remote.version(), &said.discovery);
        (verdict, said)
    }

    /// Writes the condition if it changed; whether nobody else was faster.
    async fn tell(&self, of: &Found, verdict: &Verdict) -> Result<bool, Status> {
        let status = verdict.in_status(&of.object, Timestamp::now());
        if of.object.get("status") == Some(&status) {
            return Ok(true);
        }
        let mut object = of.object.clone();
        object["status"] = status;
        let key = registry::key(&self.kind, "", meta::name(&object));
        let value = registry::encode(&self.kind, &object)?;
        let written =
            registry::update(&self.store, key, value, of.revision, Along::default()).await?;
        Ok(matches!(written, Written::At(_)))
    }
}

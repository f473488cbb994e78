//! Pods that no node will ever end: their node is gone, or they were deleted
//! before they got one. Force-deleted, as upstream's pod garbage collector.

use crate::scheduler::node_of;
use k8s_openapi::api::core::v1::{Node, Pod};
use reconcile::resource::core::{NODES, PODS};
use reconcile::{Cache, Client, DeleteOptions, ObjectKey, Target, Write};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

const SWEEP: Duration = Duration::from_secs(20);
/// How long a node has to be missing.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Since when nodes that pods name have been missing.
#[derive(Debug, Default)]
pub(crate) struct Missing(HashMap<String, Instant>);

impl Missing {
    /// Nodes that have been missing for long enough.
    pub(crate) fn update<'a>(
        &mut self,
        named: impl Iterator<Item = &'a str>,
        present: &HashSet<String>,
        now: Instant,
    ) -> HashSet<String> {
        let missing: HashSet<&str> = named.filter(|node| !present.contains(*node)).collect();
        self.0.retain(|node, _| missing.contains(&**node));
        for node in missing {
            self.0.entry(node.to_owned()).or_insert(now);
        }
        let long = self
            .0
            .iter()
            .filter(|(_, since)| now - **since >= QUARANTINE);
        long.map(|(node, _)| node.clone()).collect()
    }
}

pub(crate) fn plan<'a>(pods: impl Iterator<Item = &'a Pod>, gone: &HashSet<String>) -> Vec<Write> {
    let orphaned = |pod: &&Pod| match node_of(pod) {
        Some(node) => gone.contains(node),
        None => pod.metadata.deletion_timestamp.is_some(),
    };
    let delete = |pod: &Pod| Write::Delete {
        target: Target {
            resource: PODS,
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone().unwrap_or_default(),
        },
        options: DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        },
    };
    pods.filter(orphaned).map(delete).collect()
}

pub(crate) async fn run(client: &Client, pods: &Cache<Pod>, nodes: &Cache<Node>) {
    tokio::join!(pods.synced(), nodes.synced());
    let mut missing = Missing::default();
    loop {
        let seen = pods.list();
        let present = nodes
            .keys()
            .into_iter()
            .map(|key: ObjectKey| key.name)
            .collect();
        let named = seen.iter().filter_map(|pod| node_of(pod));
        let mut gone = missing.update(named, &present, Instant::now());
        // The cache may be behind: ask before anything is lost.
        for node in gone.clone() {
            let found = client.get(&NODES, None, &node).await;
            if !found.is_err_and(|error| error.is_not_found()) {
                gone.remove(&node);
            }
        }
        for write in plan(seen.iter().map(|pod| &**pod), &gone) {
            match client.write(&write).await {
                Ok(_) => log::info!("removed a pod that no node owns: {write:?}"),
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => log::warn!("pod garbage collection: {error}"),
            }
        }
        tokio::time::sleep(SWEEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_gone_after_the_quarantine_only() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut missing = Missing::default();
        let both = HashSet::from(["a".to_owned(), "b".to_owned()]);
        let a = HashSet::from(["a".to_owned()]);
        for (seconds, present, gone) in [
            (0, &a, 0),
            (39, &a, 0),
            (40, &a, 1),
            (41, &both, 0),
            (90, &a, 0),
            (130, &a, 1),
        ] {
            let named = ["a", "b", "b"].into_iter();
            let found = missing.update(named, present, at(seconds));
            assert_eq!(found.len(), gone, "after {seconds} s");
        }
    }

    #[test]
    fn orphans_are_removed_by_force() {
        let gone = HashSet::from(["gone".to_owned()]);
        let time = "2026-01-01T00:00:00Z";
        for (pod, removed) in [
            (
                json!({"spec": {"containers": [], "nodeName": "here"}}),
                false,
            ),
            (
                json!({"spec": {"containers": [], "nodeName": "gone"}}),
                true,
            ),
            (json!({"spec": {"containers": []}}), false),
            (
                json!({"metadata": {"deletionTimestamp": time}, "spec": {"containers": []}}),
                true,
            ),
            (
                json!({"metadata": {"deletionTimestamp": time},
                    "spec": {"containers": [], "nodeName": "here"}}),
                false,
            ),
        ] {
            let decoded: Pod = serde_json::from_value(pod.clone()).expect("a fixture");
            let writes = plan([decoded].iter(), &gone);
            assert_eq!(writes.len(), usize::from(removed), "{pod}");
            for write in writes {
                let Write::Delete { options, .. } = write else {
                    panic!("{write:?}")
                };
                assert_eq!(options.grace_period_seconds, Some(0));
            }
        }
    }
}

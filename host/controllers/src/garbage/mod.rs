//! Garbage collection: an object whose owners are all gone goes too, in the
//! background, in the foreground, or not at all, as its owners' deletion says.
//!
//! ```text
//! discovery -> a watch for each resource -> Graph -> plan -> act -> API
//!                     (one task, which owns the graph)    \-> look again
//! ```
//! What is to be watched is read from discovery every `REFRESH`, and as soon as
//! a CustomResourceDefinition changes. Queues: events wait in a channel of
//! `EVENTS`; a full one holds the watches back.

mod act;
mod graph;
mod watch;

use act::{Outcome, act};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use graph::{Class, Graph, Object};
use reconcile::{Backoff, Client, Resource};
use serde_json::Value;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const EVENTS: usize = 4096;
/// Objects that are worked on at once.
const AT_ONCE: usize = 16;
const REFRESH: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(250),
    max: Duration::from_secs(30),
};

/// What a watch tells the graph.
enum Seen {
    Object(Object),
    Gone(Arc<str>),
    /// All of a class that there was when the watch began.
    Synced(Arc<Class>, HashSet<Arc<str>>),
}

/// The resources that objects can be collected of, by group and kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes(HashMap<(String, String), Arc<Class>>);

impl Classes {
    /// The class that an ownerReference names; its version doesn't matter.
    fn named(&self, api_version: &str, kind: &str) -> Option<&Arc<Class>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.0.get(&(group.to_owned(), kind.to_owned()))
    }
}

struct Collector {
    client: Client,
    instance: String,
    graph: Graph,
    classes: Classes,
    synced: HashSet<Arc<Class>>,
    watches: HashMap<Arc<Class>, JoinHandle<()>>,
    queue: VecDeque<Arc<str>>,
    queued: HashSet<Arc<str>>,
    failures: HashMap<Arc<str>, u32>,
    sender: mpsc::Sender<Seen>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.watches.values().for_each(JoinHandle::abort);
    }
}

pub(crate) async fn run(client: &Client, instance: &str) {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let mut collector = Collector {
        client: client.clone(),
        instance: instance.to_owned(),
        graph: Graph::default(),
        classes: Classes::default(),
        synced: HashSet::new(),
        watches: HashMap::new(),
        queue: VecDeque::new(),
        queued: HashSet::new(),
        failures: HashMap::new(),
        sender,
    };
    let mut working = FuturesUnordered::new();
    let mut refresh = Instant::now();
    loop {
        while working.len() < AT_ONCE && collector.is_synced() {
            let Some(work) = collector.begin() else {
                break;
            };
            working.push(work);
        }
        tokio::select! {
            seen = events.recv() => match seen {
                Some(seen) => if collector.see(seen) {
                    refresh = refresh.min(Instant::now() + Duration::from_millis(200));
                },
                None => return,
            },
            Some((uid, outcome)) = working.next(), if !working.is_empty() => {
                collector.finish(uid, outcome);
            }
            () = tokio::time::sleep_until(refresh) => {
                collector.refresh().await;
                refresh = Instant::now() + REFRESH;
            }
        }
    }
}

impl Collector {
    /// Nothing is decided on half a view.
    fn is_synced(&self) -> bool {
        !self.watches.is_empty() && self.watches.keys().all(|class| self.synced.contains(class))
    }

    fn look(&mut self, uids: impl IntoIterator<Item = Arc<str>>) {
        for uid in uids {
            if self.queued.insert(uid.clone()) {
                self.queue.push_back(uid);
            }
        }
    }

    /// Takes an event over; true if the kinds that are served may have changed.
    fn see(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::Object(object) => {
                let changed = object.class.resource.plural == "customresourcedefinitions";
                let namespace = object.key.namespace.as_str().into();
                let look = self.graph.put(object, namespace);
                self.look(look);
                changed
            }
            Seen::Gone(uid) => {
                let look = self.graph.remove(&uid);
                self.look(look);
                false
            }
            Seen::Synced(class, there) => {
                for uid in self.graph.of_class(&class).difference(&there) {
                    let look = self.graph.remove(uid);
                    self.look(look);
                }
                self.synced.insert(class);
                false
            }
        }
    }

    /// The next object's work, if there is one.
    fn begin(&mut self) -> Option<impl Future<Output = (Arc<str>, Outcome)> + use<>> {
        let uid = self.queue.pop_front()?;
        self.queued.remove(&uid);
        let action = self.graph.plan(&uid);
        let misplaced = match self.graph.object(&uid) {
            Some(object) if !object.deleting => self.graph.misplaced(object),
            _ => Vec::new(),
        };
        let (client, classes) = (self.client.clone(), self.classes.clone());
        let instance = self.instance.clone();
        let failures = self.failures.get(&uid).copied().unwrap_or(0);
        Some(async move {
            let outcome = act(&client, &classes, &instance, action, &misplaced).await;
            if let Outcome::Again = outcome {
                let random = reconcile::random();
                tokio::time::sleep(BACKOFF.delay(failures + 1, random)).await;
            }
            (uid, outcome)
        })
    }

    fn finish(&mut self, uid: Arc<str>, outcome: Outcome) {
        match outcome {
            Outcome::Done => drop(self.failures.remove(&uid)),
            Outcome::Again => {
                *self.failures.entry(uid.clone()).or_default() += 1;
                self.look([uid]);
            }
            Outcome::Look(others) => self.look(others),
            Outcome::Absent(owners, namespace) => {
                for owner in owners {
                    self.graph.set_absent(owner, namespace.clone());
                }
                self.look([uid]);
            }
        }
    }

    /// Watches what is served now, and nothing else.
    async fn refresh(&mut self) {
        let classes = match discover(&self.client, &self.classes).await {
            Ok(classes) => classes,
            Err(error) => return log::warn!("garbage collection: {error}"),
        };
        let wanted: HashSet<&Arc<Class>> = classes.0.values().collect();
        let gone: Vec<_> = self
            .watches
            .keys()
            .filter(|c| !wanted.contains(c))
            .cloned()
            .collect();
        for class in gone {
            if let Some(watch) = self.watches.remove(&class) {
                watch.abort();
            }
            self.synced.remove(&class);
            for uid in self.graph.of_class(&class) {
                let look = self.graph.remove(&uid);
                self.look(look);
            }
        }
        for class in classes.0.values() {
            if !self.watches.contains_key(class) {
                let watch = watch::run(self.client.clone(), class.clone(), self.sender.clone());
                self.watches.insert(class.clone(), tokio::spawn(watch));
            }
        }
        self.classes = classes;
    }
}

/// The resources that can be listed, watched and deleted, Events apart. Of a
/// group whose server doesn't answer, those that were known `before`: what they
/// own is not orphaned.
async fn discover(client: &Client, before: &Classes) -> Result<Classes, reconcile::ClientError> {
    let mut silent: Vec<String> = Vec::new();
    let mut documents = vec![client.get_path("/api/v1").await?];
    let groups = client.get_path("/apis").await?;
    for version in preferred(&groups) {
        match client.get_path(&format!("/apis/{version}")).await {
            Ok(document) => documents.push(document),
            // A group that went meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                log::debug!("garbage collection: {error}");
                silent.extend(version.split_once('/').map(|(group, _)| group.to_owned()));
            }
        }
    }
    let mut found = classes(&documents);
    for (key, class) in &before.0 {
        if silent.contains(&key.0) {
            found.0.insert(key.clone(), class.clone());
        }
    }
    Ok(found)
}

/// The group versions of `/apis` to ask, each group's preferred one.
fn preferred(groups: &Value) -> Vec<String> {
    let groups = groups["groups"].as_array().into_iter().flatten();
    let version = |group: &Value| {
        group["preferredVersion"]["groupVersion"]
            .as_str()
            .map(str::to_owned)
    };
    groups.filter_map(version).collect()
}

fn classes(documents: &[Value]) -> Classes {
    let mut found = Classes::default();
    for document in documents {
        let group_version = document["groupVersion"].as_str().unwrap_or_default();
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        for entry in document["resources"].as_array().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let verbs = entry["verbs"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let has = |verb: &str| verbs.iter().any(|v| v == verb);
            let plural = text("name");
            let usable = has("list") && has("watch") && has("delete");
            if !usable || plural == "events" || plural.contains('/') {
                continue;
            }
            let resource = Resource {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                plural: plural.into(),
                namespaced: entry["namespaced"] == true,
            };
            let kind = text("kind");
            let class = Arc::new(Class {
                resource,
                kind: kind.clone(),
            });
            found.0.insert((group.to_owned(), kind), class);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_served_is_found_whatever_its_version() {
        let verbs = json!(["list", "watch", "delete"]);
        let found = classes(&[
            json!({"groupVersion": "v1", "resources": [
                {"name": "pods", "kind": "Pod", "namespaced": true, "verbs": verbs},
                {"name": "pods/status", "kind": "Pod", "namespaced": true, "verbs": verbs},
                {"name": "events", "kind": "Event", "namespaced": true, "verbs": verbs},
                {"name": "bindings", "kind": "Binding", "namespaced": true, "verbs": ["create"]}]}),
            json!({"groupVersion": "apps/v1", "resources": [
                {"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": verbs}]}),
        ]);
        assert_eq!(found.0.len(), 2);
        assert!(found.named("apps/v1beta1", "Deployment").is_some());
        assert!(found.named("v1", "Deployment").is_none());
    }
}

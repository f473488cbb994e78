//! What a Service leads to: an Endpoints object and EndpointSlices of the pods
//! that its selector matches; for a Service without a selector, slices that
//! mirror an Endpoints object which somebody else keeps.
//!
//! ```text
//! Services, pods, nodes (caches) --+
//! Endpoints, EndpointSlices (read) +-> subsets::plan, slices -> packing::plan
//!                                  +-> mirror ----------------> packing::plan
//! ```
//! A key is a Service's. Endpoints and slices are read at the API for each look
//! at a key, so that a look sees what the one before it wrote; their watches
//! only say that there is something to look at. A full queue drops no key
//! (`reconcile::Queue`). Not kept: the annotation with the time of the change
//! that led to an update, and topology hints.

mod members;
mod mirror;
mod packing;
mod slices;
mod subsets;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use reconcile::{
    Backoff, Cache, Client, ClientError, DeleteOptions, ListOptions, ObjectKey, Queue, Reflector,
    Requeue, Resource, Target, Write, work,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SERVICES: Resource = Resource::namespaced("", "v1", "services");
const ENDPOINTS: Resource = Resource::namespaced("", "v1", "endpoints");
const SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices");
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";
const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(60),
};

/// Of Endpoints and EndpointSlices only what leads to a Service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Mark {
    metadata: MarkMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MarkMetadata {
    labels: BTreeMap<String, String>,
}

pub(crate) struct Controller {
    client: Client,
    queue: Queue<ObjectKey>,
    /// Services whose deletion was seen and not yet followed.
    deleted: Arc<Mutex<BTreeSet<ObjectKey>>>,
    services: Reflector<Service>,
    endpoints: Reflector<Mark>,
    slices: Reflector<Mark>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
}

impl Controller {
    pub(crate) fn new(client: Client, pods: &Cache<Pod>, nodes: &Cache<Node>) -> Controller {
        let queue = Queue::new(CAPACITY, BACKOFF);
        let deleted: Arc<Mutex<BTreeSet<ObjectKey>>> = Arc::default();
        let (to, gone) = (queue.clone(), deleted.clone());
        let services = Reflector::<Service>::new(client.clone(), SERVICES).on_change(move |c| {
            let mut gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
            match c.new {
                None => gone.insert(c.key.clone()),
                Some(_) => gone.remove(&c.key),
            };
            to.add(c.key.clone());
        });
        let to = queue.clone();
        let endpoints = Reflector::<Mark>::new(client.clone(), ENDPOINTS)
            .on_change(move |c| to.add(c.key.clone()));
        let to = queue.clone();
        let slices = Reflector::<Mark>::new(client.clone(), SLICES).on_change(move |c| {
            for mark in [&c.old, &c.new].into_iter().flatten() {
                if let Some(service) = mark.metadata.labels.get(SERVICE_NAME) {
                    to.add(ObjectKey::new(c.key.namespace.clone(), service.clone()));
                }
            }
        });
        Controller {
            client,
            queue,
            deleted,
            services,
            endpoints,
            slices,
            pods: pods.clone(),
            nodes: nodes.clone(),
        }
    }

    /// A pod concerns the Services whose selector matches it, or did.
    pub(crate) fn feed(&self, pods: Reflector<Pod>) -> Reflector<Pod> {
        let (queue, services) = (self.queue.clone(), self.services.cache());
        pods.on_change(move |change| {
            for service in services.list_namespace(&change.key.namespace) {
                let matched = |pod: &Option<Arc<Pod>>| {
                    pod.as_ref().is_some_and(|p| members::selects(&service, p))
                };
                if matched(&change.old) || matched(&change.new) {
                    let name = service.metadata.name.clone().unwrap_or_default();
                    queue.add(ObjectKey::new(change.key.namespace.clone(), name));
                }
            }
        })
    }

    pub(crate) async fn run(self) {
        let services = self.services.cache();
        let (client, queue, deleted) = (self.client, self.queue, self.deleted);
        let (pods, nodes) = (self.pods, self.nodes);
        let look = Look {
            client,
            deleted,
            services: services.clone(),
            pods: pods.clone(),
            nodes,
        };
        let working = async {
            tokio::join!(services.synced(), pods.synced());
            work("endpoints", &queue, 4, |key| look.reconcile(key)).await;
        };
        tokio::join!(
            self.services.run(),
            self.endpoints.run(),
            self.slices.run(),
            working
        );
    }
}

/// What a worker looks at.
struct Look {
    client: Client,
    deleted: Arc<Mutex<BTreeSet<ObjectKey>>>,
    services: Cache<Service>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
}

impl Look {
    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let service = self.services.get(&key);
        let endpoints = self.endpoints(&key).await?;
        let slices = self.slices(&key).await?;
        let mut writes = Vec::new();
        let followed = match &service {
            None => self.orphaned(&key, endpoints.as_ref(), &mut writes),
            Some(service) if members::is_selecting(service) => {
                let pods = self.pods.list_namespace(&key.namespace);
                let pods = pods.iter().filter(|p| members::selects(service, p));
                let members = members::of(service, pods.map(|p| &**p), &self.zones());
                writes.extend(subsets::plan(service, &members, endpoints.as_ref()));
                let wanted = slices::wanted(service, &members);
                writes.extend(packing::plan(&wanted, &managed(&slices, slices::MANAGER)));
                false
            }
            Some(_) => false,
        };
        let mirrored = mirror::wanted(&key, service.as_deref(), endpoints.as_ref());
        writes.extend(packing::plan(&mirrored, &managed(&slices, mirror::MANAGER)));
        for write in &writes {
            match self.client.write(write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) if is_ending(&error) => return Ok(Requeue::Never),
                Err(error) => return Err(error),
            }
        }
        if followed {
            let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            deleted.remove(&key);
        }
        Ok(Requeue::Never)
    }

    /// A Service takes the Endpoints of its name along, whoever made them;
    /// whether it was seen to go. One without a Service stays otherwise, unless
    /// it was made here.
    fn orphaned(&self, key: &ObjectKey, found: Option<&Endpoints>, out: &mut Vec<Write>) -> bool {
        let seen = {
            let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            deleted.contains(key)
        };
        if let Some(found) = found.filter(|e| seen || subsets::is_own(e)) {
            out.push(Write::Delete {
                target: Target {
                    resource: ENDPOINTS,
                    namespace: Some(key.namespace.clone()),
                    name: key.name.clone(),
                },
                options: DeleteOptions {
                    uid: found.metadata.uid.clone(),
                    ..DeleteOptions::default()
                },
            });
        }
        seen
    }

    async fn endpoints(&self, key: &ObjectKey) -> Result<Option<Endpoints>, ClientError> {
        match self
            .client
            .get(&ENDPOINTS, key.namespace(), &key.name)
            .await
        {
            Ok(object) => typed("endpoints", object).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn slices(&self, key: &ObjectKey) -> Result<Vec<EndpointSlice>, ClientError> {
        let options = ListOptions {
            label_selector: Some(format!("{SERVICE_NAME}={}", key.name)),
            ..ListOptions::default()
        };
        let listed = self
            .client
            .list_all(&SLICES, key.namespace(), &options)
            .await?;
        let items = listed.items.into_iter();
        items.map(|item| typed("endpointslices", item)).collect()
    }

    /// Zones by the names of nodes.
    fn zones(&self) -> BTreeMap<String, String> {
        let zone = |node: &Arc<Node>| {
            let labels = node.metadata.labels.as_ref()?;
            let zone = labels.get("topology.kubernetes.io/zone")?;
            Some((node.metadata.name.clone()?, zone.clone()))
        };
        self.nodes.list().iter().filter_map(zone).collect()
    }
}

fn managed<'a>(slices: &'a [EndpointSlice], by: &str) -> Vec<&'a EndpointSlice> {
    let is = |slice: &&EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|l| l.get(MANAGED_BY)).map(String::as_str) == Some(by)
    };
    slices.iter().filter(is).collect()
}

fn typed<T: DeserializeOwned>(what: &str, object: Value) -> Result<T, ClientError> {
    serde_json::from_value(object).map_err(|e| ClientError::Malformed {
        operation: format!("reading {what}"),
        what: e.to_string(),
    })
}

/// The namespace takes nothing new: what is there goes with it.
fn is_ending(error: &ClientError) -> bool {
    let status = error.status();
    status.is_some_and(|s| s.code == 403 && s.message.contains("because it is being terminated"))
}

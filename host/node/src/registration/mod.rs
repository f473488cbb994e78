//! The Node object: registers this machine, and keeps its status and its lease
//! fresh.
//!
//! ```text
//!   every 10 s, and when its pressure changes:
//!               look at the machine -> lease renewed
//!                                   -> status written if it changed, or is
//!                                      five minutes old
//! ```
//!
//! Conditions of ours are Ready and the pressures; everything else in the
//! object belongs to others and stays as it is, taints included.

mod facts;
mod object;

pub(crate) use facts::{Facts, Seen};
use object::State;
pub(crate) use object::allocatable;

use crate::events::Events;
use crate::eviction::Pressure;
use crate::images::ImageSource;
use crate::pod::observed::Note;
use crate::pod::resources::Amount;
use crate::worker::Host;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerImage, NodeStatus};
use reconcile::resource::core::{LEASES, NODES};
use reconcile::{Client, ClientError, Patch};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const PERIOD: Duration = Duration::from_secs(10);
/// How old a status may get.
const STATUS_AGE: Duration = Duration::from_secs(300);
/// As many images as upstream lists.
const IMAGES_MAX: usize = 50;

/// What a Node is made of that does not change.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) port: u16,
    pub(crate) max_pods: u32,
    pub(crate) reserve: Amount,
}

pub(crate) struct Registration {
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    pub(crate) images: Arc<dyn ImageSource>,
    pub(crate) facts: Facts,
    pub(crate) host: watch::Sender<Host>,
    pub(crate) events: Events,
    pub(crate) pressure: watch::Receiver<Pressure>,
    /// Whether the node shuts down.
    pub(crate) ending: watch::Receiver<bool>,
}

impl Registration {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let starting = Note::normal("Starting", "Starting atoll node.".to_owned());
        self.events
            .about_node(&self.identity.name, starting, Timestamp::now());
        let mut written: Option<(NodeStatus, std::time::Instant)> = None;
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // A sender that is gone says nothing more.
                Ok(()) = self.pressure.changed() => {}
                Ok(()) = self.ending.changed() => {}
            }
            if let Err(error) = self.round(&mut written).await {
                log::warn!("registration: {error}");
                written = None;
                tick.reset_after(Duration::from_secs(1));
            }
        }
    }

    async fn round(
        &self,
        written: &mut Option<(NodeStatus, std::time::Instant)>,
    ) -> Result<(), ClientError> {
        let seen = self.facts.look();
        self.tell_host(&seen);
        let before = match written {
            Some((status, _)) => Some(status.clone()),
            None => self.register(&seen).await?,
        };
        let now = Timestamp::now();
        let images = self.images();
        let before = before.as_ref();
        let state = self.state();
        let status = object::status(&self.identity, &seen, state, images, before, now);
        let due = match written {
            Some((old, at)) => at.elapsed() >= STATUS_AGE || object::differs(old, &status),
            None => true,
        };
        if due {
            let patch = Patch::Merge(json!({"status": status}));
            let name = &self.identity.name;
            self.client
                .patch(&NODES, None, name, Some("status"), &patch)
                .await?;
            for note in object::turns(name, before, &status) {
                self.events.about_node(name, note, now);
            }
            *written = Some((status, std::time::Instant::now()));
        }
        self.renew(now).await
    }

    fn state(&self) -> State {
        State {
            pressure: *self.pressure.borrow(),
            ending: *self.ending.borrow(),
        }
    }

    /// Makes the Node, or brings its labels up to date; gives its status.
    async fn register(&self, seen: &Seen) -> Result<Option<NodeStatus>, ClientError> {
        let name = &self.identity.name;
        let labels = object::labels(&self.identity);
        let now = Timestamp::now();
        match self.client.get(&NODES, None, name).await {
            Ok(node) => {
                let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
                self.client.patch(&NODES, None, name, None, &patch).await?;
                let status = node.get("status").cloned().unwrap_or_default();
                Ok(serde_json::from_value(status).ok())
            }
            Err(error) if error.is_not_found() => {
                let state = self.state();
                let status = object::status(&self.identity, seen, state, Vec::new(), None, now);
                let node = json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": {"name": name, "labels": labels},
                    "status": status,
                });
                self.client.create(&NODES, None, &node).await?;
                log::info!("registered node {name}");
                Ok(Some(status))
            }
            Err(error) => Err(error),
        }
    }

    async fn renew(&self, now: Timestamp) -> Result<(), ClientError> {
        let name = &self.identity.name;
        let spec = json!({
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": format!("{now:.6}"),
        });
        let patch = Patch::Merge(json!({"spec": spec}));
        let namespace = Some(LEASE_NAMESPACE);
        match self
            .client
            .patch(&LEASES, namespace, name, None, &patch)
            .await
        {
            Err(error) if error.is_not_found() => {
                let node = self.client.get(&NODES, None, name).await?;
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name, "namespace": LEASE_NAMESPACE,
                        "ownerReferences": [{"apiVersion": "v1", "kind": "Node",
                            "name": name, "uid": uid(&node)}]},
                    "spec": spec,
                });
                self.client
                    .create(&LEASES, namespace, &lease)
                    .await
                    .map(drop)
            }
            result => result.map(drop),
        }
    }

    fn tell_host(&self, seen: &Seen) {
        self.host.send_if_modified(|host| {
            let addresses: Vec<String> = seen.addresses.iter().map(ToString::to_string).collect();
            let same = host.facts.host_ips == addresses && host.nameservers == seen.nameservers;
            host.facts.host_ips = addresses;
            host.nameservers.clone_from(&seen.nameservers);
            !same
        });
    }

    fn images(&self) -> Vec<ContainerImage> {
        let mut images: Vec<ContainerImage> = self
            .images
            .list()
            .into_iter()
            .map(|(image, names)| ContainerImage {
                names: Some(names),
                size_bytes: i64::try_from(image.size).ok(),
            })
            .collect();
        images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then(a.names.cmp(&b.names)));
        images.truncate(IMAGES_MAX);
        images
    }
}

fn uid(node: &Value) -> &Value {
    &node["metadata"]["uid"]
}

//! CustomResourceDefinitions at work: names, conditions, the kinds that are
//! served, and the end of a definition with all its objects.
//!
//! ```text
//! made --names free--> Established: kinds served --deleted--> Terminating:
//! nothing new --objects deleted and gone--> finalizer removed: gone
//! ```
//! One task owns all of this. It reads the definitions from the store, decides
//! by `api::custom::definition`, and writes with compare-and-swap; whatever
//! changes a definition, or removes an object of one that is going, wakes it.

use crate::kinds::Kinds;
use crate::registry::{self, Along, Written};
use crate::rest::delete::{DeleteOptions, delete_object};
use crate::webhook::{Client, Conversions};
use api::custom::conversion::{Converter, Webhook};
use api::custom::definition::{self, FINALIZER, conditions};
use api::custom::{CustomKind, version_order};
use api::kinds::{KindRef, by_resource};
use api::meta;
use api::status::Status;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::{Range, Revision, Store, prefix_end};

/// Before the task looks again at what somebody else holds.
const RETRY: Duration = Duration::from_secs(1);

/// The task's state.
pub(crate) struct Definitions {
    store: Store,
    kinds: Arc<Kinds>,
    client: Arc<Client>,
    kind: KindRef,
    /// What was made of each definition, and of which revision of it.
    made: BTreeMap<String, (Revision, Vec<Arc<CustomKind>>)>,
}

/// A definition as it stands in the store.
#[derive(Clone)]
struct Found {
    object: Value,
    revision: Revision,
}

impl Definitions {
    pub(crate) fn new(store: Store, kinds: Arc<Kinds>, client: Arc<Client>) -> Option<Definitions> {
        Some(Definitions {
            store,
            kinds,
            client,
            kind: by_resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")?,
            made: BTreeMap::new(),
        })
    }

    /// Works until `stopped` is told.
    pub(crate) async fn run(mut self, mut stopped: tokio::sync::watch::Receiver<bool>) {
        loop {
            let seen = self.store.revision();
            let again = match self.pass().await {
                Ok(again) => again,
                Err(e) => {
                    log::warn!("custom resource definitions: {}", e.message);
                    true
                }
            };
            tokio::select! {
                _ = stopped.changed() => return,
                () = registry::changed(&self.store, &self.kind, seen, RETRY) => {}
                () = tokio::time::sleep(RETRY), if again => {}
            }
        }
    }

    /// One look at everything; whether to look again soon.
    pub(crate) async fn pass(&mut self) -> Result<bool, Status> {
        let mut all = self.list()?;
        let mut waiting = false;
        for i in 0..all.len() {
            if meta::is_deleting(&all[i].object) {
                continue;
            }
            let others = all.iter().map(|f| &f.object);
            let taken = conditions::Taken::by_others(&all[i].object, others);
            if let Some(status) = conditions::wanted(&all[i].object, &taken, Timestamp::now()) {
                let mut object = all[i].object.clone();
                object["status"] = status;
                // Served before it is said to be.
                let mut after = all.clone();
                after[i].object = object.clone();
                self.serve(&after);
                match self.write(&all[i], object).await? {
                    Some(found) => all[i] = found,
                    None => waiting = true,
                }
            }
        }
        self.serve(&all);
        for found in all.iter().filter(|f| meta::is_deleting(&f.object)) {
            waiting |= self.finish(found).await?;
        }
        Ok(waiting)
    }

    fn list(&self) -> Result<Vec<Found>, Status> {
        let prefix = registry::prefix(&self.kind, "");
        let range = Range {
            end: prefix_end(prefix.as_bytes()),
            start: prefix.into(),
            ..Range::default()
        };
        let found = self.store.range(&range).map_err(registry::store_status)?;
        found
            .items
            .iter()
            .map(|kv| {
                Ok(Found {
                    object: registry::decode(&self.kind, &kv.value, kv.mod_revision)?,
                    revision: kv.mod_revision,
                })
            })
            .collect()
    }

    /// `None`: somebody else was faster.
    async fn write(&self, found: &Found, mut object: Value) -> Result<Option<Found>, Status> {
        let key = registry::key(&self.kind, "", meta::name(&object));
        let value = registry::encode(&self.kind, &object)?;
        Ok(
            match registry::update(&self.store, key, value, found.revision, Along::default())
                .await?
            {
                Written::At(revision) => {
                    registry::set_revision(&mut object, revision);
                    Some(Found { object, revision })
                }
                Written::Lost(_) => None,
            },
        )
    }

    /// Replaces the table if the kinds of any definition changed.
    fn serve(&mut self, all: &[Found]) {
        let mut made = BTreeMap::new();
        let mut changed = all.len() != self.made.len();
        for found in all {
            let name = meta::name(&found.object).to_owned();
            let same = |kinds: &[Arc<CustomKind>]| {
                let established = definition::is_true(&found.object, "Established");
                established != kinds.is_empty()
            };
            let kept = match self.made.get(&name) {
                Some((revision, kinds)) if *revision == found.revision && same(kinds) => {
                    Some(kinds.clone())
                }
                _ => None,
            };
            let kinds = kept.unwrap_or_else(|| {
                changed = true;
                let client = self.client.clone();
                definition::kinds_of(&found.object, &move |webhook: Webhook| {
                    let client = client.clone();
                    Arc::new(Conversions { client, webhook }) as Arc<dyn Converter>
                })
            });
            made.insert(name, (found.revision, kinds));
        }
        self.made = made;
        if changed {
            let mut kinds: Vec<Arc<CustomKind>> = self
                .made
                .values()
                .flat_map(|(_, kinds)| kinds.iter().cloned())
                .collect();
            kinds.sort_by(|a, b| {
                let by_version = || version_order(&a.version, &b.version);
                let by_name = || a.names.plural.cmp(&b.names.plural);
                a.group
                    .cmp(&b.group)
                    .then_with(by_version)
                    .then_with(by_name)
            });
            self.kinds.set_custom(kinds);
        }
    }

    /// Ends a definition that is being deleted; whether it has to wait.
    async fn finish(&self, found: &Found) -> Result<bool, Status> {
        let finalizers = meta::list(&found.object, &["metadata", "finalizers"]);
        if !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(false);
        }
        let left = self.delete_objects(&found.object).await?;
        let now = Timestamp::now();
        let mut object = found.object.clone();
        let mut status = object["status"].clone();
        if left > 0 {
            let (reason, why) = (
                "InstanceDeletionInProgress",
                "CustomResource deletion is in progress",
            );
            conditions::set(&mut status, "Terminating", "True", reason, why, now);
            object["status"] = status;
            if object != found.object {
                self.write(found, object).await?;
            }
            return Ok(true);
        }
        let (reason, why) = ("InstanceDeletionCompleted", "removed all instances");
        conditions::set(&mut status, "Terminating", "False", reason, why, now);
        object["status"] = status;
        if let Some(list) = object
            .pointer_mut("/metadata/finalizers")
            .and_then(Value::as_array_mut)
        {
            list.retain(|f| f != FINALIZER);
        }
        let gone = meta::list(&object, &["metadata", "finalizers"]).is_empty();
        if !gone {
            return Ok(self.write(found, object).await?.is_none());
        }
        let key = registry::key(&self.kind, "", meta::name(&object));
        let removed = registry::remove(&self.store, key, found.revision, Along::default()).await?;
        Ok(matches!(removed, Written::Lost(_)))
    }

    /// Deletes all objects of a definition; how many are left.
    async fn delete_objects(&self, of: &Value) -> Result<usize, Status> {
        let kinds = self.made.get(meta::name(of));
        let Some(kind) = kinds.and_then(|(_, kinds)| kinds.first()) else {
            return Ok(0);
        };
        let kind = KindRef::Custom(kind.clone());
        let prefix = registry::prefix(&kind, "");
        let range = Range {
            end: prefix_end(prefix.as_bytes()),
            start: prefix.clone().into(),
            ..Range::default()
        };
        let found = self.store.range(&range).map_err(registry::store_status)?;
        for kv in &found.items {
            let key = String::from_utf8_lossy(&kv.key);
            let rest = key.strip_prefix(&prefix).unwrap_or_default();
            let (namespace, name) = rest.rsplit_once('/').unwrap_or(("", rest));
            let options = DeleteOptions::default();
            let now = Timestamp::now();
            match delete_object(&self.store, &kind, namespace, name, &options, None, now).await {
                Ok(_) => {}
                Err(status) if status.code == 404 => {}
                Err(status) => return Err(status),
            }
        }
        let left = self.store.range(&range).map_err(registry::store_status)?;
        Ok(left.items.len())
    }
}

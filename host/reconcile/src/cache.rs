//! Objects of one resource as they were last seen, shared by all who read.
//!
//! Written by one `Reflector`; readers get `Arc`s, so that a reader never
//! blocks the writer for longer than a look-up.

use crate::resource::ObjectKey;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

/// A cheap handle.
pub struct Cache<T> {
    objects: Arc<RwLock<BTreeMap<ObjectKey, Seen<T>>>>,
    synced: watch::Sender<bool>,
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Cache {
            objects: self.objects.clone(),
            synced: self.synced.clone(),
        }
    }
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache {
            objects: Arc::default(),
            synced: watch::Sender::new(false),
        }
    }
}

pub(crate) struct Seen<T> {
    pub(crate) version: String,
    pub(crate) object: Arc<T>,
}

/// An object before and after; at least one of both is there.
pub struct Change<T> {
    pub key: ObjectKey,
    pub old: Option<Arc<T>>,
    pub new: Option<Arc<T>>,
}

impl<T> Cache<T> {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ObjectKey, Seen<T>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ObjectKey, Seen<T>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.read().get(key).map(|seen| seen.object.clone())
    }

    /// In the order of namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.read()
            .values()
            .map(|seen| seen.object.clone())
            .collect()
    }

    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let first = ObjectKey::new(namespace, "");
        let objects = self.read();
        let inside = objects
            .range(first..)
            .take_while(|(key, _)| key.namespace == namespace);
        inside.map(|(_, seen)| seen.object.clone()).collect()
    }

    pub fn keys(&self) -> Vec<ObjectKey> {
        self.read().keys().cloned().collect()
    }

    /// Waits until the first list is in.
    pub async fn synced(&self) {
        // `self` holds the sender, so it can't be gone.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    pub(crate) fn set_synced(&self) {
        self.synced.send_replace(true);
    }

    pub(crate) fn put(&self, key: ObjectKey, seen: Seen<T>) -> Option<Change<T>> {
        put(&mut self.write(), key, seen)
    }

    pub(crate) fn remove(&self, key: &ObjectKey) -> Option<Change<T>> {
        let (key, seen) = self.write().remove_entry(key)?;
        Some(Change {
            key,
            old: Some(seen.object),
            new: None,
        })
    }

    /// Everything anew: what is not in `items` is gone.
    pub(crate) fn replace(&self, items: Vec<(ObjectKey, Seen<T>)>) -> Vec<Change<T>> {
        let mut objects = self.write();
        let kept: HashSet<&ObjectKey> = items.iter().map(|(key, _)| key).collect();
        let gone: Vec<_> = objects
            .keys()
            .filter(|key| !kept.contains(key))
            .cloned()
            .collect();
        let mut changes = Vec::new();
        for key in gone {
            let old = objects.remove(&key).map(|seen| seen.object);
            changes.push(Change {
                key,
                old,
                new: None,
            });
        }
        changes.extend(
            items
                .into_iter()
                .filter_map(|(key, seen)| put(&mut objects, key, seen)),
        );
        changes
    }
}

/// `None` when that version is there already.
fn put<T>(
    objects: &mut BTreeMap<ObjectKey, Seen<T>>,
    key: ObjectKey,
    seen: Seen<T>,
) -> Option<Change<T>> {
    let new = Some(seen.object.clone());
    let old = match objects.get_mut(&key) {
        Some(old) if old.version == seen.version => return None,
        Some(old) => Some(std::mem::replace(old, seen).object),
        None => {
            objects.insert(key.clone(), seen);
            None
        }
    };
    Some(Change { key, old, new })
}

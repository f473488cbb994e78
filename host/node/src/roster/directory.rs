//! The pods as the rest of `node` sees them: by namespace and name. Many read,
//! the roster alone changes it; nothing waits while it is locked.

use crate::pod::Pod;
use crate::pod::view::View;
use crate::worker::{Shown, Update};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, watch};

#[derive(Clone, Default)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Default)]
struct Inner {
    pods: RwLock<ByName>,
    /// Whether all pods of this node are in.
    listed: watch::Sender<bool>,
}

type ByName = HashMap<(String, String), Listed>;

struct Listed {
    shown: watch::Receiver<Shown>,
    updates: mpsc::Sender<Update>,
}

impl Directory {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Shown> {
        let map = self.read();
        let listed = map.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(listed.shown.borrow().clone())
    }

    pub(crate) fn all(&self) -> Vec<Shown> {
        let map = self.read();
        map.values()
            .map(|listed| listed.shown.borrow().clone())
            .collect()
    }

    /// What becomes of the pod with this uid.
    pub(crate) fn follow(&self, uid: &str) -> Option<watch::Receiver<Shown>> {
        let map = self.read();
        let mut pods = map.values();
        let listed = pods.find(|listed| listed.is(uid))?;
        Some(listed.shown.clone())
    }

    /// Waits while the pod's queue is full; false if the pod isn't there.
    pub(crate) async fn tell(&self, uid: &str, update: Update) -> bool {
        let updates = {
            let map = self.read();
            let mut pods = map.values();
            pods.find(|listed| listed.is(uid))
                .map(|listed| listed.updates.clone())
        };
        match updates {
            Some(updates) => updates.send(update).await.is_ok(),
            None => false,
        }
    }

    /// Waits until the API was asked for all pods once.
    pub(crate) async fn listed(&self) {
        let mut listed = self.0.listed.subscribe();
        // The sender lives as long as this does.
        drop(listed.wait_for(|listed| *listed).await);
    }

    pub(super) fn list_is_in(&self) {
        self.0.listed.send_replace(true);
    }

    pub(super) fn insert(
        &self,
        pod: &Pod,
        shown: watch::Receiver<Shown>,
        updates: mpsc::Sender<Update>,
    ) {
        let mut map = self.0.pods.write().unwrap_or_else(PoisonError::into_inner);
        map.insert(key(pod), Listed { shown, updates });
    }

    /// Removes the pod's entry unless another pod of that name has it.
    pub(super) fn remove(&self, shown: &watch::Receiver<Shown>) {
        let mut map = self.0.pods.write().unwrap_or_else(PoisonError::into_inner);
        map.retain(|_, own| !own.shown.same_channel(shown));
    }

    fn read(&self) -> RwLockReadGuard<'_, ByName> {
        self.0.pods.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    fn is(&self, uid: &str) -> bool {
        View(&self.shown.borrow().pod).uid() == uid
    }
}

/// Namespace and name.
pub(super) fn key(pod: &Pod) -> (String, String) {
    let view = View(pod);
    (view.namespace().to_owned(), view.name().to_owned())
}

//! The objects under a prefix, as they stand, for plugins.

use crate::mirror::{Derived, Mirror};
use api::status::Status;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Store;

/// By what follows the prefix: `NAMESPACE/NAME` or `NAME`.
#[derive(Default)]
pub(crate) struct Objects(BTreeMap<String, Arc<Value>>);

impl Derived for Objects {
    fn put(&mut self, key: &str, object: Value) {
        self.0.insert(key.to_owned(), Arc::new(object));
    }

    fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// The objects of one kind.
pub(crate) struct Collection {
    prefix: &'static str,
    mirror: Mirror<Objects>,
}

impl Collection {
    /// `prefix` is the kind's in the store, with its slash.
    pub(crate) fn new(store: &Store, prefix: &'static str) -> Collection {
        Collection {
            prefix,
            mirror: Mirror::new(store.clone(), prefix),
        }
    }

    pub(crate) fn all(&self) -> Result<Vec<Arc<Value>>, Status> {
        self.mirror.with(|o| o.0.values().cloned().collect())
    }

    pub(crate) fn of_namespace(&self, namespace: &str) -> Result<Vec<Arc<Value>>, Status> {
        let from = format!("{}{namespace}/", self.prefix);
        self.mirror.with(|o| {
            o.0.range(from.clone()..)
                .take_while(|(key, _)| key.starts_with(&from))
                .map(|(_, object)| object.clone())
                .collect()
        })
    }

    /// `name` is `NAMESPACE/NAME` for a namespaced kind.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Arc<Value>>, Status> {
        let key = format!("{}{name}", self.prefix);
        self.mirror.with(|o| o.0.get(&key).cloned())
    }
}

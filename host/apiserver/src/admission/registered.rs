//! What is registered in `admissionregistration.k8s.io`, parsed, as it stands:
//! a webhook takes effect with the write that registers it.

use super::Operation;
use super::webhooks::Hook;
use crate::mirror::{Derived, Mirror};
use api::status::Status;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Store;

const PREFIX: &str = "/registry/admissionregistration.k8s.io/";

/// One state of affairs, in the order in which it is asked: by the names of
/// configurations, then as they list them.
#[derive(Debug, Default)]
pub(super) struct Registered {
    pub(super) mutating: Vec<Arc<Hook>>,
    pub(super) validating: Vec<Arc<Hook>>,
}

impl Registered {
    /// Whether anything is about such operations, of whatever resource.
    pub(super) fn takes(&self, operation: Operation) -> bool {
        let hooks = self.mutating.iter().chain(&self.validating);
        hooks.into_iter().any(|hook| hook.takes(operation))
    }
}

type ByName<T> = BTreeMap<String, T>;

#[derive(Default)]
struct Parsed {
    mutating: ByName<Vec<Arc<Hook>>>,
    validating: ByName<Vec<Arc<Hook>>>,
    current: Arc<Registered>,
}

impl Parsed {
    fn renew(&mut self) {
        let hooks = |of: &ByName<Vec<Arc<Hook>>>| of.values().flatten().cloned().collect();
        self.current = Arc::new(Registered {
            mutating: hooks(&self.mutating),
            validating: hooks(&self.validating),
        });
    }

    fn hooks(&mut self, plural: &str) -> Option<&mut ByName<Vec<Arc<Hook>>>> {
        match plural {
            "mutatingwebhookconfigurations" => Some(&mut self.mutating),
            "validatingwebhookconfigurations" => Some(&mut self.validating),
            _ => None,
        }
    }
}

/// Plural and name of a key.
fn named(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('/')
}

impl Derived for Parsed {
    fn put(&mut self, key: &str, object: Value) {
        let Some((plural, name)) = named(key) else {
            return;
        };
        if let Some(hooks) = self.hooks(plural) {
            let parsed = Hook::parse_all(&object).into_iter().map(Arc::new);
            hooks.insert(name.to_owned(), parsed.collect());
        }
        self.renew();
    }

    fn remove(&mut self, key: &str) {
        let Some((plural, name)) = named(key) else {
            return;
        };
        if let Some(hooks) = self.hooks(plural) {
            hooks.remove(name);
        }
        self.renew();
    }
}

pub(super) struct Registry(Mirror<Parsed>);

impl Registry {
    pub(super) fn new(store: &Store) -> Registry {
        Registry(Mirror::new(store.clone(), PREFIX))
    }

    pub(super) fn now(&self) -> Result<Arc<Registered>, Status> {
        self.0.with(|parsed| parsed.current.clone())
    }
}

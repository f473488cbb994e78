//! What is registered in `admissionregistration.k8s.io`, parsed, as it stands:
//! webhooks and policies take effect with the write that registers them.

use super::Operation;
use super::policies::{Binding, InForce, Policy};
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
    pub(super) mutating_policies: Vec<InForce>,
    pub(super) validating_policies: Vec<InForce>,
}

impl Registered {
    /// Whether anything is about such operations, of whatever resource.
    pub(super) fn takes(&self, operation: Operation) -> bool {
        let mut hooks = self.mutating.iter().chain(&self.validating);
        let policies = self.mutating_policies.iter();
        let mut policies = policies.chain(&self.validating_policies);
        hooks.any(|hook| hook.takes(operation)) || policies.any(|p| p.policy.takes(operation))
    }

    /// Whether anything registered changes objects.
    pub(super) fn mutates(&self) -> bool {
        !(self.mutating.is_empty() && self.mutating_policies.is_empty())
    }

    /// Whether anything registered judges requests.
    pub(super) fn validates(&self) -> bool {
        !(self.validating.is_empty() && self.validating_policies.is_empty())
    }
}

type ByName<T> = BTreeMap<String, T>;

/// Policies of one sort and their bindings.
#[derive(Default)]
struct Policies {
    policies: ByName<Arc<Policy>>,
    bindings: ByName<Arc<Binding>>,
}

impl Policies {
    /// Policies without a binding aren't in force.
    fn in_force(&self) -> Vec<InForce> {
        let bound = self.policies.iter().map(|(name, policy)| InForce {
            policy: policy.clone(),
            bindings: {
                let all = self.bindings.values();
                all.filter(|b| b.policy == *name).cloned().collect()
            },
        });
        bound.filter(|of| !of.bindings.is_empty()).collect()
    }
}

#[derive(Default)]
struct Parsed {
    mutating: ByName<Vec<Arc<Hook>>>,
    validating: ByName<Vec<Arc<Hook>>>,
    mutating_policies: Policies,
    validating_policies: Policies,
    current: Arc<Registered>,
}

/// Puts an object in its place, or takes it out.
fn settle<T>(all: &mut ByName<T>, name: &str, object: Option<T>) {
    match object {
        Some(object) => drop(all.insert(name.to_owned(), object)),
        None => drop(all.remove(name)),
    }
}

impl Parsed {
    fn change(&mut self, key: &str, object: Option<&Value>) {
        let Some((plural, name)) = named(key) else {
            return;
        };
        let hooks = || object.map(|o| Hook::parse_all(o).into_iter().map(Arc::new).collect());
        let policy = || object.map(|o| Arc::new(Policy::parse(o)));
        let binding = || object.map(|o| Arc::new(Binding::parse(o)));
        let (mutating, validating) = (&mut self.mutating_policies, &mut self.validating_policies);
        match plural {
            "mutatingwebhookconfigurations" => settle(&mut self.mutating, name, hooks()),
            "validatingwebhookconfigurations" => settle(&mut self.validating, name, hooks()),
            "mutatingadmissionpolicies" => settle(&mut mutating.policies, name, policy()),
            "validatingadmissionpolicies" => settle(&mut validating.policies, name, policy()),
            "mutatingadmissionpolicybindings" => settle(&mut mutating.bindings, name, binding()),
            "validatingadmissionpolicybindings" => {
                settle(&mut validating.bindings, name, binding());
            }
            _ => {}
        }
        let hooks = |of: &ByName<Vec<Arc<Hook>>>| of.values().flatten().cloned().collect();
        self.current = Arc::new(Registered {
            mutating: hooks(&self.mutating),
            validating: hooks(&self.validating),
            mutating_policies: self.mutating_policies.in_force(),
            validating_policies: self.validating_policies.in_force(),
        });
    }
}

/// Plural and name of a key.
fn named(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PREFIX)?.split_once('/')
}

impl Derived for Parsed {
    fn put(&mut self, key: &str, object: Value) {
        self.change(key, Some(&object));
    }

    fn remove(&mut self, key: &str) {
        self.change(key, None);
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

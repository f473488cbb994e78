//! Admission: what is changed in, and what is refused of, an object that is
//! about to be written, whatever its kind says itself.
//!
//! ```text
//! decode -> default -> mutate -> validate (kind) -> validate -> commit
//!                                                     \-> Also: quotas
//! ```
//! Built-in plugins stand in upstream's order. What they read, they read from
//! mirrors of the store.

mod defaults;
mod limits;
mod node_restriction;
mod objects;
mod pod_security;
pub(crate) mod quota;
pub(crate) mod resources;
mod service_account;

use crate::config::Config;
use crate::registry::Along;
use crate::user::User;
use api::kinds::KindRef;
use api::status::Status;
use objects::Collection;
use quota::Quotas;
use serde_json::Value;
use store::{Compare, Op, Store};
use tokio::sync::OwnedMutexGuard;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// What is about to happen, and by whom.
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    pub(crate) operation: Operation,
    pub(crate) kind: &'a KindRef,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) subresource: &'a str,
}

impl Attributes<'_> {
    /// A refusal, in the words that every plugin's refusal begins with.
    pub(crate) fn forbid(&self, why: &str) -> Status {
        Status::forbidden(self.kind.resource(), self.name, why)
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group() == group && self.kind.plural() == plural && self.subresource.is_empty()
    }
}

/// What has to be committed together with the object.
#[derive(Default)]
pub(crate) struct Also {
    pub(crate) compare: Vec<Compare>,
    pub(crate) then: Vec<Op>,
    /// Kept until the commit.
    turn: Option<OwnedMutexGuard<()>>,
    pub(crate) warnings: Vec<String>,
}

impl Also {
    /// Adds it to what goes along with a write; the turn is kept by `self`.
    pub(crate) fn join(&self, along: &mut Along) {
        along.compare.extend(self.compare.iter().cloned());
        along.then.extend(self.then.iter().cloned());
    }
}

pub(crate) struct Admission {
    store: Store,
    limit_ranges: Collection,
    priorities: Collection,
    storage_classes: Collection,
    ingress_classes: Collection,
    quotas: Quotas,
    mounts_tokens: bool,
}

impl Admission {
    pub(crate) fn new(store: &Store, config: &Config) -> Admission {
        Admission {
            store: store.clone(),
            limit_ranges: Collection::new(store, "/registry/core/limitranges/"),
            priorities: Collection::new(store, "/registry/scheduling.k8s.io/priorityclasses/"),
            storage_classes: Collection::new(store, "/registry/storage.k8s.io/storageclasses/"),
            ingress_classes: Collection::new(store, "/registry/networking.k8s.io/ingressclasses/"),
            quotas: Quotas::new(store),
            mounts_tokens: config.mount_service_account_tokens,
        }
    }

    /// Changes what is about to be written.
    pub(crate) async fn mutate(
        &self,
        a: &Attributes<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let create = a.operation == Operation::Create;
        if a.is("", "pods") {
            if create {
                service_account::mutate(&self.store, a, object, self.mounts_tokens).await?;
                limits::default(object, &self.limit_ranges.of_namespace(a.namespace)?);
            }
            defaults::priority(a, object, old, &self.priorities)?;
        }
        if create && a.is("", "persistentvolumeclaims") {
            defaults::storage_class(a, object, &self.storage_classes)?;
        }
        if create && a.is("networking.k8s.io", "ingresses") {
            defaults::ingress_class(a, object, &self.ingress_classes)?;
        }
        Ok(())
    }

    /// Refuses what may not be written; names what goes with it.
    pub(crate) async fn validate(
        &self,
        a: &Attributes<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Also, Status> {
        let create = a.operation == Operation::Create;
        node_restriction::check(&self.store, a, object, old)?;
        let mut warnings = Vec::new();
        if a.is("", "pods") {
            warnings = pod_security::check(&self.store, a, object, old)?;
        }
        if create && (a.is("", "pods") || a.is("", "persistentvolumeclaims")) {
            let ranges = self.limit_ranges.of_namespace(a.namespace)?;
            let errors = match a.kind.plural() {
                "pods" => limits::check_pod(object, &ranges),
                _ => limits::check_claim(object, &ranges),
            };
            match errors.as_slice() {
                [] => {}
                [one] => return Err(a.forbid(one)),
                many => return Err(a.forbid(&format!("[{}]", many.join(", ")))),
            }
        }
        let mut also = self.quotas.charge(a, object, old).await?;
        also.warnings = warnings;
        Ok(also)
    }
}

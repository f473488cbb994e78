//! Admission: what is changed in, and what is refused of, an object that is
//! about to be written, whatever its kind says itself.
//!
//! ```text
//! decode -> mutate -> default -> validate (kind) -> validate -> commit
//!             |                                        |   \-> Also: quotas
//!             built in, policies, webhooks        built in, policies, webhooks
//! ```
//! Built-in plugins stand in upstream's order, and before whatever is
//! registered; quotas come last. What they read, they read from mirrors of the
//! store.

mod attributes;
mod certificates;
mod conditions;
mod defaults;
mod limits;
mod matching;
mod mirror_pods;
mod node_restriction;
mod objects;
mod pod_security;
mod policies;
pub(crate) mod quota;
mod registered;
mod reinvocation;
pub(crate) mod resources;
mod runtime_class;
mod scene;
mod service_account;
mod webhooks;

pub(crate) use attributes::{Attributes, Operation, Options};
pub(crate) use policies::warnings as type_warnings;

use crate::authz::Authorizer;
use crate::kinds::Kinds;
use crate::registry::Along;
use crate::user::User;
use crate::webhook::Client;
use api::status::Status;
use objects::Collection;
use policies::Policies;
use quota::Quotas;
use registered::Registry;
use reinvocation::Reinvocation;
use scene::Scene;
use serde_json::Value;
use std::sync::Arc;
use store::{Compare, Op, Store};
use tokio::sync::OwnedMutexGuard;
use webhooks::Webhooks;

/// What has to be committed together with the object.
#[derive(Default)]
pub(crate) struct Also {
    pub(crate) compare: Vec<Compare>,
    pub(crate) then: Vec<Op>,
    /// Kept until the commit.
    turn: Option<OwnedMutexGuard<()>>,
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
    authorizer: Arc<Authorizer>,
    kinds: Arc<Kinds>,
    limit_ranges: Collection,
    priorities: Collection,
    storage_classes: Collection,
    ingress_classes: Collection,
    runtime_classes: Collection,
    namespaces: Collection,
    quotas: Quotas,
    registry: Registry,
    policies: Policies,
    webhooks: Webhooks,
}

impl Admission {
    pub(crate) fn new(
        store: &Store,
        authorizer: Arc<Authorizer>,
        kinds: Arc<Kinds>,
        client: Arc<Client>,
    ) -> Admission {
        Admission {
            store: store.clone(),
            authorizer,
            policies: Policies::new(store.clone(), kinds.clone()),
            kinds,
            limit_ranges: Collection::new(store, "/registry/core/limitranges/"),
            priorities: Collection::new(store, "/registry/scheduling.k8s.io/priorityclasses/"),
            storage_classes: Collection::new(store, "/registry/storage.k8s.io/storageclasses/"),
            ingress_classes: Collection::new(store, "/registry/networking.k8s.io/ingressclasses/"),
            runtime_classes: Collection::new(store, "/registry/node.k8s.io/runtimeclasses/"),
            namespaces: Collection::new(store, "/registry/core/namespaces/"),
            quotas: Quotas::new(store),
            registry: Registry::new(store),
            webhooks: Webhooks::new(client),
        }
    }

    /// Changes what is about to be written; null where nothing is. Warnings
    /// count whatever comes of it.
    pub(crate) async fn mutate(
        &self,
        a: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        self.change(a, object, old).await?;
        let registered = self.registry.now()?;
        if !registered.mutates() {
            return Ok(());
        }
        let scene = self.scene(a);
        if scene.is_exempt() {
            return Ok(());
        }
        let mut rounds = (Reinvocation::default(), Reinvocation::default());
        for second in [false, true] {
            if second {
                self.change(a, object, old).await?;
            }
            let policies = &registered.mutating_policies;
            let round = (&mut rounds.0, second);
            let mut changed = self
                .policies
                .mutate(policies, &scene, (&mut *object, old), round)?;
            let (hooks, objects) = (&registered.mutating, (&mut *object, old));
            let asked =
                self.webhooks
                    .mutate(hooks, &scene, objects, (&mut rounds.1, second), warnings);
            changed |= asked.await?;
            if !changed {
                break;
            }
        }
        Ok(())
    }

    fn scene<'a>(&'a self, a: &'a Attributes<'a>) -> Scene<'a> {
        Scene::new(a, &self.kinds.table(), &self.namespaces, &self.authorizer)
    }

    /// Whether anybody looks at deletions by `user`, so that each is one of its
    /// own.
    pub(crate) fn judges_deletions(&self, user: &User) -> Result<bool, Status> {
        let registered = self.registry.now()?;
        Ok(user.node_name().is_some() || registered.takes(Operation::Delete))
    }

    /// What built-in plugins change.
    async fn change(
        &self,
        a: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let create = a.operation == Operation::Create;
        let old = Some(old).filter(|old| !old.is_null());
        if a.is("", "pods") && (create || a.operation == Operation::Update) {
            if create {
                service_account::mutate(&self.store, a, object).await?;
                limits::default(object, &self.limit_ranges.of_namespace(a.namespace)?);
            }
            defaults::priority(a, object, old, &self.priorities)?;
            if create && let Some(class) = self.runtime_class(a, object)? {
                runtime_class::apply(object, &class).map_err(|why| a.forbid(&why))?;
            }
        }
        if create && a.is("", "persistentvolumeclaims") {
            defaults::storage_class(a, object, &self.storage_classes)?;
        }
        if create && a.is("networking.k8s.io", "ingresses") {
            defaults::ingress_class(a, object, &self.ingress_classes)?;
        }
        Ok(())
    }

    /// The class that a pod names.
    fn runtime_class(&self, a: &Attributes<'_>, pod: &Value) -> Result<Option<Arc<Value>>, Status> {
        let name = runtime_class::name_of(pod);
        if name.is_empty() {
            return Ok(None);
        }
        let found = self.runtime_classes.get(name)?;
        let absent = || a.forbid(&runtime_class::not_found(name));
        found.ok_or_else(absent).map(Some)
    }

    /// Refuses what may not be done; names what goes with it. `object` is null
    /// for a deletion, `old` where nothing stands. Warnings count whatever
    /// comes of it.
    pub(crate) async fn validate(
        &self,
        a: &Attributes<'_>,
        object: &Value,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Also, Status> {
        let before = Some(old).filter(|old| !old.is_null());
        self.judge(a, object, before, warnings)?;
        let registered = self.registry.now()?;
        if registered.validates() {
            let scene = self.scene(a);
            if !scene.is_exempt() {
                let policies = &registered.validating_policies;
                self.policies
                    .validate(policies, &scene, (object, old), warnings)?;
                let hooks = &registered.validating;
                self.webhooks
                    .validate(hooks, &scene, (object, old), warnings)
                    .await?;
            }
        }
        self.quotas.charge(a, object, before).await
    }

    /// What built-in plugins refuse.
    fn judge(
        &self,
        a: &Attributes<'_>,
        object: &Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let create = a.operation == Operation::Create;
        node_restriction::check(&self.store, a, object, old)?;
        certificates::check(&self.authorizer, a, object, old)?;
        if a.is("", "namespaces") {
            pod_security::check_namespace(a, object, old)?;
        }
        if a.is("", "pods") {
            warnings.extend(pod_security::check(&self.store, a, object, old)?);
        }
        if create && a.is("", "pods") {
            let class = self.runtime_class(a, object)?;
            runtime_class::check_overhead(object, class.as_deref())
                .map_err(|why| a.forbid(&why))?;
        }
        if a.subresource.is_empty() && (create || a.operation == Operation::Update) {
            let before = old.unwrap_or(&Value::Null);
            warnings.extend(api::kinds::pod_warnings(a.kind, object, before));
        }
        let resized = a.subresource == "resize";
        if resized || create && (a.is("", "pods") || a.is("", "persistentvolumeclaims")) {
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
        Ok(())
    }
}

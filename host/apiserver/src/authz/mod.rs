//! Authorization: may this user do this? `system:masters` may everything; then
//! the node authorizer, then RBAC. What nobody allows is forbidden.
//!
//! `rule` is one rule, `rbac` the roles and bindings as they stand, `node` what
//! follows from pods on a node, `bootstrap` what every cluster has,
//! `escalation` what a writer of roles must hold already, `selection` what
//! selectors say.

pub(crate) mod bootstrap;
pub(crate) mod escalation;
mod node;
mod rbac;
mod rule;
pub(crate) mod selection;

use crate::audit::Trail;
use crate::mirror::Mirror;
use crate::route::Route;
use crate::user::{MASTERS, User};
use api::selector::FieldTerm;
use api::status::{Qualified, Status};
use node::NodeAuthorizer;
pub(crate) use node::references;
use rbac::{Held, Policy};
use selection::Selection;
use serde_json::{Value, json};
use store::Store;

/// What is to be done: a verb on a resource, or on a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) verb: &'a str,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// What the objects' fields have to be, of a request on many.
    pub(crate) fields: &'a [FieldTerm],
    /// Of a request on no resource; then the rest is empty.
    pub(crate) path: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(route: &'a Route, selected: &'a Selection) -> Attributes<'a> {
        match route {
            Route::Other { verb, path } => Attributes {
                verb,
                path: Some(path),
                ..Attributes::default()
            },
            Route::Resource(r) => Attributes {
                verb: r.verb,
                group: &r.group,
                resource: &r.resource,
                subresource: &r.subresource,
                namespace: &r.namespace,
                name: match r.name.as_str() {
                    "" => &selected.name,
                    name => name,
                },
                fields: &selected.fields.0,
                path: None,
            },
        }
    }

    fn full_resource(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            sub => format!("{}/{sub}", self.resource),
        }
    }
}

/// The reason for it, for reviews and messages; may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed(String),
    NoOpinion(String),
}

pub(crate) struct Authorizer {
    node: NodeAuthorizer,
    policy: Mirror<Policy>,
}

impl Authorizer {
    pub(crate) fn new(store: &Store) -> Authorizer {
        Authorizer {
            node: NodeAuthorizer::new(store),
            policy: rbac::mirror(store),
        }
    }

    pub(crate) fn decide(&self, user: &User, a: &Attributes<'_>) -> Decision {
        if user.is_in(MASTERS) {
            return Decision::Allowed(String::new());
        }
        let mut reasons = Vec::new();
        if let Some(node) = user.node_name() {
            match self.node.decide(node, a) {
                Ok(()) => return Decision::Allowed(String::new()),
                Err(why) => reasons.push(why),
            }
        }
        match self.policy.with(|p| p.decide(user, a)) {
            Ok(Ok(why)) => return Decision::Allowed(why),
            Ok(Err(errors)) if errors.is_empty() => {}
            Ok(Err(errors)) => reasons.push(format!("RBAC: {}", rbac::aggregate(&errors))),
            Err(status) => reasons.push(status.message),
        }
        reasons.retain(|r| !r.is_empty());
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// Whether it can decide: what it knows can be read.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.policy.with(|_| ()).map_err(|status| status.message)
    }

    pub(crate) fn allows(&self, user: &User, a: &Attributes<'_>) -> bool {
        matches!(self.decide(user, a), Decision::Allowed(_))
    }

    pub(crate) fn authorize(&self, user: &User, a: &Attributes<'_>) -> Result<(), Status> {
        self.authorize_audited(user, a, &Trail::default())
    }

    /// The same for a request itself: its trail tells how it was decided.
    pub(crate) fn authorize_audited(
        &self,
        user: &User,
        a: &Attributes<'_>,
        trail: &Trail,
    ) -> Result<(), Status> {
        let decision = self.decide(user, a);
        trail.decided(&decision);
        match decision {
            Decision::Allowed(_) => Ok(()),
            Decision::NoOpinion(why) => Err(forbidden(user, a, &why)),
        }
    }

    /// The status of a SelfSubjectRulesReview.
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> Result<Value, Status> {
        let held = self.held(user, namespace)?;
        let (urls, resources): (Vec<_>, Vec<_>) =
            held.rules.iter().partition(|r| !r.urls.is_empty());
        let values = |rules: Vec<&rule::Rule>| -> Value {
            rules.into_iter().map(rule::Rule::to_value).collect()
        };
        let mut errors = held.errors;
        if user.node_name().is_some() {
            errors.push("node authorizer does not support user rule resolution".to_owned());
        }
        let mut status = json!({
            "resourceRules": values(resources),
            "nonResourceRules": values(urls),
            "incomplete": !errors.is_empty(),
        });
        if !errors.is_empty() {
            status["evaluationError"] = rbac::aggregate(&errors).into();
        }
        Ok(status)
    }

    /// The RBAC rules that hold for `user` in `namespace`.
    fn held(&self, user: &User, namespace: &str) -> Result<Held, Status> {
        self.policy.with(|p| p.held(user, namespace))
    }
}

/// Upstream's words for what nobody allows.
pub(crate) fn forbidden(user: &User, a: &Attributes<'_>, why: &str) -> Status {
    let (name, verb) = (&user.name, a.verb);
    let mut message = match a.path {
        Some(path) => format!("User {name:?} cannot {verb} path {path:?}"),
        None => {
            let scope = match a.namespace {
                "" => "at the cluster scope".to_owned(),
                ns => format!("in the namespace {ns:?}"),
            };
            let resource = a.full_resource();
            let group = a.group;
            format!(
                "User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}"
            )
        }
    };
    if !why.is_empty() {
        message = format!("{message}: {why}");
    }
    let resource = Qualified {
        group: a.group,
        name: a.resource,
    };
    Status::forbidden(resource, a.name, &message)
}

#[cfg(test)]
mod tests;

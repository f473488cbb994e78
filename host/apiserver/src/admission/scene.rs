//! One request with what decides who is asked about it: its namespace, the
//! other versions of its resource, its objects in any of them.

use super::attributes::Attributes;
use super::conditions::{Bound, bind};
use super::matching::{Criteria, Subject};
use super::objects::Collection;
use crate::authz::{self, Authorizer, Decision, selection};
use crate::kinds::Table;
use crate::registry;
use crate::user::{AUTHENTICATED, User};
use api::kinds::KindRef;
use api::status::{Qualified, Status};
use expressions::authorizer::{self, AUTHORIZER, Authority, Question, REQUEST_RESOURCE, Verdict};
use serde_json::Value;
use std::sync::Arc;

/// Who sent the request, and who knows what they may.
struct Requester {
    user: User,
    authorizer: Arc<Authorizer>,
}

impl Authority for Requester {
    /// No authorizer here fails: what it couldn't read is in the reason.
    fn decide(&self, question: &Question) -> Verdict {
        let account = question.account.as_ref().map(|(namespace, name)| {
            let mut user = User::account(namespace, name, "");
            user.groups.retain(|group| group != AUTHENTICATED);
            user
        });
        let fields = selection::fields(&question.field_selector);
        let attributes = authz::Attributes {
            verb: &question.verb,
            group: &question.group,
            resource: &question.resource,
            subresource: &question.subresource,
            namespace: &question.namespace,
            name: &question.name,
            fields: &fields.0,
            path: question.path.as_deref(),
        };
        let user = account.as_ref().unwrap_or(&self.user);
        let (allowed, reason) = match self.authorizer.decide(user, &attributes) {
            Decision::Allowed(why) => (true, why),
            Decision::NoOpinion(why) => (false, why),
        };
        Verdict {
            allowed,
            reason,
            error: None,
        }
    }
}

pub(super) struct Scene<'a> {
    pub(super) a: &'a Attributes<'a>,
    others: Vec<KindRef>,
    namespaces: &'a Collection,
    authority: Arc<dyn Authority>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        a: &'a Attributes<'a>,
        table: &Table,
        namespaces: &'a Collection,
        authorizer: &Arc<Authorizer>,
    ) -> Scene<'a> {
        let kind = a.kind;
        let is_other = |k: &&KindRef| {
            k.storage() == kind.storage()
                && (k.group(), k.version()) != (kind.group(), kind.version())
        };
        let others = match kind.storage() {
            "" => Vec::new(),
            _ => table.iter().filter(is_other).cloned().collect(),
        };
        Scene {
            a,
            others,
            namespaces,
            authority: Arc::new(Requester {
                user: a.user.clone(),
                authorizer: authorizer.clone(),
            }),
        }
    }

    /// The request's namespace as it stands.
    pub(super) fn namespace(&self) -> Result<Value, Status> {
        const NAMESPACES: Qualified<'static> = Qualified {
            group: "",
            name: "namespaces",
        };
        let name = self.a.namespace;
        let found = self.namespaces.get(name)?;
        found
            .map(|namespace| (*namespace).clone())
            .ok_or_else(|| Status::not_found(NAMESPACES, name))
    }

    /// The namespace as policies see it: null where the request has none.
    pub(super) fn namespace_object(&self) -> Result<Value, Status> {
        let kind = self.a.kind;
        let is_namespace = kind.group().is_empty() && kind.plural() == "namespaces";
        if self.a.namespace.is_empty() || is_namespace {
            return Ok(Value::Null);
        }
        let mut namespace = self.namespace()?;
        for key in ["managedFields", "ownerReferences"] {
            api::meta::ensure_metadata(&mut namespace).shift_remove(key);
        }
        Ok(namespace)
    }

    /// The kind as which `criteria` take the request, if they do.
    pub(super) fn matched<'b>(
        &'b self,
        criteria: &Criteria,
        (object, old): (&'b Value, &'b Value),
    ) -> Result<Option<&'b KindRef>, Status> {
        let subject = Subject {
            operation: self.a.operation,
            kind: self.a.kind,
            subresource: self.a.subresource,
            namespace: self.a.namespace,
            name: self.a.name,
            object,
            old,
        };
        let others: Vec<&KindRef> = self.others.iter().collect();
        criteria.matched(&subject, &others, || self.namespace())
    }

    /// An object of the request as one of `kind`.
    pub(super) fn versioned(&self, object: &Value, kind: &KindRef) -> Result<Value, Status> {
        self.convert(object, self.a.kind, kind)
    }

    /// An object of `kind` as one of the request.
    pub(super) fn back(&self, object: &Value, kind: &KindRef) -> Result<Value, Status> {
        self.convert(object, kind, self.a.kind)
    }

    fn convert(&self, object: &Value, from: &KindRef, to: &KindRef) -> Result<Value, Status> {
        if from == to || object.is_null() || self.a.has_own_type() {
            return Ok(object.clone());
        }
        registry::convert(from, to, object)
    }

    /// The request as expressions see it that know it as one of `kind`.
    pub(super) fn bind(&self, (object, old): (&Value, &Value), kind: &KindRef) -> Bound {
        let mut bound = bind(object, old, &self.a.request(kind));
        let authority = || self.authority.clone();
        let own = Question {
            group: self.a.kind.group().to_owned(),
            resource: self.a.kind.plural().to_owned(),
            subresource: self.a.subresource.to_owned(),
            namespace: self.a.namespace.to_owned(),
            name: self.a.name.to_owned(),
            ..Question::default()
        };
        bound.push((AUTHORIZER, authorizer::authorizer(authority())));
        let own = authorizer::request_resource(authority(), own);
        bound.push((REQUEST_RESOURCE, own));
        bound
    }

    /// What configures admission is never judged by what it configures.
    pub(super) fn is_exempt(&self) -> bool {
        const KINDS: &[&str] = &[
            "mutatingwebhookconfigurations",
            "validatingwebhookconfigurations",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ];
        let kind = self.a.kind;
        kind.group() == "admissionregistration.k8s.io" && KINDS.contains(&kind.plural())
    }
}

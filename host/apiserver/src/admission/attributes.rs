//! What is about to happen, and by whom, as rules, webhooks and expressions
//! see it (`admission.Attributes`, `admission/v1` `AdmissionRequest`).

use crate::audit::Trail;
use crate::query::Query;
use crate::rest::body;
use crate::rest::delete::DeleteOptions;
use crate::user::User;
use api::kinds::KindRef;
use api::status::Status;
use api::{decode, facts};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// Where the operation's options stand.
#[derive(Clone, Copy)]
pub(crate) enum Options<'a> {
    /// Of a create or an update.
    Query(&'a Query),
    Deletion(&'a DeleteOptions),
    /// Of a connection: it has none.
    Nowhere,
}

pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    pub(crate) operation: Operation,
    pub(crate) kind: &'a KindRef,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) options: Options<'a>,
    /// Takes annotations.
    pub(crate) trail: &'a Trail,
}

/// Group, version and kind.
type Gvk<'a> = (&'a str, &'a str, &'a str);

/// The type of the objects of a kind's subresource, where it has its own.
fn own_type(kind: &KindRef, subresource: &str) -> Option<Gvk<'static>> {
    let listed = kind.subresources().iter();
    let found = listed.copied().find(|s| s.name() == subresource)?;
    let (group, version, kind) = match found.discovery() {
        (group, version, Some(kind), _) => (group, version, kind),
        (_, _, None, _) => return None,
    };
    Some((group, if version.is_empty() { "v1" } else { version }, kind))
}

impl Attributes<'_> {
    /// A refusal, in the words that every plugin's refusal begins with.
    pub(crate) fn forbid(&self, why: &str) -> Status {
        Status::forbidden(self.kind.resource(), self.name, why)
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group() == group && self.kind.plural() == plural && self.subresource.is_empty()
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        match self.options {
            Options::Query(query) => query.dry_run().unwrap_or(false),
            Options::Deletion(options) => options.dry_run,
            Options::Nowhere => false,
        }
    }

    /// The full name of that type.
    pub(super) fn own_type_name(&self) -> Option<&'static str> {
        let gvk = own_type(self.kind, self.subresource)?;
        facts::of_gvk(gvk).map(|facts| facts.name)
    }

    /// Whether its objects have a type of their own, whatever version the
    /// resource is in.
    pub(super) fn has_own_type(&self) -> bool {
        own_type(self.kind, self.subresource).is_some()
    }

    /// Makes what somebody changed an object of its type again.
    pub(super) fn settle(&self, object: &mut Value, kind: &KindRef) -> Result<(), String> {
        if !object.is_object() {
            return Err("what admission leaves isn't an object".to_owned());
        }
        let Some((group, version, name)) = own_type(kind, self.subresource) else {
            kind.conform(object, &mut Vec::new())?;
            body::stamp(object, kind);
            kind.default(object);
            return Ok(());
        };
        if let Some(facts) = facts::of_gvk((group, version, name)) {
            decode::conform(object, facts.name, &mut Vec::new())?;
        }
        object["kind"] = name.into();
        object["apiVersion"] = api::kinds::api_version(group, version).into();
        Ok(())
    }

    fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut out = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        match self.options {
            Options::Query(query) => {
                if self.is_dry_run() {
                    out["dryRun"] = json!(["All"]);
                }
                for key in ["fieldManager", "fieldValidation"] {
                    if let Some(text) = query.get(key).filter(|text| !text.is_empty()) {
                        out[key] = text.into();
                    }
                }
            }
            Options::Deletion(options) => options.describe(&mut out),
            Options::Nowhere => return Value::Null,
        }
        out
    }

    /// The `AdmissionRequest` without objects, for somebody who knows the
    /// resource as `matched`. Empty members are left out, as Go leaves them.
    pub(super) fn request(&self, matched: &KindRef) -> Value {
        let kind = |of: &KindRef| {
            let own = own_type(of, self.subresource);
            let (group, version, kind) = own.unwrap_or((of.group(), of.version(), of.kind()));
            json!({"group": group, "version": version, "kind": kind})
        };
        let resource = |of: &KindRef| json!({"group": of.group(), "version": of.version(), "resource": of.plural()});
        let mut out = json!({"kind": kind(matched), "resource": resource(matched)});
        out["requestKind"] = kind(self.kind);
        out["requestResource"] = resource(self.kind);
        for (key, text) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ] {
            if !text.is_empty() {
                out[key] = text.into();
            }
        }
        out["operation"] = self.operation.name().into();
        out["userInfo"] = self.user.info();
        out["dryRun"] = self.is_dry_run().into();
        out["options"] = self.options();
        out
    }
}

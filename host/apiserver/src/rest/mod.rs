//! The verbs on resources. Each takes a [`Call`] and gives a response or the
//! `Status` that refuses it.

pub(crate) mod body;
mod connect;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod eviction;
pub(crate) mod list;
pub(crate) mod options;
pub(crate) mod patch;
pub(crate) mod pod;
mod proxy;
pub(crate) mod review;
pub(crate) mod scale;
mod socket;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;

use crate::admission::{self, Admission, Also, Operation, Options};
use crate::audit::Trail;
use crate::authn::Authenticator;
use crate::authz::{Authorizer, escalation};
use crate::query::Query;
use crate::registry;
use crate::respond::{self, Accepted, Form, Media};
use crate::route::ResourceRoute;
use crate::user::User;
use crate::warnings::Warnings;
use api::kinds::{KindRef, Subresource};
use api::print;
use api::status::Status;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use reconcile::Body;
use serde_json::Value;
use std::sync::Arc;
use store::{Revision, Store};

/// One request on a resource, authenticated and authorized.
pub(crate) struct Call {
    pub(crate) store: Store,
    pub(crate) streams: Arc<crate::proxy::Streams>,
    pub(crate) frames: Arc<crate::frames::Frames>,
    pub(crate) usages: Arc<crate::usage::Usages>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) trail: Trail,
    /// What to warn of, beside what the body said.
    pub(crate) warnings: Warnings,
    pub(crate) kind: KindRef,
    pub(crate) route: ResourceRoute,
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body, where it isn't waited for.
    pub(crate) streamed: Option<hyper::body::Incoming>,
    pub(crate) upgrade: Option<OnUpgrade>,
    /// The client's address.
    pub(crate) remote: Option<std::net::IpAddr>,
    pub(crate) accepted: Accepted,
    pub(crate) user: User,
    pub(crate) now: Timestamp,
}

pub(crate) type Answer = Result<Response<Body>, Status>;

impl Call {
    pub(crate) async fn answer(self) -> Answer {
        self.catch_up().await?;
        let kind = &self.kind;
        let subresource = match self.route.subresource.as_str() {
            "" => None,
            name => Some(
                kind.subresources()
                    .iter()
                    .copied()
                    .find(|s| s.name() == name)
                    .ok_or_else(Status::no_such_path)?,
            ),
        };
        if kind.namespaced() && self.route.namespace.is_empty() && !self.spans_namespaces() {
            return Err(Status::method_not_allowed());
        }
        let own = kind.plural() == "namespaces" && self.route.namespace == self.route.name;
        if !(kind.namespaced() || self.route.namespace.is_empty() || own) {
            return Err(Status::no_such_path());
        }
        match subresource {
            None => self.answer_main().await,
            Some(Subresource::Status) => self.answer_part(update::Part::Status).await,
            Some(Subresource::Approval) => self.answer_part(update::Part::Approval).await,
            Some(Subresource::Finalize) => match self.route.verb {
                "update" => update::update(self, update::Part::Finalize).await,
                _ => Err(Status::method_not_allowed()),
            },
            Some(Subresource::Token) => match self.route.verb {
                "create" => token::create(self).await,
                _ => Err(Status::method_not_allowed()),
            },
            Some(Subresource::Scale) => scale::answer(self).await,
            Some(Subresource::EphemeralContainers) => {
                self.answer_part(update::Part::EphemeralContainers).await
            }
            Some(Subresource::Resize) => self.answer_part(update::Part::Resize).await,
            Some(other) => pod::answer(self, other).await,
        }
    }

    /// What other API servers have written to the same store counts too, but
    /// for who reads and does with less.
    async fn catch_up(&self) -> Result<(), Status> {
        let reads = matches!(self.route.verb, "get" | "list" | "watch");
        let enough = self.query.text("resourceVersion").parse().ok();
        let enough = enough.filter(|_| reads).map(Revision);
        self.store
            .fresh(enough)
            .await
            .map_err(registry::store_status)
    }

    /// Only these go over all namespaces at once.
    fn spans_namespaces(&self) -> bool {
        matches!(self.route.verb, "list" | "watch") && self.route.name.is_empty()
    }

    async fn answer_main(self) -> Answer {
        if !self.kind.verbs().contains(&self.route.verb) {
            let mut status = Status::method_not_allowed();
            if self.kind.custom().is_some_and(|c| c.terminating) {
                status.message = format!(
                    "{} not allowed while custom resource definition is terminating",
                    self.route.verb
                );
            }
            return Err(status);
        }
        if self.kind.storage().is_empty() {
            return match self.kind.group() {
                "" => pod::bindings(self).await,
                "metrics.k8s.io" => crate::usage::answer(self).await,
                _ => review::answer(self).await,
            };
        }
        match self.route.verb {
            "get" => get(self),
            "list" => list::list(self).await,
            "watch" => watch::watch(self),
            "create" if self.route.name.is_empty() => create::create(self).await,
            "update" if !self.route.name.is_empty() => {
                update::update(self, update::Part::Main).await
            }
            "patch" if !self.route.name.is_empty() => patch::patch(self, update::Part::Main).await,
            "delete" => delete::delete(self).await,
            "deletecollection" => delete::collection(self).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    async fn answer_part(self, part: update::Part) -> Answer {
        match self.route.verb {
            "get" => get(self),
            "update" => update::update(self, part).await,
            "patch" => patch::patch(self, part).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// Refuses roles and bindings that grant more than their writer holds.
    fn may_grant(&self, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        let of = (self.kind.group(), self.kind.plural());
        escalation::check(&self.authorizer, &self.user, of, object, old)
    }

    fn attributes<'a>(
        &'a self,
        operation: Operation,
        name: &'a str,
        options: Options<'a>,
    ) -> admission::Attributes<'a> {
        // A namespace stands in itself, even before it is made.
        let is_namespace = self.kind.group().is_empty() && self.kind.plural() == "namespaces";
        admission::Attributes {
            user: &self.user,
            operation,
            kind: &self.kind,
            namespace: if is_namespace {
                name
            } else {
                &self.route.namespace
            },
            name,
            subresource: &self.route.subresource,
            options,
            trail: &self.trail,
        }
    }

    /// What admission changes in an object that is about to be written.
    pub(crate) async fn mutate(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if self.route.subresource == "scale" {
            let mut view = scale::scale_of(&self.kind, object)?;
            let before = view.clone();
            let old = old
                .map(|old| scale::scale_of(&self.kind, old))
                .transpose()?;
            self.change(operation, &mut view, old.as_ref()).await?;
            if view != before {
                *object = scale::apply(&self.kind, &view, object)?;
            }
            return Ok(());
        }
        self.change(operation, object, old).await
    }

    async fn change(
        &self,
        operation: Operation,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let name = self.name_of(object).to_owned();
        let a = self.attributes(operation, &name, Options::Query(&self.query));
        let mut warnings = Vec::new();
        let old = old.unwrap_or(&Value::Null);
        let owners = api::meta::at(object, &["metadata", "managedFields"]).cloned();
        let outcome = self.admission.mutate(&a, object, old, &mut warnings).await;
        if outcome.is_ok() && object.get("metadata").is_some() {
            warnings.extend(body::keep_owners(object, owners));
            warnings.extend(body::dedup_owners(object, true));
        }
        self.warnings.add(warnings);
        outcome
    }

    /// What an object is called, or will be.
    fn name_of<'a>(&'a self, object: &'a Value) -> &'a str {
        match api::meta::name(object) {
            "" => &self.route.name,
            name => name,
        }
    }

    /// What admission says of it; what has to be committed with it.
    pub(crate) async fn admit(
        &self,
        operation: Operation,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Also, Status> {
        self.may_grant(object, old)?;
        if self.route.subresource == "scale" {
            let view = scale::scale_of(&self.kind, object)?;
            let old = old
                .map(|old| scale::scale_of(&self.kind, old))
                .transpose()?;
            return self.judge(operation, &view, old.as_ref()).await;
        }
        self.judge(operation, object, old).await
    }

    async fn judge(
        &self,
        operation: Operation,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Also, Status> {
        let name = self.name_of(object);
        let a = self.attributes(operation, name, Options::Query(&self.query));
        let mut warnings = Vec::new();
        let old = old.unwrap_or(&Value::Null);
        let outcome = self
            .admission
            .validate(&a, object, old, &mut warnings)
            .await;
        self.warnings.add(warnings);
        outcome
    }

    /// What admission says of something without a result: a deletion of what
    /// stands, a connection with `object` as its options. It may change only
    /// the latter.
    pub(crate) async fn admit_action(
        &self,
        operation: Operation,
        object: &mut Value,
        standing: &Value,
        options: Options<'_>,
    ) -> Result<(), Status> {
        let a = self.attributes(operation, &self.route.name, options);
        let mut warnings = Vec::new();
        let mut outcome = self
            .admission
            .mutate(&a, object, standing, &mut warnings)
            .await;
        if outcome.is_ok() {
            let judged = self
                .admission
                .validate(&a, object, standing, &mut warnings)
                .await;
            outcome = judged.map(drop);
        }
        self.warnings.add(warnings);
        outcome
    }

    pub(crate) fn current(&self) -> Result<registry::Stored, Status> {
        registry::get(
            &self.store,
            &self.kind,
            &self.route.namespace,
            &self.route.name,
        )
    }

    /// Whether the client is served with objects as they are stored.
    fn takes_stored(&self) -> bool {
        (self.accepted.form, self.accepted.media) == (Form::Object, Media::Json)
            && !self.accepted.pretty
            && registry::is_direct(&self.kind)
    }

    fn spliced(&self, code: u16, stored: &[u8], revision: Revision) -> Response<Body> {
        let mut out = Vec::with_capacity(stored.len() + 64);
        registry::splice(&mut out, stored, revision);
        out.push(b'\n');
        respond::json_bytes(code, out, self.accepted)
    }

    /// An object after a write: what was encoded for the store serves the
    /// client too, where it can.
    pub(crate) fn after(&self, code: u16, after: registry::After) -> Response<Body> {
        match after.stored {
            Some((bytes, revision)) if self.takes_stored() => self.spliced(code, &bytes, revision),
            _ => self.object(code, after.object),
        }
    }

    /// One object in the form that the client wants.
    pub(crate) fn object(&self, code: u16, object: Value) -> Response<Body> {
        let shaped = match self.accepted.form {
            Form::Object => object,
            Form::Partial { list: true, .. } => return self.no_list(),
            Form::Partial { version, .. } => print::partial(&object, version),
            Form::Table(layout) => {
                let metadata = serde_json::json!({
                    "resourceVersion": api::meta::resource_version(&object)
                });
                print::table(&self.kind, vec![object], metadata, layout, self.now)
            }
        };
        respond::json(code, &shaped, self.accepted)
    }

    /// A scale in the form that the client wants.
    pub(crate) fn scale(&self, scale: Value) -> Response<Body> {
        let shaped = match self.accepted.form {
            Form::Object => scale,
            Form::Partial { list: true, .. } => return self.no_list(),
            Form::Partial { version, .. } => print::partial(&scale, version),
            Form::Table(layout) => print::scale_table(&self.kind, scale, layout, self.now),
        };
        respond::json(200, &shaped, self.accepted)
    }

    /// One object was found, and a list of metadata asked for.
    fn no_list(&self) -> Response<Body> {
        let found = match self.route.subresource.as_str() {
            "scale" => "autoscaling.Scale".to_owned(),
            _ => self.kind.go_type(),
        };
        let status = Status::not_acceptable_as(
            "PartialObjectMetadataList",
            &format!("not a list (*{found})"),
        );
        respond::status(&status, self.accepted)
    }
}

fn get(call: Call) -> Answer {
    list::not_yet_there(&call, call.query.text("resourceVersion"))?;
    if call.takes_stored() {
        let (namespace, name) = (&call.route.namespace, &call.route.name);
        let kv = registry::raw(&call.store, &call.kind, namespace, name)?;
        return Ok(call.spliced(200, &kv.value, kv.mod_revision));
    }
    let current = call.current()?;
    Ok(call.object(200, current.object))
}

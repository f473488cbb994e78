//! The table of kinds: one row and one file each. Routing, discovery, storage
//! keys, defaulting, validation and printing follow from a row.
//!
//! A row holds functions over `serde_json::Value` in the kind's own version.
//! They decide and never act: time is an argument, nothing is stored here.

mod addresses;
mod admission;
mod apiregistration;
mod autoscaler;
mod autoscaler_v1;
mod autoscaler_validate;
mod certificates;
mod configmap;
mod controller_revision;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod disruption_budget;
mod domains;
mod endpoints;
mod event;
mod flowcontrol;
mod job;
mod job_validate;
mod kind_ref;
mod lease;
mod limit_range;
mod metrics;
mod namespace;
mod networking;
mod node;
mod node_k8s_io;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_defaults;
mod pod_parts;
mod pod_placement;
mod pod_print;
mod pod_restart;
mod pod_security;
mod pod_support;
mod pod_template;
mod pod_update;
mod pod_validate;
mod pod_volumes;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod reviews;
mod scheduling;
mod secret;
mod service;
mod service_update;
mod service_validate;
mod serviceaccount;
mod stateful_set;
mod storage;
mod strategy;
mod update_rules;
mod workload;

use crate::field::{Errors, Path};
use crate::names;
use crate::print::{Cells, Column};
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::Ordering;

pub use kind_ref::KindRef;
pub use pod::{is_terminal as pod_is_terminal, qos_class};
pub use pod_parts::{prepare_ephemeral, prepare_resize, validate_ephemeral, validate_resize};
pub use pod_support::pod_warnings;
pub use service::{is_headless, needs_cluster_ip, needs_health_check_port, needs_node_port};

/// A part of an object with an endpoint of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    Status,
    Finalize,
    Approval,
    Binding,
    Eviction,
    EphemeralContainers,
    Scale,
    Log,
    Exec,
    Attach,
    PortForward,
    Resize,
    Token,
    PodProxy,
    ServiceProxy,
    NodeProxy,
}

impl Subresource {
    pub fn name(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Finalize => "finalize",
            Subresource::Approval => "approval",
            Subresource::Binding => "binding",
            Subresource::Eviction => "eviction",
            Subresource::EphemeralContainers => "ephemeralcontainers",
            Subresource::Scale => "scale",
            Subresource::Log => "log",
            Subresource::Exec => "exec",
            Subresource::Attach => "attach",
            Subresource::PortForward => "portforward",
            Subresource::Resize => "resize",
            Subresource::Token => "token",
            Subresource::PodProxy | Subresource::ServiceProxy | Subresource::NodeProxy => "proxy",
        }
    }

    /// What discovery says of it: group and version (empty: the parent's),
    /// kind (`None`: the parent's), verbs.
    pub fn discovery(
        self,
    ) -> (
        &'static str,
        &'static str,
        Option<&'static str>,
        &'static [&'static str],
    ) {
        const RW: &[&str] = &["get", "patch", "update"];
        const ANY: &[&str] = &["create", "delete", "get", "patch", "update"];
        match self {
            Subresource::Status
            | Subresource::Approval
            | Subresource::EphemeralContainers
            | Subresource::Resize => ("", "", None, RW),
            Subresource::Scale => ("autoscaling", "v1", Some("Scale"), RW),
            Subresource::Token => {
                let group = "authentication.k8s.io";
                (group, "v1", Some("TokenRequest"), &["create"])
            }
            Subresource::PodProxy => ("", "", Some("PodProxyOptions"), ANY),
            Subresource::ServiceProxy => ("", "", Some("ServiceProxyOptions"), ANY),
            Subresource::NodeProxy => ("", "", Some("NodeProxyOptions"), ANY),
            Subresource::Finalize => ("", "", None, &["update"]),
            Subresource::Binding => ("", "", Some("Binding"), &["create"]),
            Subresource::Eviction => ("policy", "v1", Some("Eviction"), &["create"]),
            Subresource::Log => ("", "", None, &["get"]),
            Subresource::Exec => ("", "", Some("PodExecOptions"), &["create", "get"]),
            Subresource::Attach => ("", "", Some("PodAttachOptions"), &["create", "get"]),
            Subresource::PortForward => ("", "", Some("PodPortForwardOptions"), &["create", "get"]),
        }
    }
}

/// How objects of the kind are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    Immediate,
    /// Marked first, removed by the node after a grace period.
    Graceful,
    /// Marked first, removed when `spec.finalizers` is empty too.
    NamespaceLifecycle,
}

type Default = fn(&mut Value);
type Validate = fn(&Value, &mut Errors);
type ValidateUpdate = fn(&Value, &Value, &mut Errors);
type Prepare = fn(&mut Value);
type PrepareUpdate = fn(&mut Value, &Value);

/// One row. Outside of the rows a kind is a [`KindRef`].
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Its facts: the type's full name.
    pub type_name: &'static str,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// `<group>/<plural>` under `/registry`; views of one object share it.
    pub storage: &'static str,
    /// Shows, in another version or group, what another row stores.
    pub view: bool,
    pub deletion: Deletion,
    /// What its name has to be.
    pub name: fn(&str) -> Vec<String>,
    /// Field selectors beside `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [&'static str],
    pub columns: &'static [Column],
    pub cells: fn(&Value, Timestamp) -> Cells,
    /// What a table's row says beside its cells: that its object is done.
    pub row_conditions: fn(&Value) -> Option<Value>,
    /// The order of a table's rows, where it isn't that of names.
    pub order: fn(&Value, &Value) -> Ordering,
    pub default: Default,
    pub validate: Validate,
    /// What holds for new objects only.
    pub validate_create: Validate,
    pub validate_update: ValidateUpdate,
    pub validate_status: ValidateUpdate,
    /// Of the approval of a certificate signing request.
    pub validate_approval: ValidateUpdate,
    /// Before validation of a new object: drops what a client may not set.
    pub prepare_create: Prepare,
    /// Before validation of an update: keeps what this endpoint may not touch.
    pub prepare_update: PrepareUpdate,
    pub prepare_status: PrepareUpdate,
    pub prepare_approval: PrepareUpdate,
    /// Of an object that is marked for deletion for the first time.
    pub prepare_delete: fn(&mut Value, Timestamp),
    /// Between this view and the stored form.
    pub to_stored: Prepare,
    pub from_stored: Prepare,
}

/// What a port may carry.
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

const fn nothing(_: &mut Value) {}
const fn nothing_update(_: &mut Value, _: &Value) {}
const fn nothing_delete(_: &mut Value, _: Timestamp) {}
const fn valid(_: &Value, _: &mut Errors) {}
const fn valid_update(_: &Value, _: &Value, _: &mut Errors) {}

impl Kind {
    /// What most rows share.
    pub(crate) const BASE: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        type_name: "",
        verbs: ALL_VERBS,
        subresources: &[],
        storage: "",
        view: false,
        deletion: Deletion::Immediate,
        name: names::dns_subdomain,
        selectable: &[],
        columns: crate::print::NAME_CREATED,
        cells: crate::print::name_created,
        row_conditions: |_| None,
        order: |_, _| Ordering::Equal,
        default: nothing,
        validate: valid,
        validate_create: valid,
        validate_update: valid_update,
        validate_status: valid_update,
        validate_approval: valid_update,
        prepare_create: nothing,
        prepare_update: nothing_update,
        prepare_status: keep_all_but_status,
        prepare_approval: keep_all_but_status,
        prepare_delete: nothing_delete,
        to_stored: nothing,
        from_stored: nothing,
    };
}

pub fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    }
}

/// A status update keeps everything else but metadata, which the caller has
/// settled already.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    for key in ["metadata", "status"] {
        crate::meta::keep(&mut kept, new, key);
    }
    *new = kept;
}

/// A status update that keeps metadata too, save who owns the status.
pub(crate) fn keep_all_but_status_and_owners(new: &mut Value, old: &Value) {
    let mut metadata = old.get("metadata").cloned().unwrap_or_default();
    for key in ["managedFields", "resourceVersion"] {
        crate::meta::keep(&mut metadata, &new["metadata"], key);
    }
    keep_all_but_status(new, old);
    new["metadata"] = metadata;
}

/// Every row, in discovery's order.
pub static KINDS: &[&Kind] = &[
    &pod::BINDING,
    &configmap::KIND,
    &event::CORE,
    &namespace::KIND,
    &node::KIND,
    &pod::KIND,
    &secret::KIND,
    &serviceaccount::KIND,
    &endpoints::KIND,
    &limit_range::KIND,
    &persistent_volume::KIND,
    &persistent_volume_claim::KIND,
    &pod_template::KIND,
    &replication_controller::KIND,
    &resource_quota::KIND,
    &service::KIND,
    &controller_revision::KIND,
    &daemon_set::KIND,
    &deployment::KIND,
    &replica_set::KIND,
    &stateful_set::KIND,
    &cron_job::KIND,
    &job::KIND,
    &autoscaler::V2,
    &autoscaler::V1,
    &disruption_budget::KIND,
    &reviews::SELF_SUBJECT,
    &reviews::TOKEN,
    &reviews::LOCAL_ACCESS,
    &reviews::SELF_ACCESS,
    &reviews::SELF_RULES,
    &reviews::ACCESS,
    &admission::MUTATING_POLICY,
    &admission::MUTATING_BINDING,
    &admission::MUTATING_WEBHOOKS,
    &admission::VALIDATING_POLICY,
    &admission::VALIDATING_BINDING,
    &admission::VALIDATING_WEBHOOKS,
    &apiregistration::API_SERVICE,
    &certificates::KIND,
    &lease::KIND,
    &discovery::ENDPOINT_SLICE,
    &event::EVENTS,
    &flowcontrol::FLOW_SCHEMA,
    &flowcontrol::PRIORITY_LEVEL,
    &networking::INGRESS,
    &networking::INGRESS_CLASS,
    &networking::IP_ADDRESS,
    &networking::NETWORK_POLICY,
    &networking::SERVICE_CIDR,
    &node_k8s_io::RUNTIME_CLASS,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::CLUSTER_ROLE,
    &rbac::ROLE_BINDING,
    &rbac::ROLE,
    &scheduling::PRIORITY_CLASS,
    &storage::CSI_DRIVER,
    &storage::CSI_NODE,
    &storage::CSI_STORAGE_CAPACITY,
    &storage::STORAGE_CLASS,
    &storage::VOLUME_ATTACHMENT,
    &storage::VOLUME_ATTRIBUTES_CLASS,
    &crate::custom::definition::KIND,
    &metrics::NODE,
    &metrics::POD,
];

/// The row that answers a path.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<KindRef> {
    KINDS
        .iter()
        .copied()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
        .map(KindRef::Row)
}

/// Names the members of a map of labels or annotations in `errors`.
pub(crate) fn validate_labels(labels: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(path, value, names::label_value(value));
    }
}

/// Most bytes of all annotations together.
pub(crate) const ANNOTATIONS_MAX: usize = 256 * 1024;

/// The annotations in `meta`.
pub(crate) fn validate_annotations(meta: &Value, path: &Path, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in crate::meta::members(meta, &["annotations"]) {
        let lower = key.to_lowercase();
        errors.invalid_each(path, key, names::qualified_name(&lower));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_MAX {
        errors.too_long(path, ANNOTATIONS_MAX);
    }
}

/// What holds for the metadata of every kind.
pub fn validate_metadata(kind: &KindRef, object: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    let meta = &object["metadata"];
    let generate = crate::meta::text(object, &["metadata", "generateName"]);
    if !generate.is_empty() {
        // The suffix that will follow makes a trailing dash or dot fine.
        let tried = format!("{generate}x");
        errors.invalid_each(
            &path.child("generateName"),
            generate,
            kind.check_name(&tried),
        );
    }
    match crate::meta::name(object) {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => errors.invalid_each(&path.child("name"), name, kind.check_name(name)),
    }
    if kind.namespaced() {
        let namespace = crate::meta::namespace(object);
        errors.invalid_each(
            &path.child("namespace"),
            namespace,
            names::dns_label(namespace),
        );
    } else if !crate::meta::namespace(object).is_empty() {
        errors.forbidden(&path.child("namespace"), "not allowed on this type");
    }
    validate_labels(&meta["labels"], &path.child("labels"), errors);
    validate_annotations(meta, &path.child("annotations"), errors);
    for (i, finalizer) in crate::meta::list(meta, &["finalizers"]).iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        errors.invalid_each(
            &path.child("finalizers").index(i),
            text,
            names::qualified_name(text),
        );
    }
    validate_owners(meta, &path.child("ownerReferences"), errors);
}

fn validate_owners(meta: &Value, path: &Path, errors: &mut Errors) {
    let mut controllers = 0;
    for (i, owner) in crate::meta::list(meta, &["ownerReferences"])
        .iter()
        .enumerate()
    {
        let at = path.index(i);
        for key in ["apiVersion", "kind", "name", "uid"] {
            if crate::meta::text(owner, &[key]).is_empty() {
                errors.invalid(&at.child(key), "", "must not be empty");
            }
        }
        controllers += usize::from(crate::meta::flag(owner, &["controller"]));
    }
    if controllers > 1 {
        errors.invalid(
            path,
            meta["ownerReferences"].clone(),
            "Only one reference can have Controller set to true",
        );
    }
}

/// What of the metadata an update may not change.
pub fn validate_metadata_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    for key in ["name", "namespace", "uid", "creationTimestamp"] {
        let was = crate::meta::text(old, &["metadata", key]);
        let is = crate::meta::text(new, &["metadata", key]);
        if was != is {
            errors.invalid(&path.child(key), is, "field is immutable");
        }
    }
    if crate::meta::is_deleting(old) {
        let was = crate::meta::list(old, &["metadata", "finalizers"]);
        let extra: Vec<String> = crate::meta::list(new, &["metadata", "finalizers"])
            .iter()
            .filter(|f| !was.contains(f))
            .map(|f| f.as_str().unwrap_or_default().to_owned())
            .collect();
        if !extra.is_empty() {
            errors.forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    extra
                        .iter()
                        .map(|f| format!("{f:?}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            );
        }
    }
}

/// Places of a group, and of a version in it, in discovery: higher ones come
/// first.
pub fn priority(group: &str, version: &str) -> (i64, i64) {
    apiregistration::priority(group, version)
}

/// Objects that are there from the start, of kinds without namespaces.
pub fn initial_objects() -> Vec<(KindRef, Value)> {
    let mut out = Vec::new();
    let mut add = |kind: &'static Kind, objects: Vec<Value>| {
        out.extend(objects.into_iter().map(|o| (KindRef::Row(kind), o)));
    };
    add(&scheduling::PRIORITY_CLASS, scheduling::system_classes());
    add(&flowcontrol::PRIORITY_LEVEL, flowcontrol::priority_levels());
    add(&flowcontrol::FLOW_SCHEMA, flowcontrol::flow_schemas());
    let mut served: Vec<(&str, &str)> = KINDS.iter().map(|k| (k.group, k.version)).collect();
    served.sort_unstable();
    served.dedup();
    let local = |(group, version): (&str, &str)| apiregistration::local(group, version);
    let local = served
        .into_iter()
        .filter(|(group, _)| *group != apiregistration::API_SERVICE.group)
        .map(local);
    add(&apiregistration::API_SERVICE, local.collect());
    out
}

pub use certificates::{SigningRequest, stamp_conditions, stamp_requester};

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;

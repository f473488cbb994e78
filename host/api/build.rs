//! Takes the descriptions of types and fields out of k8s-openapi's schemas and
//! leaves them, compressed, for `openapi`. Nothing of them is in the source but
//! those of `metrics.k8s.io`, which the dependency lacks.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::api::certificates::v1 as certificates;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::flowcontrol::v1 as flowcontrol;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::api::node::v1 as node;
use k8s_openapi::api::rbac::v1 as rbac;
use k8s_openapi::api::scheduling::v1 as scheduling;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::api::{
    apps::v1 as apps, autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling,
    batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, events::v1 as events,
    policy::v1 as policy,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use k8s_openapi::schemars::SchemaGenerator;
use serde_json::{Map, Value};
use std::io::{Error, Write};
use std::path::PathBuf;

macro_rules! roots {
    ($($root:ty),* $(,)?) => {
        /// The schemas of every kind, and of all that they are made of.
        fn schemas() -> Map<String, Value> {
            let mut generator = SchemaGenerator::default();
            $(generator.subschema_for::<$root>();)*
            generator.take_definitions(false)
        }
    };
}

roots![
    core::Binding,
    core::ConfigMap,
    core::Event,
    core::Namespace,
    core::Node,
    core::Pod,
    core::Secret,
    core::ServiceAccount,
    coordination::Lease,
    admission::MutatingAdmissionPolicy,
    admission::MutatingAdmissionPolicyBinding,
    admission::MutatingWebhookConfiguration,
    admission::ValidatingAdmissionPolicy,
    admission::ValidatingAdmissionPolicyBinding,
    admission::ValidatingWebhookConfiguration,
    apiextensions::CustomResourceDefinition,
    apiregistration::APIService,
    authentication::SelfSubjectReview,
    authentication::TokenRequest,
    authentication::TokenReview,
    authorization::LocalSubjectAccessReview,
    authorization::SelfSubjectAccessReview,
    authorization::SelfSubjectRulesReview,
    authorization::SubjectAccessReview,
    certificates::CertificateSigningRequest,
    discovery::EndpointSlice,
    flowcontrol::FlowSchema,
    flowcontrol::PriorityLevelConfiguration,
    events::Event,
    networking::Ingress,
    networking::IngressClass,
    networking::IPAddress,
    networking::NetworkPolicy,
    networking::ServiceCIDR,
    node::RuntimeClass,
    policy::Eviction,
    rbac::ClusterRole,
    rbac::ClusterRoleBinding,
    rbac::Role,
    rbac::RoleBinding,
    scheduling::PriorityClass,
    storage::CSIDriver,
    storage::CSINode,
    storage::CSIStorageCapacity,
    storage::StorageClass,
    storage::VolumeAttachment,
    storage::VolumeAttributesClass,
    core::ComponentStatus,
    core::Endpoints,
    core::LimitRange,
    core::PersistentVolume,
    core::PersistentVolumeClaim,
    core::PodTemplate,
    core::ReplicationController,
    core::ResourceQuota,
    core::Service,
    apps::ControllerRevision,
    apps::DaemonSet,
    apps::Deployment,
    apps::ReplicaSet,
    apps::StatefulSet,
    batch::CronJob,
    batch::Job,
    autoscaling::HorizontalPodAutoscaler,
    autoscaling_v1::HorizontalPodAutoscaler,
    autoscaling_v1::Scale,
    policy::PodDisruptionBudget,
    meta::DeleteOptions,
    meta::Status,
];

/// Where the types of `metrics.k8s.io` are, and what they and their fields are.
const METRICS: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.";
const GATHERED: &[(&str, &str, &str)] = &[
    ("ContainerMetrics", "", "What a container uses."),
    (
        "ContainerMetrics",
        "name",
        "The container's name in its pod.",
    ),
    (
        "ContainerMetrics",
        "usage",
        "CPUs, as a rate over the window, and the working set of memory.",
    ),
    ("NodeMetrics", "", "What a node uses."),
    (
        "NodeMetrics",
        "usage",
        "CPUs, as a rate over the window, and the working set of memory.",
    ),
    ("PodMetrics", "", "What the containers of a pod use."),
    (
        "PodMetrics",
        "containers",
        "Each container that runs, from the same window.",
    ),
];
const OF_BOTH: &[(&str, &str)] = &[
    (
        "metadata",
        "Name, namespace and labels of what is measured.",
    ),
    ("timestamp", "When the window ended."),
    (
        "window",
        "The time over which was measured, up to the timestamp.",
    ),
];

/// Texts by type and field, as `main` gathers those of the dependency.
fn gathered() -> Map<String, Value> {
    let mut out = Map::new();
    let mut note = |name: &str, field: &str, text: &str| {
        let of = out
            .entry(format!("{METRICS}{name}"))
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(of) = of.as_object_mut() {
            of.insert(field.to_owned(), text.into());
        }
    };
    for (name, field, text) in GATHERED {
        note(name, field, text);
    }
    for name in ["NodeMetrics", "PodMetrics"] {
        OF_BOTH
            .iter()
            .for_each(|(field, text)| note(name, field, text));
    }
    out
}

fn main() -> Result<(), Error> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut out = gathered();
    for (name, schema) in schemas() {
        let mut texts = Map::new();
        let mut note = |key: &str, of: &Value| {
            if let Some(text @ Value::String(_)) = of.get("description") {
                texts.insert(key.to_owned(), text.clone());
            }
        };
        note("", &schema);
        for (field, of) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            note(field, of);
        }
        out.insert(name, Value::Object(texts));
    }
    let dir = std::env::var_os("OUT_DIR").ok_or_else(|| Error::other("no OUT_DIR"))?;
    let file = std::fs::File::create(PathBuf::from(dir).join("descriptions.json.z"))?;
    let mut encoder = ZlibEncoder::new(file, Compression::best());
    encoder.write_all(&serde_json::to_vec(&out)?)?;
    encoder.finish()?;
    Ok(())
}

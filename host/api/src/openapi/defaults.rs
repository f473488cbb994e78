//! The defaults that upstream's documents state for fields: in OpenAPI 3.0
//! alone, from version 2 they are pruned (`server/routes/openapi.go`).
//!
//! They follow from Go's types (`kube-openapi/pkg/generators`, `generateDefault`):
//! a struct that is no pointer has `{}`, and a scalar that is always written
//! its zero; elements of lists and values of maps are such. Markers state
//! others. Types with a JSON form of their own (times, quantities) have none.

use crate::facts::{self, Field, Scalar, Shape};
use serde_json::{Value, json};

/// The default of a field of `type_name`.
pub(super) fn of_field(type_name: &str, field: &Field) -> Option<Value> {
    if let Some(stated) = stated(type_name, field.name) {
        return serde_json::from_str(stated).ok();
    }
    match &field.shape {
        Shape::Ref(name) if !field.plain && !METADATA.contains(name) => None,
        Shape::Scalar(_) if field.pointer || !is_written(type_name, field) => None,
        shape => zero(shape),
    }
}

/// Structs that Go embeds, which facts don't tell; never pointers.
const METADATA: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
];

/// The default of a list's elements or a map's values.
pub(super) fn zero(shape: &Shape) -> Option<Value> {
    match shape {
        Shape::Ref(name) => facts::of(name).map(|_| json!({})),
        Shape::List(_) | Shape::Map(_) => None,
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => Some("".into()),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double => Some(0.into()),
            Scalar::Bool => Some(false.into()),
            Scalar::Bytes
            | Scalar::Quantity
            | Scalar::IntOrString
            | Scalar::Time
            | Scalar::MicroTime
            | Scalar::Duration
            | Scalar::Any => None,
        },
    }
}

/// Whether Go writes the field though it is empty (no `omitempty`): the
/// required ones, but for these.
fn is_written(type_name: &str, field: &Field) -> bool {
    let listed = |list: &[(&str, &[&str])]| {
        list.iter().any(|(name, fields)| {
            type_name.strip_prefix("io.k8s.api.") == Some(name) && fields.contains(&field.name)
        })
    };
    match field.required {
        true => !listed(OMITTED),
        false => listed(WRITTEN),
    }
}

type Fields = &'static [(&'static str, &'static [&'static str])];

/// Required, and left out by Go when empty.
const OMITTED: Fields = &[
    (
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        &["policyName"],
    ),
    ("authentication.v1.TokenReviewSpec", &["token"]),
    ("core.v1.ContainerRestartRule", &["action"]),
    ("core.v1.ContainerRestartRuleOnExitCodes", &["operator"]),
    ("core.v1.ImageVolumeStatus", &["imageRef"]),
    (
        "core.v1.PodCertificateProjection",
        &["keyType", "signerName"],
    ),
    ("networking.v1.ParentReference", &["name", "resource"]),
];

/// Optional, and written by Go when empty.
const WRITTEN: Fields = &[
    ("apps.v1.StatefulSetOrdinals", &["start"]),
    ("apps.v1.StatefulSetSpec", &["serviceName"]),
    ("apps.v1.StatefulSetStatus", &["availableReplicas"]),
    ("authentication.v1.TokenRequestStatus", &["token"]),
    (
        "batch.v1.PodFailurePolicyOnPodConditionsPattern",
        &["status"],
    ),
    (
        "core.v1.Event",
        &["reportingComponent", "reportingInstance"],
    ),
    ("core.v1.NodeRuntimeHandler", &["name"]),
    ("flowcontrol.v1.FlowSchemaSpec", &["matchingPrecedence"]),
    (
        "flowcontrol.v1.QueuingConfiguration",
        &["handSize", "queueLengthLimit", "queues"],
    ),
    (
        "policy.v1.PodDisruptionBudgetStatus",
        &[
            "currentHealthy",
            "desiredHealthy",
            "disruptionsAllowed",
            "expectedPods",
        ],
    ),
    ("rbac.v1.RoleRef", &["apiGroup"]),
    ("scheduling.v1.PriorityClass", &["value"]),
];

/// What a marker of the field states, as JSON.
fn stated(type_name: &str, field: &str) -> Option<&'static str> {
    let short = type_name.strip_prefix("io.k8s.api.")?;
    let found = STATED
        .iter()
        .find(|(name, of, _)| *name == short && *of == field);
    found.map(|(_, _, value)| *value)
}

/// `+default` in types.go: type, field, value.
const STATED: &[(&str, &str, &str)] = &[
    ("autoscaling.v1.ScaleSpec", "replicas", "0"),
    (
        "core.v1.AzureDiskVolumeSource",
        "cachingMode",
        r#""ReadWrite""#,
    ),
    ("core.v1.AzureDiskVolumeSource", "fsType", r#""ext4""#),
    ("core.v1.AzureDiskVolumeSource", "kind", r#""Shared""#),
    ("core.v1.AzureDiskVolumeSource", "readOnly", "false"),
    ("core.v1.ConfigMapEnvSource", "name", r#""""#),
    ("core.v1.ConfigMapKeySelector", "name", r#""""#),
    ("core.v1.ConfigMapProjection", "name", r#""""#),
    ("core.v1.ConfigMapVolumeSource", "name", r#""""#),
    ("core.v1.ContainerPort", "protocol", r#""TCP""#),
    ("core.v1.FileKeySelector", "optional", "false"),
    ("core.v1.GRPCAction", "service", r#""""#),
    (
        "core.v1.ISCSIPersistentVolumeSource",
        "iscsiInterface",
        r#""default""#,
    ),
    (
        "core.v1.ISCSIVolumeSource",
        "iscsiInterface",
        r#""default""#,
    ),
    ("core.v1.LocalObjectReference", "name", r#""""#),
    (
        "core.v1.RBDPersistentVolumeSource",
        "keyring",
        r#""/etc/ceph/keyring""#,
    ),
    ("core.v1.RBDPersistentVolumeSource", "pool", r#""rbd""#),
    ("core.v1.RBDPersistentVolumeSource", "user", r#""admin""#),
    (
        "core.v1.RBDVolumeSource",
        "keyring",
        r#""/etc/ceph/keyring""#,
    ),
    ("core.v1.RBDVolumeSource", "pool", r#""rbd""#),
    ("core.v1.RBDVolumeSource", "user", r#""admin""#),
    ("core.v1.ReplicationControllerSpec", "minReadySeconds", "0"),
    ("core.v1.ReplicationControllerSpec", "replicas", "1"),
    (
        "core.v1.ScaleIOPersistentVolumeSource",
        "fsType",
        r#""xfs""#,
    ),
    (
        "core.v1.ScaleIOPersistentVolumeSource",
        "storageMode",
        r#""ThinProvisioned""#,
    ),
    ("core.v1.ScaleIOVolumeSource", "fsType", r#""xfs""#),
    (
        "core.v1.ScaleIOVolumeSource",
        "storageMode",
        r#""ThinProvisioned""#,
    ),
    ("core.v1.SecretEnvSource", "name", r#""""#),
    ("core.v1.SecretKeySelector", "name", r#""""#),
    ("core.v1.SecretProjection", "name", r#""""#),
    ("core.v1.ServicePort", "protocol", r#""TCP""#),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of the tables is about a field that there is.
    #[test]
    fn tables_name_fields() {
        let field = |name: &str, field: &str| {
            let name = format!("io.k8s.api.{name}");
            facts::of(&name).and_then(|t| t.field(field))
        };
        for (name, fields) in OMITTED.iter().chain(WRITTEN) {
            for of in *fields {
                assert!(field(name, of).is_some(), "{name} {of}");
            }
        }
        for (name, of, value) in STATED {
            assert!(field(name, of).is_some(), "{name} {of}");
            assert!(serde_json::from_str::<Value>(value).is_ok(), "{value}");
        }
    }

    // Table: type, field, and the default in api/openapi-spec/v3 at 1.36.
    #[test]
    fn defaults_are_upstreams() {
        for (name, field, wanted) in [
            (
                "core.v1.AWSElasticBlockStoreVolumeSource",
                "volumeID",
                Some(json!("")),
            ),
            ("core.v1.AWSElasticBlockStoreVolumeSource", "readOnly", None),
            (
                "core.v1.AzureDiskVolumeSource",
                "kind",
                Some(json!("Shared")),
            ),
            (
                "core.v1.CSIPersistentVolumeSource",
                "nodeStageSecretRef",
                None,
            ),
            ("core.v1.CephFSPersistentVolumeSource", "monitors", None),
            ("core.v1.ContainerPort", "containerPort", Some(json!(0))),
            ("core.v1.ContainerPort", "protocol", Some(json!("TCP"))),
            ("core.v1.ContainerStatus", "ready", Some(json!(false))),
            ("core.v1.Pod", "spec", Some(json!({}))),
            ("core.v1.Pod", "metadata", Some(json!({}))),
            ("core.v1.Pod", "apiVersion", None),
            ("core.v1.PodSpec", "affinity", None),
            ("core.v1.ServicePort", "targetPort", None),
            ("core.v1.Event", "firstTimestamp", None),
            ("coordination.v1.LeaseSpec", "renewTime", None),
            ("rbac.v1.RoleRef", "apiGroup", Some(json!(""))),
            ("networking.v1.ParentReference", "name", None),
        ] {
            let full = format!("io.k8s.api.{name}");
            let found = facts::of(&full).and_then(|t| Some((t, t.field(field)?)));
            let found = found.map(|(t, f)| of_field(t.name, f));
            assert_eq!(found, Some(wanted), "{name} {field}");
        }
    }
}

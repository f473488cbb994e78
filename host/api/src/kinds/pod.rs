//! Pod and Binding: the rows, and what other parts ask of a pod.

use super::{Deletion, Kind, Subresource, pod_defaults, pod_print, pod_update, pod_validate};
use crate::field::{Errors, Path};
use crate::meta;
use crate::quantity::Quantity;
use serde_json::{Value, json};

pub(super) static KIND: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    type_name: "io.k8s.api.core.v1.Pod",
    storage: "core/pods",
    subresources: &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::PodProxy,
        Subresource::Resize,
        Subresource::Status,
    ],
    deletion: Deletion::Graceful,
    selectable: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    columns: pod_print::COLUMNS,
    cells: pod_print::cells,
    row_conditions: pod_print::conditions,
    default: pod_defaults::default_pod,
    validate: pod_validate::validate,
    validate_create: pod_validate::validate_create,
    validate_update: pod_update::validate_update,
    validate_status: pod_update::validate_status,
    prepare_create,
    prepare_update: pod_update::prepare_update,
    ..Kind::BASE
};

pub(super) static BINDING: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    type_name: "io.k8s.api.core.v1.Binding",
    verbs: &["create"],
    validate: validate_binding,
    ..Kind::BASE
};

/// A new pod is pending, whatever the client says.
fn prepare_create(object: &mut Value) {
    let qos = qos_class(object);
    object["status"] = json!({"phase": "Pending", "qosClass": qos});
    meta::ensure_metadata(object).insert("generation".to_owned(), 1.into());
}

fn validate_binding(object: &Value, errors: &mut Errors) {
    let target = Path::new("target");
    let kind = meta::text(object, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&target.child("kind"), kind, &["Node", "<empty>"]);
    }
    if meta::text(object, &["target", "name"]).is_empty() {
        errors.required(&target.child("name"), "");
    }
}

/// Whether a phase is final.
pub fn is_terminal(pod: &Value) -> bool {
    matches!(
        meta::text(pod, &["status", "phase"]),
        "Succeeded" | "Failed"
    )
}

/// Quality of service by requests and limits of CPU and memory.
pub fn qos_class(pod: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in meta::list(pod, &["spec", "containers"])
        .iter()
        .chain(meta::list(pod, &["spec", "initContainers"]))
    {
        for resource in ["cpu", "memory"] {
            let amount = |part| {
                Quantity::parse(meta::text(container, &["resources", part, resource]))
                    .ok()
                    .filter(|q| q.milli() > 0)
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

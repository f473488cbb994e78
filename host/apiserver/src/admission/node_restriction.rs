//! NodeRestriction: a node writes itself, its lease and the status of its own
//! pods, and nothing of others (upstream's `plugin/pkg/admission/noderestriction`).

use super::{Attributes, Operation, certificates, mirror_pods};
use crate::lookup;
use api::meta;
use api::status::Status;
use serde_json::Value;
use store::Store;

/// Labels of these domains that a node may set on itself.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Checks a write of a node; everybody else passes.
pub(super) fn check(
    store: &Store,
    a: &Attributes<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(node) = a.user.node_name() else {
        return Ok(());
    };
    let refused = match (a.kind.group(), a.kind.plural(), a.subresource) {
        ("", "pods", "") => pod(store, a, node, object, old),
        ("", "pods", "status") => pod_status(node, object, old),
        ("", "pods", "eviction") => evicted(store, a, node),
        ("certificates.k8s.io", "certificatesigningrequests", "") => request(a, node, object),
        ("", "nodes", "" | "status") => own_node(a, node, object, old),
        ("coordination.k8s.io", "leases", _) if a.name != node => {
            Some("can only access node lease with the same name as the requesting node".to_owned())
        }
        _ => None,
    };
    match refused {
        Some(why) => Err(a.forbid(&why)),
        None => Ok(()),
    }
}

fn pod(
    store: &Store,
    a: &Attributes<'_>,
    node: &str,
    object: &Value,
    old: Option<&Value>,
) -> Option<String> {
    let on = |pod: &Value| meta::text(pod, &["spec", "nodeName"]) == node;
    match a.operation {
        Operation::Create => mirror_pods::refused_to(node, object, || {
            let own = lookup::object(store, ("", "nodes"), "", node).ok()?;
            Some(meta::text(&own, &["metadata", "uid"]).to_owned())
        }),
        Operation::Delete if !old.is_some_and(on) => Some(format!(
            "node {node:?} can only delete pods with spec.nodeName set to itself"
        )),
        Operation::Delete | Operation::Connect => None,
        Operation::Update => Some(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
    }
}

fn pod_status(node: &str, object: &Value, old: Option<&Value>) -> Option<String> {
    let old = old?;
    if meta::text(old, &["spec", "nodeName"]) != node {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    (meta::at(old, &["metadata", "labels"]) != meta::at(object, &["metadata", "labels"]))
        .then(|| format!("node {node:?} cannot update labels through pod status"))
}

fn evicted(store: &Store, a: &Attributes<'_>, node: &str) -> Option<String> {
    let pod = lookup::object(store, ("", "pods"), a.namespace, a.name).ok()?;
    (meta::text(&pod, &["spec", "nodeName"]) != node)
        .then(|| format!("node {node:?} can only evict pods with spec.nodeName set to itself"))
}

/// A node asks for certificates of its own name.
fn request(a: &Attributes<'_>, node: &str, object: &Value) -> Option<String> {
    let signer = meta::text(object, &["spec", "signerName"]);
    let of_kubelets = matches!(
        signer,
        "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet"
    );
    if a.operation != Operation::Create || !of_kubelets {
        return None;
    }
    match certificates::parse(object) {
        Err(why) => Some(format!("unable to parse csr: {why}")),
        Ok(request) => (request.common_name != format!("system:node:{node}"))
            .then(|| format!("can only create a node CSR with CN=system:node:{node}")),
    }
}

fn own_node(a: &Attributes<'_>, node: &str, object: &Value, old: Option<&Value>) -> Option<String> {
    let name = match a.name {
        "" => meta::name(object),
        name => name,
    };
    if name != node {
        return Some(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        ));
    }
    if a.operation == Operation::Delete {
        return None;
    }
    let labels = |o: &Value, key: &str| meta::at(o, &["metadata", "labels", key]).cloned();
    let changed: Vec<String> = [Some(object), old]
        .into_iter()
        .flatten()
        .flat_map(|o| meta::members(o, &["metadata", "labels"]).map(|(key, _)| key.clone()))
        .filter(|key| old.is_none_or(|old| labels(old, key) != labels(object, key)))
        .filter(|key| !may_label(key))
        .collect();
    if !changed.is_empty() {
        let mut changed = changed;
        changed.sort();
        changed.dedup();
        let how = if old.is_some() {
            "modify"
        } else {
            "set the following"
        };
        return Some(format!(
            "is not allowed to {how} labels: {}",
            changed.join(", ")
        ));
    }
    let old = old?;
    (meta::list(old, &["spec", "taints"]) != meta::list(object, &["spec", "taints"]))
        .then(|| format!("node {node:?} is not allowed to modify taints"))
}

fn may_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    !(within("kubernetes.io") || within("k8s.io"))
        || OWN_LABELS.contains(&key)
        || OWN_DOMAINS.iter().any(|d| within(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_labels_are_the_administrators() {
        for (key, may) in [
            ("mine", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("node-role.kubernetes.io/worker", false),
            ("node-restriction.kubernetes.io/x", false),
            ("kubernetes.io/other", false),
            ("x.k8s.io/other", false),
        ] {
            assert_eq!(may_label(key), may, "{key}");
        }
    }
}

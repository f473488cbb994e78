//! The node authorizer: what a node may read follows from the pods that are
//! bound to it (upstream's `plugin/pkg/auth/authorizer/node`).
//!
//! ```text
//! node <- pod -> secrets, configmaps, claims (-> volumes), service account
//! ```
//! Rules of `system:node` name the rest. It never denies; what it doesn't
//! allow, RBAC may.

use super::Attributes;
use super::bootstrap;
use super::rule::Rule;
use crate::mirror::{Derived, Mirror};
use api::meta;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use store::Store;

const PODS: &str = "/registry/core/pods/";

/// What a pod of a node refers to: kind and name, within its namespace.
type Reference = (&'static str, String);

struct Bound {
    node: String,
    namespace: String,
    references: BTreeSet<Reference>,
}

/// References of bound pods by the pod's key.
#[derive(Default)]
pub(crate) struct Pods {
    bound: HashMap<String, Bound>,
    /// node -> keys of its pods.
    of: HashMap<String, BTreeSet<String>>,
}

impl Derived for Pods {
    fn put(&mut self, key: &str, pod: Value) {
        self.remove(key);
        let node = meta::text(&pod, &["spec", "nodeName"]);
        if node.is_empty() {
            return;
        }
        let of = self.of.entry(node.to_owned()).or_default();
        of.insert(key.to_owned());
        let bound = Bound {
            node: node.to_owned(),
            namespace: meta::namespace(&pod).to_owned(),
            references: references(&pod),
        };
        self.bound.insert(key.to_owned(), bound);
    }

    fn remove(&mut self, key: &str) {
        let Some(bound) = self.bound.remove(key) else {
            return;
        };
        if let Some(of) = self.of.get_mut(&bound.node) {
            of.remove(key);
            if of.is_empty() {
                self.of.remove(&bound.node);
            }
        }
    }
}

impl Pods {
    fn refers(&self, node: &str, namespace: &str, what: &Reference) -> bool {
        let keys = self.of.get(node).into_iter().flatten();
        keys.filter_map(|k| self.bound.get(k))
            .any(|b| b.namespace == namespace && b.references.contains(what))
    }
}

/// Every secret, configmap, claim and account that a pod's description names.
pub(crate) fn references(pod: &Value) -> BTreeSet<(&'static str, String)> {
    let spec = &pod["spec"];
    let mut out = BTreeSet::new();
    let mut add = |kind: &'static str, name: &str| {
        if !name.is_empty() {
            out.insert((kind, name.to_owned()));
        }
    };
    add("serviceaccounts", meta::text(spec, &["serviceAccountName"]));
    for secret in meta::list(spec, &["imagePullSecrets"]) {
        add("secrets", meta::text(secret, &["name"]));
    }
    for volume in meta::list(spec, &["volumes"]) {
        add("secrets", meta::text(volume, &["secret", "secretName"]));
        add("configmaps", meta::text(volume, &["configMap", "name"]));
        let claim = meta::text(volume, &["persistentVolumeClaim", "claimName"]);
        add("persistentvolumeclaims", claim);
        if volume.get("ephemeral").is_some() {
            let claim = format!("{}-{}", meta::name(pod), meta::text(volume, &["name"]));
            add("persistentvolumeclaims", &claim);
        }
        for source in meta::list(volume, &["projected", "sources"]) {
            add("secrets", meta::text(source, &["secret", "name"]));
            add("configmaps", meta::text(source, &["configMap", "name"]));
        }
        for driver in [
            "csi",
            "cephfs",
            "rbd",
            "flexVolume",
            "iscsi",
            "scaleIO",
            "storageos",
        ] {
            for key in ["nodePublishSecretRef", "secretRef"] {
                add("secrets", meta::text(volume, &[driver, key, "name"]));
            }
        }
        add("secrets", meta::text(volume, &["azureFile", "secretName"]));
    }
    for part in ["initContainers", "containers", "ephemeralContainers"] {
        for container in meta::list(spec, &[part]) {
            for entry in meta::list(container, &["env"]) {
                let from = &entry["valueFrom"];
                add("secrets", meta::text(from, &["secretKeyRef", "name"]));
                add("configmaps", meta::text(from, &["configMapKeyRef", "name"]));
            }
            for entry in meta::list(container, &["envFrom"]) {
                add("secrets", meta::text(entry, &["secretRef", "name"]));
                add("configmaps", meta::text(entry, &["configMapRef", "name"]));
            }
        }
    }
    out
}

pub(crate) struct NodeAuthorizer {
    pods: Mirror<Pods>,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    pub(crate) fn new(store: &Store) -> NodeAuthorizer {
        let role = bootstrap::objects()
            .into_iter()
            .find(|o| o["kind"] == "ClusterRole" && meta::name(o) == "system:node");
        NodeAuthorizer {
            pods: Mirror::new(store.clone(), PODS),
            rules: role.as_ref().map(Rule::parse_all).unwrap_or_default(),
        }
    }

    /// `Ok` if the node may, else why not (often nothing to say).
    pub(crate) fn decide(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.path, a.group, a.resource) {
            (None, "", "secrets" | "configmaps") => self.graph(node, a, &["get", "list", "watch"]),
            (None, "", "persistentvolumeclaims") if a.subresource == "status" => {
                self.graph(node, a, &["get", "update", "patch"])
            }
            (None, "", "persistentvolumeclaims") => self.graph(node, a, &["get"]),
            (None, "", "serviceaccounts") => match a.subresource {
                "token" => self.graph(node, a, &["create"]),
                _ => self.graph(node, a, &["get"]),
            },
            (None, "coordination.k8s.io", "leases") => own_lease(node, a),
            (None, "storage.k8s.io", "csinodes") => own(node, a),
            (None, "", "nodes") if !matches!(a.verb, "create") => own_node(node, a),
            (None, "", "pods") if matches!(a.verb, "list" | "watch") => Ok(()),
            _ => self.by_rules(a),
        }
    }

    fn by_rules(&self, a: &Attributes<'_>) -> Result<(), String> {
        match self.rules.iter().any(|r| r.allows(a)) {
            true => Ok(()),
            false => Err(String::new()),
        }
    }

    fn graph(&self, node: &str, a: &Attributes<'_>, verbs: &[&str]) -> Result<(), String> {
        if !verbs.contains(&a.verb) {
            return Err(match a.verb {
                "get" | "list" | "watch" => String::new(),
                _ => format!("can only {} resources of this type", verbs.join("/")),
            });
        }
        if a.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        let kinds = [
            "secrets",
            "configmaps",
            "persistentvolumeclaims",
            "serviceaccounts",
        ];
        let Some(kind) = kinds.into_iter().find(|k| *k == a.resource) else {
            return Err(String::new());
        };
        let what = (kind, a.name.to_owned());
        match self.pods.with(|p| p.refers(node, a.namespace, &what)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "no relationship found between node '{node}' and this object"
            )),
            Err(status) => Err(status.message),
        }
    }
}

fn own_lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if a.namespace != "kube-node-lease" {
        return Err(
            "can only access leases in the \"kube-node-lease\" system namespace".to_owned(),
        );
    }
    if a.verb != "create" && a.name != node {
        return Err(
            "can only access node lease with the same name as the requesting node".to_owned(),
        );
    }
    Ok(())
}

fn own(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".to_owned());
    }
    if a.verb != "create" && a.name != node {
        return Err("can only access CSINode with the same name as the requesting node".to_owned());
    }
    Ok(())
}

/// A node reads and writes itself; of others it sees nothing.
fn own_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match (a.subresource, a.verb) {
        ("" | "status", "update" | "patch") if a.name == node => Ok(()),
        ("", "get" | "list" | "watch") if a.name == node => Ok(()),
        ("", "get" | "list" | "watch") => Err(format!(
            "node '{node}' cannot read '{}', only its own Node object",
            a.name
        )),
        ("" | "status", "update" | "patch") => Err(format!(
            "node '{node}' cannot write '{}', only its own Node object",
            a.name
        )),
        _ => Err(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_sees_what_its_pods_name() {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "d"},
            "spec": {
                "nodeName": "n", "serviceAccountName": "robot",
                "imagePullSecrets": [{"name": "pull"}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "s"}},
                    {"name": "b", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
                    {"name": "e", "ephemeral": {}},
                ],
                "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "k"}}}]}],
            },
        });
        let mut pods = Pods::default();
        pods.put("x", pod.clone());
        for (node, namespace, kind, name, expected) in [
            ("n", "d", "secrets", "s", true),
            ("n", "d", "secrets", "pull", true),
            ("n", "d", "secrets", "k", true),
            ("n", "d", "configmaps", "c", true),
            ("n", "d", "persistentvolumeclaims", "p-e", true),
            ("n", "d", "serviceaccounts", "robot", true),
            ("n", "d", "configmaps", "s", false),
            ("n", "other", "secrets", "s", false),
            ("m", "d", "secrets", "s", false),
        ] {
            let found = pods.refers(node, namespace, &(kind, name.to_owned()));
            assert_eq!(found, expected, "{node} {namespace} {kind} {name}");
        }
        pods.remove("x");
        assert!(pods.of.is_empty() && pods.bound.is_empty());
    }
}

//! The node authorizer: what a node may read follows from the pods that are
//! bound to it (upstream's `plugin/pkg/auth/authorizer/node`).
//!
//! ```text
//! node <- pod -> secrets, configmaps, claims (<- volumes), service account
//! ```
//! Pods are read one by one, or with a field selector for those of the node
//! (KEP-4601). Rules of `system:node` name the rest. It never denies; what it doesn't
//! allow, RBAC may.

use super::Attributes;
use super::bootstrap;
use super::rule::Rule;
use crate::lookup;
use crate::mirror::{Derived, Mirror};
use api::meta;
use api::selector::FieldTerm;
use api::status::Status;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use store::Store;

const PODS: &str = "/registry/core/pods/";
const CLAIMS: &str = "persistentvolumeclaims";

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
    /// Whether the pod of this key is bound to `node`.
    fn runs(&self, node: &str, key: &str) -> bool {
        self.bound.get(key).is_some_and(|b| b.node == node)
    }

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
        add(CLAIMS, claim);
        if volume.get("ephemeral").is_some() {
            let claim = format!("{}-{}", meta::name(pod), meta::text(volume, &["name"]));
            add(CLAIMS, &claim);
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
    store: Store,
    pods: Mirror<Pods>,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    pub(crate) fn new(store: &Store) -> NodeAuthorizer {
        let role = bootstrap::objects()
            .into_iter()
            .find(|o| o["kind"] == "ClusterRole" && meta::name(o) == "system:node");
        NodeAuthorizer {
            store: store.clone(),
            pods: Mirror::new(store.clone(), PODS),
            rules: role.as_ref().map(Rule::parse_all).unwrap_or_default(),
        }
    }

    /// `Ok` if the node may, else why not (often nothing to say).
    pub(crate) fn decide(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if a.path.is_some() {
            return self.by_rules(a);
        }
        match (a.group, a.resource) {
            ("", "secrets" | "configmaps") => self.read(node, a),
            ("", "persistentvolumeclaims") if a.subresource == "status" => match a.verb {
                "update" | "patch" => self.related(node, a),
                _ => Err("can only get/update/patch this type".to_owned()),
            },
            ("", "persistentvolumeclaims" | "persistentvolumes")
            | ("storage.k8s.io", "volumeattachments") => self.get(node, a),
            ("", "serviceaccounts") => self.account(node, a),
            ("coordination.k8s.io", "leases") => own_lease(node, a),
            ("storage.k8s.io", "csinodes") => own_csi(node, a),
            ("", "nodes") => own_node(node, a),
            ("", "pods") => self.pod(node, a),
            _ => self.by_rules(a),
        }
    }

    fn by_rules(&self, a: &Attributes<'_>) -> Result<(), String> {
        match self.rules.iter().any(|r| r.allows(a)) {
            true => Ok(()),
            false => Err(String::new()),
        }
    }

    fn read(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let why = match (a.verb, a.subresource, a.namespace) {
            ("get" | "list" | "watch", "", "") => "can only read namespaced object of this type",
            ("get" | "list" | "watch", "", _) => return self.related(node, a),
            ("get" | "list" | "watch", ..) => "cannot read subresource",
            _ => "can only read resources of this type",
        };
        Err(why.to_owned())
    }

    fn get(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let why = match (a.verb, a.subresource) {
            ("get", "") => return self.related(node, a),
            ("get", _) => "cannot get subresource",
            _ => "can only get individual resources of this type",
        };
        Err(why.to_owned())
    }

    fn account(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let why = match (a.verb, a.subresource, a.name) {
            ("get", "", _) => return self.related(node, a),
            ("create", _, "") => "can only create tokens for individual service accounts",
            ("create", "token", _) => return self.related(node, a),
            ("create", ..) => "can only create token subresource of serviceaccount",
            _ => "can only create tokens for individual service accounts",
        };
        Err(why.to_owned())
    }

    /// A node lists its own pods only (KEP-4601); what it may write of them is
    /// for admission to say.
    fn pod(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let own = |t: &FieldTerm| t.equal && t.path == "spec.nodeName" && t.value == node;
        match (a.subresource, a.verb) {
            ("", "get") => self.related(node, a),
            ("", "list" | "watch") if a.fields.iter().any(own) => Ok(()),
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, a),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".to_owned())
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => Err(String::new()),
        }
    }

    /// Whether the one object that is asked about has to do with the node.
    fn related(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if a.name.is_empty() {
            return Err("No Object name found".to_owned());
        }
        match self.is_related(node, a) {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!(
                "no relationship found between node '{node}' and this object"
            )),
            Err(status) => Err(status.message),
        }
    }

    fn is_related(&self, node: &str, a: &Attributes<'_>) -> Result<bool, Status> {
        let refers = |kind: &'static str, namespace: &str, name: &str| {
            let what = (kind, name.to_owned());
            self.pods.with(|p| p.refers(node, namespace, &what))
        };
        match a.resource {
            "pods" => {
                let key = format!("{PODS}{}/{}", a.namespace, a.name);
                self.pods.with(|p| p.runs(node, &key))
            }
            "persistentvolumes" => {
                let Ok(volume) = lookup::object(&self.store, ("", a.resource), "", a.name) else {
                    return Ok(false);
                };
                let claim = &volume["spec"]["claimRef"];
                let namespace = meta::text(claim, &["namespace"]);
                refers(CLAIMS, namespace, meta::text(claim, &["name"]))
            }
            "volumeattachments" => {
                let found = lookup::object(&self.store, (a.group, a.resource), "", a.name);
                Ok(found.is_ok_and(|v| meta::text(&v, &["spec", "nodeName"]) == node))
            }
            other => {
                let kinds = ["secrets", "configmaps", CLAIMS, "serviceaccounts"];
                match kinds.into_iter().find(|k| *k == other) {
                    Some(kind) => refers(kind, a.namespace, a.name),
                    None => Ok(false),
                }
            }
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

fn own_csi(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return Err("can only get, create, update, patch, or delete a CSINode".to_owned());
    }
    if !a.subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".to_owned());
    }
    if a.verb != "create" && a.name != node {
        return Err("can only access CSINode with the same name as the requesting node".to_owned());
    }
    Ok(())
}

/// A node reads itself and nothing of others; that it writes only itself is for
/// admission to say, which knows the name of what is created.
fn own_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match (a.subresource, a.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match a.name {
            own if own == node => Ok(()),
            "" => Err(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            other => Err(format!(
                "node '{node}' cannot read '{other}', only its own Node object"
            )),
        },
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

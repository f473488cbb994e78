//! Mirror pods: what a node shows of its static pods. They refer to nothing of
//! the API, and to their node as their owner (upstream's plugins
//! `noderestriction` and `serviceaccount`).

use crate::authz::references;
use api::meta;
use serde_json::Value;

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn is_mirror(pod: &Value) -> bool {
    meta::at(pod, &["metadata", "annotations", MIRROR]).is_some()
}

/// Why nobody may make such a mirror pod, if so.
pub(super) fn refused(pod: &Value) -> Option<&'static str> {
    let named = references(pod);
    let refers = |kind: &str| named.iter().any(|(of, _)| *of == kind);
    if refers("serviceaccounts") {
        return Some("a mirror pod may not reference service accounts");
    }
    if refers("secrets") {
        return Some("a mirror pod may not reference secrets");
    }
    projects(pod, "serviceAccountToken")
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// Why a node may not make this pod, if so; `uid` gives the node's own.
pub(super) fn refused_to(
    node: &str,
    pod: &Value,
    uid: impl Fn() -> Option<String>,
) -> Option<String> {
    if !is_mirror(pod) {
        return Some(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if meta::text(pod, &["spec", "nodeName"]) != node {
        return Some(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    foreign_owner(node, pod, uid).or_else(|| {
        let what = what_it_refers_to(pod)?;
        Some(format!(
            "node {node:?} can not create pods that reference {what}"
        ))
    })
}

fn foreign_owner(node: &str, pod: &Value, uid: impl Fn() -> Option<String>) -> Option<String> {
    let only = format!("node {node:?} can only create pods with");
    let owner = match meta::list(pod, &["metadata", "ownerReferences"]) {
        [one] => one,
        [] => return Some(format!("{only} an owner reference set to itself")),
        _ => return Some(format!("{only} a single owner reference set to itself")),
    };
    let own = [("apiVersion", "v1"), ("kind", "Node"), ("name", node)];
    if own.iter().any(|(field, value)| owner[field] != *value) {
        return Some(format!("{only} an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Some(format!("{only} a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return Some(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let Some(uid) = uid() else {
        return Some(format!(
            "error looking up node {node} to verify uid: not found"
        ));
    };
    let given = meta::text(owner, &["uid"]);
    (given != uid).then(|| format!("node {node} UID mismatch: expected {given} got {uid}"))
}

fn what_it_refers_to(pod: &Value) -> Option<&'static str> {
    let named = references(pod);
    let found = |(kind, what): &(&str, &'static str)| {
        let refers = named.iter().any(|(of, _)| of == kind);
        refers.then_some(*what)
    };
    let first = [
        ("serviceaccounts", "a service account"),
        ("secrets", "secrets"),
        ("configmaps", "configmaps"),
    ];
    let last = ("persistentvolumeclaims", "persistentvolumeclaims");
    first.iter().find_map(found).or_else(|| {
        let bundle = projects(pod, "clusterTrustBundle");
        bundle
            .then_some("clustertrustbundles")
            .or_else(|| found(&last))
    })
}

/// Whether a projected volume has such a source.
fn projects(pod: &Value, source: &str) -> bool {
    let volumes = meta::list(pod, &["spec", "volumes"]).iter();
    let mut sources = volumes.flat_map(|volume| meta::list(volume, &["projected", "sources"]));
    sources.any(|one| one.get(source).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({"metadata": {"name": "a-n", "annotations": {MIRROR: "hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u",
                "controller": true}]},
            "spec": {"nodeName": "n", "containers": [{"name": "a"}]}})
    }

    #[test]
    fn a_node_makes_mirrors_of_its_own() {
        let uid = || Some("u".to_owned());
        assert_eq!(refused_to("n", &pod(), uid), None);
        let secret = json!([{"name": "v", "secret": {"secretName": "s"}}]);
        let token = json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]);
        let bundle = json!([{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {}}]}}]);
        let claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let owner = "/metadata/ownerReferences";
        for (pointer, value, why) in [
            (
                "/metadata/annotations",
                json!({}),
                "can only create mirror pods",
            ),
            ("/spec/nodeName", json!("m"), "spec.nodeName set to itself"),
            (owner, json!([]), "with an owner reference set to itself"),
            (owner, json!([{}, {}]), "a single owner reference"),
            (
                owner,
                json!([{"kind": "Pod"}]),
                "with an owner reference set to itself",
            ),
            (
                "/metadata/ownerReferences/0/controller",
                json!(false),
                "a controller owner reference",
            ),
            (
                "/metadata/ownerReferences/0/uid",
                json!("v"),
                "node n UID mismatch: expected v got u",
            ),
            (
                "/spec/serviceAccountName",
                json!("robot"),
                "reference a service account",
            ),
            ("/spec/volumes", secret.clone(), "reference secrets"),
            ("/spec/volumes", bundle, "reference clustertrustbundles"),
            ("/spec/volumes", claim, "reference persistentvolumeclaims"),
        ] {
            let mut pod = pod();
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            let parent = pod.pointer_mut(parent).expect("the parent");
            match field.parse::<usize>() {
                Ok(index) => parent[index] = value,
                Err(_) => parent[field] = value,
            }
            let found = refused_to("n", &pod, uid).expect(why);
            assert!(found.contains(why), "{found}: not {why}");
        }
        let mut pod = pod();
        assert_eq!(refused(&pod), None);
        pod["spec"]["volumes"] = secret;
        assert_eq!(
            refused(&pod),
            Some("a mirror pod may not reference secrets")
        );
        pod["spec"]["volumes"] = token;
        let projected = refused(&pod).expect("refused");
        assert!(projected.contains("ServiceAccountToken"), "{projected}");
    }
}

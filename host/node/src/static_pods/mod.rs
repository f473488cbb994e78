//! Static pods: those of the machine config, run without asking the API, and
//! shown there as mirror pods.
//!
//! ```text
//!   machine config --prepare--> Pod --> roster --> worker (never asks the API)
//!                                 \                   | Shown
//!                                  mirror --> Keeper <+
//!                                               | create, status, delete
//!                                               v
//!                                              API (mirror pod) --watch--> roster --News
//! ```
//!
//! A static pod's uid is the hash of its manifest, so that a restarted `node`
//! knows its machine again and a changed manifest is another pod. Its mirror has
//! the same name and a uid of the API's; it decides nothing: deleted, it is made
//! anew, and one that another manifest made is replaced.

mod keeper;

pub(crate) use keeper::{Keeper, News, delete as delete_mirror};

use crate::pod::Pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod as ApiPod, Toleration};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const SOURCE: &str = "kubernetes.io/config.source";
const HASH: &str = "kubernetes.io/config.hash";
const SEEN: &str = "kubernetes.io/config.seen";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a node makes of a manifest: upstream's `applyDefaults` of a pod that
/// comes from a file.
///
/// # Errors
/// That it is no Pod.
pub(crate) fn prepare(manifest: &Value, node: &str, now: Timestamp) -> Result<Pod, String> {
    let mut pod: ApiPod = serde_json::from_value(manifest.clone()).map_err(|e| e.to_string())?;
    let text = serde_json::to_vec(manifest).map_err(|error| error.to_string())?;
    let digest = Sha256::new()
        .chain_update(node)
        .chain_update(text)
        .finalize();
    let hash: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let meta = &mut pod.metadata;
    let name = meta.name.take().unwrap_or_default();
    meta.name = Some(format!("{name}-{node}"));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(hash.clone());
    let annotations = meta.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(HASH.to_owned(), hash);
    annotations.insert(SEEN.to_owned(), now.to_string());
    let spec = pod.spec.get_or_insert_with(Default::default);
    spec.node_name = Some(node.to_owned());
    let everything = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations
        .get_or_insert_with(Vec::new)
        .push(everything);
    pod.status = Some(k8s_openapi::api::core::v1::PodStatus {
        phase: Some("Pending".to_owned()),
        ..Default::default()
    });
    Ok(pod.into())
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let annotations = pod.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// It runs by this node's own word: no mirror, and not of the API.
pub(crate) fn is_static(pod: &Pod) -> bool {
    let source = annotation(pod, SOURCE);
    source.is_some_and(|source| source != "api") && !is_mirror(pod)
}

pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

/// Whether `mirror` shows this static pod as it is.
fn shows(mirror: &Pod, pod: &Pod) -> bool {
    annotation(mirror, MIRROR) == annotation(pod, HASH)
}

/// The mirror of a static pod, owned by its node.
fn mirror(pod: &Pod, node_name: &str, node_uid: &str) -> Value {
    let mut copy = json!(pod.as_api());
    let hash = annotation(pod, HASH).unwrap_or_default();
    if let Some(object) = copy.as_object_mut() {
        object.remove("status");
    }
    if let Some(meta) = copy["metadata"].as_object_mut() {
        meta.remove("uid");
        meta.insert(
            "ownerReferences".to_owned(),
            json!([{"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid,
                "controller": true}]),
        );
    }
    copy["metadata"]["annotations"][MIRROR] = json!(hash);
    copy["apiVersion"] = json!("v1");
    copy["kind"] = json!("Pod");
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(image: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dns"},
            "spec": {"containers": [{"name": "a", "image": image}]}})
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let now = Timestamp::UNIX_EPOCH;
        let pod = prepare(&manifest("a:1"), "n1", now).expect("a pod");
        let again = prepare(&manifest("a:1"), "n1", now).expect("a pod");
        let other = prepare(&manifest("a:2"), "n1", now).expect("a pod");
        let elsewhere = prepare(&manifest("a:1"), "n2", now).expect("a pod");
        assert_eq!(pod, again);
        assert_ne!(pod.metadata.uid, other.metadata.uid);
        assert_ne!(pod.metadata.uid, elsewhere.metadata.uid);
        assert!(crate::pod::view::View(&pod).machine_id().is_some());
        assert_eq!(pod.metadata.name.as_deref(), Some("dns-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert!(is_static(&pod) && !is_mirror(&pod));
    }

    #[test]
    fn a_mirror_says_whose_it_is() {
        let pod = prepare(&manifest("a:1"), "n1", Timestamp::UNIX_EPOCH).expect("a pod");
        let shown = mirror(&pod, "n1", "node-uid");
        assert_eq!(shown["metadata"]["ownerReferences"][0]["name"], "n1");
        assert_eq!(shown["metadata"].get("uid"), None);
        let parsed = Pod::from(serde_json::from_value::<ApiPod>(shown).expect("a pod"));
        assert!(is_mirror(&parsed) && !is_static(&parsed) && shows(&parsed, &pod));
        let other = prepare(&manifest("a:2"), "n1", Timestamp::UNIX_EPOCH).expect("a pod");
        assert!(!shows(&parsed, &other));
    }
}

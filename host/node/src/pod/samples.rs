//! Pods for tests.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::Pod;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use serde_json::{Value, json};

pub(crate) const UID: &str = "11111111-2222-3333-4444-555555555555";

/// A bound pod `default/web` with this specification.
pub(crate) fn pod(mut spec: Value) -> Pod {
    spec["nodeName"] = json!("n1");
    let pod = serde_json::from_value::<ApiPod>(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": UID, "generation": 1},
        "spec": spec,
    }));
    pod.unwrap().into()
}

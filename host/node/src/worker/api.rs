//! What a worker asks of the API: status, deletion, and the objects that a
//! container's description draws on.

use super::Shared;
use crate::pod::Observation;
use crate::pod::Pod;
use crate::pod::conditions::{DISRUPTED, OWN_CONDITIONS, RESIZE_CONDITIONS};
use crate::pod::environment::{Source, Sources};
use crate::pod::runtime_class;
use crate::pod::view::View;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{Credentials, Keyring, Reference, SecretFormat};
use k8s_openapi::api::core::v1::PodStatus;
use reconcile::resource::core::{CONFIG_MAPS, PODS, RUNTIME_CLASSES, SECRETS};
use reconcile::{DeleteOptions, Patch};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Writes `status`; the uid makes sure that it is still the same pod.
pub(crate) async fn write_status(
    shared: &Shared,
    pod: &Pod,
    status: Box<PodStatus>,
) -> Observation {
    let view = View(pod);
    let patch = match status_patch(pod, &status) {
        Ok(patch) => Patch::Strategic(patch),
        Err(error) => {
            log::error!("status of pod {}: {error}", view.label());
            return Observation::ApiFailed;
        }
    };
    let (namespace, name) = (Some(view.namespace()), view.name());
    let written = shared
        .client
        .patch(&PODS, namespace, name, Some("status"), &patch)
        .await;
    match written {
        Ok(_) => Observation::StatusWritten(status),
        Err(error) => {
            log::warn!("status of pod {}: {error}", view.label());
            Observation::ApiFailed
        }
    }
}

/// A strategic merge patch, as the kubelet's: what the status does not have any
/// more is taken out, and conditions of others are not touched.
fn status_patch(pod: &Pod, status: &PodStatus) -> Result<Value, serde_json::Error> {
    let mut wanted = serde_json::to_value(status)?;
    let before = serde_json::to_value(&pod.status)?;
    // Fields of others in the status of a pod.
    const FOREIGN: [&str; 4] = ["nominatedNodeName", "resize", "podIP", "podIPs"];
    if let (Some(wanted), Some(before)) = (wanted.as_object_mut(), before.as_object()) {
        for key in before.keys().filter(|key| !FOREIGN.contains(&key.as_str())) {
            wanted.entry(key.clone()).or_insert(Value::Null);
        }
        for key in ["reason", "message"] {
            wanted.entry(key).or_insert(Value::Null);
        }
    }
    if let Some(conditions) = wanted.get_mut("conditions").and_then(Value::as_array_mut) {
        let own = |condition: &Value| {
            let text = |field: &str| condition.get(field).and_then(Value::as_str);
            let disrupted =
                (text("type"), text("reason")) == (Some(DISRUPTED.0), Some(DISRUPTED.1));
            text("type").is_some_and(|name| OWN_CONDITIONS.contains(&name)) || disrupted
        };
        conditions.retain(own);
        // Merged field by field, a reason of before would stay.
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            for field in ["reason", "message", "observedGeneration"] {
                condition.entry(field).or_insert(Value::Null);
            }
        }
    }
    // None of them before a spec changed.
    let changed = pod.metadata.generation.is_some_and(|number| number > 1);
    if let Some(list) = wanted.get_mut("conditions").and_then(Value::as_array_mut)
        && changed
    {
        for name in RESIZE_CONDITIONS {
            if !list.iter().any(|own| own["type"] == name) {
                list.push(json!({"$patch": "delete", "type": name}));
            }
        }
    }
    // Merged by their keys, addresses of the past would stay.
    if let Some(ips) = wanted.get_mut("hostIPs").and_then(Value::as_array_mut) {
        ips.insert(0, json!({"$patch": "replace"}));
    }
    Ok(json!({"metadata": {"uid": View(pod).uid()}, "status": wanted}))
}

/// The final deletion: nothing of the pod is left on this node.
pub(super) async fn delete(shared: &Shared, pod: &Pod) -> Observation {
    let view = View(pod);
    let options = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some(view.uid().to_owned()),
        ..DeleteOptions::default()
    };
    let (namespace, name) = (Some(view.namespace()), view.name());
    match shared.client.delete(&PODS, namespace, name, &options).await {
        Ok(_) => Observation::PodDeleted,
        // Gone, or another pod of that name: ours is gone then, too.
        Err(error) if error.is_not_found() || error.is_conflict() => Observation::PodDeleted,
        Err(error) => {
            log::warn!("deletion of pod {}: {error}", view.label());
            Observation::ApiFailed
        }
    }
}

/// Whether this node runs pods of the class that the pod names, if it names one.
pub(super) async fn check_runtime_class(shared: &Shared, view: View<'_>) -> Result<(), String> {
    let class = view
        .spec()
        .and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|class| !class.is_empty()) else {
        return Ok(());
    };
    match shared.client.get(&RUNTIME_CLASSES, None, class).await {
        Ok(object) => {
            let handler = object.get("handler").and_then(Value::as_str);
            runtime_class::check(class, Some(handler.unwrap_or_default()))
        }
        Err(error) if error.is_not_found() => runtime_class::check(class, None),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads ConfigMaps and Secrets; those that don't exist are absent.
pub(super) async fn sources(
    shared: &Shared,
    namespace: &str,
    wanted: BTreeSet<Source>,
) -> Result<Sources, String> {
    let mut found = Sources::new();
    for source in wanted {
        let (resource, name) = match &source {
            Source::ConfigMap(name) => (&CONFIG_MAPS, name),
            Source::Secret(name) => (&SECRETS, name),
        };
        match shared.client.get(resource, Some(namespace), name).await {
            Ok(object) => {
                let data = contents(&source, &object);
                found.insert(source, data);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(found)
}

fn contents(source: &Source, object: &Value) -> BTreeMap<String, Vec<u8>> {
    let entries = |field: &str| {
        let map = object.get(field).and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?)))
    };
    let encoded = |(key, text): (String, &str)| Some((key, STANDARD.decode(text).ok()?));
    let plain = |(key, text): (String, &str)| (key, text.as_bytes().to_vec());
    match source {
        Source::ConfigMap(_) => entries("binaryData")
            .filter_map(encoded)
            .chain(entries("data").map(plain))
            .collect(),
        Source::Secret(_) => entries("data").filter_map(encoded).collect(),
    }
}

/// The credentials of `imagePullSecrets` that fit an image. A Secret that is
/// absent or broken is passed over, as upstream does.
pub(super) async fn pull_secrets(
    shared: &Shared,
    pod: &Pod,
    reference: &Reference,
) -> Vec<Credentials> {
    let view = View(pod);
    let mut keyring = Keyring::default();
    let names = view
        .spec()
        .and_then(|s| s.image_pull_secrets.as_deref())
        .unwrap_or_default();
    for name in names.iter().map(|secret| secret.name.as_str()) {
        let secret = match shared
            .client
            .get(&SECRETS, Some(view.namespace()), name)
            .await
        {
            Ok(secret) => secret,
            Err(error) => {
                log::warn!("pull secret {name} of pod {}: {error}", view.label());
                continue;
            }
        };
        let data = contents(&Source::Secret(name.to_owned()), &secret);
        for (key, format) in [
            (".dockerconfigjson", SecretFormat::DockerConfigJson),
            (".dockercfg", SecretFormat::DockerCfg),
        ] {
            if let Some(bytes) = data.get(key)
                && let Err(error) = keyring.add(format, bytes)
            {
                log::warn!("pull secret {name} of pod {}: {error}", view.label());
            }
        }
    }
    keyring.select(reference)
}

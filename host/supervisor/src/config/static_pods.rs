//! Manifests of static pods, held to the API's own rules: no field that isn't
//! one, defaults, validation. Nothing of the API is there for a static pod, so it
//! refers to no object of it.

use api::field::Errors;
use api::kinds;
use serde_json::{Value, json};

/// More than anybody writes by hand.
const PODS_MAX: usize = 64;

/// All manifests, with their defaults.
///
/// # Errors
/// The field's path, from `node` on, and what is wrong with it.
pub(super) fn checked(manifests: &[Value]) -> Result<Vec<Value>, String> {
    if manifests.len() > PODS_MAX {
        return Err(format!("node.staticPods: at most {PODS_MAX}"));
    }
    let mut names = Vec::new();
    let mut pods = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        let path = format!("node.staticPods[{index}]");
        let pod = one(manifest).map_err(|error| format!("{path}.{error}"))?;
        let name = (
            pod["metadata"]["namespace"].clone(),
            pod["metadata"]["name"].clone(),
        );
        if names.contains(&name) {
            return Err(format!("{path}.metadata.name: the same as of another"));
        }
        names.push(name);
        pods.push(pod);
    }
    Ok(pods)
}

fn one(manifest: &Value) -> Result<Value, String> {
    for (field, wanted) in [("apiVersion", "v1"), ("kind", "Pod")] {
        if manifest[field] != wanted {
            return Err(format!("{field}: must be {wanted}"));
        }
    }
    let kind = kinds::by_resource("", "v1", "pods").ok_or("kind: no pods")?;
    let mut pod = manifest.clone();
    let mut unknown = Vec::new();
    kind.conform(&mut pod, &mut unknown)?;
    if let Some(field) = unknown.first() {
        return Err(format!("{field}: unknown field"));
    }
    if let Some(meta) = pod["metadata"].as_object_mut() {
        meta.entry("namespace").or_insert_with(|| json!("default"));
    }
    kind.default(&mut pod);
    let mut errors = Errors::default();
    kinds::validate_metadata(&kind, &pod, &mut errors);
    kind.validate(&pod, &mut errors);
    kind.validate_create(&pod, &mut errors);
    if let Some(error) = errors.0.first() {
        return Err(error.to_string());
    }
    if let Some(path) = refers(manifest) {
        return Err(format!("{path}: a static pod can't refer to the API"));
    }
    Ok(pod)
}

/// The first field that names an object of the API.
fn refers(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    let fields = [
        "serviceAccountName",
        "serviceAccount",
        "imagePullSecrets",
        "runtimeClassName",
    ];
    for field in fields {
        let empty = match &spec[field] {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            other => other.is_null(),
        };
        if !empty {
            return Some(format!("spec.{field}"));
        }
    }
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    for (index, volume) in volumes.enumerate() {
        for field in ["configMap", "secret", "projected", "persistentVolumeClaim"] {
            if !volume[field].is_null() {
                return Some(format!("spec.volumes[{index}].{field}"));
            }
        }
    }
    for list in ["initContainers", "containers"] {
        let containers = spec[list].as_array().into_iter().flatten();
        for (index, container) in containers.enumerate() {
            if let Some(field) = container_refers(container) {
                return Some(format!("spec.{list}[{index}].{field}"));
            }
        }
    }
    None
}

fn container_refers(container: &Value) -> Option<String> {
    let from = container["envFrom"].as_array();
    if from.is_some_and(|list| !list.is_empty()) {
        return Some("envFrom".to_owned());
    }
    let mut variables = container["env"].as_array().into_iter().flatten();
    let at = variables.position(|variable| {
        let from = &variable["valueFrom"];
        ["configMapKeyRef", "secretKeyRef"]
            .iter()
            .any(|field| !from[field].is_null())
    })?;
    Some(format!("env[{at}].valueFrom"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn manifests_are_held_to_the_rules_of_the_api() {
        let good = || pod(json!({"containers": [{"name": "a", "image": "a:1"}]}));
        let found = checked(&[good()]).expect("valid");
        assert_eq!(found[0]["spec"]["restartPolicy"], "Always");
        assert_eq!(found[0]["metadata"]["namespace"], "default");
        for (manifests, wanted) in [
            (
                vec![good(), good()],
                "node.staticPods[1].metadata.name: the same",
            ),
            (
                vec![json!({"kind": "Pod"})],
                "node.staticPods[0].apiVersion: must be v1",
            ),
            (
                vec![pod(
                    json!({"containers": [{"name": "a", "image": "a", "imagee": "b"}]}),
                )],
                "node.staticPods[0].spec.containers[0].imagee: unknown field",
            ),
            (
                vec![pod(json!({"containers": [{"name": "A", "image": "a"}]}))],
                "node.staticPods[0].spec.containers[0].name: Invalid value",
            ),
            (
                vec![pod(json!({"containers": [{"name": "a", "image": "a"}],
                    "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}))],
                "node.staticPods[0].spec.volumes[0].secret: a static pod can't refer",
            ),
            (
                vec![pod(
                    json!({"containers": [{"name": "a", "image": "a", "env": [{"name": "E",
                    "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
                )],
                "node.staticPods[0].spec.containers[0].env[0].valueFrom: ",
            ),
        ] {
            let error = checked(&manifests).expect_err(wanted);
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}

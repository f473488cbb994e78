//! The parts of a pod that have endpoints of their own: ephemeral containers,
//! and resources that change in place (KEP-277, KEP-1287).

use super::pod::qos_class;
use super::pod_validate;
use crate::field::{Errors, Path};
use crate::{meta, resources};
use serde_json::{Value, json};

/// Only the ephemeral containers come from `new`.
pub fn prepare_ephemeral(new: &mut Value, old: &Value) {
    let list = meta::at(new, &["spec", "ephemeralContainers"]).cloned();
    keep_all(new, old);
    let spec = meta::ensure(new, "spec");
    match list {
        Some(list) => {
            spec.insert("ephemeralContainers".to_owned(), list);
        }
        None => {
            spec.shift_remove("ephemeralContainers");
        }
    }
    advance(new, old);
}

/// `old`, with the metadata of `new`, of which the caller has kept what the
/// server alone decides.
fn keep_all(new: &mut Value, old: &Value) {
    let mut kept = old.clone();
    meta::keep(&mut kept, new, "metadata");
    *new = kept;
}

fn advance(new: &mut Value, old: &Value) {
    if new.get("spec") != old.get("spec") {
        let generation = meta::int(old, &["metadata", "generation"]).unwrap_or(0);
        meta::ensure_metadata(new).insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Ephemeral containers can be added, not changed and not removed.
pub fn validate_ephemeral(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("ephemeralContainers");
    let (is, was) = (
        meta::list(new, &["spec", "ephemeralContainers"]),
        meta::list(old, &["spec", "ephemeralContainers"]),
    );
    for before in was {
        let name = meta::text(before, &["name"]);
        match is.iter().find(|c| meta::text(c, &["name"]) == name) {
            None => errors.forbidden(
                &path,
                format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(after) if after != before => errors.forbidden(
                &path,
                format!("existing ephemeral containers {name:?} may not be changed\n"),
            ),
            Some(_) => {}
        }
    }
    pod_validate::validate_ephemeral(&new["spec"], &Path::new("spec"), errors);
}

/// Only the resources of containers come from `new`.
pub fn prepare_resize(new: &mut Value, old: &Value) {
    let wanted = new.get("spec").cloned().unwrap_or_default();
    keep_all(new, old);
    for part in ["containers", "initContainers"] {
        let list = new["spec"].get_mut(part).and_then(Value::as_array_mut);
        for container in list.into_iter().flatten() {
            let name = meta::text(container, &["name"]).to_owned();
            let asked = meta::list(&wanted, &[part])
                .iter()
                .find(|c| meta::text(c, &["name"]) == name);
            if let (Some(asked), Some(container)) = (asked, container.as_object_mut()) {
                for key in ["resources", "resizePolicy"] {
                    match asked.get(key) {
                        Some(value) => {
                            container.insert(key.to_owned(), value.clone());
                        }
                        None => {
                            container.shift_remove(key);
                        }
                    }
                }
            }
        }
    }
    advance(new, old);
}

pub fn validate_resize(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = Path::new("spec");
    for (hit, why) in [
        (is_mirror(old), "static pods cannot be resized"),
        (
            meta::text(old, &["spec", "os", "name"]) == "windows",
            "windows pods cannot be resized",
        ),
    ] {
        if hit {
            return errors.forbidden(&Path::new(""), why);
        }
    }
    if !is_supported(old) {
        errors.forbidden(&spec, "Pod running on node without support for resize");
    }
    if qos_class(new) != qos_class(old) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&spec, qos_class(new), why);
    }
    for part in ["initContainers", "containers"] {
        let was = meta::list(old, &["spec", part]);
        for (i, container) in meta::list(new, &["spec", part]).iter().enumerate() {
            let Some(before) = was.get(i) else {
                continue;
            };
            let once =
                part == "initContainers" && meta::text(container, &["restartPolicy"]) != "Always";
            if once && container != before {
                let why = "resources for non-sidecar init containers are immutable";
                errors.forbidden(&spec, why);
                continue;
            }
            let at = spec.child(part).index(i).child("resources");
            validate_container(container, before, &at, errors);
            if without_cpu_and_memory(container) != without_cpu_and_memory(before) {
                errors.forbidden(&spec, "only cpu and memory resources are mutable");
            }
        }
    }
    if errors.is_empty() {
        pod_validate::validate(new, errors);
    }
}

fn is_mirror(pod: &Value) -> bool {
    let key = "kubernetes.io/config.mirror";
    meta::at(pod, &["metadata", "annotations", key]).is_some()
}

/// A node that can resize says of a container that runs what it runs with.
fn is_supported(pod: &Value) -> bool {
    let mut statuses = meta::list(pod, &["status", "containerStatuses"]).iter();
    let running = statuses.find(|own| meta::at(own, &["state", "running"]).is_some());
    running.is_none_or(|own| own.get("resources").is_some())
}

fn without_cpu_and_memory(container: &Value) -> Value {
    let mut rest = container.clone();
    for part in ["limits", "requests"] {
        let list = rest
            .get_mut("resources")
            .and_then(|r| r.get_mut(part))
            .and_then(Value::as_object_mut);
        if let Some(list) = list {
            list.shift_remove("cpu");
            list.shift_remove("memory");
        }
    }
    // An emptied list is as good as none.
    for part in ["limits", "requests"] {
        if let Some(resources) = rest.get_mut("resources").and_then(Value::as_object_mut)
            && resources.get(part) == Some(&json!({}))
        {
            resources.shift_remove(part);
        }
    }
    rest
}

fn validate_container(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    for part in ["requests", "limits"] {
        let removed = meta::members(old, &["resources", part])
            .any(|(name, _)| meta::at(new, &["resources", part, name]).is_none());
        if removed {
            let why = format!("resource {part} cannot be removed");
            errors.forbidden(&at.child(part), why);
        }
    }
    let restarts = meta::list(new, &["resizePolicy"]).iter().any(|p| {
        meta::text(p, &["resourceName"]) == "memory"
            && meta::text(p, &["restartPolicy"]) == "RestartContainer"
    });
    if restarts {
        return;
    }
    let limit =
        |c: &Value| meta::at(c, &["resources", "limits", "memory"]).and_then(resources::parse);
    let at = at.child("limits").key("memory");
    if let (Some(_), None) = (limit(new), limit(old)) {
        let why = "memory limits cannot be added unless resizePolicy is RestartContainer";
        errors.forbidden(&at, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p", "generation": 3}, "spec": {"containers": [
            {"name": "a", "image": "i", "imagePullPolicy": "Always",
             "terminationMessagePolicy": "File", "resources": resources}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}})
    }

    #[test]
    fn resources_change_in_place() {
        let old = pod(json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}));
        for (wanted, fault) in [
            (
                json!({"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}),
                "",
            ),
            (
                json!({"limits": {"memory": "1Gi"}}),
                "resource requests cannot be removed",
            ),
            (
                json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "ephemeral-storage": "1"}}),
                "only cpu and memory resources are mutable",
            ),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                "Pod QOS Class may not change",
            ),
        ] {
            let mut new = pod(wanted.clone());
            new["spec"]["nodeName"] = "elsewhere".into();
            prepare_resize(&mut new, &old);
            assert_eq!(new["spec"].get("nodeName"), None);
            let mut errors = Errors::default();
            validate_resize(&new, &old, &mut errors);
            assert_eq!(errors.is_empty(), fault.is_empty(), "{wanted}");
            assert!(errors.aggregate().contains(fault), "{}", errors.aggregate());
            assert_eq!(new["metadata"]["generation"], 4);
        }
    }

    #[test]
    fn who_never_restarts_is_not_restarted_for_a_resize() {
        for (policy, restart, fault) in [
            ("Never", "RestartContainer", "must be 'NotRequired' when"),
            ("Never", "NotRequired", ""),
            ("OnFailure", "RestartContainer", ""),
        ] {
            let mut new = pod(json!({}));
            new["spec"]["restartPolicy"] = policy.into();
            let own = json!([{"resourceName": "cpu", "restartPolicy": restart}]);
            new["spec"]["containers"][0]["resizePolicy"] = own;
            let mut errors = Errors::default();
            pod_validate::validate(&new, &mut errors);
            let said = errors.aggregate();
            assert_eq!(errors.is_empty(), fault.is_empty(), "{said}");
            assert!(said.contains(fault), "{said}");
        }
    }

    #[test]
    fn not_every_pod_is_resized() {
        let with = |path: &str, value: Value| {
            let mut old = pod(json!({"requests": {"cpu": "1"}}));
            let (of, field) = path.split_once('.').expect("two parts");
            old[of][field] = value;
            old
        };
        let status = |more: Value| {
            let mut status = json!({"name": "a", "state": {"running": {}}});
            let members = status.as_object_mut().expect("an object");
            members.extend(more.as_object().cloned().expect("an object"));
            json!([status])
        };
        for (old, fault) in [
            (
                with(
                    "metadata.annotations",
                    json!({"kubernetes.io/config.mirror": "x"}),
                ),
                "static pods cannot be resized",
            ),
            (
                with("spec.os", json!({"name": "windows"})),
                "windows pods cannot be resized",
            ),
            (
                with("status.containerStatuses", status(json!({}))),
                "without support for resize",
            ),
            (
                with("status.containerStatuses", status(json!({"resources": {}}))),
                "",
            ),
        ] {
            let mut new = old.clone();
            new["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
            prepare_resize(&mut new, &old);
            let mut errors = Errors::default();
            validate_resize(&new, &old, &mut errors);
            assert_eq!(
                errors.is_empty(),
                fault.is_empty(),
                "{}",
                errors.aggregate()
            );
            assert!(errors.aggregate().contains(fault), "{}", errors.aggregate());
        }
    }

    #[test]
    fn ephemeral_containers_only_come() {
        let mut old = pod(json!({}));
        let e = |name: &str, image: &str| {
            json!({"name": name, "image": image, "imagePullPolicy": "Always",
                "terminationMessagePolicy": "File"})
        };
        old["spec"]["ephemeralContainers"] = json!([e("d", "i")]);
        for (list, fault) in [
            (json!([e("d", "i"), e("f", "i")]), ""),
            (json!([e("f", "i")]), "\"d\" may not be removed"),
            (json!([e("d", "other")]), "\"d\" may not be changed"),
            (json!([e("d", "i"), e("a", "i")]), "Duplicate value: \"a\""),
        ] {
            let mut new = old.clone();
            new["spec"]["ephemeralContainers"] = list;
            prepare_ephemeral(&mut new, &old);
            let mut errors = Errors::default();
            validate_ephemeral(&new, &old, &mut errors);
            assert_eq!(errors.is_empty(), fault.is_empty(), "{fault}");
            assert!(errors.aggregate().contains(fault), "{}", errors.aggregate());
        }
    }
}

//! Security contexts of pods and containers, and what else of a container
//! `pod_validate` leaves: hooks, devices, resize policies.

use super::pod_placement::one_of;
use crate::field::{Errors, Path};
use crate::{meta, names};
use serde_json::Value;

/// Users and groups, as Linux numbers them.
const ID_MAX: i64 = i32::MAX as i64;

fn validate_id(value: &Value, key: &str, at: &Path, errors: &mut Errors) {
    if let Some(id) = meta::int(value, &[key]).filter(|n| !(0..=ID_MAX).contains(n)) {
        let why = format!("must be between 0 and {ID_MAX}, inclusive");
        errors.invalid(&at.child(key), id, why);
    }
}

pub(super) fn validate_pod(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(context) = spec.get("securityContext") else {
        return;
    };
    let at = path.child("securityContext");
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        validate_id(context, key, &at, errors);
    }
    for (i, group) in meta::list(context, &["supplementalGroups"])
        .iter()
        .enumerate()
    {
        let id = group.as_i64().unwrap_or(-1);
        if !(0..=ID_MAX).contains(&id) {
            let why = format!("must be between 0 and {ID_MAX}, inclusive");
            errors.invalid(&at.child("supplementalGroups").index(i), id, why);
        }
    }
    one_of(
        context,
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
        &at,
        errors,
    );
    one_of(
        context,
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
        &at,
        errors,
    );
    one_of(
        context,
        "seLinuxChangePolicy",
        &["MountOption", "Recursive"],
        &at,
        errors,
    );
    no_windows(spec, context, &at, errors);
    validate_profiles(context, &at, errors);
    let mut seen: Vec<&str> = Vec::new();
    for (i, sysctl) in meta::list(context, &["sysctls"]).iter().enumerate() {
        let name = meta::text(sysctl, &["name"]);
        let at = at.child("sysctls").index(i).child("name");
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid(&at, name, why);
        } else if seen.contains(&name) {
            errors.duplicate(&at, name);
        }
        seen.push(name);
    }
}

/// What a pod that says that it runs on Linux can't set.
fn no_windows(spec: &Value, context: &Value, at: &Path, errors: &mut Errors) {
    let linux = meta::text(spec, &["os", "name"]) == "linux";
    if linux && context.get("windowsOptions").is_some() {
        let why = "windows options cannot be set for a linux pod";
        errors.forbidden(&at.child("windowsOptions"), why);
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= names::SUBDOMAIN_MAX
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if edge(a) && edge(z))
                && bytes.iter().all(|&b| edge(b) || matches!(b, b'-' | b'_'))
        })
}

fn validate_profiles(context: &Value, at: &Path, errors: &mut Errors) {
    for (key, what) in [
        ("seccompProfile", "seccomp"),
        ("appArmorProfile", "AppArmor"),
    ] {
        let Some(profile) = context.get(key) else {
            continue;
        };
        let at = at.child(key);
        let kind = meta::text(profile, &["type"]);
        let file = meta::text(profile, &["localhostProfile"]);
        let path = at.child("localhostProfile");
        match (kind, file) {
            ("", _) => errors.required(
                &at.child("type"),
                format!("type is required when {key} is set"),
            ),
            ("Localhost", "") => {
                errors.required(&path, format!("must be set when {what} type is Localhost"));
            }
            ("Localhost", file) if file.starts_with('/') || file.split('/').any(|p| p == "..") => {
                errors.invalid(
                    &path,
                    file,
                    "must be a relative path and must not contain '..'",
                );
            }
            ("RuntimeDefault" | "Unconfined", file) if !file.is_empty() => {
                let why = format!("can only be set when {what} type is Localhost");
                errors.invalid(&path, file, why);
            }
            ("Localhost" | "RuntimeDefault" | "Unconfined", _) => {}
            (other, _) => errors.not_supported(
                &at.child("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            ),
        }
    }
}

pub(super) fn validate_container(spec: &Value, c: &Value, at: &Path, errors: &mut Errors) {
    if let Some(context) = c.get("securityContext") {
        let at = at.child("securityContext");
        validate_context(context, &at, errors);
        no_windows(spec, context, &at, errors);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = meta::at(c, &["lifecycle", hook]) {
            validate_hook(handler, &at.child("lifecycle").child(hook), errors);
        }
    }
    let path = at.child("resizePolicy");
    let mut seen: Vec<&str> = Vec::new();
    for (i, policy) in meta::list(c, &["resizePolicy"]).iter().enumerate() {
        let at = path.index(i);
        let resource = meta::text(policy, &["resourceName"]);
        match resource {
            "" => errors.required(&path, ""),
            "cpu" | "memory" => {}
            other => errors.not_supported(&path, other, &["cpu", "memory"]),
        }
        if seen.contains(&resource) {
            errors.duplicate(&at, resource);
        }
        seen.push(resource);
        match meta::text(policy, &["restartPolicy"]) {
            "" => errors.required(&path, ""),
            "NotRequired" | "RestartContainer" => {}
            other => errors.not_supported(&path, other, &["NotRequired", "RestartContainer"]),
        }
        let own = meta::text(c, &["restartPolicy"]);
        let pod = meta::text(spec, &["restartPolicy"]);
        let never = if own.is_empty() { pod } else { own } == "Never";
        let restart = meta::text(policy, &["restartPolicy"]);
        if never && restart != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.invalid(&path, restart, why);
        }
    }
    validate_sources(c, at, errors);
}

fn validate_context(context: &Value, at: &Path, errors: &mut Errors) {
    for key in ["runAsUser", "runAsGroup"] {
        validate_id(context, key, at, errors);
    }
    one_of(context, "procMount", &["Default", "Unmasked"], at, errors);
    validate_profiles(context, at, errors);
    if meta::at(context, &["allowPrivilegeEscalation"]) == Some(&Value::Bool(false)) {
        if meta::flag(context, &["privileged"]) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid(at, context.clone(), why);
        }
        let admin = meta::list(context, &["capabilities", "add"])
            .iter()
            .any(|c| c == "CAP_SYS_ADMIN");
        if admin {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid(at, context.clone(), why);
        }
    }
}

fn validate_hook(handler: &Value, at: &Path, errors: &mut Errors) {
    const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];
    let mut given = HANDLERS.iter().filter(|h| handler.get(**h).is_some());
    if given.next().is_none() {
        errors.required(at, "must specify a handler type");
    }
    for more in given {
        let why = "may not specify more than 1 handler type";
        errors.forbidden(&at.child(more), why);
    }
    if handler.get("exec").is_some() && meta::list(handler, &["exec", "command"]).is_empty() {
        errors.required(&at.child("exec").child("command"), "");
    }
    if let Some(seconds) = meta::int(handler, &["sleep", "seconds"]).filter(|n| *n < 0) {
        let why = "must be greater than or equal to 0";
        errors.invalid(&at.child("sleep").child("seconds"), seconds, why);
    }
}

const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What environment variables may be taken from.
fn validate_sources(c: &Value, at: &Path, errors: &mut Errors) {
    for (i, env) in meta::list(c, &["env"]).iter().enumerate() {
        let at = at.child("env").index(i).child("valueFrom");
        let field = meta::text(env, &["valueFrom", "fieldRef", "fieldPath"]);
        let subscripted = ["metadata.labels['", "metadata.annotations['"]
            .iter()
            .any(|p| field.starts_with(p) && field.ends_with("']"));
        let whole = matches!(field, "metadata.labels" | "metadata.annotations");
        if !field.is_empty() && !subscripted && (whole || !FIELDS.contains(&field)) {
            let why = format!("error converting fieldPath: field label not supported: {field}");
            errors.invalid(&at.child("fieldRef").child("fieldPath"), field, why);
        }
        let Some(reference) = meta::at(env, &["valueFrom", "resourceFieldRef"]) else {
            continue;
        };
        let path = at.child("resourceFieldRef").child("resource");
        match meta::text(reference, &["resource"]) {
            "" => errors.required(&path, ""),
            known if RESOURCES.contains(&known) => {}
            huge if huge.contains(".hugepages-") => {}
            other => errors.not_supported(&path, other, RESOURCES),
        }
    }
}

//! `securityContext.sysctls`: every parameter that the guest's kernel has may be
//! set, since no other pod shares that kernel; upstream's list of safe ones is a
//! matter of Pod Security alone. What no kernel has is turned away here; the
//! guest refuses what its own hasn't.

use super::view::View;
use k8s_openapi::api::core::v1::Sysctl;
use std::collections::BTreeMap;

/// kubelet's reason for a pod that asks for a parameter that it can't have.
pub(crate) const FORBIDDEN: &str = "SysctlForbidden";
/// The directories of `/proc/sys` (Linux, `admin-guide/sysctl`).
const ROOTS: [&str; 8] = ["abi", "debug", "dev", "fs", "kernel", "net", "user", "vm"];

fn all(view: View<'_>) -> &[Sysctl] {
    let security = view.spec().and_then(|s| s.security_context.as_ref());
    let list = security.and_then(|s| s.sysctls.as_deref());
    list.unwrap_or_default()
}

/// Why the pod can't run, as upstream says it.
pub(crate) fn forbidden(view: View<'_>) -> Option<String> {
    let known = |sysctl: &&Sysctl| {
        let path = path(&sysctl.name);
        let (root, rest) = path.split_once('/').unwrap_or((&path, ""));
        ROOTS.contains(&root) && !rest.is_empty()
    };
    let unknown = all(view).iter().find(|sysctl| !known(sysctl))?;
    Some(format!(
        "forbidden sysctl: \"{}\" not allowlisted",
        unknown.name
    ))
}

/// As the guest is told them.
pub(crate) fn by_path(view: View<'_>) -> BTreeMap<String, String> {
    let pair = |sysctl: &Sysctl| (path(&sysctl.name), sysctl.value.clone());
    all(view).iter().map(pair).collect()
}

/// Below `/proc/sys`. Dots separate names, unless a slash does so first
/// (sysctl(8)); the other one is then part of a name.
fn path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.get(at..).is_some_and(|rest| rest.starts_with('.')) => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::json;

    #[test]
    fn names_become_paths_and_unknown_ones_are_told() {
        for (name, path, known) in [
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced", true),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
                true,
            ),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
                true,
            ),
            ("foo.bar", "foo/bar", false),
            ("kernel", "kernel", false),
        ] {
            let pod = pod(json!({"securityContext": {"sysctls": [
                {"name": "vm.swappiness", "value": "1"}, {"name": name, "value": "2"}
            ]}}));
            let view = View(&pod);
            let found = by_path(view);
            let values: Vec<_> = found
                .iter()
                .map(|(p, v)| (p.as_str(), v.as_str()))
                .collect();
            assert!(values.contains(&(path, "2")), "{name}: {values:?}");
            assert!(values.contains(&("vm/swappiness", "1")), "{values:?}");
            let message = format!("forbidden sysctl: \"{name}\" not allowlisted");
            assert_eq!(forbidden(view), (!known).then_some(message));
        }
    }
}

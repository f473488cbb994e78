//! Names of compute resources and quotas (`pkg/apis/core/helper`), and what
//! quantities of them may be.

use crate::field::{Errors, Path};
use crate::names;
use crate::quantity::Quantity;
use serde_json::Value;

const CONTAINER: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// What only a quota limits, beside containers' resources.
const QUOTA: &[&str] = &[
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Counts of objects; whole numbers.
const COUNTS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

pub fn is_container_resource(name: &str) -> bool {
    CONTAINER.contains(&name) || name.starts_with("hugepages-")
}

pub fn is_quota_resource(name: &str) -> bool {
    CONTAINER.contains(&name)
        || QUOTA.contains(&name)
        || COUNTS.contains(&name)
        || is_huge_page(name)
}

pub fn is_count(name: &str) -> bool {
    COUNTS.contains(&name)
}

/// A vendor's resource, counted in whole devices.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_native(name: &str) -> bool {
    match name.split_once('/') {
        None => true,
        Some((domain, _)) => domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"),
    }
}

/// Requests of it may be lower than its limit.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

/// A name that any list of resources may hold.
pub fn validate_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let faults = names::qualified_name(name);
    if !faults.is_empty() {
        errors.invalid_each(path, name, faults);
        return false;
    }
    if !name.contains('/') && !is_quota_resource(name) && name != "storage" {
        let why = "must be a standard resource type or fully qualified";
        errors.invalid(path, name, why);
        return false;
    }
    true
}

/// A name that a container may ask for.
pub fn validate_container_name(name: &str, path: &Path, errors: &mut Errors) {
    validate_name(name, path, errors);
    if !name.contains('/') {
        if !is_container_resource(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        let why = "doesn't follow extended resource name standard";
        errors.invalid(path, name, why);
    }
}

pub fn validate_quota_name(name: &str, path: &Path, errors: &mut Errors) {
    let standard = validate_name(name, path, errors);
    if standard && !name.contains('/') && !is_quota_resource(name) {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

/// Never negative; whole where the resource is.
pub fn validate_quantity(name: &str, value: &Value, path: &Path, errors: &mut Errors) {
    let Some(quantity) = parse(value) else {
        return;
    };
    if quantity.is_negative() {
        let why = "must be greater than or equal to 0";
        errors.invalid(path, value.clone(), why);
    }
    if (is_count(name) || is_extended(name)) && !quantity.is_whole() {
        errors.invalid(path, value.clone(), "must be an integer");
    }
}

/// A quantity that has been through decoding.
pub fn parse(value: &Value) -> Option<Quantity> {
    value.as_str().and_then(|t| Quantity::parse(t).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_into_families() {
        for (name, container, quota, extended, overcommit) in [
            ("cpu", true, true, false, true),
            ("hugepages-2Mi", true, true, false, false),
            ("requests.cpu", false, true, false, true),
            ("pods", false, true, false, true),
            ("widgets", false, false, false, true),
            ("example.com/gpu", false, false, true, false),
            ("a.kubernetes.io/b", false, false, false, true),
        ] {
            assert_eq!(is_container_resource(name), container, "{name}");
            assert_eq!(is_quota_resource(name), quota, "{name}");
            assert_eq!(is_extended(name), extended, "{name}");
            assert_eq!(may_overcommit(name), overcommit, "{name}");
        }
    }
}

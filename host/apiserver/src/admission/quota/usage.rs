//! What an object uses of the resources that quotas bound, and which quotas
//! it counts against. Pure (upstream's `pkg/quota/v1/evaluator/core`).

use crate::admission::resources::{Amounts, add, amounts, of_pod, quantity};
use api::meta;
use api::quantity::Quantity;
use serde_json::Value;

/// Counted by its plain name, too.
const LEGACY: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
const CLASS: &str = ".storageclass.storage.k8s.io/";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A kind as quotas name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
}

impl Counted<'_> {
    /// `count/deployments.apps`.
    pub(crate) fn count_name(&self) -> String {
        match self.group {
            "" => format!("count/{}", self.plural),
            group => format!("count/{}.{group}", self.plural),
        }
    }

    fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }
}

/// All that `object` uses; `deleted` ones that nobody waits for use nothing.
pub(crate) fn of(kind: Counted<'_>, object: &Value) -> Amounts {
    let one = Quantity::count(1);
    let mut used = Amounts::from([(kind.count_name(), one)]);
    if kind.group.is_empty() && LEGACY.contains(&kind.plural) {
        used.insert(kind.plural.to_owned(), one);
    }
    if kind.is_core("pods") && counts(object) {
        used.insert("pods".to_owned(), one);
        pod(object, &mut used);
    }
    if kind.is_core("services") {
        service(object, &mut used);
    }
    if kind.is_core("persistentvolumeclaims") {
        claim(object, &mut used);
    }
    used
}

/// A pod that has ended uses nothing but its place.
fn counts(pod: &Value) -> bool {
    !matches!(
        meta::text(pod, &["status", "phase"]),
        "Succeeded" | "Failed"
    )
}

fn pod(pod: &Value, used: &mut Amounts) {
    for (name, amount) in of_pod(pod, "requests") {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                add(used, &Amounts::from([(name.clone(), amount)]));
                used.insert(format!("requests.{name}"), amount);
            }
            huge if huge.starts_with("hugepages-") => {
                used.insert(name.clone(), amount);
                used.insert(format!("requests.{name}"), amount);
            }
            extended if extended.contains('/') => {
                used.insert(format!("requests.{name}"), amount);
            }
            _ => {}
        }
    }
    for (name, amount) in of_pod(pod, "limits") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{name}"), amount);
        }
    }
}

fn service(service: &Value, used: &mut Amounts) {
    let ports = meta::list(service, &["spec", "ports"]);
    let count = |n: usize| Quantity::count(i64::try_from(n).unwrap_or(i64::MAX));
    let node_ports = match meta::text(service, &["spec", "type"]) {
        "NodePort" => ports.len(),
        "LoadBalancer" => {
            used.insert("services.loadbalancers".to_owned(), count(1));
            match meta::at(service, &["spec", "allocateLoadBalancerNodePorts"]) {
                Some(Value::Bool(false)) => ports
                    .iter()
                    .filter(|p| meta::int(p, &["nodePort"]).is_some_and(|n| n != 0))
                    .count(),
                _ => ports.len(),
            }
        }
        _ => 0,
    };
    used.insert("services.nodeports".to_owned(), count(node_ports));
    used.entry("services.loadbalancers".to_owned())
        .or_insert(count(0));
}

fn claim(claim: &Value, used: &mut Amounts) {
    let class = match meta::text(claim, &["metadata", "annotations", BETA_CLASS]) {
        "" => meta::text(claim, &["spec", "storageClassName"]),
        named => named,
    };
    let one = Quantity::count(1);
    if !class.is_empty() {
        used.insert(format!("{class}{CLASS}persistentvolumeclaims"), one);
    }
    let asked = meta::at(claim, &["spec", "resources", "requests", "storage"]);
    if let Some(storage) = asked.and_then(quantity) {
        used.insert("requests.storage".to_owned(), storage);
        if !class.is_empty() {
            used.insert(format!("{class}{CLASS}requests.storage"), storage);
        }
    }
}

/// The names among `hard` that objects of this kind can use.
pub(crate) fn concerned(kind: Counted<'_>, hard: &Amounts) -> Vec<String> {
    let count = kind.count_name();
    hard.keys()
        .filter(|name| {
            let name = name.as_str();
            if name == count {
                return true;
            }
            match (kind.group, kind.plural) {
                ("", "pods") => {
                    matches!(name, "pods" | "cpu" | "memory" | "ephemeral-storage")
                        || name.starts_with("hugepages-")
                        || name.starts_with("limits.")
                        || (name.starts_with("requests.") && name != "requests.storage")
                }
                ("", "services") => {
                    matches!(
                        name,
                        "services" | "services.nodeports" | "services.loadbalancers"
                    )
                }
                ("", "persistentvolumeclaims") => {
                    matches!(name, "persistentvolumeclaims" | "requests.storage")
                        || name.contains(CLASS)
                }
                ("", plural) => LEGACY.contains(&plural) && name == plural,
                _ => false,
            }
        })
        .cloned()
        .collect()
}

/// Whether `quota`'s scopes take in this object; only pods have scopes.
pub(crate) fn in_scope(quota: &Value, kind: Counted<'_>, object: &Value) -> bool {
    let scopes = meta::list(quota, &["spec", "scopes"]);
    let selected = meta::list(quota, &["spec", "scopeSelector", "matchExpressions"]);
    if scopes.is_empty() && selected.is_empty() {
        return true;
    }
    kind.is_core("pods")
        && scopes
            .iter()
            .filter_map(Value::as_str)
            .all(|scope| pod_in(scope, "Exists", &[], object))
        && selected.iter().all(|e| {
            pod_in(
                meta::text(e, &["scopeName"]),
                meta::text(e, &["operator"]),
                meta::list(e, &["values"]),
                object,
            )
        })
}

fn pod_in(scope: &str, operator: &str, values: &[Value], pod: &Value) -> bool {
    let terminating = meta::int(pod, &["spec", "activeDeadlineSeconds"]).is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        "PriorityClass" => {
            let class = meta::text(pod, &["spec", "priorityClassName"]);
            let listed = values.iter().any(|v| v == class);
            match operator {
                "In" => !class.is_empty() && listed,
                "NotIn" => class.is_empty() || !listed,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    ["initContainers", "containers"]
        .iter()
        .flat_map(|p| meta::list(pod, &["spec", p]))
        .all(|c| {
            ["requests", "limits"].iter().all(|part| {
                let named = amounts(c, &["resources", part]);
                named.iter().all(|(n, a)| {
                    !matches!(n.as_str(), "cpu" | "memory") || *a == Quantity::count(0)
                })
            })
        })
}

fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &pod["spec"]["affinity"][*kind];
        let required = meta::list(
            affinity,
            &["requiredDuringSchedulingIgnoredDuringExecution"],
        );
        let preferred = meta::list(
            affinity,
            &["preferredDuringSchedulingIgnoredDuringExecution"],
        );
        required
            .iter()
            .chain(preferred.iter().map(|p| &p["podAffinityTerm"]))
            .any(|term| {
                !meta::list(term, &["namespaces"]).is_empty()
                    || term.get("namespaceSelector").is_some_and(Value::is_object)
            })
    })
}

/// The compute resources among `required` that some container of a pod
/// doesn't name: `limits.cpu for: a,b`.
pub(crate) fn unnamed(pod: &Value, required: &[String]) -> Vec<String> {
    let mut missing: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
    for part in ["initContainers", "containers"] {
        for container in meta::list(pod, &["spec", part]) {
            for name in required {
                let (part, plain) = match name.split_once('.') {
                    Some(("limits", plain)) => ("limits", plain),
                    Some(("requests", plain)) => ("requests", plain),
                    _ => ("requests", name.as_str()),
                };
                if !matches!(plain, "cpu" | "memory" | "ephemeral-storage")
                    || (plain == "ephemeral-storage" && !name.contains('.'))
                {
                    continue;
                }
                if meta::at(container, &["resources", part, plain]).is_none() {
                    let of = meta::text(container, &["name"]).to_owned();
                    let names = missing.entry(name).or_default();
                    if !names.contains(&of) {
                        names.push(of);
                    }
                }
            }
        }
    }
    missing
        .into_iter()
        .map(|(name, mut of)| {
            of.sort();
            format!("{name} for: {}", of.join(","))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(used: &Amounts) -> String {
        let parts: Vec<String> = used.iter().map(|(n, a)| format!("{n}={a}")).collect();
        parts.join(" ")
    }

    #[test]
    fn objects_use_what_upstream_counts() {
        let core = |plural| Counted { group: "", plural };
        for (kind, object, wanted) in [
            (
                core("configmaps"),
                json!({}),
                "configmaps=1 count/configmaps=1",
            ),
            (
                Counted {
                    group: "apps",
                    plural: "replicasets",
                },
                json!({}),
                "count/replicasets.apps=1",
            ),
            (
                core("services"),
                json!({"spec": {"type": "NodePort", "ports": [{}, {}]}}),
                "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
            ),
            (
                core("persistentvolumeclaims"),
                json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
                "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi",
            ),
            (
                core("pods"),
                json!({"spec": {"containers": [{"resources": {
                    "requests": {"cpu": "500m", "example.com/dongle": "2"}, "limits": {"cpu": "1"}}}]}}),
                "count/pods=1 cpu=500m limits.cpu=1 pods=1 requests.cpu=500m requests.example.com/dongle=2",
            ),
            (
                core("pods"),
                json!({"status": {"phase": "Failed"}}),
                "count/pods=1",
            ),
        ] {
            assert_eq!(shown(&of(kind, &object)), wanted);
        }
    }

    #[test]
    fn scopes_choose_pods() {
        let pods = Counted {
            group: "",
            plural: "pods",
        };
        let best_effort = json!({"spec": {"containers": [{}]}});
        let urgent = json!({"spec": {"priorityClassName": "high", "activeDeadlineSeconds": 5,
            "containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
        let scopes = |list: &[&str]| json!({"spec": {"scopes": list}});
        let class = |operator: &str| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}}})
        };
        for (quota, first, second) in [
            (json!({}), true, true),
            (scopes(&["BestEffort"]), true, false),
            (scopes(&["NotBestEffort"]), false, true),
            (scopes(&["Terminating"]), false, true),
            (scopes(&["NotTerminating", "BestEffort"]), true, false),
            (class("In"), false, true),
            (class("NotIn"), true, false),
            (class("Exists"), false, true),
        ] {
            assert_eq!(in_scope(&quota, pods, &best_effort), first, "{quota}");
            assert_eq!(in_scope(&quota, pods, &urgent), second, "{quota}");
        }
        let maps = Counted {
            group: "",
            plural: "configmaps",
        };
        assert!(!in_scope(&scopes(&["BestEffort"]), maps, &json!({})));
    }

    #[test]
    fn containers_must_name_what_is_bounded() {
        let pod = json!({"spec": {"containers": [
            {"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}]}});
        let required =
            ["cpu", "limits.memory", "pods", "requests.nvidia.com/gpu"].map(str::to_owned);
        assert_eq!(
            unnamed(&pod, &required),
            ["cpu for: b", "limits.memory for: a,b"]
        );
    }
}

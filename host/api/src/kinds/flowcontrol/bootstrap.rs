//! The objects that every cluster has
//! (`apiserver/pkg/apis/flowcontrol/bootstrap`): some are mandatory, the
//! others may be changed when they ask for it.

use serde_json::{Value, json};

const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "kind": kind, "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

fn level(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

/// Shares, percent that may be lent, queues and hand size.
fn queued(name: &str, shares: i64, lendable: i64, queues: i64, hand: i64) -> Value {
    level(
        name,
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": {
                "queues": queues, "handSize": hand, "queueLengthLimit": 50}}}}),
    )
}

pub(super) fn mandatory_levels() -> [Value; 2] {
    [
        level(
            "exempt",
            json!({"type": "Exempt",
                "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}}),
        ),
    ]
}

/// All levels that are there from the start.
pub(in crate::kinds) fn priority_levels() -> Vec<Value> {
    let mut all = mandatory_levels().to_vec();
    all.extend([
        queued("system", 30, 33, 64, 6),
        queued("node-high", 40, 25, 64, 6),
        queued("leader-election", 10, 0, 16, 4),
        queued("workload-high", 40, 50, 128, 6),
        queued("workload-low", 100, 90, 128, 6),
        queued("global-default", 20, 50, 128, 6),
    ]);
    all
}

fn groups(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|n| json!({"kind": "Group", "group": {"name": n}}))
        .collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|n| json!({"kind": "User", "user": {"name": n}}))
        .collect()
}

/// Service accounts of kube-system.
fn accounts(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|n| {
            json!({"kind": "ServiceAccount",
            "serviceAccount": {"name": n, "namespace": "kube-system"}})
        })
        .collect()
}

fn everything() -> Value {
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

/// Verbs, group, resources, namespace, and whether beyond namespaces too.
type Rule<'a> = (&'a [&'a str], &'a str, &'a [&'a str], &'a str, bool);

fn resources(rules: &[Rule<'_>]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(verbs, group, resources, namespace, cluster)| {
            let mut rule = json!({"verbs": verbs, "apiGroups": [group],
                "resources": resources, "namespaces": [namespace]});
            if *cluster {
                rule["clusterScope"] = true.into();
            }
            rule
        })
        .collect();
    json!({"resourceRules": rules})
}

const ELECTION: &[&str] = &["get", "create", "update"];

fn schema(
    name: &str,
    level: &str,
    precedence: i64,
    by: &str,
    subjects: Vec<Value>,
    mut rule: Value,
) -> Value {
    rule["subjects"] = subjects.into();
    let mut spec = json!({"priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence, "rules": [rule]});
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    object("FlowSchema", name, spec)
}

const BY_USER: &str = "ByUser";
const BY_NAMESPACE: &str = "ByNamespace";
const ANYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];

pub(super) fn mandatory_schemas() -> [Value; 2] {
    [
        schema(
            "exempt",
            "exempt",
            1,
            "",
            groups(&["system:masters"]),
            everything(),
        ),
        schema(
            "catch-all",
            "catch-all",
            10_000,
            BY_USER,
            groups(ANYBODY),
            everything(),
        ),
    ]
}

/// All schemas that are there from the start.
pub(in crate::kinds) fn flow_schemas() -> Vec<Value> {
    let nodes = || groups(&["system:nodes"]);
    let managers = ["system:kube-controller-manager", "system:kube-scheduler"];
    let elections = |namespace| {
        resources(&[
            (ELECTION, "", &["endpoints", "configmaps"], namespace, false),
            (ELECTION, "coordination.k8s.io", &["leases"], "*", false),
        ])
    };
    let node_health = resources(&[
        (&["*"], "", &["nodes", "nodes/status"], "*", true),
        (&["*"], "coordination.k8s.io", &["leases"], "*", false),
    ]);
    let probes = json!({"nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let mut electors = users(&managers);
    electors.extend(accounts(&["*"]));
    let mut all = mandatory_schemas().to_vec();
    all.extend([
        schema(
            "system-nodes",
            "system",
            500,
            BY_USER,
            nodes(),
            everything(),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            BY_USER,
            nodes(),
            node_health,
        ),
        schema("probes", "exempt", 2, "", groups(ANYBODY), probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            BY_USER,
            electors,
            elections("kube-system"),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            BY_USER,
            accounts(&["*"]),
            elections("*"),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            BY_USER,
            endpoint_subjects(),
            endpoint_rules(),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            BY_NAMESPACE,
            users(&managers[..1]),
            everything(),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            BY_NAMESPACE,
            users(&managers[1..]),
            everything(),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            BY_NAMESPACE,
            accounts(&["*"]),
            everything(),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            BY_USER,
            groups(&["system:serviceaccounts"]),
            everything(),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            BY_USER,
            groups(ANYBODY),
            everything(),
        ),
    ]);
    all
}

fn endpoint_subjects() -> Vec<Value> {
    let mut all = users(&["system:kube-controller-manager"]);
    all.extend(accounts(&[
        "endpoint-controller",
        "endpointslicemirroring-controller",
    ]));
    all
}

fn endpoint_rules() -> Value {
    resources(&[(&["get", "create", "update"], "", &["endpoints"], "*", false)])
}

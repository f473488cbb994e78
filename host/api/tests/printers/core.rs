//! Kinds of the core group but for pods, workloads and storage.

use crate::{check, going, object};
use serde_json::{Value, json};

#[test]
fn entries_are_counted() {
    check(
        "v1/configmaps",
        vec![
            (object(json!({})), json!(["x", 0, "5d"])),
            (
                object(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "Yw=="}})),
                json!(["x", 3, "5d"]),
            ),
        ],
    );
    check(
        "v1/secrets",
        vec![
            (
                object(json!({"type": "Opaque"})),
                json!(["x", "Opaque", 0, "5d"]),
            ),
            (
                object(json!({"type": "t", "data": {"a": "YQ=="}})),
                json!(["x", "t", 1, "5d"]),
            ),
        ],
    );
    check(
        "v1/serviceaccounts",
        vec![(
            object(json!({"secrets": [{"name": "s"}]})),
            json!(["x", "5d"]),
        )],
    );
}

#[test]
fn namespaces_show_their_phase() {
    check(
        "v1/namespaces",
        vec![
            (
                object(json!({"status": {"phase": "Active"}})),
                json!(["x", "Active", "5d"]),
            ),
            (
                going(json!({"status": {"phase": "Terminating"}})),
                json!(["x", "Terminating", "5d"]),
            ),
            (
                json!({"metadata": {"name": "x"}}),
                json!(["x", "", "<unknown>"]),
            ),
        ],
    );
}

#[test]
fn kinds_without_columns_show_when_they_were_made() {
    for path in [
        "v1/limitranges",
        "rbac.authorization.k8s.io/v1/roles",
        "rbac.authorization.k8s.io/v1/clusterroles",
        "apiextensions.k8s.io/v1/customresourcedefinitions",
    ] {
        check(
            path,
            vec![
                (object(json!({})), json!(["x", "2026-01-01T00:00:00Z"])),
                (
                    json!({"metadata": {"name": "x"}}),
                    json!(["x", "0001-01-01T00:00:00Z"]),
                ),
            ],
        );
    }
}

#[test]
fn nodes() {
    let with = |conditions: Value, more: Value| {
        let mut node = object(json!({"status": {"conditions": conditions}}));
        crate::merge(&mut node, more);
        node
    };
    let cells = |status: &str, roles: &str, rest: [&str; 6]| {
        let mut cells = vec!["x", status, roles, "5d"];
        cells.extend(rest);
        json!(cells)
    };
    let bare = [
        "",
        "<none>",
        "<none>",
        "<unknown>",
        "<unknown>",
        "<unknown>",
    ];
    let ready = |status: &str| json!([{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": status}]);
    let info = json!({"kubeletVersion": "v1.36.0", "osImage": "os", "kernelVersion": "6.12",
        "architecture": "amd64", "containerRuntimeVersion": "r://1"});
    let addresses = json!([{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "InternalIP", "address": "10.0.0.2"}, {"type": "ExternalIP", "address": "1.2.3.4"}]);
    let labels = json!({"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "",
        "node-role.kubernetes.io/": "", "kubernetes.io/role": "worker"});
    check(
        "v1/nodes",
        vec![
            (with(json!([]), json!({})), cells("Unknown", "<none>", bare)),
            (
                with(ready("True"), json!({})),
                cells("Ready", "<none>", bare),
            ),
            (
                with(ready("False"), json!({})),
                cells("NotReady", "<none>", bare),
            ),
            (
                with(ready("Unknown"), json!({})),
                cells("NotReady", "<none>", bare),
            ),
            (
                with(ready("True"), json!({"spec": {"unschedulable": true}})),
                cells("Ready,SchedulingDisabled", "<none>", bare),
            ),
            (
                with(json!([]), json!({"spec": {"unschedulable": true}})),
                cells("Unknown,SchedulingDisabled", "<none>", bare),
            ),
            (
                with(
                    json!([]),
                    json!({"metadata": {"labels": labels},
                    "status": {"nodeInfo": info, "addresses": addresses}}),
                ),
                cells(
                    "Unknown",
                    "control-plane,worker",
                    [
                        "v1.36.0",
                        "10.0.0.1",
                        "1.2.3.4",
                        "os",
                        "6.12 (amd64)",
                        "r://1",
                    ],
                ),
            ),
            (
                with(
                    json!([]),
                    json!({"status": {"nodeInfo": {"architecture": "arm64"}}}),
                ),
                cells(
                    "Unknown",
                    "<none>",
                    [
                        "",
                        "<none>",
                        "<none>",
                        "<unknown>",
                        "<unknown> (arm64)",
                        "<unknown>",
                    ],
                ),
            ),
        ],
    );
}

#[test]
fn services() {
    let of = |spec: Value, status: Value| object(json!({"spec": spec, "status": status}));
    let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}]);
    let balanced = |ingress: Value| json!({"loadBalancer": {"ingress": ingress}});
    check(
        "v1/services",
        vec![
            (
                of(
                    json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
                    "ports": ports, "selector": {"b": "2", "a": "1"}}),
                    json!({}),
                ),
                json!([
                    "x",
                    "ClusterIP",
                    "10.96.0.9",
                    "<none>",
                    "80/TCP,53:30053/UDP",
                    "5d",
                    "a=1,b=2"
                ]),
            ),
            (
                of(
                    json!({"type": "ClusterIP", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1", "2.2.2.2"]}),
                    json!({}),
                ),
                json!([
                    "x",
                    "ClusterIP",
                    "None",
                    "1.1.1.1,2.2.2.2",
                    "<none>",
                    "5d",
                    "<none>"
                ]),
            ),
            (
                of(
                    json!({"type": "NodePort", "externalIPs": ["1.1.1.1"]}),
                    balanced(json!([{"ip": "9.9.9.9"}])),
                ),
                json!([
                    "x", "NodePort", "<none>", "1.1.1.1", "<none>", "5d", "<none>"
                ]),
            ),
            (
                of(json!({"type": "NodePort"}), json!({})),
                json!([
                    "x", "NodePort", "<none>", "<none>", "<none>", "5d", "<none>"
                ]),
            ),
            (
                of(json!({"type": "LoadBalancer"}), json!({})),
                json!([
                    "x",
                    "LoadBalancer",
                    "<none>",
                    "<pending>",
                    "<none>",
                    "5d",
                    "<none>"
                ]),
            ),
            (
                of(
                    json!({"type": "LoadBalancer"}),
                    balanced(json!([{"ip": "9.9.9.9", "hostname": "h"},
                    {"hostname": "balancer.example.com"}, {"ip": "8.8.8.8"}, {"ip": "9.9.9.9"}])),
                ),
                json!([
                    "x",
                    "LoadBalancer",
                    "<none>",
                    "8.8.8.8,9.9.9.9,balancer.example.com",
                    "<none>",
                    "5d",
                    "<none>"
                ]),
            ),
            (
                of(
                    json!({"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]}),
                    balanced(json!([{"ip": "9.9.9.9"}])),
                ),
                json!([
                    "x",
                    "LoadBalancer",
                    "<none>",
                    "9.9.9.9,1.1.1.1",
                    "<none>",
                    "5d",
                    "<none>"
                ]),
            ),
            (
                of(
                    json!({"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]}),
                    json!({}),
                ),
                json!([
                    "x",
                    "LoadBalancer",
                    "<none>",
                    "1.1.1.1",
                    "<none>",
                    "5d",
                    "<none>"
                ]),
            ),
            (
                of(
                    json!({"type": "ExternalName", "externalName": "h.example.com"}),
                    json!({}),
                ),
                json!([
                    "x",
                    "ExternalName",
                    "<none>",
                    "h.example.com",
                    "<none>",
                    "5d",
                    "<none>"
                ]),
            ),
            (
                of(json!({}), json!({})),
                json!(["x", "", "<none>", "<unknown>", "<none>", "5d", "<none>"]),
            ),
        ],
    );
}

#[test]
fn endpoints() {
    let of = |subsets: Value| object(json!({"subsets": subsets}));
    let row = |shown: &str| json!(["x", shown, "5d"]);
    let ip = |n: i64| json!({"ip": format!("10.0.0.{n}")});
    check(
        "v1/endpoints",
        vec![
            (of(json!([])), row("<none>")),
            (
                of(json!([{"notReadyAddresses": [ip(1)], "ports": [{"port": 80}]}])),
                row(""),
            ),
            (
                of(json!([{"addresses": [ip(1), ip(2)]}])),
                row("10.0.0.1,10.0.0.2"),
            ),
            (
                of(json!([{"addresses": [ip(1), {"ip": "fd00::1"}], "ports": [{"port": 80}]}])),
                row("10.0.0.1:80,[fd00::1]:80"),
            ),
            (
                of(
                    json!([{"addresses": [ip(1), ip(2)], "ports": [{"port": 80}, {"port": 81}]}, {"addresses": [ip(3)]}]),
                ),
                row("10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 2 more..."),
            ),
        ],
    );
}

#[test]
fn events() {
    let minutes = |n: i64| format!("2026-01-05T23:{:02}:00Z", 60 - n);
    let about = json!({"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"});
    let event = |more: Value| {
        let mut event = object(
            json!({"involvedObject": about, "type": "Warning", "reason": "R", "message": " m\n"}),
        );
        crate::merge(&mut event, more);
        event
    };
    let row = |last: &str, source: &str, first: &str, count: i64| {
        json!([
            last,
            "Warning",
            "R",
            "pod/p",
            "spec.containers{c}",
            source,
            "m",
            first,
            count,
            "x"
        ])
    };
    check(
        "v1/events",
        vec![
            (
                event(
                    json!({"firstTimestamp": minutes(9), "lastTimestamp": minutes(3), "count": 4,
                    "source": {"component": "kubelet", "host": "n"}}),
                ),
                row("3m", "kubelet, n", "9m", 4),
            ),
            (
                event(
                    json!({"firstTimestamp": minutes(9), "reportingComponent": "r", "reportingInstance": "i"}),
                ),
                row("9m", "r, i", "9m", 1),
            ),
            (
                event(
                    json!({"eventTime": "2026-01-05T23:55:00.250000Z", "firstTimestamp": null, "lastTimestamp": null,
                    "reportingComponent": "r", "source": {}}),
                ),
                row("4m59s", "r", "4m59s", 1),
            ),
            (
                event(
                    json!({"eventTime": "2026-01-05T23:51:00.000000Z", "lastTimestamp": minutes(2), "count": 2,
                    "series": {"count": 7, "lastObservedTime": "2026-01-05T23:59:30.000000Z"}}),
                ),
                row("30s", "", "9m", 7),
            ),
            (
                event(
                    json!({"firstTimestamp": minutes(9), "lastTimestamp": minutes(2), "series": {}}),
                ),
                row("<unknown>", "", "9m", 0),
            ),
            (
                event(json!({"count": 0})),
                row("<unknown>", "", "<unknown>", 1),
            ),
            (
                object(json!({"involvedObject": {"kind": "Node"}, "source": {"host": "h"}})),
                json!([
                    "<unknown>",
                    "",
                    "",
                    "node",
                    "",
                    ", h",
                    "",
                    "<unknown>",
                    1,
                    "x"
                ]),
            ),
        ],
    );
    check(
        "events.k8s.io/v1/events",
        vec![(
            object(
                json!({"regarding": about, "type": "Warning", "reason": "R", "note": "m",
                "eventTime": "2026-01-05T23:57:00.000000Z", "reportingController": "c", "reportingInstance": "i"}),
            ),
            row("3m", "c, i", "3m", 1),
        )],
    );
}

#[test]
fn quotas() {
    check(
        "v1/resourcequotas",
        vec![
            (
                object(json!({"spec": {"hard": {"pods": "1"}}})),
                json!(["x", "", "", "5d"]),
            ),
            (
                object(json!({"status": {
                    "hard": {"requests.cpu": "4", "limits.memory": "2Gi", "limits.cpu": "8", "pods": "10", "limits": "1"},
                    "used": {"requests.cpu": "500m", "limits.memory": "1Gi", "pods": "3"}}})),
                json!([
                    "x",
                    "limits: 0/1, pods: 3/10, requests.cpu: 500m/4",
                    "limits.cpu: 0/8, limits.memory: 1Gi/2Gi",
                    "5d"
                ]),
            ),
        ],
    );
}

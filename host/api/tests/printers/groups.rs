//! The other groups.

use crate::{LAYOUT, check, kind, now, object};
use api::print::table;
use serde_json::{Value, json};

#[test]
fn admission() {
    for (path, list) in [
        (
            "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            "validations",
        ),
        (
            "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
            "mutations",
        ),
    ] {
        check(
            path,
            vec![
                (
                    object(
                        json!({"spec": {list: [{}, {}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}}),
                    ),
                    json!(["x", 2, "v1/ConfigMap", "5d"]),
                ),
                (object(json!({})), json!(["x", 0, "<unset>", "5d"])),
            ],
        );
    }
    let selector = json!({"matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]});
    let bound =
        |reference: Value| object(json!({"spec": {"policyName": "p", "paramRef": reference}}));
    let row = |reference: &str| json!(["x", "p", reference, "5d"]);
    for path in [
        "admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings",
    ] {
        check(
            path,
            vec![
                (object(json!({"spec": {"policyName": "p"}})), row("<unset>")),
                (bound(json!({"name": "n", "namespace": "ns"})), row("ns/n")),
                (bound(json!({"name": "n"})), row("*/n")),
                (bound(json!({"namespace": "ns"})), row("<unset>")),
                (
                    bound(json!({"selector": selector})),
                    row(
                        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},}",
                    ),
                ),
                (
                    bound(json!({"selector": {}})),
                    row(
                        "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}",
                    ),
                ),
            ],
        );
    }
    for path in [
        "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    ] {
        check(
            path,
            vec![
                (object(json!({"webhooks": [{}, {}]})), json!(["x", 2, "5d"])),
                (object(json!({})), json!(["x", 0, "5d"])),
            ],
        );
    }
}

#[test]
fn api_services() {
    let of = |service: Value, condition: Value| {
        object(json!({"spec": {"service": service},
            "status": {"conditions": [{"type": "Other", "status": "True"}, condition]}}))
    };
    let service = json!({"namespace": "ns", "name": "s"});
    check(
        "apiregistration.k8s.io/v1/apiservices",
        vec![
            (
                object(json!({"spec": {}})),
                json!(["x", "Local", "Unknown", "5d"]),
            ),
            (
                of(
                    service.clone(),
                    json!({"type": "Available", "status": "True", "reason": "Passed"}),
                ),
                json!(["x", "ns/s", "True", "5d"]),
            ),
            (
                of(
                    service.clone(),
                    json!({"type": "Available", "status": "False", "reason": "MissingEndpoints"}),
                ),
                json!(["x", "ns/s", "False (MissingEndpoints)", "5d"]),
            ),
            (
                of(service, json!({"type": "Available", "status": "False"})),
                json!(["x", "ns/s", "False", "5d"]),
            ),
        ],
    );
}

#[test]
fn signing_requests() {
    let of = |conditions: &[&str], certificate: &str| {
        let conditions: Vec<Value> = conditions.iter().map(|c| json!({"type": c})).collect();
        object(
            json!({"spec": {"signerName": "example.com/s", "username": "u", "expirationSeconds": 7200},
            "status": {"conditions": conditions, "certificate": certificate}}),
        )
    };
    let row = |state: &str| json!(["x", "5d", "example.com/s", "u", "120m", state]);
    check(
        "certificates.k8s.io/v1/certificatesigningrequests",
        vec![
            (of(&[], ""), row("Pending")),
            (of(&["Approved"], ""), row("Approved")),
            (of(&["Approved"], "Yw=="), row("Approved,Issued")),
            (of(&["Approved", "Denied"], ""), row("Denied")),
            (of(&["Failed"], ""), row("Pending,Failed")),
            (
                of(&["Approved", "Failed"], "Yw=="),
                row("Approved,Failed,Issued"),
            ),
            (
                object(json!({})),
                json!(["x", "5d", "<none>", "", "<none>", "Pending"]),
            ),
        ],
    );
}

#[test]
fn leases_and_classes() {
    check(
        "coordination.k8s.io/v1/leases",
        vec![
            (
                object(json!({"spec": {"holderIdentity": "h"}})),
                json!(["x", "h", "5d"]),
            ),
            (object(json!({})), json!(["x", "", "5d"])),
        ],
    );
    check(
        "node.k8s.io/v1/runtimeclasses",
        vec![(object(json!({"handler": "h"})), json!(["x", "h", "5d"]))],
    );
    check(
        "scheduling.k8s.io/v1/priorityclasses",
        vec![
            (
                object(json!({"value": -3, "globalDefault": true, "preemptionPolicy": "Never"})),
                json!(["x", -3, true, "5d", "Never"]),
            ),
            (object(json!({})), json!(["x", 0, false, "5d", ""])),
        ],
    );
}

#[test]
fn slices() {
    let of = |ports: Value, endpoints: Value| {
        object(json!({"addressType": "IPv4", "ports": ports, "endpoints": endpoints}))
    };
    let row = |ports: &str, endpoints: &str| json!(["x", "IPv4", ports, endpoints, "5d"]);
    let all = json!([{"addresses": ["1", "2"]}, {"addresses": ["3"]}]);
    check(
        "discovery.k8s.io/v1/endpointslices",
        vec![
            (of(json!([]), json!([])), row("<unset>", "<unset>")),
            (
                of(
                    json!([{"name": "a", "port": 80}, {"name": "b"}, {}]),
                    all.clone(),
                ),
                row("80,b,*", "1,2,3"),
            ),
            (
                of(json!([{"name": ""}]), json!([{"addresses": []}])),
                row("<unset>", "<unset>"),
            ),
            (
                of(
                    json!([{"port": 1}, {"port": 2}, {"port": 3}, {"port": 4}]),
                    json!([{"addresses": ["1", "2"]}, {"addresses": ["3", "4", "5"]}]),
                ),
                row("1,2,3 + 1 more...", "1,2,3 + 2 more..."),
            ),
        ],
    );
}

#[test]
fn flow_control() {
    let schema = |name: &str, precedence: i64| {
        object(
            json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": "l"}}}),
        )
    };
    let mut judged = schema("x", 5);
    judged["spec"]["distinguisherMethod"] = json!({"type": "ByUser"});
    judged["status"] = json!({"conditions": [{"type": "Dangling", "status": "False"}]});
    let path = "flowcontrol.apiserver.k8s.io/v1/flowschemas";
    check(
        path,
        vec![
            (schema("x", 5), json!(["x", "l", 5, "<none>", "5d", "?"])),
            (judged, json!(["x", "l", 5, "ByUser", "5d", "False"])),
        ],
    );
    let unordered = vec![schema("a", 20), schema("c", 10), schema("b", 10)];
    let made = table(&kind(path), unordered, json!({}), LAYOUT, now());
    let names: Vec<&Value> = (0..3).map(|i| &made["rows"][i]["cells"][0]).collect();
    assert_eq!(names, ["b", "c", "a"]);
    check(
        "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations",
        vec![
            (
                object(json!({"spec": {"type": "Exempt", "exempt": {}}})),
                json!(["x", "Exempt", "<none>", "<none>", "<none>", "<none>", "5d"]),
            ),
            (
                object(
                    json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 30,
                    "limitResponse": {"type": "Reject"}}}}),
                ),
                json!(["x", "Limited", 30, "<none>", "<none>", "<none>", "5d"]),
            ),
            (
                object(json!({"spec": {"type": "Limited", "limited": {
                    "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}})),
                json!(["x", "Limited", 0, 64, 6, 50, "5d"]),
            ),
        ],
    );
}

#[test]
fn networking() {
    let host = |h: &str| json!({"host": h});
    let ingress = |spec: Value| object(json!({"spec": spec}));
    let row = |class: &str, hosts: &str, address: &str, ports: &str| {
        json!(["x", class, hosts, address, ports, "5d"])
    };
    let balanced =
        json!({"loadBalancer": {"ingress": [{"ip": "9.9.9.9"}, {"hostname": "a.example.com"}]}});
    check(
        "networking.k8s.io/v1/ingresses",
        vec![
            (ingress(json!({})), row("<none>", "*", "", "80")),
            (
                ingress(json!({"rules": [{}]})),
                row("<none>", "*", "", "80"),
            ),
            (
                object(
                    json!({"spec": {"ingressClassName": "c", "rules": [host("h"), host("i")], "tls": [{}]}, "status": balanced}),
                ),
                row("c", "h,i", "9.9.9.9,a.example.com", "80, 443"),
            ),
            (
                ingress(json!({"rules": [host("a"), host("b"), {}, host("c")]})),
                row("<none>", "a,b,c", "", "80"),
            ),
            (
                ingress(json!({"rules": [host("a"), host("b"), host("c"), host("d"), {}]})),
                row("<none>", "a,b,c + 2 more...", "", "80"),
            ),
        ],
    );
    let parameters = json!({"apiGroup": "example.com", "kind": "K", "name": "n"});
    let annotated = json!({"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}});
    check(
        "networking.k8s.io/v1/ingressclasses",
        vec![
            (
                object(json!({"spec": {"controller": "c"}})),
                json!(["x", "c", "<none>", "5d"]),
            ),
            (
                object(
                    json!({"metadata": annotated, "spec": {"controller": "c", "parameters": parameters}}),
                ),
                json!(["x (default)", "c", "K.example.com/n", "5d"]),
            ),
            (
                object(
                    json!({"spec": {"controller": "c", "parameters": {"kind": "K", "name": "n"}}}),
                ),
                json!(["x", "c", "K/n", "5d"]),
            ),
        ],
    );
    check(
        "networking.k8s.io/v1/networkpolicies",
        vec![
            (
                object(json!({"spec": {"podSelector": {}}})),
                json!(["x", "<none>", "5d"]),
            ),
            (
                object(json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}})),
                json!(["x", "a=b", "5d"]),
            ),
        ],
    );
    check(
        "networking.k8s.io/v1/servicecidrs",
        vec![(
            object(json!({"spec": {"cidrs": ["10.96.0.0/16", "fd00::/112"]}})),
            json!(["x", "10.96.0.0/16,fd00::/112", "5d"]),
        )],
    );
    // The age stands in upstream's rows without a column.
    check(
        "networking.k8s.io/v1/ipaddresses",
        vec![
            (
                object(
                    json!({"spec": {"parentRef": {"resource": "services", "namespace": "ns", "name": "s"}}}),
                ),
                json!(["x", "services/ns/s", "5d"]),
            ),
            (
                object(
                    json!({"spec": {"parentRef": {"group": "Example.com", "resource": "Things", "name": "t"}}}),
                ),
                json!(["x", "things.example.com/t", "5d"]),
            ),
            (object(json!({"spec": {}})), json!(["x", "<none>", "5d"])),
        ],
    );
}

#[test]
fn bindings() {
    for path in [
        "rbac.authorization.k8s.io/v1/rolebindings",
        "rbac.authorization.k8s.io/v1/clusterrolebindings",
    ] {
        check(
            path,
            vec![
                (
                    object(
                        json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [
                        {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "User", "name": "v"},
                        {"kind": "ServiceAccount", "namespace": "ns", "name": "s"}, {"kind": "Robot", "name": "r"}]}),
                    ),
                    json!(["x", "ClusterRole/r", "5d", "u, v", "g", "ns/s"]),
                ),
                (
                    object(json!({"roleRef": {"kind": "Role", "name": "r"}})),
                    json!(["x", "Role/r", "5d", "", "", ""]),
                ),
            ],
        );
    }
}

use crate::kinds::group_tests::{defaults, faults, shows, updates};
use serde_json::{Value, json};

#[test]
fn network_policies() {
    let rule = |peer: Value| json!({"spec": {"ingress": [{"from": [peer]}]}});
    let port = |port: Value| json!({"spec": {"egress": [{"ports": [port]}]}});
    faults(
        "networking",
        "networkpolicies",
        json!({"spec": {"podSelector": {}}}),
        &[
            (
                rule(json!({"podSelector": {}, "namespaceSelector": {}})),
                "",
            ),
            (
                rule(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})),
                "",
            ),
            (
                rule(json!({})),
                "spec.ingress[0].from[0]: Required value: must specify a peer",
            ),
            (
                rule(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
                "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            (
                rule(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
            ),
            (
                rule(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
                "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (port(json!({"port": 80, "endPort": 90})), ""),
            (port(json!({"port": "http"})), ""),
            (
                port(json!({"port": 80, "endPort": 70})),
                "spec.egress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
            ),
            (
                port(json!({"port": "http", "endPort": 70})),
                "spec.egress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is non-numeric",
            ),
            (
                port(json!({"endPort": 70})),
                "spec.egress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is not specified",
            ),
            (
                port(json!({"protocol": "ICMP"})),
                "spec.egress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
            (
                json!({"spec": {"policyTypes": ["Sideways"]}}),
                "spec.policyTypes[0]: Unsupported value: \"Sideways\": supported values: \"Ingress\", \"Egress\"",
            ),
        ],
    );
    let egress = json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 1}]}]}});
    let both = json!(["Ingress", "Egress"]);
    defaults(
        "networking",
        "networkpolicies",
        egress.clone(),
        "/spec/policyTypes",
        both,
    );
    let tcp = json!("TCP");
    defaults(
        "networking",
        "networkpolicies",
        egress,
        "/spec/egress/0/ports/0/protocol",
        tcp,
    );
    updates(
        "networking",
        "networkpolicies",
        json!({"spec": {"podSelector": {}}}),
        &[
            (json!({"metadata": {"labels": {"a": "b"}}}), "", 1),
            (
                json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
                "",
                2,
            ),
        ],
    );
    shows(
        "networking",
        "networkpolicies",
        json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
        json!(["x", "a=b"]),
    );
}

#[test]
fn ingresses() {
    let path = |path: Value| json!({"spec": {"rules": [{"http": {"paths": [path]}}]}});
    let service = json!({"service": {"name": "s", "port": {"number": 80}}});
    let backend =
        |backend: Value| path(json!({"pathType": "Prefix", "path": "/", "backend": backend}));
    faults(
        "networking",
        "ingresses",
        json!({"spec": {"defaultBackend": service}}),
        &[
            (
                json!({"spec": {"defaultBackend": null}}),
                "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified",
            ),
            (backend(service.clone()), ""),
            (
                path(json!({"path": "/", "backend": service})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                path(json!({"path": "x", "pathType": "Exact", "backend": service})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            ),
            (
                path(json!({"path": "/a//b", "pathType": "Exact", "backend": service})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'",
            ),
            (
                path(json!({"path": "/a", "pathType": "Like", "backend": service})),
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Like\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
            ),
            (
                backend(json!({})),
                "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                backend(json!({"service": {"name": "s", "port": {}}})),
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
            ),
            (
                backend(json!({"service": {"name": "s", "port": {"name": "a", "number": 1}}})),
                "spec.rules[0].http.paths[0].backend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                json!({"spec": {"rules": [{"host": "10.0.0.1"}]}}),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ),
            (json!({"spec": {"rules": [{"host": "*.example.com"}]}}), ""),
            (
                json!({"spec": {"rules": [{"http": {}}]}}),
                "spec.rules[0].http.paths: Required value",
            ),
            (
                json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {"ingressClassName": "b"}}),
                "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified",
            ),
        ],
    );
    updates(
        "networking",
        "ingresses",
        json!({"spec": {"defaultBackend": service}}),
        &[
            (
                json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
                "",
                1,
            ),
            (json!({"spec": {"ingressClassName": "c"}}), "", 2),
        ],
    );
    shows(
        "networking",
        "ingresses",
        json!({"spec": {"ingressClassName": "c", "rules": [{"host": "a.b"}, {"host": "c.d"}, {"host": "e.f"}, {"host": "g.h"}], "tls": [{}]}}),
        json!(["x", "c", "a.b,c.d,e.f + 1 more...", "", "80, 443"]),
    );
}

#[test]
fn ingress_classes() {
    let parameters = |p: Value| json!({"spec": {"parameters": p}});
    faults(
        "networking",
        "ingressclasses",
        json!({"spec": {"controller": "example.com/c"}}),
        &[
            (
                json!({"spec": {"controller": null}}),
                "spec.controller: Required value",
            ),
            (
                json!({"spec": {"controller": "example.com"}}),
                "spec.controller: Invalid value: \"example.com\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                parameters(json!({"kind": "K", "name": "n", "scope": "Cluster"})),
                "",
            ),
            (
                parameters(json!({"kind": "K", "name": "n"})),
                "spec.parameters.scope: Required value",
            ),
            (
                parameters(json!({"kind": "K", "name": "n", "scope": "Namespace"})),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                parameters(json!({"kind": "K", "name": "n", "scope": "Cluster", "namespace": "d"})),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
        ],
    );
    updates(
        "networking",
        "ingressclasses",
        json!({"spec": {"controller": "example.com/c"}}),
        &[(
            json!({"spec": {"controller": "example.com/d"}}),
            "spec.controller: Invalid value: \"example.com/d\": field is immutable",
            2,
        )],
    );
    shows(
        "networking",
        "ingressclasses",
        json!({"spec": {"controller": "e.c/c", "parameters": {"apiGroup": "g.h", "kind": "K", "name": "n", "scope": "Cluster"}}}),
        json!(["x", "e.c/c", "K.g.h/n"]),
    );
}

#[test]
fn service_ranges_and_addresses() {
    let cidrs = |c: Value| json!({"spec": {"cidrs": c}});
    faults(
        "networking",
        "servicecidrs",
        cidrs(json!(["10.0.0.0/16"])),
        &[
            (cidrs(json!(["10.0.0.0/16", "2001:db8::/64"])), ""),
            (
                cidrs(json!(null)),
                "spec.cidrs: Required value: at least one CIDR required",
            ),
            (
                cidrs(json!(["10.0.0.1/16"])),
                "spec.cidrs[0]: Invalid value: \"10.0.0.1/16\": must not have bits set beyond the prefix length",
            ),
            (
                cidrs(json!(["10.0.0.0/16", "10.1.0.0/16"])),
                "spec.cidrs: Invalid value: [\"10.0.0.0/16\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
        ],
    );
    updates(
        "networking",
        "servicecidrs",
        cidrs(json!(["10.0.0.0/16"])),
        &[
            (cidrs(json!(["10.0.0.0/16", "2001:db8::/64"])), "", 0),
            (
                cidrs(json!(["10.1.0.0/16"])),
                "spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable",
                0,
            ),
        ],
    );
    let parent = json!({"resource": "services", "namespace": "d", "name": "s"});
    let address = json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}});
    faults(
        "networking",
        "ipaddresses",
        address.clone(),
        &[
            (
                json!({"metadata": {"name": "10.0.0.01"}}),
                "metadata.name: Invalid value: \"10.0.0.01\": must not have leading 0s",
            ),
            (
                json!({"spec": {"parentRef": null}}),
                "spec.parentRef: Required value",
            ),
            (
                json!({"spec": {"parentRef": {"name": null}}}),
                "spec.parentRef.name: Required value",
            ),
        ],
    );
    shows(
        "networking",
        "ipaddresses",
        address,
        json!(["10.0.0.1", "services/d/s"]),
    );
}

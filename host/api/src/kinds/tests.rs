#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use serde_json::json;

#[test]
fn rows_are_consistent() {
    for k in KINDS {
        let facts = crate::facts::of(k.type_name).unwrap();
        assert_eq!(facts.gvk, Some((k.group, k.version, k.kind)));
        // Gathered, not stored; upstream's metrics-server names no singular.
        let gathered = k.verbs == ["get", "list"];
        assert!(k.verbs == ["create"] || gathered == k.storage.is_empty());
        let singular = k.kind.to_lowercase();
        assert_eq!(k.singular, if gathered { "" } else { &singular });
    }
}

fn errors_of(resource: &str, mut object: Value) -> String {
    let k = KINDS.iter().find(|k| k.plural == resource).unwrap();
    (k.default)(&mut object);
    (k.prepare_create)(&mut object);
    (k.default)(&mut object);
    let mut errors = Errors::default();
    validate_metadata(&KindRef::Row(k), &object, &mut errors);
    (k.validate)(&object, &mut errors);
    (k.validate_create)(&object, &mut errors);
    if errors.is_empty() {
        String::new()
    } else {
        errors.aggregate()
    }
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "x", "namespace": "d"}, "spec": spec})
}

#[test]
fn pods_are_refused_with_the_field_named() {
    for (object, wanted) in [
        (c(json!({})), ""),
        (pod(json!({})), "spec.containers: Required value"),
        (
            c(json!({"image": null})),
            "spec.containers[0].image: Required value",
        ),
        (
            c(json!({"imagePullPolicy": "Sometimes"})),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            c(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            c(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            c(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            one(json!({"volumes": [{"name": "v", "image": {"reference": "r:1"}}]})),
            "",
        ),
        (
            one(json!({"volumes": [{"name": "v", "image": {}}]})),
            "spec.volumes[0].image.reference: Required value",
        ),
        (
            one(
                json!({"volumes": [{"name": "v", "image": {"reference": "r", "pullPolicy": "x"}}]}),
            ),
            "spec.volumes[0].image.pullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            pod(json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i"}]})),
            "spec.hostNetwork: Forbidden: pods are micro-VMs and cannot share the network of the host",
        ),
        (
            pod(json!({"restartPolicy": "Maybe", "containers": [{"name": "a", "image": "i"}]})),
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            pod(json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]})),
            "spec.containers[1].name: Duplicate value: \"a\"",
        ),
    ] {
        assert_eq!(errors_of("pods", object), wanted);
    }
}

/// A pod of one container, changed.
fn c(extra: Value) -> Value {
    let mut c = json!({"name": "a", "image": "i"});
    crate::patch::merge(&mut c, extra);
    pod(json!({"containers": [c]}))
}

/// A pod of one container, its spec changed.
fn one(extra: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "a", "image": "i"}]});
    crate::patch::merge(&mut spec, extra);
    pod(spec)
}

#[test]
fn containers_are_refused_with_the_field_named() {
    for (object, wanted) in [
        (
            c(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            c(json!({"resources": {"limits": {"pods": "1"}}})),
            "[spec.containers[0].resources.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers, spec.containers[0].resources.requests[pods]: Invalid value: \"pods\": must be a standard resource for containers]",
        ),
        (
            c(json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]})),
            "",
        ),
        (
            c(json!({"restartPolicy": "Sometimes"})),
            "spec.containers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            c(json!({"restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [1]}}]})),
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
        (
            c(json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Stop"}]})),
            "[spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\", spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified]",
        ),
        (
            c(json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": "Equals", "values": [1]}}]})),
            "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Equals\": supported values: \"In\", \"NotIn\"",
        ),
        (
            c(json!({"lifecycle": {"preStop": {}}})),
            "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
        ),
        (
            c(json!({"securityContext": {"runAsUser": -1}})),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            c(json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}})),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            c(
                json!({"env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}),
            ),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"status.phase\": error converting fieldPath: field label not supported: status.phase",
        ),
    ] {
        assert_eq!(errors_of("pods", object), wanted);
    }
}

#[test]
fn placements_are_refused_with_the_field_named() {
    for (object, wanted) in [
        (
            one(json!({"dnsPolicy": "None"})),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            one(
                json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}]}),
            ),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            one(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            ),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
        (
            one(
                json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "z"}}]}}}),
            ),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
        ),
        (
            one(json!({"schedulingGates": [{"name": "a.io/b"}], "nodeName": "n"})),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            one(
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {"hostProcess": true}}}),
            ),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            one(json!({"securityContext": {"seLinuxChangePolicy": "Always"}})),
            "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"Always\": supported values: \"MountOption\", \"Recursive\"",
        ),
        (
            one(json!({"hostnameOverride": "a.example", "setHostnameAsFQDN": true})),
            "spec.hostnameOverride: Forbidden: may not be set when `setHostnameAsFQDN` is true",
        ),
        (
            one(json!({"hostnameOverride": "a.".repeat(32) + "a"})),
            "spec.hostnameOverride: Too long: may not be more than 64 bytes",
        ),
        (
            mounted(json!({"recursiveReadOnly": "Enabled"})),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
        ),
        (
            mounted(
                json!({"recursiveReadOnly": "IfPossible", "readOnly": true, "mountPropagation": "HostToContainer"}),
            ),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
        ),
        (
            mounted(json!({"mountPropagation": "Bidirectional"})),
            "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ),
        (
            one(json!({"securityContext": {"sysctls": [{"name": "Kernel"}]}})),
            "spec.securityContext.sysctls[0].name: Invalid value: \"Kernel\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
    ] {
        assert_eq!(errors_of("pods", object), wanted);
    }
}

/// A pod whose container mounts its volume so.
fn mounted(mount: Value) -> Value {
    let mut full = json!({"name": "v", "mountPath": "/v"});
    for (key, value) in mount.as_object().into_iter().flatten() {
        full[key] = value.clone();
    }
    let mut pod = one(json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
    pod["spec"]["containers"][0]["volumeMounts"] = json!([full]);
    pod
}

#[test]
fn names_and_data_are_checked() {
    let bad = errors_of(
        "configmaps",
        json!({"metadata": {"name": "A_b", "namespace": "d"}}),
    );
    assert!(
        bad.starts_with("metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain"),
        "{bad}"
    );
    let key = errors_of(
        "configmaps",
        json!({"metadata": {"name": "a", "namespace": "d"}, "data": {"a b": "x"}}),
    );
    assert!(
        key.starts_with("data[a b]: Invalid value: \"a b\": a valid config key"),
        "{key}"
    );
    let none = errors_of("configmaps", json!({"metadata": {"namespace": "d"}}));
    assert_eq!(
        none,
        "metadata.name: Required value: name or generateName is required"
    );
}

#[test]
fn a_pods_defaults() {
    let k = by_resource("", "v1", "pods").unwrap();
    let mut p = pod(json!({"containers": [
        {"name": "a", "image": "nginx", "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}}},
        {"name": "b", "image": "nginx:1.2"}], "volumes": [{"name": "v"},
        {"name": "w", "image": {"reference": "a/b"}}, {"name": "x", "image": {"reference": "a:1"}}]}));
    k.prepare_create(&mut p);
    k.default(&mut p);
    let spec = &p["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["containers"][1]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "1");
    assert_eq!(
        spec["containers"][0]["livenessProbe"]["httpGet"]["path"],
        "/"
    );
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["image"]["pullPolicy"], "Always");
    assert_eq!(spec["volumes"][2]["image"]["pullPolicy"], "IfNotPresent");
    assert_eq!(
        p["status"],
        json!({"phase": "Pending", "qosClass": "Burstable"})
    );
    let before = p.clone();
    k.default(&mut p);
    assert_eq!(p, before);
}

#[test]
fn pod_updates_may_only_change_what_upstream_lets_them() {
    let k = by_resource("", "v1", "pods").unwrap();
    let mut old = pod(json!({"containers": [{"name": "a", "image": "1"}],
        "volumes": [{"name": "v", "image": {"reference": "1"}}]}));
    k.default(&mut old);
    for (path, value, fine) in [
        ("/spec/containers/0/image", json!("2"), true),
        ("/spec/activeDeadlineSeconds", json!(5), true),
        ("/spec/restartPolicy", json!("Never"), false),
        ("/spec/containers/0/command", json!(["x"]), false),
        ("/spec/nodeName", json!("n"), false),
        ("/spec/volumes/0/image/reference", json!("2"), false),
        ("/spec/tolerations", json!([{"operator": "Exists"}]), true),
    ] {
        let mut new = old.clone();
        crate::patch::json_patch(
            &mut new,
            json!([{"op": "add", "path": path, "value": value}]),
        )
        .unwrap();
        let mut errors = Errors::default();
        k.validate_update(&new, &old, &mut errors);
        assert_eq!(errors.is_empty(), fine, "{path}: {}", errors.aggregate());
        if !fine {
            assert!(errors.aggregate().starts_with(
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
            ));
        }
    }
}

#[test]
fn an_event_has_two_views() {
    let events = by_resource("events.k8s.io", "v1", "events").unwrap();
    let mut e = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p"}, "note": "hello", "reportingController": "c"});
    let view = e.clone();
    events.to_stored(&mut e);
    assert_eq!(e["involvedObject"]["name"], "p");
    assert_eq!(e["message"], "hello");
    assert_eq!(e["reportingComponent"], "c");
    assert_eq!(e["apiVersion"], "v1");
    events.from_stored(&mut e);
    assert_eq!(e, view);
}

#[test]
fn services_quotas_and_budgets_are_refused_with_the_field_named() {
    let service = |spec: Value| json!({"metadata": {"name": "s", "namespace": "d"}, "spec": spec});
    let ports = json!([{"port": 80}]);
    for (resource, object, wanted) in [
        ("services", service(json!({})), "spec.ports: Required value"),
        (
            "services",
            service(json!({"ports": ports, "externalTrafficPolicy": "Local"})),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
        (
            "services",
            service(json!({"ports": [{"port": 80}, {"port": 81}]})),
            "[spec.ports[0].name: Required value, spec.ports[1].name: Required value]",
        ),
        (
            "services",
            service(json!({"ports": [{"port": 80, "nodePort": 30000}]})),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            "services",
            service(json!({"type": "ExternalName"})),
            "spec.externalName: Required value",
        ),
        (
            "services",
            json!({"metadata": {"name": "1s", "namespace": "d"}, "spec": {"ports": ports}}),
            "metadata.name: Invalid value: \"1s\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            "resourcequotas",
            service(json!({"hard": {"wheels": "4"}})),
            "spec.hard[wheels]: Invalid value: \"wheels\": must be a standard resource type or fully qualified",
        ),
        (
            "resourcequotas",
            service(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            "limitranges",
            service(
                json!({"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}}]}),
            ),
            "[spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1, spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1, spec.limits[0].default[cpu]: Invalid value: \"2\": min value 2 is greater than default value 1]",
        ),
        (
            "poddisruptionbudgets",
            service(json!({"minAvailable": "120%"})),
            "spec.minAvailable: Invalid value: \"120%\": must not be greater than 100%",
        ),
    ] {
        assert_eq!(errors_of(resource, object), wanted);
    }
}

//! Defaults, validation, immutable fields and cells of the kinds outside of
//! the core group, table-driven.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use serde_json::json;

pub(in crate::kinds) fn row(group: &str, plural: &str) -> &'static Kind {
    let found = KINDS
        .iter()
        .find(|k| k.group.split('.').next() == Some(group) && k.plural == plural);
    found.unwrap()
}

/// As a create leaves it.
fn created(k: &'static Kind, mut object: Value) -> Value {
    let mut unknown = Vec::new();
    crate::decode::conform(&mut object, k.type_name, &mut unknown).unwrap();
    assert_eq!(unknown, [""; 0]);
    (k.prepare_create)(&mut object);
    (k.default)(&mut object);
    object
}

fn words(errors: &Errors) -> String {
    match errors.is_empty() {
        true => String::new(),
        false => errors.aggregate(),
    }
}

fn faults_of_new(k: &'static Kind, object: Value) -> String {
    let object = created(k, object);
    let mut errors = Errors::default();
    validate_metadata(&KindRef::Row(k), &object, &mut errors);
    (k.validate)(&object, &mut errors);
    (k.validate_create)(&object, &mut errors);
    words(&errors)
}

fn named(k: &'static Kind, mut object: Value) -> Value {
    let mut metadata = json!({"name": "x"});
    if k.namespaced {
        metadata["namespace"] = "d".into();
    }
    if let Some(more) = object.get("metadata") {
        crate::patch::merge(&mut metadata, more.clone());
    }
    object["metadata"] = metadata;
    object
}

/// `base` is fine; with each patch it has these faults.
pub(in crate::kinds) fn faults(group: &str, plural: &str, base: Value, cases: &[(Value, &str)]) {
    let k = row(group, plural);
    let base = named(k, base);
    assert_eq!(faults_of_new(k, base.clone()), "", "{plural}");
    for (patch, wanted) in cases {
        let mut object = base.clone();
        crate::patch::merge(&mut object, patch.clone());
        assert_eq!(faults_of_new(k, object), *wanted, "{plural}: {patch}");
    }
}

/// An update of `base` by each patch: its faults, and the generation after.
pub(in crate::kinds) fn updates(
    group: &str,
    plural: &str,
    base: Value,
    cases: &[(Value, &str, i64)],
) {
    let k = row(group, plural);
    let old = created(k, named(k, base));
    for (patch, wanted, generation) in cases {
        let mut new = old.clone();
        crate::patch::merge(&mut new, patch.clone());
        (k.default)(&mut new);
        (k.prepare_update)(&mut new, &old);
        let mut errors = Errors::default();
        (k.validate)(&new, &mut errors);
        (k.validate_update)(&new, &old, &mut errors);
        assert_eq!(words(&errors), *wanted, "{plural}: {patch}");
        let found = crate::meta::int(&new, &["metadata", "generation"]).unwrap_or(0);
        assert_eq!(found, *generation, "{plural}: {patch}");
    }
}

/// The cells of an object but the age.
pub(in crate::kinds) fn shows(group: &str, plural: &str, object: Value, wanted: Value) {
    let k = row(group, plural);
    let cells = (k.cells)(&created(k, named(k, object)), Timestamp::UNIX_EPOCH);
    // Upstream's rows may have more cells than columns.
    assert!(cells.len() >= k.columns.len());
    let shown: Vec<Value> = cells
        .into_iter()
        .zip(k.columns)
        .filter(|(_, column)| column.name != "Age")
        .map(|(cell, _)| cell)
        .collect();
    assert_eq!(Value::from(shown), wanted);
}

pub(in crate::kinds) fn defaults(
    group: &str,
    plural: &str,
    object: Value,
    path: &str,
    wanted: Value,
) {
    let k = row(group, plural);
    let made = created(k, named(k, object));
    assert_eq!(made.pointer(path), Some(&wanted), "{plural}");
    let mut again = made.clone();
    (k.default)(&mut again);
    assert_eq!(again, made, "{plural}: defaults twice");
}

#[test]
fn endpoint_slices() {
    let endpoint = |e: Value| json!({"endpoints": [e]});
    faults(
        "discovery",
        "endpointslices",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        &[
            (json!({"addressType": null}), "addressType: Required value"),
            (
                json!({"addressType": "IP"}),
                "addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                endpoint(json!({"addresses": []})),
                "endpoints[0].addresses: Required value: must contain at least 1 address",
            ),
            (
                endpoint(json!({"addresses": ["2001:db8::1"]})),
                "endpoints[0].addresses[0]: Invalid value: \"2001:db8::1\": must be an IPv4 address",
            ),
            (
                endpoint(json!({"addresses": ["127.0.0.1"]})),
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                json!({"ports": [{"name": "a"}, {"name": "a"}]}),
                "ports[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"ports": [{"protocol": "ICMP"}]}),
                "ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                json!({"addressType": "FQDN", "endpoints": [{"addresses": ["local"]}]}),
                "endpoints[0].addresses[0]: Invalid value: \"local\": should be a domain with at least two segments separated by dots",
            ),
        ],
    );
    updates(
        "discovery",
        "endpointslices",
        json!({"addressType": "IPv4"}),
        &[
            (json!({"metadata": {"annotations": {"a": "b"}}}), "", 1),
            (json!({"metadata": {"labels": {"a": "b"}}}), "", 2),
            (
                json!({"addressType": "IPv6"}),
                "addressType: Invalid value: \"IPv6\": field is immutable",
                2,
            ),
        ],
    );
    shows(
        "discovery",
        "endpointslices",
        json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "q"}], "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": ["10.0.0.3", "10.0.0.4"]}]}),
        json!([
            "x",
            "IPv4",
            "80,q",
            "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more..."
        ]),
    );
}

#[test]
fn priority_and_runtime_classes() {
    faults(
        "scheduling",
        "priorityclasses",
        json!({"value": 5}),
        &[
            (
                json!({"value": 1_000_000_001}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (
                json!({"metadata": {"name": "system-x"}}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
            ),
            (
                json!({"metadata": {"name": "system-node-critical"}}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000",
            ),
            (
                json!({"preemptionPolicy": "Maybe"}),
                "preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
        ],
    );
    updates(
        "scheduling",
        "priorityclasses",
        json!({"value": 5}),
        &[
            (json!({"description": "d"}), "", 1),
            (
                json!({"value": 6}),
                "value: Forbidden: may not be changed in an update.",
                1,
            ),
        ],
    );
    faults(
        "node",
        "runtimeclasses",
        json!({"handler": "h"}),
        &[(
            json!({"scheduling": {"tolerations": [{"operator": "Exists"}, {"operator": "Exists"}]}}),
            "scheduling.tolerations[1]: Duplicate value: {\"operator\":\"Exists\"}",
        )],
    );
    updates(
        "node",
        "runtimeclasses",
        json!({"handler": "h"}),
        &[(
            json!({"handler": "i"}),
            "handler: Invalid value: \"i\": field is immutable",
            0,
        )],
    );
}

#[test]
fn initial_objects_are_valid() {
    for (k, object) in initial_objects() {
        let KindRef::Row(k) = k else {
            panic!("{k:?}");
        };
        assert!(!k.namespaced);
        assert_eq!(faults_of_new(k, object), "");
    }
}

#[test]
fn api_services() {
    let local = json!({"metadata": {"name": "v1.g.example"}, "spec": {
        "group": "g.example", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 10}});
    let spec = |patch: Value| json!({"spec": patch});
    faults(
        "apiregistration",
        "apiservices",
        local.clone(),
        &[
            (
                json!({"metadata": {"name": "v2.g.example"}}),
                "metadata.name: Invalid value: \"v2.g.example\": must be `spec.version+\".\"+spec.group`: \"v1.g.example\"",
            ),
            (
                spec(json!({"versionPriority": 0})),
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ),
            (
                spec(json!({"insecureSkipTLSVerify": true})),
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ),
            (
                spec(json!({"service": {"name": "s"}})),
                "spec.service.namespace: Required value",
            ),
        ],
    );
    shows(
        "apiregistration",
        "apiservices",
        local.clone(),
        json!(["v1.g.example", "Local", "True"]),
    );
    let mut remote = local;
    remote["spec"]["service"] = json!({"name": "s", "namespace": "n"});
    let port = json!(443);
    defaults(
        "apiregistration",
        "apiservices",
        remote.clone(),
        "/spec/service/port",
        port,
    );
    shows(
        "apiregistration",
        "apiservices",
        remote,
        json!(["v1.g.example", "n/s", "Unknown"]),
    );
}

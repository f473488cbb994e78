//! Every operation on each kind: three objects made, found by label in their
//! namespace and in all, watched while one is patched, updated and deleted, and
//! the rest deleted as a collection.

use super::{events, items, version};
use crate::api::{Api, MERGE};
use serde_json::{Value, json};

struct Kind {
    root: &'static str,
    plural: &'static str,
    namespaced: bool,
    body: Value,
    /// A status to patch in, or null.
    status: Value,
}

fn in_namespace(root: &'static str, plural: &'static str, body: Value) -> Kind {
    Kind {
        root,
        plural,
        namespaced: true,
        body,
        status: Value::Null,
    }
}

fn in_cluster(root: &'static str, plural: &'static str, body: Value) -> Kind {
    Kind {
        namespaced: false,
        ..in_namespace(root, plural, body)
    }
}

fn with_status(kind: Kind, status: Value) -> Kind {
    Kind { status, ..kind }
}

// Table: one row for each kind.
fn kinds() -> Vec<Kind> {
    let (core, storage, network) = (
        "/api/v1",
        "/apis/storage.k8s.io/v1",
        "/apis/networking.k8s.io/v1",
    );
    let (admission, flow) = (
        "/apis/admissionregistration.k8s.io/v1",
        "/apis/flowcontrol.apiserver.k8s.io/v1",
    );
    let condition = json!({"conditions": [{"type": "PatchStatus", "status": "False", "reason": "e2e",
        "message": "Set by a test", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let nowhere = json!({"matchLabels": {"no": "where"}});
    let rule = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let backend = json!({"service": {"name": "b", "port": {"number": 80}}});
    let subjects = json!([{"kind": "User", "user": {"name": "example"}}]);
    let urls = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let (at, later) = ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:05.000000Z");
    vec![
        in_namespace(core, "configmaps", json!({"data": {"valueName": "value"}})),
        in_namespace(
            core,
            "secrets",
            json!({"type": "Opaque", "data": {"key": "dmFsdWU="}}),
        ),
        in_namespace(core, "serviceaccounts", json!({})),
        in_namespace(
            core,
            "events",
            json!({"involvedObject": {"namespace": "default"}, "reason": "Test",
            "message": "m", "type": "Normal", "source": {"component": "c"}, "count": 1}),
        ),
        in_namespace(
            "/apis/events.k8s.io/v1",
            "events",
            json!({"regarding": {"namespace": "default"},
            "eventTime": at, "note": "n", "action": "Do", "reason": "Test", "type": "Normal",
            "reportingController": "test-controller", "reportingInstance": "test-node"}),
        ),
        in_namespace(
            "/apis/coordination.k8s.io/v1",
            "leases",
            json!({"spec": {"holderIdentity": "h",
            "leaseDurationSeconds": 30, "acquireTime": at, "renewTime": later, "leaseTransitions": 0}}),
        ),
        in_namespace(
            "/apis/discovery.k8s.io/v1",
            "endpointslices",
            json!({"addressType": "IPv4",
            "endpoints": [{"addresses": ["1.2.3.4", "5.6.7.8"]}, {"addresses": ["2.2.3.4", "6.6.7.8"]}]}),
        ),
        with_status(
            in_namespace(
                network,
                "ingresses",
                json!({"spec": {"defaultBackend": backend}}),
            ),
            json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}),
        ),
        in_cluster(
            network,
            "ingressclasses",
            json!({"spec": {"controller": "example.com/controller"}}),
        ),
        in_namespace(
            network,
            "networkpolicies",
            json!({"spec": {"podSelector": {}}}),
        ),
        in_cluster(
            "/apis/node.k8s.io/v1",
            "runtimeclasses",
            json!({"handler": "h"}),
        ),
        in_cluster(
            "/apis/scheduling.k8s.io/v1",
            "priorityclasses",
            json!({"value": 100}),
        ),
        in_cluster(storage, "storageclasses", json!({"provisioner": "p"})),
        in_cluster(
            storage,
            "csidrivers",
            json!({"spec": {"attachRequired": false}}),
        ),
        in_cluster(storage, "csinodes", json!({"spec": {"drivers": []}})),
        in_namespace(
            storage,
            "csistoragecapacities",
            json!({"storageClassName": "x", "capacity": "1Gi"}),
        ),
        with_status(
            in_cluster(
                storage,
                "volumeattachments",
                json!({"spec": {"attacher": "a", "nodeName": "n",
                "source": {"persistentVolumeName": "p"}}}),
            ),
            json!({"attached": true}),
        ),
        in_cluster(
            storage,
            "volumeattributesclasses",
            json!({"driverName": "d", "parameters": {"a": "b"}}),
        ),
        with_status(
            in_cluster(
                flow,
                "flowschemas",
                json!({"spec": {"matchingPrecedence": 10000,
                "priorityLevelConfiguration": {"name": "global-default"},
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{"subjects": subjects, "nonResourceRules": urls}]}}),
            ),
            condition.clone(),
        ),
        with_status(
            in_cluster(
                flow,
                "prioritylevelconfigurations",
                json!({"spec": {"type": "Limited",
                "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}}),
            ),
            condition.clone(),
        ),
        with_status(
            in_cluster(
                admission,
                "validatingadmissionpolicies",
                json!({"spec": {
                "matchConstraints": {"namespaceSelector": nowhere, "resourceRules": rule},
                "validations": [{"expression": "true"}]}}),
            ),
            condition,
        ),
        in_cluster(
            admission,
            "validatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        ),
        in_cluster(
            admission,
            "mutatingadmissionpolicies",
            json!({"spec": {"reinvocationPolicy": "Never",
            "matchConstraints": {"namespaceSelector": nowhere, "resourceRules": rule},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}}),
        ),
        in_cluster(
            admission,
            "mutatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p"}}),
        ),
    ]
}

#[test]
fn every_kind_takes_every_operation() {
    let api = Api::start();
    let watched: Vec<_> = kinds().iter().map(|kind| operate(&api, kind)).collect();
    // The watches of all kinds last a second each: together, one.
    std::thread::scope(|scope| {
        for (path, since, name) in &watched {
            let api = &api;
            scope.spawn(move || {
                let seen = events(api, path, since);
                let of = seen
                    .iter()
                    .filter(|(_, o)| o["metadata"]["name"] == name.as_str());
                let of: Vec<_> = of.collect();
                let annotated = |(kind, o): &&(String, Value)| {
                    kind == "MODIFIED" && o["metadata"]["annotations"]["updated"] == "true"
                };
                assert!(of.iter().any(annotated), "{path}: {seen:#?}");
                assert_eq!(of.last().unwrap().0, "DELETED", "{path}");
                let gone = seen.iter().filter(|(kind, _)| kind == "DELETED");
                assert_eq!(gone.count(), 3, "{path}");
            });
        }
    });
}

/// Everything but the watch: its path, where it begins, and the object that
/// was changed.
fn operate(api: &Api, kind: &Kind) -> (String, String, String) {
    let all = match kind.namespaced {
        true => format!("{}/namespaces/default/{}", kind.root, kind.plural),
        false => format!("{}/{}", kind.root, kind.plural),
    };
    // The two kinds of events are one in the store.
    let label = kind.root.trim_start_matches('/').replace('/', "-");
    let selector = format!("labelSelector=special%3D{label}");
    let mut body = kind.body.clone();
    body["metadata"] = json!({"generateName": "e2e-example-", "labels": {"special": label}});
    let made = [(); 3].map(|()| api.create(&all, &body));
    let name = made[2]["metadata"]["name"].as_str().unwrap();
    let one = format!("{all}/{name}");
    assert_eq!(api.get(&one)["metadata"]["uid"], made[2]["metadata"]["uid"]);
    let special = format!("{all}?{selector}");
    let listed = api.get(&special);
    assert_eq!(items(&listed).len(), 3, "{all}");
    let everywhere = format!("{}/{}?{selector}", kind.root, kind.plural);
    assert_eq!(items(&api.get(&everywhere)).len(), 3, "{everywhere}");
    let annotation = |name: &str| json!({"metadata": {"annotations": {name: "true"}}});
    let mut patched = api.patch(&one, MERGE, &annotation("patched"));
    patched["metadata"]["annotations"]["updated"] = "true".into();
    let (code, updated) = api.send("PUT", &one, "application/json", &patched);
    // Its controller may have been faster.
    match code {
        409 => drop(api.patch(&one, MERGE, &annotation("updated"))),
        _ => assert_eq!(code, 200, "{all}: {updated:#}"),
    }
    if !kind.status.is_null() {
        let mut change = annotation("patchedstatus");
        change["status"] = kind.status.clone();
        let found = api.patch(&format!("{one}/status"), MERGE, &change);
        for (key, value) in kind.status.as_object().unwrap() {
            assert_eq!(&found["status"][key], value, "{all}");
        }
        assert_eq!(
            found["metadata"]["annotations"]["patchedstatus"], "true",
            "{all}"
        );
        assert_eq!(api.get(&format!("{one}/status"))["kind"], found["kind"]);
    }
    api.delete(&one);
    api.refuses("GET", &one, &Value::Null, 404, "not found");
    assert_eq!(items(&api.get(&special)).len(), 2, "{all}");
    api.delete(&special);
    assert!(items(&api.get(&special)).is_empty(), "{all}");
    (special, version(&listed).to_owned(), name.to_owned())
}

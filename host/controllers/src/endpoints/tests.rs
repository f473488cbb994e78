use super::members::{self, Member};
use super::packing::{self, Wanted};
use super::{mirror, slices, subsets};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use reconcile::{ObjectKey, Write};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a fixture")
}

fn service(spec: Value) -> Service {
    of(
        json!({"metadata": {"name": "s", "namespace": "n", "uid": "u", "labels": {"l": "1"}}, "spec": spec}),
    )
}

fn plain() -> Service {
    service(
        json!({"selector": {"app": "x"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}),
    )
}

fn pod(name: &str, ip: &str, port: i32, ready: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "x"}},
        "spec": {"nodeName": "one", "containers": [
            {"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn members(service: &Service, pods: &[Value]) -> Vec<Member> {
    let pods: Vec<Pod> = pods.iter().map(|p| of(p.clone())).collect();
    let zones = BTreeMap::from([("one".to_owned(), "east".to_owned())]);
    members::of(service, pods.iter(), &zones)
}

fn object(write: &Write) -> &Value {
    match write {
        Write::Create { object, .. } | Write::Update { object, .. } => object,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_are_members_by_their_state() {
    let service = plain();
    let published = service_with(&service, "publishNotReadyAddresses");
    let ended = |mut pod: Value| {
        pod["status"]["phase"] = "Failed".into();
        pod
    };
    let ending = |mut pod: Value| {
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod
    };
    for (service, pod, wanted) in [
        (
            &service,
            pod("a", "10.1.0.1", 1, "True"),
            Some((true, true, false)),
        ),
        (
            &service,
            pod("a", "10.1.0.1", 1, "False"),
            Some((false, false, false)),
        ),
        (
            &published,
            pod("a", "10.1.0.1", 1, "False"),
            Some((true, false, false)),
        ),
        (
            &service,
            ending(pod("a", "10.1.0.1", 1, "True")),
            Some((false, true, true)),
        ),
        (
            &published,
            ending(pod("a", "10.1.0.1", 1, "True")),
            Some((true, true, true)),
        ),
        (&service, ended(pod("a", "10.1.0.1", 1, "True")), None),
        (&service, pod("a", "", 1, "True"), None),
    ] {
        let found = members(service, std::slice::from_ref(&pod));
        let found = found.first().map(|m| (m.ready(), m.serving, m.terminating));
        assert_eq!(found, wanted, "{pod:#}");
    }
}

fn service_with(service: &Service, flag: &str) -> Service {
    let mut value = serde_json::to_value(service).expect("a Service");
    value["spec"][flag] = true.into();
    of(value)
}

#[test]
fn addresses_are_grouped_by_ports() {
    let service = plain();
    let pods = [
        pod("b", "10.1.0.2", 8080, "True"),
        pod("a", "10.1.0.1", 8080, "False"),
        pod("c", "10.1.0.3", 9090, "True"),
    ];
    let members = members(&service, &pods);
    let write = subsets::plan(&service, &members, None).expect("a creation");
    let made = object(&write);
    let found = made["subsets"].as_array().expect("subsets");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["addresses"][0]["ip"], "10.1.0.2");
    assert_eq!(found[0]["addresses"][0]["targetRef"]["uid"], "b");
    assert_eq!(found[0]["notReadyAddresses"][0]["ip"], "10.1.0.1");
    assert_eq!(
        found[0]["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(found[1]["addresses"][0]["ip"], "10.1.0.3");
    assert_eq!(made["metadata"]["labels"]["l"], "1");
    // Once it is so, nothing is left to do.
    let made: Endpoints = of(made.clone());
    assert_eq!(subsets::plan(&service, &members, Some(&made)), None);
    let fewer = subsets::plan(&service, &members[..1], Some(&made));
    let fewer = fewer.expect("an update");
    assert_eq!(object(&fewer)["subsets"].as_array().map(Vec::len), Some(1));
}

#[test]
fn endpoints_are_cut_where_slices_are_not() {
    let service = plain();
    let pods: Vec<Value> = (0..1100)
        .map(|i| {
            pod(
                &format!("p{i:04}"),
                &format!("10.1.{}.{}", i / 250, i % 250),
                1,
                "True",
            )
        })
        .collect();
    let members = members(&service, &pods);
    let write = subsets::plan(&service, &members, None).expect("a creation");
    let made = object(&write);
    assert_eq!(
        made["subsets"][0]["addresses"].as_array().map(Vec::len),
        Some(1000)
    );
    let annotations = &made["metadata"]["annotations"];
    assert_eq!(
        annotations["endpoints.kubernetes.io/over-capacity"],
        "truncated"
    );
    let made: Endpoints = of(made.clone());
    assert_eq!(subsets::plan(&service, &members, Some(&made)), None);
    let wanted = slices::wanted(&service, &members);
    assert_eq!(packing::plan(&wanted, &[]).len(), 11);
}

/// What the API holds after `writes`.
fn carry_out(mut slices: Vec<EndpointSlice>, writes: &[Write]) -> Vec<EndpointSlice> {
    for (i, write) in writes.iter().enumerate() {
        match write {
            Write::Create { object, .. } => {
                let mut object = object.clone();
                object["metadata"]["name"] = format!("new-{i}-{}", slices.len()).into();
                slices.push(of(object));
            }
            Write::Update { object, .. } => {
                let new: EndpointSlice = of(object.clone());
                let found = slices
                    .iter_mut()
                    .find(|s| s.metadata.name == new.metadata.name);
                *found.expect("it is there") = new;
            }
            Write::Delete { target, .. } => {
                slices.retain(|s| s.metadata.name.as_deref() != Some(target.name.as_str()));
            }
            other => panic!("{other:?}"),
        }
    }
    slices
}

fn settle(wanted: &Wanted, found: Vec<EndpointSlice>) -> Vec<EndpointSlice> {
    let writes = packing::plan(wanted, &found.iter().collect::<Vec<_>>());
    let after = carry_out(found, &writes);
    let again = packing::plan(wanted, &after.iter().collect::<Vec<_>>());
    assert!(again.is_empty(), "{again:?}");
    after
}

fn addresses(slices: &[EndpointSlice]) -> Vec<String> {
    let all = slices.iter().flat_map(|s| s.endpoints.iter().flatten());
    let mut all: Vec<String> = all.flat_map(|e| e.addresses.clone()).collect();
    all.sort();
    all
}

#[test]
fn slices_follow_pods_and_stay_where_they_can() {
    let service = plain();
    let all: Vec<Value> = (0..150)
        .map(|i| pod(&format!("p{i:03}"), &format!("10.1.0.{i}"), 1, "True"))
        .collect();
    let mut found = Vec::new();
    // How many pods there are, and how many slices they make.
    for (pods, slices) in [(0, 1), (1, 1), (150, 2), (120, 2), (100, 2), (0, 1), (5, 1)] {
        let wanted = slices::wanted(&service, &members(&service, &all[..pods]));
        found = settle(&wanted, found);
        assert_eq!(found.len(), slices, "{pods} pods");
        assert_eq!(addresses(&found).len(), pods);
        let labels = found[0].metadata.labels.clone().expect("labels");
        assert_eq!(labels["kubernetes.io/service-name"], "s");
        let owner = &found[0].metadata.owner_references.as_ref().expect("owners")[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Service", "u"));
    }
    // A pod that is no longer ready stays, and says so.
    let mut pods = all[..5].to_vec();
    pods[0]["status"]["conditions"][0]["status"] = "False".into();
    found = settle(&slices::wanted(&service, &members(&service, &pods)), found);
    let conditions = found[0].endpoints.as_ref().expect("endpoints")[0]
        .conditions
        .clone();
    assert_eq!(conditions.expect("conditions").ready, Some(false));
    assert_eq!(
        found[0].endpoints.as_ref().expect("endpoints")[0]
            .zone
            .as_deref(),
        Some("east")
    );
}

#[test]
fn endpoints_kept_by_hand_are_mirrored() {
    let key = ObjectKey::new("n", "s");
    let bare = service(json!({"ports": [{"port": 80}]}));
    let by_hand = |ips: &[&str], labels: Value| -> Endpoints {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        of(json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "e", "labels": labels,
                "annotations": {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "x"}},
            "subsets": [{"addresses": addresses, "ports": [{"port": 80, "protocol": "TCP"}]}],
        }))
    };
    let mut found = Vec::new();
    for (service, endpoints, wanted) in [
        (
            Some(&bare),
            Some(by_hand(&["10.1.2.3"], json!({}))),
            &["10.1.2.3"][..],
        ),
        (
            Some(&bare),
            Some(by_hand(&["10.2.3.4"], json!({}))),
            &["10.2.3.4"],
        ),
        (
            Some(&bare),
            Some(by_hand(&["10.2.3.4", "fd00::1"], json!({}))),
            &["10.2.3.4", "fd00::1"],
        ),
        (
            Some(&bare),
            Some(by_hand(
                &["10.2.3.4"],
                json!({"endpointslice.kubernetes.io/skip-mirror": "true"}),
            )),
            &[],
        ),
        (Some(&plain()), Some(by_hand(&["10.2.3.4"], json!({}))), &[]),
        (Some(&bare), None, &[]),
        (None, Some(by_hand(&["10.2.3.4"], json!({}))), &[]),
    ] {
        found = settle(&mirror::wanted(&key, service, endpoints.as_ref()), found);
        assert_eq!(addresses(&found), wanted);
        for slice in &found {
            let annotations = slice.metadata.annotations.clone().expect("annotations");
            assert_eq!(
                annotations,
                BTreeMap::from([("a".to_owned(), "b".to_owned())])
            );
            assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(80));
        }
    }
}

#[test]
fn a_headless_service_without_ports_names_addresses() {
    let service =
        service(json!({"selector": {"app": "x"}, "clusterIP": "None", "ipFamilies": ["IPv4"]}));
    let mut named = pod("a", "10.1.0.1", 1, "True");
    named["spec"]["hostname"] = "web-0".into();
    named["spec"]["subdomain"] = "s".into();
    let members = members(&service, &[named]);
    let write = subsets::plan(&service, &members, None).expect("a creation");
    let subset = &object(&write)["subsets"][0];
    assert_eq!(subset["addresses"][0]["hostname"], "web-0");
    assert_eq!(subset.get("ports"), None);
    let label = &object(&write)["metadata"]["labels"]["service.kubernetes.io/headless"];
    assert_eq!(label, "");
}

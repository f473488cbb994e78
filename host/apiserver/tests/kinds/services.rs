//! What Services are given, and when they give it back.

use crate::api::{Api, MERGE, request};
use serde_json::{Value, json};
use std::collections::HashSet;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn service(name: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

fn held(api: &Api) -> HashSet<String> {
    api.get(ADDRESSES)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_server_has_a_service_of_its_own() {
    let api = Api::start();
    let own = api.get(&format!("{SERVICES}/kubernetes"));
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(own["spec"]["ports"][0]["port"], 443);
    assert_eq!(own["metadata"]["labels"]["component"], "apiserver");
    let endpoints = api.get("/api/v1/namespaces/default/endpoints/kubernetes");
    let slice = api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes");
    assert_eq!(
        slice["metadata"]["labels"]["kubernetes.io/service-name"],
        "kubernetes"
    );
    assert_eq!(
        endpoints["subsets"][0]["addresses"][0]["ip"],
        slice["endpoints"][0]["addresses"][0]
    );
    let trust =
        api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication");
    let ca = trust["data"]["client-ca-file"].as_str().unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"));
    let address = api.get(&format!("{ADDRESSES}/10.96.0.1"));
    assert_eq!(address["spec"]["parentRef"]["name"], "kubernetes");
}

#[test]
fn a_service_holds_its_address_and_ports_until_it_lets_them_go() {
    let api = Api::start();
    let made = api.create(SERVICES, &service("a", json!({"type": "NodePort"})));
    let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(made["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(made["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(made["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    assert!((30_000..=32_767).contains(&port));
    assert!(held(&api).contains(&ip));
    let taken = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]});
    for (spec, words) in [
        (taken.clone(), "spec.ports[0].nodePort: Invalid value: "),
        (taken, "provided port is already allocated"),
        (json!({"clusterIP": ip}), "provided IP is already allocated"),
        (
            json!({"clusterIP": "192.0.2.1"}),
            "the provided IP (192.0.2.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}),
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "this cluster is not configured for dual-stack services",
        ),
    ] {
        api.refuses("POST", SERVICES, &service("b", spec), 422, words);
    }
    let path = format!("{SERVICES}/a");
    api.refuses(
        "PATCH",
        &path,
        &json!({"spec": {"clusterIP": "10.96.0.9"}}),
        422,
        "may not change once set",
    );
    // An update that leaves out what was given keeps it.
    let kept = api.update(&path, &service("a", json!({"type": "NodePort"})));
    assert_eq!(kept["spec"]["clusterIP"], ip.as_str());
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], port);
    let plain = api.patch(&path, MERGE, &json!({"spec": {"type": "ClusterIP"}}));
    assert_eq!(plain["spec"]["ports"][0].get("nodePort"), None);
    let other = json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]});
    api.create(SERVICES, &service("b", other));
    let named = json!({"spec": {"type": "ExternalName", "externalName": "example.com"}});
    let named = api.patch(&path, MERGE, &named);
    assert_eq!(named["spec"].get("clusterIP"), None);
    assert!(!held(&api).contains(&ip));
    let back = json!({"spec": {"type": "ClusterIP", "externalName": null}});
    let back = api.patch(&path, MERGE, &back);
    let ip = back["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(held(&api).contains(&ip));
    api.delete(&path);
    assert!(!held(&api).contains(&ip));
}

#[test]
fn many_at_once_never_get_the_same() {
    let api = Api::with_ranges(&["10.1.0.0/26"]);
    let wanted = 80;
    let post = |i: usize| {
        let body = service(&format!("s{i}"), json!({"type": "NodePort"}));
        request("POST", SERVICES, "application/json", &body)
    };
    let answers = api.together((0..wanted).map(post).collect());
    let made: Vec<&Value> = answers
        .iter()
        .filter(|a| a.0 == 201)
        .map(|a| &a.1)
        .collect();
    // 62 addresses, one of them the server's own.
    assert_eq!(made.len(), 61);
    assert!(
        answers
            .iter()
            .filter(|a| a.0 != 201)
            .all(|a| a.0 == 500 && a.1["message"].as_str().unwrap().contains("range is full"))
    );
    let ips: HashSet<&str> = made
        .iter()
        .map(|o| o["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports: HashSet<i64> = made
        .iter()
        .map(|o| o["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (61, 61));
    assert_eq!(held(&api).len(), 62);
    let (code, _) = api.send(
        "DELETE",
        &format!("{SERVICES}?labelSelector="),
        "",
        &Value::Null,
    );
    assert_eq!(code, 200);
    assert!(held(&api).is_empty());
}

#[test]
fn two_stacks_give_two_addresses() {
    let api = Api::with_ranges(&["10.1.0.0/24", "fd00:1::/112"]);
    let both = api.create(
        SERVICES,
        &service("both", json!({"ipFamilyPolicy": "PreferDualStack"})),
    );
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let ips = both["spec"]["clusterIPs"].as_array().unwrap().clone();
    assert!(ips[1].as_str().unwrap().starts_with("fd00:1::"), "{ips:?}");
    let single = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    let one = api.patch(&format!("{SERVICES}/both"), MERGE, &single);
    assert_eq!(one["spec"]["clusterIPs"], json!([ips[0]]));
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
    assert!(!held(&api).contains(ips[1].as_str().unwrap()));
    let six = api.create(SERVICES, &service("six", json!({"ipFamilies": ["IPv6"]})));
    assert!(
        six["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .starts_with("fd00:1::")
    );
    let headless = json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}});
    let headless = api.create(SERVICES, &headless);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    assert_eq!(headless["spec"]["ipFamilyPolicy"], "RequireDualStack");
}

#[test]
fn a_balancers_health_has_a_port() {
    let api = Api::start();
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let made = api.create(SERVICES, &service("lb", spec));
    let port = made["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    assert_ne!(made["spec"]["ports"][0]["nodePort"], port);
    let status = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let path = format!("{SERVICES}/lb");
    let seen = api.patch(&format!("{path}/status"), MERGE, &status);
    assert_eq!(
        seen["status"]["loadBalancer"]["ingress"][0]["ip"],
        "203.0.113.1"
    );
    assert_eq!(seen["metadata"]["annotations"]["patchedstatus"], "true");
    let cluster = api.patch(
        &path,
        MERGE,
        &json!({"spec": {"externalTrafficPolicy": "Cluster"}}),
    );
    assert_eq!(cluster["spec"].get("healthCheckNodePort"), None);
    assert_eq!(cluster["status"], seen["status"]);
    let tcp_and_udp = json!({"type": "NodePort", "ports": [
        {"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}]});
    let dns = api.create(SERVICES, &service("dns", tcp_and_udp));
    let ports = dns["spec"]["ports"].as_array().unwrap();
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
}

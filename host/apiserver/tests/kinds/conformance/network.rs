//! Services, their addresses, and what else the network's kinds promise.

use super::{items, namespace};
use crate::api::{Api, MERGE, STRATEGIC};
use serde_json::json;

#[test]
fn a_service_has_a_status_of_its_own() {
    let api = Api::start();
    let services = namespace(&api, "services") + "/services";
    let body = json!({"metadata": {"name": "s", "labels": {"test": "x"}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]}});
    api.create(&services, &body);
    let status = format!("{services}/s/status");
    let balanced = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let patched = api.patch(&status, MERGE, &balanced);
    assert_eq!(
        patched["status"]["loadBalancer"]["ingress"][0]["ip"],
        "203.0.113.1"
    );
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    let mut wanted = api.get(&status);
    // As Go's client has a time that nobody set.
    wanted["status"]["conditions"] = json!([{"type": "StatusUpdate", "status": "True",
        "reason": "E2E", "message": "Set from e2e test", "lastTransitionTime": null}]);
    let updated = api.update(&status, &wanted);
    assert_eq!(updated["status"]["conditions"][0]["type"], "StatusUpdate");
    let label = json!({"metadata": {"labels": {"service": "patched"}}});
    let patched = api.patch(&format!("{services}/s"), STRATEGIC, &label);
    assert_eq!(patched["metadata"]["labels"]["service"], "patched");
    assert_eq!(patched["status"], updated["status"]);
}

#[test]
fn services_go_by_label() {
    let api = Api::start();
    let services = namespace(&api, "collection") + "/services";
    for i in 0..3 {
        let label = if i == 0 { "keep" } else { "go" };
        api.create(
            &services,
            &json!({"metadata": {"name": format!("s{i}"), "labels": {"test": label}},
            "spec": {"ports": [{"port": 80}]}}),
        );
    }
    api.delete(&format!("{services}?labelSelector=test%3Dgo"));
    let left = api.get(&services);
    assert_eq!(items(&left).len(), 1);
    assert_eq!(items(&left)[0]["metadata"]["name"], "s0");
}

#[test]
fn the_servers_own_service_leads_to_it() {
    let api = Api::start();
    let all = api.get("/api/v1/services");
    let own = items(&all)
        .iter()
        .any(|s| s["metadata"]["name"] == "kubernetes" && s["metadata"]["namespace"] == "default");
    assert!(own, "{all:#}");
    let endpoints = api.get("/api/v1/namespaces/default/endpoints/kubernetes");
    let slices = api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes");
    let (subset, slice) = (&endpoints["subsets"][0], &items(&slices)[0]);
    assert_eq!(
        subset["addresses"][0]["ip"],
        slice["endpoints"][0]["addresses"][0]
    );
    assert_eq!(subset["ports"][0]["port"], slice["ports"][0]["port"]);
    let range = api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes/status");
    assert_eq!(range["kind"], "ServiceCIDR");
}

#[test]
fn addresses_of_any_parent_are_kept() {
    let api = Api::start();
    let all = "/apis/networking.k8s.io/v1/ipaddresses";
    let parent =
        json!({"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"});
    for (name, label) in [
        ("255.255.255.255", "broadcast"),
        ("fe80::42:1dff:fe84:f9e2", "link-local"),
    ] {
        let body = json!({"metadata": {"name": name, "labels": {"type": label}}, "spec": {"parentRef": parent}});
        api.create(all, &body);
        let annotation = json!({"metadata": {"annotations": {"patched": "true"}}});
        let mut patched = api.patch(&format!("{all}/{name}"), MERGE, &annotation);
        patched["metadata"]["annotations"]["updated"] = "true".into();
        api.update(&format!("{all}/{name}"), &patched);
        let of_label = format!("{all}?labelSelector=type%3D{label}");
        assert_eq!(items(&api.get(&of_label)).len(), 1);
        api.delete(&of_label);
        assert!(items(&api.get(&of_label)).is_empty());
    }
}

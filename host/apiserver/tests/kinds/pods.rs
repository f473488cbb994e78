//! Evictions by budget, resources that change in place, ephemeral containers.

use crate::api::{Api, MERGE, STRATEGIC, request};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn running_pod(api: &Api, name: &str) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [
        {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": "100m"}}}]}});
    api.create(PODS, &pod);
    let status = json!({"status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch(&format!("{PODS}/{name}/status"), MERGE, &status);
}

fn evict(name: &str) -> http::Request<bytes::Bytes> {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    request(
        "POST",
        &format!("{PODS}/{name}/eviction"),
        "application/json",
        &body,
    )
}

#[test]
fn a_budget_lets_so_many_go_and_no_more() {
    let api = Api::start();
    for i in 0..6 {
        running_pod(&api, &format!("p{i}"));
    }
    let budget = json!({"metadata": {"name": "b"},
        "spec": {"minAvailable": 4, "selector": {"matchLabels": {"app": "x"}}}});
    let made = api.create(BUDGETS, &budget);
    assert_eq!(made["status"]["disruptionsAllowed"], 0);
    let answer = api.together(vec![evict("p0")]).pop().unwrap();
    assert_eq!(
        (answer.0, &answer.1["reason"]),
        (429, &json!("TooManyRequests"))
    );
    let cause = &answer.1["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert!(
        cause["message"]
            .as_str()
            .unwrap()
            .contains("still being processed")
    );
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 2,
        "currentHealthy": 6, "desiredHealthy": 4, "expectedPods": 6}});
    api.patch(&format!("{BUDGETS}/b/status"), MERGE, &status);
    let answers = api.together((0..6).map(|i| evict(&format!("p{i}"))).collect());
    assert_eq!(answers.iter().filter(|a| a.0 == 201).count(), 2);
    assert_eq!(answers.iter().filter(|a| a.0 == 429).count(), 4);
    let spent = api.get(&format!("{BUDGETS}/b"));
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert_eq!(
        spent["status"]["disruptedPods"].as_object().unwrap().len(),
        2
    );
    api.delete(&format!("{BUDGETS}/b"));
    let left = api.get(PODS)["items"].as_array().unwrap().len();
    assert_eq!(left, 4);
    let free: Vec<Value> = api.get(PODS)["items"].as_array().unwrap().clone();
    let name = free[0]["metadata"]["name"].as_str().unwrap();
    assert_eq!(api.together(vec![evict(name)])[0].0, 201);
}

#[test]
fn resources_and_ephemeral_containers_have_endpoints() {
    let api = Api::start();
    running_pod(&api, "p");
    let path = format!("{PODS}/p");
    let wanted = json!({"spec": {"containers": [
        {"name": "main", "resources": {"requests": {"cpu": "200m"}}}]}});
    api.refuses(
        "PATCH",
        &path,
        &json!({"spec": {"schedulerName": "x"}}),
        422,
        "pod updates may not change",
    );
    let bigger = api.patch(&format!("{path}/resize"), STRATEGIC, &wanted);
    assert_eq!(
        bigger["spec"]["containers"][0]["resources"]["requests"]["cpu"],
        "200m"
    );
    assert_eq!(bigger["metadata"]["generation"], 2);
    assert_eq!(bigger["status"]["phase"], "Running");
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}});
    let seen = api.patch(&format!("{path}/ephemeralcontainers"), STRATEGIC, &debug);
    assert_eq!(
        seen["spec"]["ephemeralContainers"][0]["imagePullPolicy"],
        "Always"
    );
    let (code, status) = api.send(
        "PATCH",
        &format!("{path}/ephemeralcontainers"),
        MERGE,
        &json!({"spec": {"ephemeralContainers": null}}),
    );
    assert_eq!(code, 422, "{status:#}");
    let other = json!({"metadata": {"name": "q"}, "spec": {
        "containers": [{"name": "main", "image": "i"}],
        "ephemeralContainers": [{"name": "d", "image": "i"}]}});
    api.refuses(
        "POST",
        PODS,
        &other,
        422,
        "spec.ephemeralContainers: Forbidden: cannot be set on create",
    );
}

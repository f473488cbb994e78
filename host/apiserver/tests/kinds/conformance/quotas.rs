//! Quotas through the lives of what they count.

use super::{namespace, until};
use crate::api::{Api, MERGE, STRATEGIC};
use serde_json::{Value, json};

fn quota(name: &str, hard: Value, scopes: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard, "scopes": scopes}})
}

#[track_caller]
fn used(api: &Api, quota: &str, wanted: &Value) {
    until(api, quota, |_, found| {
        let used = &found["status"]["used"];
        let wanted = wanted.as_object().unwrap();
        wanted.iter().all(|(key, value)| &used[key] == value)
    });
}

fn pod(name: &str, requests: Value, limits: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "pause", "image": "p",
        "resources": {"requests": requests, "limits": limits}}]}})
}

#[test]
fn what_is_counted_is_released_when_it_goes() {
    let api = Api::start();
    let core = namespace(&api, "counted");
    let apps = "/apis/apps/v1/namespaces/counted";
    let hard = json!({"services": "10", "services.nodeports": "1", "configmaps": "10",
        "secrets": "10", "replicationcontrollers": "10", "persistentvolumeclaims": "10",
        "requests.storage": "10Gi", "count/replicasets.apps": "5", "resourcequotas": "1"});
    api.create(
        &format!("{core}/resourcequotas"),
        &quota("q", hard, Value::Null),
    );
    let one = format!("{core}/resourcequotas/q");
    used(
        &api,
        &one,
        &json!({"resourcequotas": "1", "services": "0", "configmaps": "0"}),
    );
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let service = |kind: &str| json!({"type": kind, "ports": [{"port": 80}]});
    let sets =
        json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let rc = json!({"replicas": 0, "template": template});
    let claim =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    for (root, plural, spec, counted) in [
        (
            core.as_str(),
            "configmaps",
            Value::Null,
            json!({"configmaps": "1"}),
        ),
        (&core, "secrets", Value::Null, json!({"secrets": "1"})),
        (
            &core,
            "services",
            service("ClusterIP"),
            json!({"services": "1", "services.nodeports": "0"}),
        ),
        (
            &core,
            "services",
            service("NodePort"),
            json!({"services": "1", "services.nodeports": "1"}),
        ),
        (
            &core,
            "replicationcontrollers",
            rc,
            json!({"replicationcontrollers": "1"}),
        ),
        (
            &core,
            "persistentvolumeclaims",
            claim,
            json!({"persistentvolumeclaims": "1", "requests.storage": "1Gi"}),
        ),
        (
            apps,
            "replicasets",
            sets,
            json!({"count/replicasets.apps": "1"}),
        ),
    ] {
        let mut body = json!({"metadata": {"name": "x"}});
        if !spec.is_null() {
            body["spec"] = spec;
        }
        api.create(&format!("{root}/{plural}"), &body);
        used(&api, &one, &counted);
        let path = format!("{root}/{plural}/x?propagationPolicy=Background");
        api.delete(&path);
        let mut none = counted.clone();
        none.as_object_mut()
            .unwrap()
            .values_mut()
            .for_each(|v| *v = "0".into());
        used(&api, &one, &none);
    }
    api.create(
        &format!("{core}/services"),
        &json!({"metadata": {"name": "np"}, "spec": service("NodePort")}),
    );
    let balanced = json!({"metadata": {"name": "lb"}, "spec": service("LoadBalancer")});
    api.refuses(
        "POST",
        &format!("{core}/services"),
        &balanced,
        403,
        "exceeded quota: q",
    );
}

#[test]
fn pods_are_counted_by_their_requests() {
    let api = Api::start();
    let core = namespace(&api, "pods");
    let pods = format!("{core}/pods");
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "ephemeral-storage": "50Gi", "requests.example.com/dongle": "3"});
    api.create(
        &format!("{core}/resourcequotas"),
        &quota("q", hard, Value::Null),
    );
    let one = format!("{core}/resourcequotas/q");
    used(&api, &one, &json!({"pods": "0"}));
    let dongles = json!({"example.com/dongle": "2"});
    let requests = json!({"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "example.com/dongle": "2"});
    let mut made = api.create(&pods, &pod("fits", requests.clone(), dongles.clone()));
    let counted = json!({"pods": "1", "cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", "requests.example.com/dongle": "2"});
    used(&api, &one, &counted);
    let too_much = pod(
        "cpu",
        json!({"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"}),
        Value::Null,
    );
    api.refuses(
        "POST",
        &pods,
        &too_much,
        403,
        "exceeded quota: q, requested: cpu=600m",
    );
    let dongle = pod("dongle", requests, dongles);
    api.refuses("POST", &pods, &dongle, 403, "requests.example.com/dongle=2");
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m".into();
    api.refuses(
        "PUT",
        &format!("{pods}/fits"),
        &made,
        422,
        "pod updates may not change fields other than",
    );
    used(&api, &one, &counted);
    api.delete(&format!("{pods}/fits?gracePeriodSeconds=0"));
    used(
        &api,
        &one,
        &json!({"pods": "0", "cpu": "0", "memory": "0", "requests.example.com/dongle": "0"}),
    );
}

#[test]
fn scopes_tell_pods_apart() {
    let api = Api::start();
    let requests = (
        json!({"cpu": "500m", "memory": "200Mi"}),
        json!({"cpu": "1", "memory": "400Mi"}),
    );
    let mut ending = pod("x", requests.0.clone(), requests.1.clone());
    ending["spec"]["activeDeadlineSeconds"] = 3600.into();
    let bare = pod("x", json!({}), json!({}));
    let sized = pod("x", requests.0, requests.1);
    for (namespace, scopes, pods) in [
        ("effort", ["BestEffort", "NotBestEffort"], [&bare, &sized]),
        (
            "terminating",
            ["Terminating", "NotTerminating"],
            [&ending, &sized],
        ),
    ] {
        let core = super::namespace(&api, namespace);
        let quotas = scopes.map(|scope| {
            let name = scope.to_lowercase();
            let body = quota(&name, json!({"pods": "5"}), json!([scope]));
            api.create(&format!("{core}/resourcequotas"), &body);
            format!("{core}/resourcequotas/{name}")
        });
        // Until it has been counted, a quota lets nothing pass that it concerns.
        for one in &quotas {
            used(&api, one, &json!({"pods": "0"}));
        }
        for (i, pod) in pods.into_iter().enumerate() {
            api.create(&format!("{core}/pods"), pod);
            used(&api, &quotas[i], &json!({"pods": "1"}));
            used(&api, &quotas[1 - i], &json!({"pods": "0"}));
            api.delete(&format!("{core}/pods/x?gracePeriodSeconds=0"));
            used(&api, &quotas[i], &json!({"pods": "0"}));
        }
    }
}

#[test]
fn the_status_of_a_quota_can_be_written_and_comes_back() {
    let api = Api::start();
    let core = namespace(&api, "status");
    let hard = json!({"cpu": "500m", "memory": "500Mi"});
    api.create(
        &format!("{core}/resourcequotas"),
        &quota("q", hard, Value::Null),
    );
    let one = format!("{core}/resourcequotas/q");
    until(&api, &one, |_, found| {
        found["status"]["hard"]["cpu"] == "500m"
    });
    let more = json!({"spec": {"hard": {"cpu": "1", "memory": "1Gi"}}});
    api.patch(&one, STRATEGIC, &more);
    let status = json!({"status": {"hard": {"cpu": "2", "memory": "2Gi"}}});
    for media in [STRATEGIC, MERGE] {
        let written = api.patch(&format!("{one}/status"), media, &status);
        assert_eq!(written["status"]["hard"], status["status"]["hard"]);
        assert_eq!(written["spec"]["hard"], more["spec"]["hard"]);
        until(&api, &one, |_, found| {
            found["status"]["hard"] == more["spec"]["hard"]
        });
    }
}

#[test]
fn a_resize_is_charged_and_limited() {
    let api = Api::start();
    let core = namespace(&api, "resized");
    let amounts = |cpu: &str| json!({"cpu": cpu});
    api.create(
        &format!("{core}/pods"),
        &pod("p", amounts("100m"), amounts("200m")),
    );
    let hard = json!({"requests.cpu": "500m"});
    api.create(
        &format!("{core}/resourcequotas"),
        &quota("q", hard, Value::Null),
    );
    let one = format!("{core}/resourcequotas/q");
    used(&api, &one, &json!({"requests.cpu": "100m"}));
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "2"}}]}});
    api.create(&format!("{core}/limitranges"), &range);
    let path = format!("{core}/pods/p/resize");
    let asked = |requests: &str, limits: &str| {
        let resources = json!({"requests": {"cpu": requests}, "limits": {"cpu": limits}});
        json!({"spec": {"containers": [{"name": "pause", "resources": resources}]}})
    };
    for (requests, limits, why) in [
        (
            "600m",
            "1",
            "exceeded quota: q, requested: requests.cpu=500m",
        ),
        (
            "200m",
            "3",
            "maximum cpu usage per Container is 2, but limit is 3",
        ),
    ] {
        let (code, status) = api.send("PATCH", &path, STRATEGIC, &asked(requests, limits));
        assert_eq!(code, 403, "{status:#}");
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    api.patch(&path, STRATEGIC, &asked("400m", "1"));
    used(&api, &one, &json!({"requests.cpu": "400m"}));
}

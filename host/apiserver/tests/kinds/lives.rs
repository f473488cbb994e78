//! One life for each kind: made, seen, patched, its status written, updated,
//! listed, deleted; as upstream's conformance tests live it.

use crate::api::{Api, MERGE, STRATEGIC};
use serde_json::{Value, json};

struct Life {
    /// Group and version, as in paths.
    root: &'static str,
    plural: &'static str,
    namespaced: bool,
    body: Value,
    /// A change of what is wanted, if the kind counts generations.
    change: Value,
    /// Generations after the change; 0 if the kind doesn't count.
    generation: i64,
    /// A status that its endpoint takes, or null.
    status: Value,
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn once() -> Value {
    let mut template = template();
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "x"}})
}

fn lives() -> Vec<Life> {
    let life = |root, plural, body, change, generation, status| Life {
        root,
        plural,
        namespaced: plural != "persistentvolumes",
        body,
        change,
        generation,
        status,
    };
    let (core, apps, batch) = ("/api/v1", "/apis/apps/v1", "/apis/batch/v1");
    let replicas = json!({"spec": {"replicas": 2}});
    vec![
        life(
            core,
            "replicationcontrollers",
            json!({"spec": {"replicas": 1, "template": template()}}),
            replicas.clone(),
            2,
            json!({"replicas": 1}),
        ),
        life(
            core,
            "podtemplates",
            json!({"template": template()}),
            json!({"template": {"spec": {"hostname": "h"}}}),
            2,
            Value::Null,
        ),
        life(
            core,
            "endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"port": 80}]}]}),
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"port": 80}]}]}),
            0,
            Value::Null,
        ),
        life(
            core,
            "resourcequotas",
            json!({"spec": {"hard": {"pods": "5"}}}),
            json!({"spec": {"hard": {"pods": "6"}}}),
            0,
            json!({"hard": {"pods": "5"}, "used": {"pods": "1"}}),
        ),
        life(
            core,
            "limitranges",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
            0,
            Value::Null,
        ),
        life(
            core,
            "persistentvolumes",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}),
            json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
            0,
            json!({"phase": "Available"}),
        ),
        life(
            core,
            "persistentvolumeclaims",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            json!({"spec": {"volumeName": "v"}}),
            0,
            json!({"phase": "Bound"}),
        ),
        life(
            core,
            "services",
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"spec": {"sessionAffinity": "ClientIP"}}),
            0,
            json!({"conditions": [{"type": "T", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        ),
        life(
            apps,
            "deployments",
            json!({"spec": {"selector": selector(), "template": template()}}),
            replicas.clone(),
            2,
            json!({"replicas": 1, "readyReplicas": 1}),
        ),
        life(
            apps,
            "replicasets",
            json!({"spec": {"selector": selector(), "template": template()}}),
            replicas.clone(),
            2,
            json!({"replicas": 1}),
        ),
        life(
            apps,
            "statefulsets",
            json!({"spec": {"serviceName": "s", "selector": selector(), "template": template()}}),
            replicas,
            2,
            json!({"replicas": 1}),
        ),
        life(
            apps,
            "daemonsets",
            json!({"spec": {"selector": selector(), "template": template()}}),
            json!({"spec": {"minReadySeconds": 3}}),
            2,
            json!({"numberReady": 1}),
        ),
        life(
            apps,
            "controllerrevisions",
            json!({"data": {"a": 1}, "revision": 1}),
            json!({"revision": 2}),
            0,
            Value::Null,
        ),
        life(
            batch,
            "jobs",
            json!({"spec": {"template": once()}}),
            json!({"spec": {"parallelism": 2}}),
            2,
            json!({"active": 1}),
        ),
        life(
            batch,
            "cronjobs",
            json!({"spec": {"schedule": "*/1 * * * ?", "jobTemplate": {"spec": {"template": once()}}}}),
            json!({"spec": {"suspend": true}}),
            2,
            json!({"lastScheduleTime": "2026-01-01T00:00:00Z"}),
        ),
        life(
            "/apis/autoscaling/v2",
            "horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
            json!({"spec": {"maxReplicas": 4}}),
            0,
            json!({"currentReplicas": 1, "desiredReplicas": 1}),
        ),
        life(
            "/apis/autoscaling/v1",
            "horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
            json!({"spec": {"maxReplicas": 4}}),
            0,
            json!({"currentReplicas": 1, "desiredReplicas": 1}),
        ),
        life(
            "/apis/policy/v1",
            "poddisruptionbudgets",
            json!({"spec": {"minAvailable": 1, "selector": selector()}}),
            json!({"spec": {"minAvailable": "50%"}}),
            2,
            json!({"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}),
        ),
    ]
}

#[test]
fn every_kind_lives_as_upstreams_does() {
    let api = Api::start();
    for life in lives() {
        live(&api, &life);
    }
}

fn live(api: &Api, life: &Life) {
    let all = match life.namespaced {
        true => format!("{}/namespaces/default/{}", life.root, life.plural),
        false => format!("{}/{}", life.root, life.plural),
    };
    let mut body = life.body.clone();
    body["metadata"] = json!({"name": "one", "labels": {"test": "life"}});
    let made = api.create(&all, &body);
    let generation = |object: &Value| object["metadata"]["generation"].as_i64().unwrap_or(0);
    assert_eq!(generation(&made), i64::from(life.generation > 0), "{all}");
    let one = format!("{all}/one");
    // A PUT of the same, defaults left out, is no change of what is wanted;
    // but a job's selector was made here, and a budget's update names its base.
    let same = match life.plural {
        "jobs" | "poddisruptionbudgets" => api.get(&one),
        _ => body.clone(),
    };
    let same = api.update(&one, &same);
    assert_eq!(generation(&same), i64::from(life.generation > 0), "{all}");
    let labelled = api.patch(
        &one,
        STRATEGIC,
        &json!({"metadata": {"labels": {"patched": "yes"}}}),
    );
    assert_eq!(labelled["metadata"]["labels"]["patched"], "yes");
    let changed = api.patch(&one, MERGE, &life.change);
    assert_eq!(generation(&changed), life.generation, "{all}");
    if !life.status.is_null() {
        let status = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
            "status": life.status, "spec": null});
        let seen = api.patch(&format!("{one}/status"), MERGE, &status);
        for (key, value) in life.status.as_object().unwrap() {
            assert_eq!(&seen["status"][key], value, "{all} {key}");
        }
        assert_eq!(
            seen["metadata"]["annotations"]["patchedstatus"], "true",
            "{all}"
        );
        assert_eq!(seen["spec"], changed["spec"], "{all}");
        leaves_the_status_alone(api, &one);
    }
    let found = api.get(&format!("{all}?labelSelector=patched%3Dyes"));
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{all}");
    let table = table(api, &all);
    let width = table["columnDefinitions"].as_array().unwrap().len();
    let cells = table["rows"][0]["cells"].as_array().unwrap().len();
    assert_eq!(width, cells, "{all}");
    let mut second = body.clone();
    second["metadata"] = json!({"generateName": "two-", "labels": {"test": "life"}});
    api.create(&all, &second);
    // Without a policy, controllers and jobs wait for their orphans' release.
    let (code, _) = api.send(
        "DELETE",
        &format!("{all}?labelSelector=test%3Dlife&propagationPolicy=Background"),
        "",
        &Value::Null,
    );
    assert_eq!(code, 200, "{all}");
    let left = api.get(&format!("{all}?labelSelector=test%3Dlife"));
    assert!(left["items"].as_array().unwrap().is_empty(), "{all}");
}

/// The main endpoint does; a controller that writes in between makes it try again.
fn leaves_the_status_alone(api: &Api, one: &str) {
    for _ in 0..100 {
        let before = api.get(one);
        let mut whole = before.clone();
        whole["status"] = json!({});
        let (code, after) = api.send("PUT", one, "application/json", &whole);
        if code != 409 {
            assert_eq!(code, 200, "{one}: {after:#}");
            assert_eq!(after["status"], before["status"], "{one}");
            return;
        }
    }
    panic!("{one}: changed a hundred times between a read and a write");
}

fn table(api: &Api, all: &str) -> Value {
    let request = http::Request::builder()
        .uri(all)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(bytes::Bytes::new())
        .unwrap();
    api.together(vec![request]).pop().unwrap().1
}

#[test]
fn replicas_are_a_scale() {
    let api = Api::start();
    for (root, plural, body) in [
        (
            "/apis/apps/v1",
            "deployments",
            json!({"spec": {"replicas": 3, "selector": selector(), "template": template()}}),
        ),
        (
            "/apis/apps/v1",
            "replicasets",
            json!({"spec": {"replicas": 3, "selector": selector(), "template": template()}}),
        ),
        (
            "/apis/apps/v1",
            "statefulsets",
            json!({"spec": {"replicas": 3, "selector": selector(), "template": template()}}),
        ),
        (
            "/api/v1",
            "replicationcontrollers",
            json!({"spec": {"replicas": 3, "template": template()}}),
        ),
    ] {
        let all = format!("{root}/namespaces/default/{plural}");
        let mut body = body;
        body["metadata"] = json!({"name": "w"});
        api.create(&all, &body);
        let path = format!("{all}/w/scale");
        let mut scale = api.get(&path);
        assert_eq!(scale["kind"], "Scale");
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"]["selector"], "app=x");
        scale["spec"]["replicas"] = 5.into();
        assert_eq!(api.update(&path, &scale)["spec"]["replicas"], 5);
        // That version is history.
        api.refuses("PUT", &path, &scale, 409, "the object has been modified");
        let patched = api.patch(&path, MERGE, &json!({"spec": {"replicas": 2}}));
        assert_eq!(patched["spec"]["replicas"], 2);
        let workload = api.get(&format!("{all}/w"));
        assert_eq!(workload["spec"]["replicas"], 2);
        assert_eq!(workload["metadata"]["generation"], 3);
        api.refuses("PATCH", &path, &json!({"spec": {"replicas": -1}}), 422,
            "Scale.autoscaling \"w\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0");
    }
}

#[test]
fn what_may_not_change_does_not() {
    let api = Api::start();
    let apps = "/apis/apps/v1/namespaces/default";
    let mut deployment = json!({"metadata": {"name": "d"},
        "spec": {"selector": selector(), "template": template()}});
    api.create(&format!("{apps}/deployments"), &deployment);
    let labels = json!({"app": "y"});
    deployment["spec"]["selector"]["matchLabels"] = labels.clone();
    deployment["spec"]["template"]["metadata"]["labels"] = labels;
    api.refuses(
        "PUT",
        &format!("{apps}/deployments/d"),
        &deployment,
        422,
        "spec.selector: Invalid value: ",
    );
    api.refuses(
        "PUT",
        &format!("{apps}/deployments/d"),
        &deployment,
        422,
        "field is immutable",
    );
    let set = json!({"metadata": {"name": "s"}, "spec": {"serviceName": "a", "selector": selector(), "template": template()}});
    api.create(&format!("{apps}/statefulsets"), &set);
    api.refuses("PATCH", &format!("{apps}/statefulsets/s"), &json!({"spec": {"serviceName": "b"}}), 422,
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    let job = api.create(
        jobs,
        &json!({"metadata": {"generateName": "j-"}, "spec": {"template": once()}}),
    );
    let name = job["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"],
        name
    );
    assert_eq!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        job["metadata"]["uid"]
    );
    api.refuses(
        "PATCH",
        &format!("{jobs}/{name}"),
        &json!({"spec": {"completions": 4}}),
        422,
        "spec.completions: Invalid value: 4: field is immutable",
    );
    api.refuses(
        "POST",
        jobs,
        &json!({"metadata": {"name": "a"}, "spec": {"template": template()}}),
        422,
        "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
    );
    let revisions = format!("{apps}/controllerrevisions");
    api.create(
        &revisions,
        &json!({"metadata": {"name": "r"}, "data": {"a": 1}, "revision": 1}),
    );
    api.refuses(
        "PATCH",
        &format!("{revisions}/r"),
        &json!({"data": {"a": 2}}),
        422,
        "data: Invalid value: ",
    );
}

#[test]
fn one_autoscaler_has_two_versions() {
    let api = Api::start();
    let all =
        |v: &str| format!("/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers");
    let old = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let made = api.create(&all("v1"), &old);
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["minReplicas"], 1);
    let new = api.get(&format!("{}/h", all("v2")));
    assert_eq!(new["apiVersion"], "autoscaling/v2");
    assert_eq!(
        new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    let memory = json!({"spec": {"metrics": [{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Gi"}}}]}});
    api.patch(&format!("{}/h", all("v2")), MERGE, &memory);
    let seen = api.get(&format!("{}/h", all("v1")));
    assert_eq!(seen["spec"].get("targetCPUUtilizationPercentage"), None);
    assert!(
        seen["metadata"]["annotations"]
            .to_string()
            .contains("targetAverageValue")
    );
}

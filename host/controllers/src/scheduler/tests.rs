//! Decisions and messages as tables.

use super::plan::{Decision, decide, is_waiting, places, plan};
use super::requests::of_pod;
use crate::recorder::Reporter;
use api::time::parse;
use k8s_openapi::api::core::v1::{Node, Pod};
use reconcile::{Patch, Write};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn decode<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a fixture")
}

fn node(name: &str, spec: Value) -> Node {
    decode(json!({
        "metadata": {"name": name, "labels": {"disk": "ssd", "cores": "8"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
}

fn pod(name: &str, requests: Value, spec: Value) -> Pod {
    let mut all = json!({
        "containers": [{"name": "c", "resources": {"requests": requests}}],
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    decode(json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": all}))
}

#[test]
fn a_pod_that_fits_nowhere_is_told_in_upstreams_words() {
    let helps = "No preemption victims found for incoming pod.";
    let never = "Preemption is not helpful for scheduling.";
    let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let used = pod(
        "used",
        json!({"cpu": "1500m", "memory": "900Mi"}),
        json!({"nodeName": "n"}),
    );
    for (what, spec, requests, pod_spec, expected) in [
        (
            "memory of others",
            json!({}),
            json!({"memory": "500Mi"}),
            json!({}),
            Some(("1 Insufficient memory", helps)),
        ),
        (
            "memory of all",
            json!({}),
            json!({"memory": "2Gi"}),
            json!({}),
            Some(("1 Insufficient memory", never)),
        ),
        (
            "both",
            json!({}),
            json!({"cpu": 1, "memory": "500Mi"}),
            json!({}),
            Some(("1 Insufficient cpu, 1 Insufficient memory", helps)),
        ),
        (
            "unknown resource",
            json!({}),
            json!({"example.com/gpu": "1"}),
            json!({}),
            Some(("1 Insufficient example.com/gpu", never)),
        ),
        (
            "taint",
            taint.clone(),
            json!({}),
            json!({}),
            Some(("1 node(s) had untolerated taint(s)", never)),
        ),
        (
            "tolerated",
            taint.clone(),
            json!({}),
            json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
            None,
        ),
        (
            "tolerated by value",
            taint.clone(),
            json!({}),
            json!({"tolerations": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}),
            None,
        ),
        (
            "another effect",
            taint.clone(),
            json!({}),
            json!({"tolerations": [{"key": "k", "value": "v", "effect": "NoExecute"}]}),
            Some(("1 node(s) had untolerated taint(s)", never)),
        ),
        (
            "everything tolerated",
            taint,
            json!({}),
            json!({"tolerations": [{"operator": "Exists"}]}),
            None,
        ),
        (
            "cordoned",
            json!({"unschedulable": true}),
            json!({}),
            json!({}),
            Some(("1 node(s) were unschedulable", never)),
        ),
        (
            "selector",
            json!({}),
            json!({}),
            json!({"nodeSelector": {"disk": "ssd"}}),
            None,
        ),
        (
            "other selector",
            json!({}),
            json!({}),
            json!({"nodeSelector": {"disk": "hdd"}}),
            Some(("1 node(s) didn't match Pod's node affinity/selector", never)),
        ),
        (
            "affinity",
            json!({}),
            json!({}),
            affinity("cores", "Gt", &["7"]),
            None,
        ),
        (
            "other affinity",
            json!({}),
            json!({}),
            affinity("cores", "Lt", &["8"]),
            Some(("1 node(s) didn't match Pod's node affinity/selector", never)),
        ),
        (
            "absent label",
            json!({}),
            json!({}),
            affinity("gone", "DoesNotExist", &[]),
            None,
        ),
        (
            "not in",
            json!({}),
            json!({}),
            affinity("disk", "NotIn", &["ssd"]),
            Some(("1 node(s) didn't match Pod's node affinity/selector", never)),
        ),
    ] {
        let nodes = [node("n", spec)];
        let pods = [&used];
        let places = places(nodes.iter(), pods.into_iter().map(|pod| (pod, None)));
        let found = decide(&pod("p", requests, pod_spec), &places);
        let expected = match expected {
            None => Decision::Bind("n".into()),
            Some((reasons, preemption)) => Decision::Unschedulable(format!(
                "0/1 nodes are available: {reasons}. \
                 preemption: 0/1 nodes are available: 1 {preemption}"
            )),
        };
        assert_eq!(found, expected, "{what}");
    }
}

fn affinity(key: &str, operator: &str, values: &[&str]) -> Value {
    let term = json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
    }}})
}

#[test]
fn reasons_of_several_nodes_are_counted() {
    let mut unready = node("c", json!({}));
    if let Some(conditions) = unready.status.as_mut().and_then(|s| s.conditions.as_mut()) {
        conditions[0].status = "False".into();
    }
    let nodes = [
        node("a", json!({})),
        node("b", json!({"unschedulable": true})),
        unready,
    ];
    let full: Vec<_> = (0..3)
        .map(|i| pod(&format!("f{i}"), json!({}), json!({"nodeName": "a"})))
        .collect();
    let places = places(nodes.iter(), full.iter().map(|pod| (pod, None)));
    let message = "0/3 nodes are available: 1 Too many pods, \
        1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. \
        preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
        2 Preemption is not helpful for scheduling.";
    let found = decide(&pod("p", json!({}), json!({})), &places);
    assert_eq!(found, Decision::Unschedulable(message.into()));
    let none = decide(&pod("p", json!({}), json!({})), &[]);
    assert_eq!(
        none,
        Decision::Unschedulable("no nodes available to schedule pods".into())
    );
}

#[test]
fn the_emptier_node_is_taken_and_assumed_pods_count() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let big = pod("big", json!({"cpu": "1"}), json!({}));
    let new = pod("p", json!({"cpu": "1500m"}), json!({}));
    let ports = json!({"containers": [{"name": "c", "ports": [
        {"containerPort": 80, "hostPort": 80}
    ]}]});
    let (web, other) = (
        pod("web", json!({}), ports.clone()),
        pod("other", json!({}), ports),
    );
    for (there, on, wanted, expected) in [
        (&big, "a", &new, "b"),
        (&big, "b", &new, "a"),
        (&web, "a", &other, "b"),
    ] {
        let with = places(nodes.iter(), [(there, Some(on))].into_iter());
        assert_eq!(decide(wanted, &with), Decision::Bind(expected.into()));
    }
    let mut over = big.clone();
    over.status = Some(decode(json!({"phase": "Succeeded"})));
    let with = places(nodes.iter(), [(&over, Some("a"))].into_iter());
    assert_eq!(
        decide(&new, &with),
        Decision::Bind("a".into()),
        "ended pods use nothing"
    );
}

#[test]
fn init_containers_count_while_they_run() {
    let container = |cpu: &str, always: bool| {
        let mut container =
            json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}});
        if always {
            container["restartPolicy"] = json!("Always");
        }
        container
    };
    for (init, main, cpu) in [
        (
            vec![],
            vec![container("100m", false), container("0.2", false)],
            300,
        ),
        (
            vec![container("1", false)],
            vec![container("100m", false)],
            1000,
        ),
        (
            vec![container("50m", true)],
            vec![container("100m", false)],
            150,
        ),
        (
            vec![
                container("50m", true),
                container("1", false),
                container("10m", true),
            ],
            vec![container("100m", false)],
            1050,
        ),
    ] {
        let pod: Pod = decode(json!({"spec": {
            "initContainers": init, "containers": main, "overhead": {"cpu": "5m"}
        }}));
        let found = of_pod(&pod);
        assert_eq!(found.get("cpu"), cpu + 5, "{pod:?}");
    }
}

#[test]
fn what_a_pod_has_counts_while_it_is_resized() {
    let pending = json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
    for (asks, given, runs_with, conditions, cpu) in [
        ("1", "2", "2", json!([]), 2000),
        ("3", "2", "2", json!([]), 3000),
        ("1", "1", "2", json!([]), 2000),
        ("3", "2", "1", pending, 2000),
    ] {
        let mut own = pod("p", json!({"cpu": asks}), json!({}));
        own.status = decode(json!({"conditions": conditions, "containerStatuses": [{
            "name": "c", "allocatedResources": {"cpu": given},
            "resources": {"requests": {"cpu": runs_with}},
        }]}));
        assert_eq!(of_pod(&own).get("cpu"), cpu, "{asks} {given} {runs_with}");
    }
}

#[test]
fn only_waiting_pods_are_scheduled() {
    for (spec, waiting) in [
        (json!({}), true),
        (json!({"schedulerName": "default-scheduler"}), true),
        (json!({"schedulerName": "mine"}), false),
        (json!({"nodeName": "n"}), false),
        (json!({"schedulingGates": [{"name": "x"}]}), false),
    ] {
        assert_eq!(
            is_waiting(&pod("p", json!({}), spec.clone())),
            waiting,
            "{spec}"
        );
    }
}

#[test]
fn a_refusal_is_written_once() {
    let reporter = Reporter {
        component: "default-scheduler",
        instance: "x".into(),
    };
    let now = parse("2026-01-01T00:00:00Z").expect("a time");
    let refused = Decision::Unschedulable("no".into());
    let mut waiting = pod("p", json!({}), json!({}));
    let writes = plan(&waiting, &refused, &reporter, now);
    let [
        Write::Create { object, .. },
        Write::Patch {
            patch: Patch::Strategic(body),
            ..
        },
    ] = &writes[..]
    else {
        panic!("{writes:?}")
    };
    assert_eq!(object["reason"], "FailedScheduling");
    assert_eq!(object["message"], "no");
    let condition = &body["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Unschedulable");
    waiting.status = Some(decode(json!({"conditions": [condition]})));
    assert!(plan(&waiting, &refused, &reporter, now).is_empty());
    let bound = plan(&waiting, &Decision::Bind("n".into()), &reporter, now);
    let [
        Write::CreateSubresource { object, .. },
        Write::Create { object: event, .. },
    ] = &bound[..]
    else {
        panic!("{bound:?}")
    };
    assert_eq!(object["target"]["name"], "n");
    assert_eq!(event["message"], "Successfully assigned d/p to n");
}

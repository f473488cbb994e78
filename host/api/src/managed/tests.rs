#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::kinds::{self, Kind};
use serde_json::{Value, json};

const FIRST: &str = "2026-01-01T00:00:01Z";
const SECOND: &str = "2026-01-01T00:00:02Z";

fn kind(plural: &str) -> &'static Kind {
    kinds::KINDS
        .iter()
        .find(|k| k.group.is_empty() && k.plural == plural)
        .unwrap()
}

fn writer<'a>(manager: &'a str, time: &'a str) -> Writer<'a> {
    Writer {
        manager,
        version: "v1",
        subresource: "",
        time,
    }
}

fn endpoint(plural: &str) -> BuiltIn<'static> {
    BuiltIn {
        kind: kind(plural),
        subresource: "",
    }
}

fn tracked(plural: &str, live: Option<&Value>, new: Value, manager: &str) -> Value {
    let mut new = new;
    track(&endpoint(plural), live, &mut new, &writer(manager, FIRST));
    new
}

fn fields(object: &Value, i: usize) -> &Value {
    &object["metadata"]["managedFields"][i]["fieldsV1"]
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "main", "image": "nginx", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
            "nodeSelector": {"a": "b"},
            "restartPolicy": "Always"},
        "status": {"phase": "Pending"}})
}

#[test]
fn a_created_pod_is_owned_as_upstream_says() {
    let made = tracked("pods", None, pod(), "kubectl-create");
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["manager"], "kubectl-create");
    assert_eq!(entry["operation"], "Update");
    assert_eq!(entry["apiVersion"], "v1");
    assert_eq!(entry["time"], FIRST);
    assert_eq!(entry["fieldsType"], "FieldsV1");
    assert_eq!(
        entry["fieldsV1"].to_string(),
        concat!(
            r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"#,
            r#""f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:image":{},"f:name":{},"#,
            r#""f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":"#,
            r#"{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},"#,
            r#""f:nodeSelector":{},"f:restartPolicy":{}}}"#
        )
    );
}

#[test]
fn an_update_owns_what_it_changes_and_takes_it_from_others() {
    let made = tracked("pods", None, pod(), "a");
    let mut new = made.clone();
    new["spec"]["containers"][0]["image"] = "nginx:2".into();
    new["metadata"]["labels"]["tier"] = "front".into();
    let new = tracked("pods", Some(&made), new, "b");
    assert_eq!(
        new["metadata"]["managedFields"].as_array().unwrap().len(),
        2
    );
    assert_eq!(
        fields(&new, 1),
        &json!({"f:metadata": {"f:labels": {"f:tier": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}}}}})
    );
    let container = &fields(&new, 0)["f:spec"]["f:containers"]["k:{\"name\":\"main\"}"];
    assert!(container.get("f:image").is_none() && container.get("f:name").is_some());
    // What goes is owned by nobody.
    let mut less = new.clone();
    less["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("tier");
    let less = tracked("pods", Some(&new), less, "c");
    assert!(fields(&less, 1).get("f:metadata").is_none());
    assert_eq!(
        less["metadata"]["managedFields"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn nothing_changed_leaves_the_times_alone() {
    let made = tracked("pods", None, pod(), "a");
    let mut same = made.clone();
    track(
        &endpoint("pods"),
        Some(&made),
        &mut same,
        &writer("a", SECOND),
    );
    assert_eq!(same, made);
}

#[test]
fn clients_reset_ownership_with_an_empty_list_or_entry() {
    let made = tracked("pods", None, pod(), "a");
    for reset in [json!([]), json!([{}])] {
        let mut new = made.clone();
        new["metadata"]["managedFields"] = reset;
        let new = tracked("pods", Some(&made), new, "b");
        assert!(new["metadata"].get("managedFields").is_none());
    }
    // Those who know nothing of it keep it.
    let mut new = made.clone();
    new["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    assert_eq!(tracked("pods", Some(&made), new, "a"), made);
}

#[test]
fn the_oldest_of_many_updaters_are_joined() {
    let mut object = json!({"metadata": {"name": "c", "uid": "u"}, "data": {"a": "0"}});
    object = tracked("configmaps", None, object, "m0");
    for i in 1..15 {
        let mut new = object.clone();
        new["data"][format!("k{i:02}")] = "x".into();
        track(
            &endpoint("configmaps"),
            Some(&object),
            &mut new,
            &writer(&format!("m{i:02}"), &format!("2026-01-01T00:00:{i:02}Z")),
        );
        object = new;
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    assert_eq!(
        entries[0]["fieldsV1"]["f:data"].as_object().unwrap().len(),
        7
    );
}

fn config(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "d"}, "data": data})
}

fn applied(
    live: Option<&Value>,
    data: Value,
    manager: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    apply(
        &endpoint("configmaps"),
        live,
        &config(data),
        &writer(manager, SECOND),
        force,
    )
}

#[test]
fn appliers_share_conflict_force_and_remove() {
    let mut made = applied(None, json!({"a": "1", "b": "1"}), "x", false).unwrap();
    made["metadata"]["uid"] = "u".into();
    assert_eq!(fields(&made, 0), &json!({"f:data": {"f:a": {}, "f:b": {}}}));
    // The same value is shared, another one conflicts.
    let shared = applied(Some(&made), json!({"a": "1"}), "y", false).unwrap();
    assert_eq!(
        shared["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let refused = applied(Some(&shared), json!({"a": "2"}), "z", false).unwrap_err();
    let ApplyError::Conflicts(conflicts) = refused else {
        panic!("{refused}");
    };
    assert_eq!(conflicts.len(), 2);
    assert_eq!(shown(&conflicts[0].path), ".data.a");
    let forced = applied(Some(&shared), json!({"a": "2"}), "z", true).unwrap();
    assert_eq!(forced["data"], json!({"a": "2", "b": "1"}));
    assert_eq!(
        forced["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // What x alone mentioned goes with its last mention; what y shares stays.
    let less = applied(Some(&shared), json!({}), "x", false).unwrap();
    assert_eq!(less["data"], json!({"a": "1"}));
    let none = applied(Some(&made), json!({"b": "1"}), "x", false).unwrap();
    assert_eq!(none["data"], json!({"b": "1"}));
}

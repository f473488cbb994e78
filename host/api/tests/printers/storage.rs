//! Volumes, claims, classes, drivers.

use crate::{check, going, object};
use serde_json::{Value, json};

#[test]
fn volumes() {
    let spec = json!({"capacity": {"storage": "4Gi"}, "accessModes": ["ReadOnlyMany", "ReadWriteOnce", "ReadOnlyMany"],
        "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "ns", "name": "c"},
        "storageClassName": "fast", "volumeAttributesClassName": "gold", "volumeMode": "Block"});
    let status = json!({"phase": "Bound", "reason": "r"});
    let bound = json!({"spec": spec, "status": status});
    let row = |phase: &str, class: &str| {
        json!([
            "x", "4Gi", "RWO,ROX", "Retain", phase, "ns/c", class, "gold", "r", "5d", "Block"
        ])
    };
    let beta = |class: &str| {
        let mut volume = object(bound.clone());
        volume["metadata"]["annotations"] =
            json!({"volume.beta.kubernetes.io/storage-class": class});
        volume
    };
    check(
        "v1/persistentvolumes",
        vec![
            (object(bound.clone()), row("Bound", "fast")),
            (going(bound.clone()), row("Terminating", "fast")),
            (beta("slow"), row("Bound", "slow")),
            (beta(""), row("Bound", "")),
            (
                object(json!({"spec": {"accessModes": ["ReadWriteMany", "ReadWriteOncePod"]}})),
                json!([
                    "x", "0", "RWX,RWOP", "", "", "", "", "<unset>", "", "5d", "<unset>"
                ]),
            ),
        ],
    );
}

#[test]
fn claims() {
    let spec = json!({"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast", "volumeMode": "Filesystem"});
    let pending = json!({"spec": spec, "status": {"phase": "Pending"}});
    let mut bound = pending.clone();
    bound["spec"]["volumeName"] = "v".into();
    bound["spec"]["volumeAttributesClassName"] = "gold".into();
    let mut known = bound.clone();
    known["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]});
    let mut emptied = known.clone();
    emptied["spec"]["volumeAttributesClassName"] = "".into();
    let row = |cells: [&str; 6]| {
        let mut row = vec!["x"];
        row.extend(cells);
        row.extend(["5d", "Filesystem"]);
        json!(row)
    };
    check(
        "v1/persistentvolumeclaims",
        vec![
            (
                object(pending.clone()),
                row(["Pending", "", "", "", "fast", "<unset>"]),
            ),
            (
                going(pending),
                row(["Terminating", "", "", "", "fast", "<unset>"]),
            ),
            (
                object(bound),
                row(["Pending", "v", "0", "", "fast", "gold"]),
            ),
            (
                object(known),
                row(["Bound", "v", "2Gi", "RWO", "fast", "gold"]),
            ),
            (
                object(emptied),
                row(["Bound", "v", "2Gi", "RWO", "fast", ""]),
            ),
            (
                object(json!({})),
                json!(["x", "", "", "", "", "", "<unset>", "5d", "<unset>"]),
            ),
        ],
    );
}

#[test]
fn classes() {
    let class = |annotation: &str, value: &str, more: Value| {
        let mut class = object(more);
        class["metadata"]["annotations"] = json!({annotation: value});
        class
    };
    const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
    const BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
    let plain = |name: &str| json!([name, "p", "Delete", "Immediate", false, "5d"]);
    check(
        "storage.k8s.io/v1/storageclasses",
        vec![
            (object(json!({"provisioner": "p"})), plain("x")),
            (
                class(DEFAULT, "true", json!({"provisioner": "p"})),
                plain("x (default)"),
            ),
            (
                class(BETA, "true", json!({"provisioner": "p"})),
                plain("x (default)"),
            ),
            (
                class(DEFAULT, "yes", json!({"provisioner": "p"})),
                plain("x"),
            ),
            (
                object(json!({"provisioner": "p", "reclaimPolicy": "Retain",
                    "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true})),
                json!(["x", "p", "Retain", "WaitForFirstConsumer", true, "5d"]),
            ),
        ],
    );
    check(
        "storage.k8s.io/v1/volumeattributesclasses",
        vec![(object(json!({"driverName": "d"})), json!(["x", "d", "5d"]))],
    );
}

#[test]
fn drivers() {
    check(
        "storage.k8s.io/v1/csidrivers",
        vec![
            (
                object(json!({"spec": {}})),
                json!(["x", true, false, false, "<unset>", false, "<none>", "5d"]),
            ),
            (
                object(
                    json!({"spec": {"attachRequired": false, "podInfoOnMount": true, "storageCapacity": true,
                    "requiresRepublish": true, "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
                    "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
                ),
                json!([
                    "x",
                    false,
                    true,
                    true,
                    "a,b",
                    true,
                    "Persistent,Ephemeral",
                    "5d"
                ]),
            ),
            (
                object(json!({"spec": {"tokenRequests": []}})),
                json!(["x", true, false, false, "", false, "<none>", "5d"]),
            ),
        ],
    );
    check(
        "storage.k8s.io/v1/csinodes",
        vec![
            (
                object(json!({"spec": {"drivers": [{}, {}]}})),
                json!(["x", 2, "5d"]),
            ),
            (object(json!({})), json!(["x", 0, "5d"])),
        ],
    );
    check(
        "storage.k8s.io/v1/csistoragecapacities",
        vec![
            (
                object(json!({"storageClassName": "c", "capacity": "1Gi"})),
                json!(["x", "c", "1Gi"]),
            ),
            (
                object(json!({"storageClassName": "c"})),
                json!(["x", "c", "<unset>"]),
            ),
        ],
    );
    check(
        "storage.k8s.io/v1/volumeattachments",
        vec![
            (
                object(
                    json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
                    "status": {"attached": true}}),
                ),
                json!(["x", "a", "v", "n", true, "5d"]),
            ),
            (object(json!({})), json!(["x", "", "", "", false, "5d"])),
        ],
    );
}

use crate::kinds::group_tests::{faults, shows, updates};
use serde_json::{Value, json};

#[test]
fn storage_classes() {
    let base = json!({"provisioner": "example.com/p"});
    faults(
        "storage",
        "storageclasses",
        base.clone(),
        &[
            (json!({"provisioner": null}), "provisioner: Required value"),
            (
                json!({"reclaimPolicy": "Recycle"}),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
            (
                json!({"volumeBindingMode": "Late"}),
                "volumeBindingMode: Unsupported value: \"Late\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            ),
            (
                json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "z"}]}]}),
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            ),
        ],
    );
    updates(
        "storage",
        "storageclasses",
        base.clone(),
        &[
            (json!({"allowVolumeExpansion": true}), "", 0),
            (
                json!({"parameters": {"a": "b"}}),
                "parameters: Forbidden: updates to parameters are forbidden.",
                0,
            ),
            (
                json!({"volumeBindingMode": "WaitForFirstConsumer"}),
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
                0,
            ),
        ],
    );
    let mut object = base;
    object["metadata"] =
        json!({"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}});
    shows(
        "storage",
        "storageclasses",
        object,
        json!(["x (default)", "example.com/p", "Delete", "Immediate", false]),
    );
    faults(
        "storage",
        "volumeattributesclasses",
        json!({"driverName": "d.e", "parameters": {"a": "b"}}),
        &[(
            json!({"parameters": null}),
            "parameters: Required value: must contain at least one key/value pair",
        )],
    );
}

#[test]
fn drivers_and_attachments() {
    updates(
        "storage",
        "csidrivers",
        json!({}),
        &[
            (json!({"spec": {"requiresRepublish": true}}), "", 1),
            (
                json!({"spec": {"attachRequired": false}}),
                "spec.attachRequired: Invalid value: false: field is immutable",
                0,
            ),
            (
                json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 5}]}}),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                1,
            ),
        ],
    );
    shows(
        "storage",
        "csidrivers",
        json!({}),
        json!(["x", true, false, false, "<unset>", false, "Persistent"]),
    );
    let driver = |d: Value| json!({"spec": {"drivers": [d]}});
    faults(
        "storage",
        "csinodes",
        driver(json!({"name": "a.b", "nodeID": "n"})),
        &[
            (
                driver(json!({"name": "a.b", "nodeID": ""})),
                "spec.drivers[0].nodeID: Required value",
            ),
            (
                driver(json!({"name": "a.b", "nodeID": "n", "allocatable": {"count": -1}})),
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            ),
        ],
    );
    let attachment = json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}});
    faults(
        "storage",
        "volumeattachments",
        attachment.clone(),
        &[(
            json!({"spec": {"source": null}}),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        )],
    );
    shows(
        "storage",
        "volumeattachments",
        attachment,
        json!(["x", "a.b", "pv", "n", false]),
    );
    faults(
        "storage",
        "csistoragecapacities",
        json!({"storageClassName": "c", "capacity": "1Gi"}),
        &[(
            json!({"capacity": "-1"}),
            "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
        )],
    );
}

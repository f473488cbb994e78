//! What a write answers is what a read then gives, whether the kind is served
//! as it is stored or as a view.

use crate::api::{Api, MERGE};
use serde_json::{Value, json};

/// Where a kind is, an object of it, and a change.
fn kinds() -> [(&'static str, Value, Value); 3] {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    [
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
            json!({"data": {"k": "w\u{7f}\n\""}}),
        ),
        (
            "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
            json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target,
                "targetCPUUtilizationPercentage": 50}}),
            json!({"spec": {"maxReplicas": 4}}),
        ),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
            json!({"spec": {"ports": [{"port": 81, "targetPort": 81}]}}),
        ),
    ]
}

#[test]
fn a_write_answers_what_a_read_gives() {
    let api = Api::start();
    for (collection, object, change) in kinds() {
        let path = format!("{collection}/a");
        let dry = api.create(&format!("{collection}?dryRun=All"), &object);
        assert_eq!(dry["metadata"]["name"], "a", "{collection}");
        assert_eq!(api.send("GET", &path, "", &Value::Null).0, 404);
        let made = api.create(collection, &object);
        assert_eq!(made, api.get(&path));
        let patched = api.patch(&path, MERGE, &change);
        assert_eq!(patched, api.get(&path));
        assert_ne!(patched, made);
        let dry = api.patch(&format!("{path}?dryRun=All"), MERGE, &object);
        assert_eq!(
            dry["metadata"]["resourceVersion"],
            patched["metadata"]["resourceVersion"]
        );
        let mut wanted = patched.clone();
        wanted["metadata"]["labels"] = json!({"l": "1"});
        let updated = api.update(&path, &wanted);
        assert_eq!(updated, api.get(&path));
        assert_ne!(updated, patched);
    }
}

/// Owners' times alone are no change, though the clock goes on.
#[test]
fn an_update_that_changes_nothing_is_none() {
    let api = Api::start();
    for (collection, object, _) in kinds() {
        let made = api.create(collection, &object);
        let mut wanted = made.clone();
        wanted["metadata"]["managedFields"][0]["time"] = "2001-01-01T00:00:00Z".into();
        let path = format!("{collection}/a");
        assert_eq!(api.update(&path, &wanted), made, "{collection}");
        wanted["metadata"]["annotations"] = json!({"a": "1"});
        let annotated = api.update(&path, &wanted);
        assert_ne!(
            annotated["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"]
        );
        assert_eq!(api.update(&path, &annotated), annotated);
        let mut bare = annotated.clone();
        bare["metadata"]
            .as_object_mut()
            .unwrap()
            .shift_remove("annotations");
        let bare = api.update(&path, &bare);
        assert_eq!(bare["metadata"].get("annotations"), None, "{collection}");
    }
}

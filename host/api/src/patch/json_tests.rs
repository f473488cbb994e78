#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use serde_json::json;

fn check(target: Value, patch: Value, wanted: Result<Value, &str>) {
    let mut found = target.clone();
    let outcome = json_patch(&mut found, patch.clone()).map(|()| found);
    let outcome = outcome.map_err(|e| e.to_string());
    assert_eq!(
        outcome,
        wanted.map_err(str::to_owned),
        "{patch} on {target}"
    );
}

#[test]
fn operations_change_what_they_name() {
    let object = || json!({"a": [1, 2], "b": {"c/d": 1, "~": 2}, "n": null});
    for (patch, wanted) in [
        (json!([]), object()),
        (
            json!([{"op": "add", "path": "/a/-", "value": 3}, {"op": "add", "path": "/a/0", "value": 0}]),
            json!({"a": [0, 1, 2, 3], "b": {"c/d": 1, "~": 2}, "n": null}),
        ),
        (
            json!([{"op": "remove", "path": "/b/c~1d"}, {"op": "remove", "path": "/a/-1"}, {"op": "remove", "path": "/n"}]),
            json!({"a": [1], "b": {"~": 2}}),
        ),
        (
            json!([{"op": "replace", "path": "/a/1", "value": {}}, {"op": "replace", "path": "/new", "value": 1}]),
            json!({"a": [1, {}], "b": {"c/d": 1, "~": 2}, "n": null, "new": 1}),
        ),
        (
            json!([{"op": "move", "from": "/b/~0", "path": "/a/0"}, {"op": "copy", "from": "/a", "path": "/b/x"}]),
            json!({"a": [2, 1, 2], "b": {"c/d": 1, "x": [2, 1, 2]}, "n": null}),
        ),
        // What isn't there is null.
        (
            json!([{"op": "test", "path": "/none", "value": null}, {"op": "test", "path": "/n", "value": null},
                {"op": "test", "path": "/none"}, {"op": "test", "path": "/a", "value": [1, 2]}]),
            object(),
        ),
        (
            json!([{"op": "add", "path": "/a", "value": null}, {"op": "copy", "from": "/none", "path": "/b"}]),
            json!({"a": null, "b": null, "n": null}),
        ),
    ] {
        check(object(), patch, Ok(wanted));
    }
}

#[test]
fn what_is_no_operation_is_refused() {
    for (patch, why) in [
        (
            json!({"op": "add"}),
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            json!([{"op": "add", "path": 1}]),
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.path of type string",
        ),
        (json!([{"op": "jump"}]), "Unexpected kind: jump"),
        (json!([{}]), "Unexpected kind: unknown"),
        (
            json!([{"op": "add"}]),
            "add operation failed to decode path: missing value",
        ),
        (
            json!([{"op": "test"}]),
            "test operation failed to decode path: operation missing path field: missing value",
        ),
        (
            json!([{"op": "move", "path": "/a"}]),
            "move operation failed to decode from: operation, missing from field: missing value",
        ),
    ] {
        check(json!({"a": [1, 2]}), patch, Err(why));
    }
}

#[test]
fn refusals_are_upstreams() {
    for (patch, why) in [
        (
            json!([{"op": "add", "path": "", "value": {}}]),
            "add operation does not apply: doc is missing path: \"\": missing value",
        ),
        (
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!([{"op": "add", "path": "/a/7", "value": 1}]),
            "error in add for path: '/a/7': Unable to access invalid index: 7: invalid index referenced",
        ),
        (
            json!([{"op": "add", "path": "/a/x", "value": 1}]),
            "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            json!([{"op": "remove", "path": "/x"}]),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!([{"op": "remove", "path": "/a/-3"}]),
            "error in remove for path: '/a/-3': Unable to access invalid index: -3: invalid index referenced",
        ),
        (
            json!([{"op": "replace", "path": "/a/2", "value": 1}]),
            "replace operation does not apply: doc is missing key: /a/2: missing value",
        ),
        (
            json!([{"op": "move", "from": "/x", "path": "/y"}]),
            "error in move for path: 'x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!([{"op": "test", "path": "/a/0", "value": 9}]),
            "testing value /a/0 failed: test failed",
        ),
        (
            json!([{"op": "test", "path": "/a/0/b", "value": 9}]),
            "test operation does not apply: is missing path: /a/0/b: missing value",
        ),
    ] {
        check(json!({"a": [1, 2]}), patch, Err(why));
    }
}

#[test]
fn copies_and_depth_are_bounded() {
    let double: Vec<Value> = (0..60)
        .map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/x{i}")}))
        .collect();
    let why = json_patch(&mut json!({"a": {"b": "c"}}), Value::Array(double)).unwrap_err();
    assert!(why.to_string().starts_with("Unable to complete the copy"));
    // Each turn puts all that was into one more object.
    let wrap: Vec<Value> = (0..3000)
        .flat_map(|_| {
            [
                json!({"op": "add", "path": "/b", "value": {}}),
                json!({"op": "move", "from": "/a", "path": "/b/a"}),
                json!({"op": "move", "from": "/b", "path": "/a"}),
            ]
        })
        .collect();
    check(
        json!({"a": {}}),
        Value::Array(wrap),
        Err("exceeded max depth"),
    );
    let many = vec![json!({}); MAX_OPERATIONS + 1];
    assert!(matches!(
        json_patch(&mut json!({}), Value::Array(many)),
        Err(PatchError::TooLarge(_))
    ));
    assert_eq!(
        json_patch_if(
            &mut json!({}),
            json!([{"op": "test", "path": "/a", "value": 1}])
        ),
        Ok(false)
    );
}

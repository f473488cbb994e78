#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

const POD: &str = "io.k8s.api.core.v1.Pod";

fn check(body: &str) -> Result<(Value, Vec<String>, Vec<String>), String> {
    let mut parsed = json(body.as_bytes())?;
    let mut unknown = Vec::new();
    conform(&mut parsed.value, POD, &mut unknown)?;
    Ok((parsed.value, unknown, parsed.duplicates))
}

#[test]
fn unknown_and_duplicate_fields_are_named_with_their_paths() {
    let (value, unknown, duplicates) = check(
        r#"{"metadata":{"name":"a","name":"b","creationTimestamp":null},
            "spec":{"foo":1,"containers":[{"name":"c","imag":"x","image":"y","image":"z"}],
                    "volumes":[{"name":"v","emptyDir":{}}],"nodeSelector":{}}}"#,
    )
    .unwrap();
    assert_eq!(unknown, ["spec.foo", "spec.containers[0].imag"]);
    assert_eq!(duplicates, ["metadata.name", "spec.containers[0].image"]);
    assert_eq!(value["metadata"]["name"], "b");
    assert!(value["spec"].get("foo").is_none());
    assert!(value["metadata"].get("creationTimestamp").is_none());
    assert!(value["spec"].get("nodeSelector").is_none());
    assert_eq!(
        value["spec"]["volumes"][0]["emptyDir"],
        Value::Object(Map::new())
    );
}

#[test]
fn wrong_types_are_told_in_gos_words() {
    for (body, message) in [
        (
            r#"{"spec":{"containers":[{"image":5}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
        ),
        (
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            r#"[]"#,
            "json: cannot unmarshal array into Go value of type v1.Pod",
        ),
        (
            r#"{"metadata":{"labels":{"a":true}}}"#,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
    ] {
        assert_eq!(check(body).unwrap_err(), message, "{body}");
    }
}

#[test]
fn quantities_become_canonical() {
    let (value, ..) = check(
        r#"{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}]}}"#,
    )
    .unwrap();
    let limits = &value["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["cpu"], "500m");
    assert_eq!(limits["memory"], "1Gi");
    assert!(check(r#"{"spec":{"overhead":{"cpu":"lots"}}}"#).is_err());
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(json(deep.as_bytes()).is_err());
    assert!(yaml(deep.as_bytes()).is_err());
    assert!(json(b"{\"a\":\"\xff\"}").is_err());
    assert!(json(b"{} {}").is_err());
}

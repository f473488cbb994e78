//! Objects in other forms: tables and metadata alone, in both versions of
//! meta.k8s.io, and what can't be had.

use crate::wire::{Client, map};
use http::{Method, StatusCode};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ONE: &str = "/api/v1/namespaces/default/configmaps/a";

fn asked(c: &Client, path: &str, form: &str) -> (StatusCode, Value) {
    let accept = format!("application/json;{form}");
    c.send(Method::GET, path, &[("accept", &accept)], b"")
}

fn given(c: &Client, path: &str, form: &str) -> Value {
    let (code, value) = asked(c, path, form);
    assert_eq!(code, StatusCode::OK, "{path} {form}: {value:#}");
    value
}

#[test]
fn forms_are_of_the_version_that_was_asked_for() {
    let c = Client::start();
    c.post(MAPS, &map("a"));
    for version in ["v1", "v1beta1"] {
        let wanted = format!("meta.k8s.io/{version}");
        let of = |kind: &str| format!("as={kind};g=meta.k8s.io;v={version}");
        for path in [MAPS, ONE] {
            let table = given(&c, path, &of("Table"));
            let row = &table["rows"][0];
            assert_eq!(
                (&table["kind"], &table["apiVersion"]),
                (&json!("Table"), &json!(wanted))
            );
            assert_eq!(row["cells"][0], "a");
            assert_eq!(row["object"]["apiVersion"], wanted);
            let bare = given(&c, &format!("{path}?includeObject=None"), &of("Table"));
            assert_eq!(bare["rows"][0]["object"], Value::Null);
            let whole = given(&c, &format!("{path}?includeObject=Object"), &of("Table"));
            assert_eq!(whole["rows"][0]["object"]["apiVersion"], "v1");
        }
        let list = given(&c, MAPS, &of("PartialObjectMetadataList"));
        assert_eq!(
            (&list["kind"], &list["apiVersion"]),
            (&json!("PartialObjectMetadataList"), &json!(wanted))
        );
        assert_eq!(list["items"][0]["apiVersion"], wanted);
        let one = given(&c, ONE, &of("PartialObjectMetadata"));
        assert_eq!(
            (&one["kind"], &one["apiVersion"]),
            (&json!("PartialObjectMetadata"), &json!(wanted))
        );
        assert_eq!(
            (&one["metadata"]["name"], one.get("data")),
            (&json!("a"), None)
        );
        for (form, key) in [("Table", "rows"), ("PartialObjectMetadata", "metadata")] {
            let path = format!(
                "{MAPS}?watch=true&resourceVersion=0&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
            );
            let accept = format!("application/json;{}", of(form));
            let events = c.watch_as(&path, &accept, 2);
            for event in &events[..2] {
                assert_eq!(event["object"]["apiVersion"], wanted, "{event:#}");
                assert!(event["object"][key] != Value::Null, "{event:#}");
            }
        }
    }
}

#[test]
fn metadata_alone_has_a_protobuf_form_in_both_versions() {
    let c = Client::start();
    c.post(MAPS, &map("a"));
    for version in ["v1", "v1beta1"] {
        for (path, kind) in [
            (MAPS, "PartialObjectMetadataList"),
            (ONE, "PartialObjectMetadata"),
        ] {
            let accept =
                format!("application/vnd.kubernetes.protobuf;as={kind};g=meta.k8s.io;v={version}");
            let (code, media, bytes) = c.raw(Method::GET, path, &[("accept", &accept)], b"");
            assert_eq!(
                (code, media.as_str()),
                (StatusCode::OK, "application/vnd.kubernetes.protobuf")
            );
            let head = format!("meta.k8s.io/{version}\x12");
            assert!(
                bytes.windows(head.len()).any(|w| w == head.as_bytes()),
                "{bytes:?}"
            );
        }
    }
}

#[test]
fn what_cant_be_had_is_not_acceptable() {
    let c = Client::start();
    c.post(MAPS, &map("a"));
    let types = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    for (path, form, wanted) in [
        (MAPS, "as=Table;g=meta.k8s.io;v=v1alpha1", types),
        (MAPS, "as=Table;g=meta.k8s.io;v=v2", types),
        (
            ONE,
            "as=PartialObjectMetadata;g=meta.k8s.io;v=v1beta2",
            types,
        ),
        (MAPS, "as=Chair;g=meta.k8s.io;v=v1", types),
        (MAPS, "as=Table;g=example.com;v=v1", types),
        (
            MAPS,
            "as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            ONE,
            "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1",
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
    ] {
        let (code, status) = asked(&c, path, form);
        assert_eq!(code, StatusCode::NOT_ACCEPTABLE, "{form}");
        assert_eq!(
            (&status["reason"], &status["message"]),
            (&json!("NotAcceptable"), &json!(wanted))
        );
    }
    let (code, status) = asked(
        &c,
        &format!("{MAPS}?includeObject=All"),
        "as=Table;g=meta.k8s.io;v=v1",
    );
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(
        status["message"],
        "Unable to convert to Table as requested: includeObject: Invalid value: \"All\": must be 'Metadata', 'Object', 'None', or empty"
    );
}

#[test]
fn a_scale_is_a_table_too() {
    let c = Client::start();
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let labels = json!({"a": "b"});
    let made = c.post(
        sets,
        &json!({"metadata": {"name": "r"}, "spec": {"replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
    );
    assert_eq!(made.0, StatusCode::CREATED, "{:#}", made.1);
    let path = format!("{sets}/r/scale");
    let table = given(&c, &path, "as=Table;g=meta.k8s.io;v=v1");
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let names: Vec<&Value> = columns.map(|c| &c["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..3], [json!("r"), json!(3), json!(0)]);
    let partial = given(&c, &path, "as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    assert_eq!(partial["kind"], "PartialObjectMetadata");
    let s = c.session();
    s.run(&["get", "rs", "r", "--subresource=scale"])
        .says("NAME   DESIRED   AVAILABLE   AGE")
        .says("r      3         0");
}

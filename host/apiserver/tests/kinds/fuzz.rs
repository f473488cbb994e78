//! Random requests: whatever a client sends, the answer is one of the API's,
//! never a fault of the server, and the server goes on.

use crate::api::{Api, MERGE, STRATEGIC, request};
use api::kinds::KINDS;
use bytes::Bytes;
use fuzzing::{Random, rounds};
use http::{Request, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const JSON_PATCH: &str = "application/json-patch+json";
const MEDIA: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/apply-patch+yaml",
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    "text/plain",
    "",
];
const ACCEPT: &[&str] = &[
    "*/*",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=;v=",
    "image/png, application/json;q=0.1",
    ";;,",
];
const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const OFTEN: &[&str] = &[
    "configmaps",
    "services",
    "pods",
    "deployments",
    "customresourcedefinitions",
];
const NAMES: &[&str] = &[
    "a", "b", "A_b", "x.y", "-", "%00", "%2f", "a%20b", "..", "default",
];
const PARTS: &[&str] = &[
    "",
    "",
    "",
    "/status",
    "/scale",
    "/eviction",
    "/nosuch",
    "/a/b",
];
const QUERIES: &[&str] = &[
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "fieldManager",
    "fieldValidation",
    "force",
    "dryRun",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "pretty",
    "timeoutSeconds",
    "sendInitialEvents",
    "allowWatchBookmarks",
];
const TEXTS: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "18446744073709551616",
    "true",
    "All",
    "Strict",
    "Ignore",
    "Exact",
    "NotOlderThan",
    "Foreground",
    "a=b",
    "a in (b,c),!d",
    "metadata.name=a",
    "a==b,,",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0",
    "%ff",
    "%C3%A9",
];

fn value(r: &mut Random, depth: usize) -> Value {
    const KEYS: &[&str] = &[
        "metadata",
        "spec",
        "status",
        "name",
        "template",
        "containers",
        "ports",
        "port",
        "items",
        "selector",
        "matchLabels",
        "rules",
        "data",
        "labels",
        "finalizers",
        "type",
        "$patch",
    ];
    match r.below(if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => (r.below(2) == 0).into(),
        2 => (r.draw().cast_signed() >> r.below(64)).into(),
        3 | 4 => r.pick(TEXTS).into(),
        5 => (0..r.below(3)).map(|_| value(r, depth - 1)).collect(),
        _ => (0..r.below(5))
            .map(|_| (r.pick(KEYS).to_owned(), value(r, depth - 1)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// An object as clients send them, with something amiss now and then.
fn body(r: &mut Random) -> Vec<u8> {
    let mut object = match r.below(4) {
        0 => json!({"metadata": {"name": r.pick(&["a", "b", "A_b"])}, "spec": value(r, 4)}),
        1 => json!({"metadata": value(r, 3), "spec": value(r, 4), "data": value(r, 2)}),
        2 => json!([{"op": r.pick(&["add", "remove", "move", "test", "x"]),
            "path": r.pick(&["/spec", "/metadata/labels/a", "", "/-", "a"]), "value": value(r, 3)}]),
        _ => value(r, 5),
    };
    if object.is_object() && r.below(2) == 0 {
        let kind = KINDS[r.below(KINDS.len())];
        object["kind"] = kind.kind.into();
        object["apiVersion"] = match kind.group {
            "" => kind.version.to_owned(),
            group => format!("{group}/{}", kind.version),
        }
        .into();
    }
    let mut bytes = object.to_string().into_bytes();
    if r.below(3) == 0 {
        for _ in 0..1 + r.below(4) {
            let at = r.below(bytes.len());
            bytes[at] = r.pick(b"{}[]\",:\\\0\xff0-en ");
        }
    }
    if r.below(4) == 0 {
        bytes.splice(0..0, *b"k8s\0\x0a\x04\x0a\x02v1");
    }
    bytes
}

/// Of few kinds, so that objects meet others.
fn path(r: &mut Random) -> String {
    let often = r.pick(OFTEN);
    let kind = match r.below(3) {
        0 => KINDS[r.below(KINDS.len())],
        _ => KINDS.iter().find(|kind| kind.plural == often).unwrap(),
    };
    let mut path = match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    if kind.namespaced != (r.below(16) == 0) {
        path.push_str(&format!(
            "/namespaces/{}",
            r.pick(&["default", "default", "absent", "A_"])
        ));
    }
    path.push_str(&format!("/{}", kind.plural));
    if r.below(2) == 0 {
        let name = match r.below(4) {
            0 => r.pick(NAMES),
            _ => r.pick(&["a", "b"]),
        };
        path.push_str(&format!("/{}{}", name, r.pick(PARTS)));
    }
    for i in 0..r.below(4) {
        let sign = if i == 0 { '?' } else { '&' };
        path.push_str(&format!(
            "{sign}{}={}",
            r.pick(QUERIES),
            encoded(r.pick(TEXTS))
        ));
    }
    path
}

/// What no URI holds as it stands.
fn encoded(text: &str) -> String {
    text.replace(' ', "%20")
}

fn drawn(r: &mut Random) -> Option<Request<Bytes>> {
    let path = path(r);
    path.parse::<http::Uri>().ok()?;
    let (method, media) = match r.below(4) {
        0 => ("POST", "application/json"),
        1 => (
            "PATCH",
            r.pick(&[MERGE, STRATEGIC, JSON_PATCH, "application/apply-patch+yaml"]),
        ),
        _ => (r.pick(METHODS), r.pick(MEDIA)),
    };
    let mut request = request(method, &path, media, &Value::Null);
    *request.body_mut() = match r.below(5) {
        0 => Bytes::new(),
        1 | 2 => json!({"metadata": {"name": r.pick(&["a", "b"]), "labels": {"l": r.pick(TEXTS)}}})
            .to_string()
            .into(),
        _ => body(r).into(),
    };
    let accept = header::HeaderValue::from_static(r.pick(ACCEPT));
    request.headers_mut().insert(header::ACCEPT, accept);
    Some(request)
}

#[test]
fn no_request_is_a_fault_of_the_server() {
    let api = Api::start();
    let mut r = Random::seeded();
    let mut codes = BTreeMap::new();
    for _ in 0..rounds(15_000) {
        let Some(request) = drawn(&mut r) else {
            continue;
        };
        let told = format!("{request:?}");
        let (code, answer) = api.together(vec![request]).pop().unwrap();
        assert!(
            (200..500).contains(&code) || code == 504,
            "{code} {answer:#}\n{told}"
        );
        *codes.entry(code).or_insert(0) += 1;
        if code >= 400 && answer["kind"] == "Status" {
            assert_eq!(answer["code"], code, "{answer:#}\n{told}");
        }
    }
    // Each part of the road was reached.
    for code in [200, 201, 400, 404, 405, 409, 415, 422] {
        assert!(codes.contains_key(&code), "no {code}: {codes:?}");
    }
    println!("{codes:?}");
    assert_eq!(api.send("GET", "/readyz", "", &Value::Null).0, 200);
}

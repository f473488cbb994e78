//! Lists and watches: encodings, resourceVersion rules, expired tokens.

use crate::wire::{Client, MAPS, map};
use api::protobuf;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAP_TYPE: &str = "io.k8s.api.core.v1.ConfigMap";

fn get_as(c: &Client, path: &str, accept: &str) -> (StatusCode, String, Vec<u8>) {
    let (code, content_type, bytes) = c.raw(Method::GET, path, &[("accept", accept)], b"");
    (code, content_type, bytes.to_vec())
}

fn decoded(bytes: &[u8], type_name: &str) -> Value {
    protobuf::decode(bytes, type_name).unwrap().value
}

#[test]
fn objects_and_lists_are_the_same_in_every_encoding() {
    let c = Client::start();
    let mut sent = map("p");
    sent["data"] = json!({"k": "v"});
    let body = protobuf::encode(&sent).unwrap();
    let types = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let (code, content_type, bytes) = c.raw(Method::POST, MAPS, &types, &body);
    assert_eq!(
        (code, content_type.as_str()),
        (StatusCode::CREATED, PROTOBUF)
    );
    let made = decoded(&bytes, MAP_TYPE);
    assert_eq!(made["data"], sent["data"]);
    for i in 0..40 {
        let mut large = map(&format!("q{i}"));
        large["data"] = json!({"k": "x".repeat(5000)});
        c.post(MAPS, &large);
    }
    let one = format!("{MAPS}/p");
    for (path, type_name) in [
        (one.as_str(), MAP_TYPE),
        (MAPS, "io.k8s.api.core.v1.ConfigMapList"),
    ] {
        let wanted = c.get(path).1;
        let (code, content_type, bytes) = get_as(&c, path, PROTOBUF);
        assert_eq!((code, content_type.as_str()), (StatusCode::OK, PROTOBUF));
        let mut found = decoded(&bytes, type_name);
        let items = found.get_mut("items").and_then(Value::as_array_mut);
        for item in items.into_iter().flatten() {
            item["kind"] = "ConfigMap".into();
            item["apiVersion"] = "v1".into();
        }
        assert_eq!(found, wanted, "{path}");
        let (code, content_type, bytes) = get_as(&c, path, "application/yaml");
        assert_eq!(
            (code, content_type.as_str()),
            (StatusCode::OK, "application/yaml")
        );
        let yaml: Value = serde_yaml::from_slice(&bytes).unwrap();
        assert_eq!(yaml, wanted, "{path}");
    }
    let (code, _, bytes) = get_as(&c, &format!("{MAPS}/none"), PROTOBUF);
    assert_eq!(code, StatusCode::NOT_FOUND);
    let status = decoded(&bytes, "io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    assert_eq!(status["reason"], "NotFound");
    let (code, content_type, bytes) = get_as(
        &c,
        MAPS,
        "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
    );
    assert_eq!(
        (code, content_type.as_str()),
        (StatusCode::NOT_ACCEPTABLE, "application/json")
    );
    let status: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        status["message"],
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let partial = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (_, _, bytes) = get_as(&c, MAPS, &partial);
    let list = decoded(
        &bytes,
        "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList",
    );
    assert_eq!(
        list["items"].as_array().unwrap().len(),
        c.get(MAPS).1["items"].as_array().unwrap().len()
    );
}

#[test]
fn large_lists_are_compressed_for_who_accepts_it() {
    use std::io::Read as _;
    let c = Client::start();
    for i in 0..30 {
        let mut large = map(&format!("q{i}"));
        large["data"] = json!({"k": "x".repeat(10_000)});
        c.post(MAPS, &large);
    }
    let plain = c.raw(Method::GET, MAPS, &[], b"").2;
    let packed = c
        .raw(Method::GET, MAPS, &[("accept-encoding", "gzip")], b"")
        .2;
    assert!(packed.len() * 10 < plain.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert!(unpacked == plain);
    let small = c
        .raw(
            Method::GET,
            &format!("{MAPS}?limit=2"),
            &[("accept-encoding", "gzip")],
            b"",
        )
        .2;
    assert_eq!(small.first(), Some(&b'{'));
}

#[test]
fn watches_speak_protobuf_in_frames() {
    let c = Client::start();
    c.post(MAPS, &map("a"));
    let path = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=1&sendInitialEvents=1&resourceVersionMatch=NotOlderThan"
    );
    let (code, content_type, bytes) = get_as(&c, &path, PROTOBUF);
    assert_eq!(code, StatusCode::OK);
    assert_eq!(
        content_type,
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let mut rest = bytes.as_slice();
    let mut seen = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        rest = after;
        // {type 1, object 2 {raw 1}}: the object's body begins with its magic.
        let at = frame.windows(4).position(|w| w == b"k8s\0").unwrap();
        let name = String::from_utf8_lossy(&frame[2..2 + usize::from(frame[1])]).into_owned();
        let object = decoded(&frame[at..], MAP_TYPE);
        seen.push(format!("{name} {}", object["metadata"]["name"]));
    }
    assert_eq!(seen, ["ADDED \"a\"", "BOOKMARK null", "BOOKMARK null"]);
    let (code, _, _) = get_as(&c, &format!("{MAPS}?watch=1"), "application/yaml");
    assert_eq!(code, StatusCode::NOT_ACCEPTABLE);
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let c = Client::start();
    for (query, code, message) in [
        (
            "resourceVersionMatch=Exact",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        (
            "resourceVersionMatch=Newest&resourceVersion=1",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
        ),
        (
            "sendInitialEvents=true",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "watch=1&sendInitialEvents=true",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "resourceVersion=x",
            400,
            "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "continue=e30",
            400,
            "invalid continue token: continue key is not valid: server does not recognize this encoded version ",
        ),
        (
            "resourceVersion=99999",
            504,
            "Too large resource version: 99999, current: ",
        ),
        (
            "limit=x",
            400,
            "strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
    ] {
        let (found, status) = c.get(&format!("{MAPS}?{query}"));
        assert_eq!(found.as_u16(), code, "{query}");
        let text = status["message"].as_str().unwrap();
        assert!(text.starts_with(message), "{query}: {text}");
    }
}

#[test]
fn an_expired_token_comes_with_one_to_go_on() {
    let c = Client::start();
    for i in 0..4 {
        c.post(MAPS, &map(&format!("m{i}")));
    }
    let first = c.get(&format!("{MAPS}?limit=2")).1;
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    c.post(MAPS, &map("m9"));
    // What was, is what it was.
    let exact = c
        .get(&format!(
            "{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"
        ))
        .1;
    assert_eq!(exact["items"].as_array().unwrap().len(), 4);
    let legacy = c
        .get(&format!("{MAPS}?resourceVersion={version}&limit=9"))
        .1;
    assert_eq!(legacy["metadata"]["resourceVersion"], version);
    c.post(MAPS, &map("n"));
    c.compact();
    let (code, gone) = c.get(&format!("{MAPS}?limit=2&continue={token}"));
    assert_eq!(
        (code, &gone["reason"]),
        (StatusCode::GONE, &json!("Expired"))
    );
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let (code, rest) = c.get(&format!("{MAPS}?limit=9&continue={token}"));
    assert_eq!(code, StatusCode::OK);
    let names: Vec<_> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["metadata"]["name"])
        .collect();
    assert_eq!(names, ["m2", "m3", "m9", "n"]);
    let (code, gone) = c.get(&format!(
        "{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"
    ));
    assert_eq!(code, StatusCode::GONE);
    assert_eq!(
        gone["message"],
        "The resourceVersion for the provided list is too old."
    );
    let lines = c.watch(&format!("{MAPS}?watch=1&resourceVersion={version}"), 9);
    assert_eq!(
        (&lines[0]["type"], &lines[0]["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
}

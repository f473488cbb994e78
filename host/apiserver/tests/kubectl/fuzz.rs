//! Random and mutated requests over the wire, malformed mostly: whatever comes,
//! the server answers, and never with an internal error. (`kinds/fuzz.rs` sends
//! plausible ones of every kind.)

use crate::wire::Client;
use fuzzing::{Random, rounds};
use http::Method;

const WORDS: &[&str] = &[
    "api",
    "apis",
    "v1",
    "namespaces",
    "default",
    "pods",
    "nodes",
    "x",
    "status",
    "log",
    "exec",
    "finalize",
    "binding",
    "bindings",
    "events",
    "events.k8s.io",
    "coordination.k8s.io",
    "leases",
    "..",
    "%2f",
    "%",
    "%ff",
    "é",
    "",
    "openapi",
    "v2",
    "v3",
    "configmaps",
    "eviction",
    "attach",
    "portforward",
    "secrets",
    "serviceaccounts",
    "healthz",
    "version",
];

const QUERIES: &[&str] = &[
    "limit=2",
    "limit=-1",
    "limit=x",
    "continue=AAAA",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhIn0",
    "resourceVersion=1",
    "resourceVersion=-",
    "resourceVersionMatch=Exact",
    "labelSelector=a%20in%20(b",
    "labelSelector=%21%21",
    "fieldSelector=metadata.name%3Da",
    "fieldSelector=%5C",
    "dryRun=All",
    "dryRun=x",
    "fieldValidation=Strict",
    "watch=1&timeoutSeconds=1",
    "pretty",
    "container=%00",
    "command=a",
    "stdin=1",
    "gracePeriodSeconds=99999999999999",
    "gracePeriodSeconds=-5",
    "propagationPolicy=Foreground",
    "tailLines=-1",
    "sendInitialEvents=true",
    "a=%zz",
    "&&&",
    "=",
];

const BODIES: &[&str] = &[
    "",
    "{}",
    "null",
    "[]",
    "{\"kind\":\"Pod\",\"metadata\":{\"generateName\":\"a-\"},\"spec\":{\"containers\":[{\"name\":\"a\",\"image\":\"b\",\"resources\":{\"limits\":{\"cpu\":\"1e3\"}}}]}}",
    "{\"metadata\":{\"name\":\"x\",\"labels\":{\"a\":null},\"annotations\":{\"b\":\"c\"},\"finalizers\":[\"a/b\"],\"ownerReferences\":[{}]}}",
    "{\"spec\":{\"taints\":[{\"key\":\"a\"}],\"finalizers\":[1]},\"status\":{\"conditions\":[{}]}}",
    "[{\"op\":\"copy\",\"from\":\"\",\"path\":\"/a\"},{\"op\":\"test\",\"path\":\"/a\",\"value\":1}]",
    "{\"$patch\":\"replace\",\"spec\":{\"$retainKeys\":[1],\"containers\":[{\"$patch\":\"delete\",\"name\":\"a\"}]}}",
    "{\"$setElementOrder/containers\":[{}],\"$deleteFromPrimitiveList/finalizers\":[\"a\"]}",
    "k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x1c\n\x12\n\x02cm",
    "{\"gracePeriodSeconds\":-9223372036854775808,\"preconditions\":{\"uid\":\"x\"},\"dryRun\":[\"All\"]}",
    "{\"target\":{\"name\":\"n\"}}",
    "{\"involvedObject\":{\"namespace\":\"default\"},\"metadata\":{\"generateName\":\"e\"}}",
    "apiVersion: v1\nkind: &a [*a]\n",
    "{\"a\":\"\\ud800\"}",
];

const TYPES: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "x",
];

const METHODS: &[Method] = &[
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

fn mutated(body: &str, r: &mut Random) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    for _ in 0..r.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = r.below(bytes.len());
        match r.below(4) {
            0 => bytes[at] = r.draw().to_le_bytes()[0],
            1 => bytes.truncate(at),
            2 => bytes.insert(at, b"{}[]\",:0k\xff"[r.below(10)]),
            _ => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

#[test]
fn no_request_breaks_the_server() {
    let c = Client::start();
    let mut r = Random::seeded();
    let seed = r.0;
    for i in 0..rounds(6000) {
        let path = if r.below(3) == 0 {
            let words: Vec<&str> = (0..r.below(8)).map(|_| r.pick(WORDS)).collect();
            format!("/{}", words.join("/"))
        } else {
            let resource = r.pick(&[
                "pods",
                "configmaps",
                "secrets",
                "events",
                "serviceaccounts",
                "bindings",
            ]);
            let tail = r.pick(&[
                "",
                "/x",
                "/x/status",
                "/x/log",
                "/x/binding",
                "/x/eviction",
                "/x/exec",
            ]);
            match r.below(4) {
                0 => format!("/api/v1/nodes{}", r.pick(&["", "/x", "/x/status"])),
                1 => format!(
                    "/api/v1/namespaces{}",
                    r.pick(&["", "/x", "/x/finalize", "/x/status"])
                ),
                _ => format!("/api/v1/namespaces/default/{resource}{tail}"),
            }
        };
        let query: Vec<&str> = (0..r.below(3)).map(|_| r.pick(QUERIES)).collect();
        // A long watch would hold the test up; they are tested elsewhere.
        let mut url = format!("{path}?{}", query.join("&"));
        if url.contains("watch=1") || url.contains("sendInitial") {
            url = path.clone();
        }
        let Ok(uri) = url.parse::<http::Uri>() else {
            continue;
        };
        let method = METHODS[r.below(METHODS.len())].clone();
        let body = mutated(r.pick(BODIES), &mut r);
        let kind = [("content-type", r.pick(TYPES))];
        let (code, answer) = c.send(method.clone(), &uri.to_string(), &kind, &body);
        assert!(
            code.as_u16() != 500 && code.as_u16() != 408,
            "seed {seed}, request {i}: {method} {uri} {kind:?} {:?}: {code} {answer}",
            String::from_utf8_lossy(&body)
        );
    }
}

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use serde_json::json;

/// As `kubectl create configmap cm --from-literal=a=b` sends it.
const BODY: &[u8] = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x1c\n\x12\n\x02cm\x12\0\x1a\0\"\0*\x002\08\0B\0\x12\x06\n\x01a\x12\x01b\x1a\0\"\0";
const TYPE: &str = "io.k8s.api.core.v1.ConfigMap";

#[test]
fn a_clients_body_decodes() {
    let parsed = decode(BODY, TYPE).unwrap();
    assert_eq!(
        parsed.value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": "b"}})
    );
}

#[test]
fn inlined_and_pointer_fields() {
    // Pod.spec(2).containers(2){name(1)="c", livenessProbe(10){handler(1){exec(1){command(1)="x"}}}},
    // terminationGracePeriodSeconds(4)=0: a pointer, so it stays.
    let probe = b"\x52\x07\x0a\x05\x0a\x03\x0a\x01x";
    let container = [b"\x0a\x01c".as_slice(), probe].concat();
    let mut spec = vec![0x12, u8::try_from(container.len()).unwrap()];
    spec.extend(container);
    spec.extend(b"\x20\x00");
    let mut raw = vec![0x12, u8::try_from(spec.len()).unwrap()];
    raw.extend(spec);
    let mut body = b"k8s\0\x12".to_vec();
    body.push(u8::try_from(raw.len()).unwrap());
    body.extend(raw);
    let pod = decode(&body, "io.k8s.api.core.v1.Pod").unwrap().value;
    assert_eq!(
        pod["spec"],
        json!({"containers": [{"name": "c", "livenessProbe": {"exec": {"command": ["x"]}}}],
               "terminationGracePeriodSeconds": 0})
    );
}

/// The fields of a list of metadata changed places from v1beta1 to v1.
#[test]
fn metadata_alone_has_two_versions() {
    for (version, items, metadata) in [("v1", 0x12, 0x0a), ("v1beta1", 0x0a, 0x12)] {
        let api_version = format!("meta.k8s.io/{version}");
        let list = json!({"apiVersion": api_version, "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": "7"}, "items": [
                {"apiVersion": api_version, "kind": "PartialObjectMetadata", "metadata": {"name": "n"}}]});
        let body = encode(&list).unwrap();
        let has = |part: &[u8]| body.windows(part.len()).any(|w| w == part);
        let revision = b"\x12\x017";
        assert!(
            has(&[&[metadata, 3][..], revision].concat()),
            "{}",
            body.escape_ascii()
        );
        let item = message(
            &list["items"][0],
            "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata",
        )
        .unwrap();
        let length = u8::try_from(item.len()).unwrap();
        assert!(
            has(&[&[items, length][..], &item].concat()),
            "{}",
            body.escape_ascii()
        );
        assert!(has(api_version.as_bytes()));
    }
}

#[test]
fn broken_bodies_are_refused() {
    for cut in 0..BODY.len() {
        // No prefix of a body panics; most are errors.
        let _ = decode(&BODY[..cut], TYPE);
    }
    assert_eq!(decode(b"{}", TYPE).unwrap_err(), ProtobufError::Magic);
    assert_eq!(
        decode(b"k8s\0\x12\xff\xff\xff\xff\x0f", TYPE).unwrap_err(),
        ProtobufError::Truncated
    );
    let deep = {
        // JSONSchemaProps nest without end; ObjectMeta in ObjectMeta can't.
        let mut raw = Vec::new();
        for _ in 0..100 {
            let mut next = vec![0x0a];
            let mut n = raw.len();
            while n >= 0x80 {
                next.push(u8::try_from(n & 0x7f).unwrap() | 0x80);
                n >>= 7;
            }
            next.push(u8::try_from(n).unwrap());
            next.extend(&raw);
            raw = next;
        }
        [b"k8s\0".as_slice(), &raw].concat()
    };
    let _ = decode(&deep, TYPE);
}

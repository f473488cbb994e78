#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn digest(n: u8) -> String {
    Digest::of(&[n]).to_string()
}

fn descriptor(kind: &str, n: u8, size: i64) -> serde_json::Value {
    json!({"mediaType": kind, "digest": digest(n), "size": size})
}

fn good() -> serde_json::Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG_TYPES[0], 1, 10),
        "layers": [descriptor(LAYER_TYPES[1], 2, 20)],
    })
}

fn check(value: &serde_json::Value) -> Result<Manifest, Failure> {
    parse(value.to_string().as_bytes(), None, &Limits::default())
}

#[test]
fn an_image_manifest_gives_its_blobs() {
    let want = Manifest::Image {
        config: Blob {
            digest: Digest::of(&[1]),
            size: 10,
        },
        layers: vec![Blob {
            digest: Digest::of(&[2]),
            size: 20,
        }],
    };
    assert_eq!(check(&good()).unwrap(), want);
}

#[test]
fn an_index_is_searched_for_linux_amd64() {
    let entry = |n: u8, os: &str, arch: &str, variant: &str| {
        json!({"mediaType": OCI_MANIFEST, "digest": digest(n), "size": 1,
               "platform": {"os": os, "architecture": arch, "variant": variant}})
    };
    let index = |entries: Vec<serde_json::Value>| json!({"schemaVersion": 2, "manifests": entries});
    let found = check(&index(vec![
        entry(1, "linux", "arm64", "v8"),
        entry(2, "windows", "amd64", ""),
        entry(3, "linux", "amd64", "v3"),
        entry(4, "linux", "amd64", ""),
        entry(5, "unknown", "unknown", ""),
    ]));
    assert_eq!(found.unwrap(), Manifest::Index(Digest::of(&[4])));
    let none = check(&index(vec![entry(1, "linux", "arm64", "v8")])).unwrap_err();
    assert_eq!(none.kind, Kind::NotFound);
}

#[test]
fn bad_manifests_say_why() {
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = good();
        change(&mut value);
        check(&value).unwrap_err().message
    };
    let many = |v: &mut serde_json::Value| {
        v["layers"] = vec![descriptor(LAYER_TYPES[0], 1, 1); 201].into();
    };
    let table: Vec<(String, &str)> = vec![
        (with(&|v| v["schemaVersion"] = 1.into()), "schema version 1"),
        (with(&|v| v["manifests"] = json!([])), "both"),
        (
            with(&|v| v["mediaType"] = OCI_INDEX.into()),
            "content differs",
        ),
        (
            with(&|v| v["layers"] = serde_json::Value::Null),
            "no config and layers",
        ),
        (
            with(&|v| v["layers"][0]["mediaType"] = "x/y".into()),
            "layer media type",
        ),
        (
            with(&|v| v["config"]["mediaType"] = "x/y".into()),
            "config media type",
        ),
        (with(&|v| v["layers"][0]["size"] = (-1).into()), "negative"),
        (
            with(&|v| v["layers"][0]["size"] = i64::MAX.into()),
            "limits.maxLayerBytes",
        ),
        (
            with(&|v| v["config"]["size"] = (5 << 20).into()),
            "limits.maxConfigBytes",
        ),
        (with(&|v| v["config"]["digest"] = "md5:1".into()), "sha256"),
        (with(&many), "limits.maxLayers"),
    ];
    for (message, part) in table {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn a_config_with_nulls_is_read() {
    let bytes = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,
        "Entrypoint":["/e"],"Cmd":["c"],"User":"1:2","ExposedPorts":{"80/tcp":{}},
        "Labels":null,"StopSignal":"SIGQUIT","WorkingDir":"/w"},
        "rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#;
    let (config, ids) = parse_config(bytes).unwrap();
    assert!(ids.is_empty());
    assert_eq!(config.entrypoint, ["/e"]);
    assert_eq!(config.exposed_ports, ["80/tcp"]);
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    let other = br#"{"architecture":"arm64","os":"linux"}"#;
    assert_eq!(parse_config(other).unwrap_err().kind, Kind::NotFound);
    assert!(parse_config(b"{}").is_ok());
}

proptest! {
    /// Any one byte changed, removed or doubled: an error or a manifest,
    /// never a panic.
    #[test]
    fn a_damaged_manifest_never_panics(at in 0_usize..600, byte: u8, how in 0..3) {
        let mut bytes = good().to_string().into_bytes();
        let at = at % bytes.len();
        match how {
            0 => bytes[at] = byte,
            1 => { bytes.remove(at); }
            _ => bytes.insert(at, byte),
        }
        let _ = parse(&bytes, Some("text/plain"), &Limits::default());
        let _ = parse_config(&bytes);
    }
}

//! Upstream's test objects: one of each kind with every field set, as JSON,
//! YAML and protobuf of the same content. Each form is read into the same
//! object and the object is written as the same bytes.
//!
//! `ATOLL_OBJECTS` (`image-build objects`) is where they are; without it, or
//! when they are no longer to be had, the test says that it did not run.
#![expect(clippy::unwrap_used, reason = "tests")]

use api::{decode, facts, protobuf};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Kinds of stable versions that this server doesn't serve, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("admission.k8s.io.v1.AdmissionReview", ASKED),
    ("core.v1.CreateOptions", QUERY),
    ("core.v1.GetOptions", QUERY),
    ("core.v1.ListOptions", QUERY),
    ("core.v1.NodeProxyOptions", QUERY),
    ("core.v1.PatchOptions", QUERY),
    ("core.v1.PodAttachOptions", QUERY),
    ("core.v1.PodExecOptions", QUERY),
    ("core.v1.PodLogOptions", QUERY),
    ("core.v1.PodPortForwardOptions", QUERY),
    ("core.v1.PodProxyOptions", QUERY),
    ("core.v1.ServiceProxyOptions", QUERY),
    ("core.v1.UpdateOptions", QUERY),
    ("apidiscovery.k8s.io.v2.APIGroupDiscovery", DISCOVERY),
    ("core.v1.APIGroup", DISCOVERY),
    ("core.v1.APIVersions", DISCOVERY),
    ("core.v1.PodStatusResult", INTERNAL),
    ("core.v1.RangeAllocation", INTERNAL),
    ("core.v1.SerializedReference", INTERNAL),
    ("core.v1.WatchEvent", "written around whole bodies"),
    ("resource.k8s.io.v1.DeviceClass", DEVICES),
    ("resource.k8s.io.v1.ResourceClaim", DEVICES),
    ("resource.k8s.io.v1.ResourceClaimTemplate", DEVICES),
    ("resource.k8s.io.v1.ResourceSlice", DEVICES),
];
const ASKED: &str = "asked of webhooks, as JSON";
const QUERY: &str = "read from the query, never from a body";
const DISCOVERY: &str = "made from the table of kinds";
const INTERNAL: &str = "no request takes or gives it";
const DEVICES: &str = "the group is left out: docs/architecture.md";

/// What is wrong with one object, a line each.
fn faults(place: &Path, name: &str, type_name: &str) -> Vec<String> {
    let bytes = |suffix: &str| fs::read(place.join(format!("{name}.{suffix}"))).unwrap();
    let mut found = Vec::new();
    let written: Value = serde_json::from_slice(&bytes("json")).unwrap();
    let mut check = |form: &str, read: Result<Value, String>| match read {
        Err(why) => found.push(format!("{name}: {form}: {why}")),
        Ok(value) => differences(&value, &written, form, &mut |line| {
            found.push(format!("{name}: {line}"));
        }),
    };
    let conformed = |mut parsed: decode::Parsed| {
        let mut unknown = Vec::new();
        decode::conform(&mut parsed.value, type_name, &mut unknown)?;
        match unknown.is_empty() && parsed.duplicates.is_empty() {
            true => Ok(parsed.value),
            false => Err(format!("unknown fields {unknown:?}")),
        }
    };
    check("json", decode::json(&bytes("json")).and_then(conformed));
    check("yaml", decode::yaml(&bytes("yaml")).and_then(conformed));
    let body = bytes("pb");
    let decoded = protobuf::decode(&body, type_name).map_err(|e| e.to_string());
    check("protobuf", decoded.and_then(conformed));
    match protobuf::encode_as(&written, type_name) {
        Err(why) => found.push(format!("{name}: encoding: {why}")),
        Ok(encoded) if encoded != body => {
            let at = encoded.iter().zip(&body).take_while(|(a, b)| a == b);
            let at = at.count();
            let shown = |b: &[u8]| {
                let part = &b[at.saturating_sub(24)..b.len().min(at + 24)];
                part.escape_ascii().to_string()
            };
            let (own, wanted) = (shown(&encoded), shown(&body));
            found.push(format!(
                "{name}: byte {at}: wrote {own}\n      wanted {wanted}"
            ));
        }
        Ok(_) => {}
    }
    found
}

/// Names each part in which two values differ.
fn differences(read: &Value, wanted: &Value, path: &str, tell: &mut impl FnMut(String)) {
    match (read, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let none = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                differences(a, b, &format!("{path}.{key}"), tell);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{i}]"), tell);
            }
        }
        (read, wanted) if read != wanted => tell(format!("{path}: {read}, wanted {wanted}")),
        _ => {}
    }
}

#[test]
fn every_form_of_upstreams_objects_is_the_same_object() {
    let given = std::env::var_os("ATOLL_OBJECTS");
    // Empty: Debian's unstable suite has gone on to later versions of the API.
    let Some(place) = given.filter(|place| !place.is_empty()) else {
        println!("not run: no ATOLL_OBJECTS");
        return;
    };
    let place = PathBuf::from(place);
    let files = fs::read_dir(&place).unwrap().map(|e| e.unwrap().path());
    let names: BTreeSet<String> = files
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let (mut seen, mut found) = (0, Vec::new());
    for name in &names {
        let mut words = name.rsplitn(3, '.');
        let (kind, version) = (words.next().unwrap(), words.next().unwrap());
        let is_stable = version.bytes().skip(1).all(|b| b.is_ascii_digit());
        if !is_stable || SKIPPED.iter().any(|(skipped, _)| skipped == name) {
            continue;
        }
        let group = words.next().unwrap();
        let api_version = match group {
            "core" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        // Those of every group stand under the core's name.
        let common = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}");
        match facts::of_kind(&api_version, kind).or_else(|| facts::of(&common)) {
            None => found.push(format!("{name}: no such type")),
            Some(t) => {
                seen += 1;
                found.extend(faults(&place, name, t.name));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(seen > 60, "only {seen} objects of {}", names.len());
}

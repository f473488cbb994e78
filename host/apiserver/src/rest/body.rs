//! Request bodies to objects of a kind, with `fieldValidation`.

use super::Call;
use super::options::Strictness;
use api::decode::{self, Parsed};
use api::kinds::KindRef;
use api::managed;
use api::meta;
use api::protobuf;
use api::status::Status;
use http::header;
use serde_json::Value;

const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A decoded body and what to warn of.
pub(crate) struct Decoded {
    pub(crate) object: Value,
    pub(crate) warnings: Vec<String>,
}

/// The media type of the body, without parameters.
pub(crate) fn media_type(call: &Call) -> String {
    call.headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// JSON, YAML or protobuf, by the media type; for the last one the type is
/// known beforehand.
pub(crate) fn parse(call: &Call, type_name: &str) -> Result<Parsed, Status> {
    let bad = |e: String| Status::bad_request(format!("couldn't parse the request body: {e}"));
    match media_type(call).as_str() {
        "" | "application/json" | "*/*" => decode::json(&call.body).map_err(bad),
        YAML => decode::yaml(&call.body).map_err(bad),
        PROTOBUF => protobuf::decode(&call.body, type_name).map_err(|e| bad(e.to_string())),
        _ => Err(Status::unsupported_media_type(&[
            "application/json",
            YAML,
            PROTOBUF,
        ])),
    }
}

/// The body as an object of `kind`.
pub(crate) fn object(
    call: &Call,
    kind: &KindRef,
    strictness: Strictness,
) -> Result<Decoded, Status> {
    let mut parsed = parse(call, kind.type_name())?;
    check_type(&parsed.value, kind)?;
    let mut unknown = Vec::new();
    kind.conform(&mut parsed.value, &mut unknown)
        .map_err(|e| cannot_be_handled(kind, &e))?;
    let mut faults = faults(&unknown, &parsed.duplicates);
    if kind.custom().is_none() && !unknown.is_empty() && !parsed.duplicates.is_empty() {
        faults = in_order(&call.body, &unknown, &parsed.duplicates);
    }
    if media_type(call) == YAML && strictness != Strictness::Ignore {
        let repeats = decode::repeats(&call.body);
        faults = repeats.into_iter().chain(faults).collect();
    }
    if strictness == Strictness::Strict && !faults.is_empty() {
        let why = format!("strict decoding error: {}", faults.join(", "));
        return Err(cannot_be_handled(kind, &why));
    }
    let mut object = parsed.value;
    stamp(&mut object, kind);
    call.trail.request(&object);
    Ok(Decoded {
        object,
        warnings: match strictness {
            Strictness::Warn => faults,
            Strictness::Strict | Strictness::Ignore => Vec::new(),
        },
    })
}

/// What to warn of in an applied configuration: keys that stand twice in it;
/// strictly read, they refuse it.
pub(crate) fn repeats(call: &Call, strictness: Strictness) -> Result<Option<String>, Status> {
    if strictness == Strictness::Ignore {
        return Ok(None);
    }
    let found = decode::repeats(&call.body);
    let found = found.map(|found| format!("error converting YAML to JSON: {found}"));
    match found {
        Some(why) if strictness == Strictness::Strict => {
            let why = format!("error strict decoding patch: {why}");
            Err(Status::bad_request(why))
        }
        found => Ok(found),
    }
}

pub(crate) fn faults(unknown: &[String], duplicates: &[String]) -> Vec<String> {
    duplicates
        .iter()
        .map(|d| format!("duplicate field {d:?}"))
        .chain(unknown.iter().map(|u| format!("unknown field {u:?}")))
        .collect()
}

/// The faults of a body whose decoder reads once (that of typed objects), in
/// the order of the body.
fn in_order(body: &[u8], unknown: &[String], duplicates: &[String]) -> Vec<String> {
    let paths = unknown.iter().chain(duplicates).map(String::as_str);
    let mut places = decode::places(body, paths);
    let mut found: Vec<(usize, String)> = Vec::new();
    for (paths, word, first) in [(duplicates, "duplicate", 1), (unknown, "unknown", 0)] {
        for path in paths {
            let place = places.get_mut(path.as_str()).and_then(|p| {
                // The next duplicate of the same member stands after this one.
                (p.len() > first).then(|| p.remove(first))
            });
            let fault = format!("{word} field {path:?}");
            found.push((place.unwrap_or(usize::MAX), fault));
        }
    }
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, fault)| fault).collect()
}

fn cannot_be_handled(kind: &KindRef, why: &str) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        kind.kind(),
        kind.version(),
        kind.kind()
    ))
}

/// The body's own apiVersion and kind, where it has them, must be the URL's.
pub(crate) fn check_type(value: &Value, kind: &KindRef) -> Result<(), Status> {
    if !value.is_object() {
        return Err(Status::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            match value {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
                Value::Null | Value::Object(_) => "null",
            }
        )));
    }
    let (version, its_kind) = (
        meta::text(value, &["apiVersion"]),
        meta::text(value, &["kind"]),
    );
    let expected = kind.api_version();
    if !version.is_empty() && version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        )));
    }
    if !its_kind.is_empty() && its_kind != kind.kind() {
        return Err(Status::bad_request(format!(
            "{its_kind} in version {:?} cannot be handled as a {}: converting ({its_kind}) to ({}): unknown conversion",
            kind.version(),
            kind.kind(),
            kind.kind()
        )));
    }
    Ok(())
}

/// Writes apiVersion and kind, first.
pub(crate) fn stamp(object: &mut Value, kind: &KindRef) {
    let mut stamped = serde_json::Map::new();
    stamped.insert("kind".to_owned(), kind.kind().into());
    stamped.insert("apiVersion".to_owned(), kind.api_version().into());
    if let Some(map) = object.as_object_mut() {
        for (key, value) in std::mem::take(map) {
            if key != "kind" && key != "apiVersion" {
                stamped.insert(key, value);
            }
        }
    }
    *object = Value::Object(stamped);
    meta::ensure_metadata(object);
}

/// The managers of fields from before admission, where it left none that can
/// be read; says so.
pub(crate) fn keep_owners(object: &mut Value, before: Option<Value>) -> Option<String> {
    let why = managed::check(object).err()?;
    let metadata = meta::ensure_metadata(object);
    match before {
        Some(before) => drop(metadata.insert("managedFields".to_owned(), before)),
        None => drop(metadata.shift_remove("managedFields")),
    }
    Some(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller; please fix your requests: {why}"
    ))
}

/// Owners that stand twice are left out; says so.
pub(crate) fn dedup_owners(object: &mut Value, admitted: bool) -> Option<String> {
    let list = object
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut)?;
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    let mut twice = Vec::new();
    for owner in std::mem::take(list) {
        if kept.contains(&owner) {
            twice.push(meta::text(&owner, &["uid"]).to_owned());
        } else {
            kept.push(owner);
        }
    }
    *list = kept;
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries{}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            if admitted { " after mutating admission happens" } else { "" },
            twice.join(", ")
        )
    })
}

/// The name that an object says must be the one of the URL.
pub(crate) fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    match meta::name(object) {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        other if other != name => Err(Status::bad_request(format!(
            "the name of the object ({other}) does not match the name on the URL ({name})"
        ))),
        _ => Ok(()),
    }
}

/// The namespace of the object, taken from the URL, must not be another one.
pub(crate) fn settle_namespace(
    object: &mut Value,
    kind: &KindRef,
    namespace: &str,
) -> Result<(), Status> {
    let metadata = meta::ensure_metadata(object);
    if !kind.namespaced() {
        metadata.shift_remove("namespace");
        return Ok(());
    }
    match metadata.get("namespace").and_then(Value::as_str) {
        Some(ns) if !ns.is_empty() && ns != namespace => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        _ => {
            metadata.insert("namespace".to_owned(), namespace.into());
            Ok(())
        }
    }
}

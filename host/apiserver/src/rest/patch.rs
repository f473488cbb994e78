//! Patch: the current object, changed as the patch says, by the update road.

use super::body::{self, Strictness};
use super::update::{Part, guaranteed};
use super::{Answer, Call};
use crate::registry::Stored;
use crate::respond;
use api::decode;
use api::field::{Errors, Path};
use api::meta;
use api::patch::{PatchError, json_patch, merge, strategic_merge};
use api::status::{Qualified, Status};
use serde_json::Value;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Merge,
    Strategic,
}

pub(crate) async fn patch(call: Call, part: Part) -> Answer {
    let style = match body::media_type(&call).as_str() {
        JSON_PATCH => Style::Json,
        MERGE_PATCH => Style::Merge,
        STRATEGIC => Style::Strategic,
        APPLY => {
            return Err(Status::new(
                415,
                "UnsupportedMediaType",
                "server-side apply is not supported by this server yet; use kubectl apply without --server-side",
            ));
        }
        _ => {
            return Err(Status::unsupported_media_type(&[
                JSON_PATCH,
                MERGE_PATCH,
                STRATEGIC,
            ]));
        }
    };
    let strictness = body::strictness(&call)?;
    let dry_run = call.query.dry_run()?;
    let parsed = decode::json(&call.body)
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    let mut warnings = Vec::new();
    let updated = guaranteed(&call, part, dry_run, |current| {
        warnings.clear();
        let mut patched = apply(&call, style, &parsed.value, current)?;
        let mut unknown = Vec::new();
        call.kind
            .conform(&mut patched, &mut unknown)
            .map_err(|e| rejected(&call.body, &e))?;
        let faults = body::faults(&unknown, &parsed.duplicates);
        match strictness {
            Strictness::Strict if !faults.is_empty() => {
                let why = format!("strict decoding error: {}", faults.join(", "));
                return Err(rejected(&call.body, &why));
            }
            Strictness::Warn => warnings = faults,
            Strictness::Strict | Strictness::Ignore => {}
        }
        settle(&call, &parsed.value, style, &mut patched, current)?;
        Ok(patched)
    })
    .await?;
    let mut response = call.object(200, updated);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

fn apply(call: &Call, style: Style, patch: &Value, current: &Stored) -> Result<Value, Status> {
    let mut target = current.object.clone();
    let outcome = match style {
        Style::Merge if !patch.is_object() => Err(PatchError::Malformed(
            "json: cannot unmarshal into Go value of type map[string]interface {}".to_owned(),
        )),
        Style::Merge => {
            merge(&mut target, patch.clone());
            Ok(())
        }
        Style::Json => json_patch(&mut target, patch.clone()),
        Style::Strategic => strategic_merge(&mut target, patch.clone(), call.kind.type_name()),
    };
    match outcome {
        Ok(()) => Ok(target),
        Err(PatchError::Malformed(why)) => Err(Status::bad_request(why)),
        Err(PatchError::Inapplicable(why)) => Err(Status::new(
            422,
            "Invalid",
            format!("the server rejected our request due to an error in our request: {why}"),
        )),
    }
}

/// A patch changes neither what the object is, nor where; and only a version
/// that the patch itself names is a precondition.
fn settle(
    call: &Call,
    patch: &Value,
    style: Style,
    patched: &mut Value,
    current: &Stored,
) -> Result<(), Status> {
    body::settle_namespace(patched, &call.kind, &call.route.namespace)?;
    if meta::name(patched) != call.route.name {
        return Err(Status::bad_request(
            "the name of the object does not match the name on the URL",
        ));
    }
    for key in ["apiVersion", "kind"] {
        if patched.get(key) != current.object.get(key) && patched.get(key).is_some() {
            return Err(Status::bad_request(format!("a patch may not change {key}")));
        }
    }
    let named = match style {
        Style::Json => meta::resource_version(patched) != meta::resource_version(&current.object),
        Style::Merge | Style::Strategic => {
            meta::at(patch, &["metadata", "resourceVersion"]).is_some_and(|v| !v.is_null())
        }
    };
    if !named {
        meta::ensure_metadata(patched).shift_remove("resourceVersion");
    }
    Ok(())
}

fn rejected(patch: &[u8], why: &str) -> Status {
    let mut errors = Errors::default();
    let text = String::from_utf8_lossy(patch);
    errors.invalid(&Path::new("patch"), text.as_ref(), why);
    Status::invalid(
        Qualified {
            group: "",
            name: "",
        },
        "",
        &errors,
    )
}

//! Patch: the current object, changed as the patch says, by the update road.

use super::body;
use super::options::{self, Strictness, Verb, WriteOptions};
use super::update::{Change, Part, guaranteed, own};
use super::{Answer, Call};
use crate::registry::Stored;
use crate::respond;
use api::decode::{self, Parsed};
use api::field::{Errors, Path};
use api::kinds::KindRef;
use api::managed::{Endpoint, Writer};
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
    Apply,
}

/// By the media type; custom kinds have no strategic merge.
fn style(call: &Call) -> Result<Style, Status> {
    let strategic = matches!(call.kind, KindRef::Row(_));
    match body::media_type(call).as_str() {
        JSON_PATCH => Ok(Style::Json),
        MERGE_PATCH => Ok(Style::Merge),
        STRATEGIC if strategic => Ok(Style::Strategic),
        APPLY => Ok(Style::Apply),
        _ => Err(Status::unsupported_media_type(match strategic {
            true => &[JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY],
            false => &[JSON_PATCH, MERGE_PATCH, APPLY],
        })),
    }
}

pub(crate) async fn patch(call: Call, part: Part) -> Answer {
    let style = style(&call)?;
    if style == Style::Apply {
        return apply(call, part).await;
    }
    let options = options::read(&call, Verb::Patch)?;
    let parsed = decode::json(&call.body).map_err(|_| Status::bad_request("invalid JSON patch"))?;
    call.trail.patch(&parsed.value);
    let mut warnings = Vec::new();
    let how = Change {
        part,
        dry_run: options.dry_run,
        creates: false,
    };
    // Without owners of fields once the whole is too large with them.
    let mut owned = true;
    let updated = loop {
        let outcome = guaranteed(&call, &how, |current| {
            let current = current.ok_or_else(Status::no_such_path)?;
            let (mut patched, faults) = patched(&call, &options, style, &parsed, current)?;
            warnings = faults;
            warnings.extend(body::dedup_owners(&mut patched, false));
            own(&call, &options, Some(&current.object), &mut patched);
            if !owned {
                meta::ensure(&mut patched, "metadata").remove("managedFields");
            }
            Ok(patched)
        });
        match outcome.await {
            Err(status) if owned && is_too_large(&status) => owned = false,
            outcome => break outcome?,
        }
    };
    let mut response = call.after(200, updated.after);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// Whether the store has refused an object for its size.
fn is_too_large(status: &Status) -> bool {
    status.code == 413
        && status
            .message
            .starts_with("etcdserver: request is too large")
}

/// The patched object, conforming and with defaults, and what to warn of.
fn patched(
    call: &Call,
    options: &WriteOptions,
    style: Style,
    patch: &Parsed,
    current: &Stored,
) -> Result<(Value, Vec<String>), Status> {
    let mut patched = change(call, style, &patch.value, &current.object)?;
    let shown = patched.clone();
    let mut unknown = Vec::new();
    call.kind
        .conform(&mut patched, &mut unknown)
        .map_err(|e| rejected(&shown, &e))?;
    let faults = match style {
        Style::Json => body::faults(&unknown, &patch.duplicates)
            .into_iter()
            .map(|f| match f.starts_with("duplicate") {
                true => format!("json patch {f}"),
                false => f,
            })
            .collect(),
        Style::Merge | Style::Strategic | Style::Apply => body::faults(&unknown, &patch.duplicates),
    };
    if options.strictness == Strictness::Strict && !faults.is_empty() {
        let why = format!("strict decoding error: {}", faults.join(", "));
        return Err(rejected(&shown, &why));
    }
    body::settle_namespace(&mut patched, &call.kind, &call.route.namespace)?;
    body::check_name(&patched, &call.route.name)?;
    body::check_type(&patched, &call.kind)?;
    call.kind.default(&mut patched);
    let warnings = match options.strictness {
        Strictness::Warn => faults,
        Strictness::Strict | Strictness::Ignore => Vec::new(),
    };
    Ok((patched, warnings))
}

fn change(call: &Call, style: Style, patch: &Value, current: &Value) -> Result<Value, Status> {
    let mut target = current.clone();
    let outcome = match style {
        Style::Merge if !patch.is_object() => Err(PatchError::Malformed(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}"
                .to_owned(),
        )),
        Style::Merge => {
            merge(&mut target, patch.clone());
            Ok(())
        }
        Style::Json => json_patch(&mut target, patch.clone()),
        Style::Strategic | Style::Apply => {
            strategic_merge(&mut target, patch.clone(), call.kind.type_name())
        }
    };
    outcome.map(|()| target).map_err(refused)
}

/// A patch that can't be read, or not onto this object. Of the latter upstream
/// tells no more.
pub(crate) fn refused(error: PatchError) -> Status {
    match error {
        PatchError::Malformed(why) => Status::bad_request(why),
        PatchError::TooLarge(why) => {
            let why = format!("Request entity too large: {why}");
            Status::new(413, "RequestEntityTooLarge", why)
        }
        PatchError::Inapplicable(_) => Status::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request".to_owned(),
        ),
    }
}

/// An applied configuration: makes the object if there is none.
async fn apply(call: Call, part: Part) -> Answer {
    let options = options::read(&call, Verb::Apply)?;
    let config = decode::yaml(&call.body)
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if !config.value.is_object() {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
        ));
    }
    call.trail.patch(&config.value);
    let how = Change {
        part,
        dry_run: options.dry_run,
        creates: part == Part::Main,
    };
    let subresource = call.route.subresource.as_str();
    let endpoint = Endpoint {
        kind: &call.kind,
        subresource,
    };
    let writer = Writer {
        manager: &options.manager,
        version: &call.kind.api_version(),
        subresource,
        time: &api::time::rfc3339(call.now),
    };
    let repeats = body::repeats(&call, options.strictness);
    let mut warnings = Vec::new();
    let applied = guaranteed(&call, &how, |current| {
        let live = current.map(|c| &c.object);
        let mut object = endpoint.apply(live, &config.value, &writer, options.force)?;
        // Removed fields are null until here.
        call.kind
            .conform(&mut object, &mut Vec::new())
            .map_err(|why| Status::new(500, "", why))?;
        body::settle_namespace(&mut object, &call.kind, &call.route.namespace)?;
        body::check_name(&object, &call.route.name)?;
        body::stamp(&mut object, &call.kind);
        call.kind.default(&mut object);
        // After the merge, whose refusal comes first.
        warnings.clear();
        warnings.extend(repeats.clone()?);
        warnings.extend(body::dedup_owners(&mut object, false));
        Ok(object)
    })
    .await?;
    let mut response = call.after(applied.code(), applied.after);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// A patch whose result is no object of the kind, with that result.
fn rejected(patched: &Value, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(&Path::new("patch"), patched.to_string(), why);
    Status::invalid(
        Qualified {
            group: "",
            name: "",
        },
        "",
        &errors,
    )
}

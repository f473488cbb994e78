//! The scale of a workload: its replica count as an object of its own
//! (`autoscaling/v1` Scale), whatever kind the workload is.

use super::options::{self, Verb};
use super::patch::refused;
use super::update::{Change, Part, guaranteed, own};
use super::{Answer, Call, body};
use crate::registry::Stored;
use api::decode;
use api::field::{Errors, Path};
use api::kinds::KindRef;
use api::managed::{Endpoint, Writer};
use api::patch::{PatchError, json_patch, merge, strategic_merge};
use api::status::{Qualified, Status};
use api::{label_selector, meta};
use serde_json::{Value, json};

const APPLY_PATCH: &str = "application/apply-patch+yaml";
const TYPE: &str = "io.k8s.api.autoscaling.v1.Scale";
const KIND: Qualified<'static> = Qualified {
    group: "autoscaling",
    name: "Scale",
};

pub(crate) async fn answer(call: Call) -> Answer {
    match call.route.verb {
        "get" => {
            let current = call.current()?;
            let scale = scale_of(&call.kind, &current.object)?;
            Ok(call.scale(scale))
        }
        "update" => update(call).await,
        "patch" => patch(call).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// The scale of any object; a custom kind's definition says where it stands.
pub(crate) fn scale_of(kind: &KindRef, object: &Value) -> Result<Value, Status> {
    match kind.custom().and_then(|c| c.scale.as_ref()) {
        Some(paths) => paths.of(object).map_err(Status::internal),
        None => Ok(view(object)),
    }
}

/// The scale of a workload.
pub(crate) fn view(object: &Value) -> Value {
    let replicas = |part| meta::int(object, &[part, "replicas"]).unwrap_or(0);
    let mut spec = json!({});
    if replicas("spec") != 0 {
        spec["replicas"] = replicas("spec").into();
    }
    let mut status = json!({"replicas": replicas("status")});
    let selector = selector(object);
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": meta::identity(object), "spec": spec, "status": status,
    })
}

/// As text; a ReplicationController's is a plain map.
fn selector(object: &Value) -> String {
    let Some(selector) = meta::at(object, &["spec", "selector"]) else {
        return String::new();
    };
    if meta::text(object, &["kind"]) != "ReplicationController" {
        return label_selector::text(selector).unwrap_or_default();
    }
    label_selector::text(&json!({"matchLabels": selector})).unwrap_or_default()
}

async fn update(call: Call) -> Answer {
    let mut parsed = body::parse(&call, TYPE)?;
    decode::conform(&mut parsed.value, TYPE, &mut Vec::new()).map_err(Status::bad_request)?;
    let scale = parsed.value;
    call.trail.request(&scale);
    let named = meta::name(&scale);
    if !named.is_empty() && named != call.route.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({})",
            call.route.name
        )));
    }
    let kind = call.kind.clone();
    write(call, |current| apply(&kind, &scale, &current.object)).await
}

async fn patch(call: Call) -> Answer {
    let media = body::media_type(&call);
    if media == APPLY_PATCH {
        return applied(call).await;
    }
    let style: fn(&mut Value, Value) -> Result<(), PatchError> = match media.as_str() {
        "application/json-patch+json" => json_patch,
        "application/merge-patch+json" => |target, patch| {
            merge(target, patch);
            Ok(())
        },
        "application/strategic-merge-patch+json" => {
            |target, patch| strategic_merge(target, patch, TYPE)
        }
        _ => {
            return Err(Status::unsupported_media_type(&[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                APPLY_PATCH,
            ]));
        }
    };
    let patch = decode::json(&call.body)
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?
        .value;
    call.trail.patch(&patch);
    let name = call.route.name.clone();
    let kind = call.kind.clone();
    write(call, move |current| {
        let mut scale = scale_of(&kind, &current.object)?;
        let before = meta::resource_version(&scale).to_owned();
        style(&mut scale, patch.clone()).map_err(refused)?;
        decode::conform(&mut scale, TYPE, &mut Vec::new()).map_err(Status::bad_request)?;
        if meta::name(&scale) != name {
            let why = "the name of the object does not match the name on the URL";
            return Err(Status::bad_request(why));
        }
        if meta::resource_version(&scale) == before {
            meta::ensure_metadata(&mut scale).shift_remove("resourceVersion");
        }
        apply(&kind, &scale, &current.object)
    })
    .await
}

/// A Scale applied: whoever does owns the workload's replicas.
async fn applied(call: Call) -> Answer {
    let options = options::read(&call, Verb::Apply)?;
    let mut config = decode::yaml(&call.body)
        .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?
        .value;
    call.trail.patch(&config);
    let named = meta::name(&config);
    if !named.is_empty() && named != call.route.name {
        let why = "the name of the object does not match the name on the URL";
        return Err(Status::bad_request(why));
    }
    decode::conform(&mut config, TYPE, &mut Vec::new()).map_err(Status::bad_request)?;
    let kind = &call.kind;
    let endpoint = Endpoint {
        kind,
        subresource: "scale",
    };
    let writer = Writer {
        manager: &options.manager,
        version: &kind.api_version(),
        subresource: "scale",
        time: &api::time::rfc3339(call.now),
    };
    changed(&call, options.dry_run, |current| {
        let object = &current.object;
        let scale = scale_of(kind, object)?;
        let scale = endpoint.apply_scale(object, &scale, &config, &writer, options.force)?;
        let mut wanted = apply(kind, &scale, object)?;
        let metadata = meta::ensure_metadata(&mut wanted);
        match meta::at(&scale, &["metadata", "managedFields"]) {
            Some(owners) => metadata.insert("managedFields".to_owned(), owners.clone()),
            None => metadata.shift_remove("managedFields"),
        };
        Ok(wanted)
    })
    .await
}

/// The workload as the scale wants it.
pub(crate) fn apply(kind: &KindRef, scale: &Value, current: &Value) -> Result<Value, Status> {
    let name = meta::name(current);
    let replicas = meta::int(scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let mut errors = Errors::default();
        let at = Path::new("spec").child("replicas");
        errors.invalid(&at, replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(KIND, name, &errors));
    }
    let mut wanted = current.clone();
    let metadata = meta::ensure_metadata(&mut wanted);
    match meta::resource_version(scale) {
        // Custom objects aren't updated unconditionally: theirs is the current one's.
        "" if kind.custom().is_some() => {}
        "" => {
            metadata.shift_remove("resourceVersion");
        }
        version => {
            metadata.insert("resourceVersion".to_owned(), version.into());
        }
    }
    if !meta::uid(scale).is_empty() {
        metadata.insert("uid".to_owned(), meta::uid(scale).into());
    }
    match kind.custom().and_then(|c| c.scale.as_ref()) {
        Some(paths) => paths.apply(&mut wanted, replicas),
        None => {
            meta::ensure(&mut wanted, "spec").insert("replicas".to_owned(), replicas.into());
        }
    }
    Ok(wanted)
}

async fn write(call: Call, mut change: impl FnMut(&Stored) -> Result<Value, Status>) -> Answer {
    let verb = match call.route.verb {
        "patch" => Verb::Patch,
        _ => Verb::Update,
    };
    let options = options::read(&call, verb)?;
    changed(&call, options.dry_run, |current| {
        let mut wanted = change(current)?;
        own(&call, &options, Some(&current.object), &mut wanted);
        Ok(wanted)
    })
    .await
}

/// Writes what `change` makes of the workload, and answers its scale.
async fn changed(
    call: &Call,
    dry_run: bool,
    mut change: impl FnMut(&Stored) -> Result<Value, Status>,
) -> Answer {
    let how = Change {
        part: Part::Main,
        dry_run,
        creates: false,
    };
    let updated = guaranteed(call, &how, |current| {
        change(current.ok_or_else(Status::no_such_path)?)
    })
    .await?;
    let scale = scale_of(&call.kind, &updated.after.object)?;
    Ok(call.scale(scale))
}

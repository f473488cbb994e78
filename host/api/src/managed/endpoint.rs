//! What the API server calls: one endpoint of any kind, and the refusals of
//! an apply as upstream words them.

use super::builtin::BuiltIn;
use super::custom::OfCustom;
use super::element::PathElement;
use super::last_applied;
use super::owners::{Manager, Operation};
use super::scale::{self, Place};
use super::set::shown;
use super::updater::{self, ApplyError, Conflict, Writer};
use crate::kinds::KindRef;
use crate::meta;
use crate::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An endpoint that writes objects of `kind`: the object's own, or that of a
/// subresource.
#[derive(Clone, Copy)]
pub struct Endpoint<'a> {
    pub kind: &'a KindRef,
    /// Empty for the object itself.
    pub subresource: &'a str,
}

impl Endpoint<'_> {
    /// See [`updater::track`].
    pub fn track(&self, live: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
        let subresource = self.subresource;
        match self.kind {
            KindRef::Row(kind) => updater::track(&BuiltIn { kind, subresource }, live, new, writer),
            KindRef::Custom(kind) => {
                updater::track(&OfCustom { kind, subresource }, live, new, writer);
            }
        }
    }

    /// See [`updater::apply`]; what kubectl's client-side apply left behind is
    /// heeded and kept up to date.
    pub fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        writer: &Writer<'_>,
        force: bool,
    ) -> Result<Value, Status> {
        let found = (
            meta::text(config, &["apiVersion"]),
            meta::text(config, &["kind"]),
        );
        if found != (&self.kind.api_version(), self.kind.kind()) {
            let (group, version) = found.0.rsplit_once('/').unwrap_or(("", found.0));
            return Err(Status::bad_request(format!(
                "invalid object type: {group}/{version}, Kind={}",
                found.1
            )));
        }
        let subresource = self.subresource;
        let applied = match self.kind {
            KindRef::Row(kind) => {
                let versions = BuiltIn { kind, subresource };
                last_applied::apply(&versions, live, config, writer, force)
            }
            KindRef::Custom(kind) => {
                let versions = OfCustom { kind, subresource };
                last_applied::apply(&versions, live, config, writer, force)
            }
        };
        applied.map_err(refusal)
    }

    /// `config`, a Scale, applied to `scale`, that of `object`: the Scale that
    /// should be, whose managedFields are the object's then.
    pub fn apply_scale(
        &self,
        object: &Value,
        scale: &Value,
        config: &Value,
        writer: &Writer<'_>,
        force: bool,
    ) -> Result<Value, Status> {
        let path = match self.kind.custom().and_then(|c| c.scale.as_ref()) {
            Some(scale) => scale.spec_replicas.iter().map(String::as_str).collect(),
            None => vec!["spec", "replicas"],
        };
        let place = Place {
            version: &self.kind.api_version(),
            replicas: path.into_iter().map(PathElement::field).collect(),
        };
        scale::check(config)
            .and_then(|()| scale::apply(&place, object, scale, config, writer, force))
            .map_err(refusal)
    }
}

fn refusal(error: ApplyError) -> Status {
    match error {
        ApplyError::Conflicts(conflicts) => conflict(&conflicts),
        ApplyError::BadRequest(why) => Status::bad_request(why),
        ApplyError::Refused(why) => Status::new(500, "", why),
    }
}

/// A manager as messages name it.
fn named(manager: &Manager) -> String {
    let mut out = format!("{:?}", manager.name);
    if !manager.subresource.is_empty() {
        out += &format!(" with subresource {:?}", manager.subresource);
    }
    if manager.operation == Operation::Update {
        out += &format!(" using {}", manager.version);
    }
    out
}

fn conflict(conflicts: &[Conflict]) -> Status {
    let message = match conflicts {
        [one] => format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            named(&one.manager),
            shown(&one.path)
        ),
        many => {
            let mut by_manager: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for c in many {
                let paths = by_manager.entry(named(&c.manager)).or_default();
                paths.push(format!("- {}", shown(&c.path)));
            }
            let lines: Vec<String> = by_manager
                .into_iter()
                .map(|(manager, paths)| format!("conflicts with {manager}:\n{}", paths.join("\n")))
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                lines.join("\n")
            )
        }
    };
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|c| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", named(&c.manager)),
                "field": shown(&c.path),
            })
        })
        .collect();
    let mut status = Status::new(409, "Conflict", message);
    status.details = Some(json!({"causes": causes}));
    status
}

//! `metav1.DeleteOptions`: from the body, or where there is none the query.

use super::super::{Call, body};
use crate::query::dry_run;
use api::decode;
use api::field::{Errors, Path};
use api::meta;
use api::status::{Qualified, Status};
use serde_json::Value;

const FACTS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    /// Seconds; negative ones count as 1.
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) propagation: Option<Propagation>,
    /// `orphanDependents: false` is answered with 202 when deletion goes on.
    pub(crate) accepted: bool,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Adds its members to an object of the type.
    pub(crate) fn describe(&self, out: &mut Value) {
        if let Some(grace) = self.grace {
            out["gracePeriodSeconds"] = grace.into();
        }
        for (key, text) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(text) = text {
                out["preconditions"][key] = text.as_str().into();
            }
        }
        if let Some(propagation) = self.propagation {
            out["propagationPolicy"] = match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            }
            .into();
        }
        if self.dry_run {
            out["dryRun"] = serde_json::json!(["All"]);
        }
    }
}

/// What a request asks for.
pub(crate) fn options(call: &Call) -> Result<DeleteOptions, Status> {
    if call.body.is_empty() {
        return from_query(call);
    }
    let mut parsed = body::parse(call, FACTS)?;
    decode::conform(&mut parsed.value, FACTS, &mut Vec::new()).map_err(Status::bad_request)?;
    call.trail.request(&parsed.value);
    from_value(call, &parsed.value)
}

fn from_query(call: &Call) -> Result<DeleteOptions, Status> {
    let query = &call.query;
    let policy = Some(query.text("propagationPolicy")).filter(|p| !p.is_empty());
    let orphan = query
        .get("orphanDependents")
        .map(|_| query.flag("orphanDependents"));
    Ok(DeleteOptions {
        grace: query.number("gracePeriodSeconds")?,
        propagation: propagation(policy, orphan)?,
        accepted: orphan == Some(false),
        dry_run: query.dry_run()?,
        ..DeleteOptions::default()
    })
}

/// Also of what an Eviction carries.
pub(crate) fn from_value(call: &Call, value: &Value) -> Result<DeleteOptions, Status> {
    let text = |path: &[&str]| meta::at(value, path).and_then(Value::as_str);
    let orphan = meta::at(value, &["orphanDependents"]).and_then(Value::as_bool);
    let listed = meta::list(value, &["dryRun"])
        .iter()
        .filter_map(Value::as_str);
    Ok(DeleteOptions {
        grace: meta::int(value, &["gracePeriodSeconds"]),
        uid: text(&["preconditions", "uid"]).map(str::to_owned),
        resource_version: text(&["preconditions", "resourceVersion"]).map(str::to_owned),
        propagation: propagation(text(&["propagationPolicy"]), orphan)?,
        accepted: orphan == Some(false),
        dry_run: dry_run(listed)? || call.query.dry_run()?,
    })
}

fn propagation(policy: Option<&str>, orphan: Option<bool>) -> Result<Option<Propagation>, Status> {
    let mut errors = Errors::default();
    let path = Path::new("propagationPolicy");
    let found = match (policy, orphan) {
        (Some(policy), Some(_)) => {
            errors.invalid(
                &path,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            );
            None
        }
        (None, Some(true)) => Some(Propagation::Orphan),
        (None, Some(false)) => Some(Propagation::Background),
        (Some("Orphan"), None) => Some(Propagation::Orphan),
        (Some("Background"), None) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (None, None) => None,
        (Some(other), None) => {
            errors.not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]);
            None
        }
    };
    if errors.is_empty() {
        return Ok(found);
    }
    const OPTIONS: Qualified<'_> = Qualified {
        group: "meta.k8s.io",
        name: "DeleteOptions",
    };
    Err(Status::invalid(OPTIONS, "", &errors))
}

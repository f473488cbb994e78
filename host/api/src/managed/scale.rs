//! Apply on the `scale` subresource. Who owns an object's replicas owns those
//! of its Scale, and who applies the Scale owns the object's replicas:
//!
//! ```text
//! owners of the object --to_scale--> of the Scale --apply--> --to_object--> of the object
//! ```
//!
//! As upstream's `managedfields/scalehandler.go`. Nothing but replicas comes
//! back from the Scale; other parts of a configuration own nothing.

use super::element::PathElement;
use super::last_applied;
use super::owners::{self, Managers, Owned};
use super::schema::FactsNode;
use super::set::Set;
use super::updater::{ApplyError, Versions, Writer};
use crate::meta;
use serde_json::Value;

const TYPE: &str = "io.k8s.api.autoscaling.v1.Scale";
const VERSION: &str = "autoscaling/v1";

/// The one version of a Scale.
struct OfScale;

impl Versions for OfScale {
    type Node = FactsNode;

    fn schema(&self, version: &str) -> Option<FactsNode> {
        (version == VERSION).then(|| FactsNode::named(TYPE))
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        (from == to).then(|| object.clone())
    }

    fn kept(&self, _version: &str, set: Set) -> Set {
        set
    }
}

/// Where an object has its replicas: in objects of `version` at `replicas`.
pub(super) struct Place<'a> {
    pub(super) version: &'a str,
    pub(super) replicas: Vec<PathElement>,
}

/// `config` applied to the Scale of `object`: the Scale that should be, and
/// the object's owners then, as `metadata.managedFields` of the Scale.
pub(super) fn apply(
    place: &Place<'_>,
    object: &Value,
    scale: &Value,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let refused = |e: String| ApplyError::Refused(format!("failed to decode managed fields: {e}"));
    let own = owners::of(object).map_err(refused)?;
    let mut scale = scale.clone();
    owners::set(&mut scale, &to_scale(place, &own));
    let writer = Writer {
        version: VERSION,
        ..*writer
    };
    let mut applied = last_applied::apply(&OfScale, Some(&scale), config, &writer, force)?;
    let after = owners::of(&applied).map_err(refused)?;
    owners::set(&mut applied, &to_object(place, own, after));
    Ok(applied)
}

fn in_scale() -> Vec<PathElement> {
    ["spec", "replicas"].map(PathElement::field).into()
}

fn owns(place: &Place<'_>, owned: &Owned) -> bool {
    owned.version == place.version && owned.set.has(&place.replicas)
}

fn to_scale(place: &Place<'_>, managers: &Managers) -> Managers {
    let owners = managers.iter().filter(|(_, owned)| owns(place, owned));
    owners
        .map(|(manager, owned)| {
            let owned = Owned {
                set: Set::of_path(&in_scale()),
                version: VERSION.to_owned(),
                time: owned.time.clone(),
            };
            (manager.clone(), owned)
        })
        .collect()
}

fn to_object(place: &Place<'_>, managers: Managers, mut scale: Managers) -> Managers {
    let mut out = Managers::new();
    for (manager, mut owned) in managers {
        if owns(place, &owned) && scale.remove(&manager).is_none() {
            owned.set = owned.set.difference(&Set::of_path(&place.replicas));
        }
        if !owned.set.is_empty() {
            out.insert(manager, owned);
        }
    }
    for (manager, owned) in scale {
        if owned.set.has(&in_scale()) {
            let owned = Owned {
                set: Set::of_path(&place.replicas),
                version: place.version.to_owned(),
                time: owned.time,
            };
            out.insert(manager, owned);
        }
    }
    out
}

/// A Scale's body before it is applied: it says what it is.
pub(super) fn check(config: &Value) -> Result<(), ApplyError> {
    let found = (
        meta::text(config, &["apiVersion"]),
        meta::text(config, &["kind"]),
    );
    match found == (VERSION, "Scale") {
        true => Ok(()),
        false => {
            let (group, version) = found.0.rsplit_once('/').unwrap_or(("", found.0));
            let why = format!("invalid object type: {group}/{version}, Kind={}", found.1);
            Err(ApplyError::BadRequest(why))
        }
    }
}

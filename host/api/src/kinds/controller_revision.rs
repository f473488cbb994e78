//! ControllerRevision: an immutable snapshot that a controller keeps.

use super::Kind;
use crate::field::{Errors, Path};
use crate::meta;
use crate::print::{AGE, Cells, Column, NAME, age, or_none, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    type_name: "io.k8s.api.apps.v1.ControllerRevision",
    storage: "apps/controllerrevisions",
    columns: COLUMNS,
    cells,
    validate,
    validate_update: |new, old, errors| errors.immutable(new, old, "data", &Path::default()),
    default: |object| {
        if let Some(map) = object.as_object_mut() {
            meta::default(map, "revision", 0);
        }
    },
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Controller", 0, "Whose revision it is."),
    text("Revision", 0, "Its number."),
    AGE,
];

fn cells(object: &Value, now: Timestamp) -> Cells {
    let controller = meta::list(object, &["metadata", "ownerReferences"])
        .iter()
        .find(|o| meta::flag(o, &["controller"]));
    let shown = controller.map(|o| {
        let kind = meta::text(o, &["kind"]).to_lowercase();
        let group = meta::text(o, &["apiVersion"]).split_once('/');
        let name = meta::text(o, &["name"]);
        match group {
            Some((group, _)) => format!("{kind}.{group}/{name}"),
            None => format!("{kind}/{name}"),
        }
    });
    vec![
        meta::name(object).into(),
        or_none(&shown.unwrap_or_default()),
        meta::int(object, &["revision"]).unwrap_or(0).into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    if object.get("data").is_none() {
        errors.required(&Path::new("data"), "data is mandatory");
    }
    errors.nonnegative(object, "revision", &Path::default());
}

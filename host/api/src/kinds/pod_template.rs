//! PodTemplate.

use super::{Kind, workload};
use crate::field::Path;
use crate::meta;
use crate::print::{Cells, Column, NAME, text};
use jiff::Timestamp;
use serde_json::Value;

pub(super) static KIND: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    type_name: "io.k8s.api.core.v1.PodTemplate",
    storage: "core/podtemplates",
    columns: COLUMNS,
    cells,
    default: |object| {
        if let Some(map) = object.as_object_mut() {
            workload::part(map, "template");
            workload::default_template(map, "template");
        }
    },
    validate: |object, errors| {
        workload::validate_template(&object["template"], &Path::new("template"), errors);
    },
    prepare_create: |object| {
        meta::ensure_metadata(object).insert("generation".to_owned(), 1.into());
    },
    prepare_update: |new, old| {
        let changed = new.get("template") != old.get("template");
        workload::advance(new, old, changed);
    },
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("Containers", 0, "Names of the template's containers."),
    text("Images", 0, "Images of the template's containers."),
    text("Pod Labels", 0, "Labels of the template's pods."),
];

fn cells(object: &Value, _: Timestamp) -> Cells {
    let template = &object["template"];
    let [names, images] = workload::containers(template);
    vec![
        meta::name(object).into(),
        names,
        images,
        workload::labels_cell(meta::at(template, &["metadata", "labels"])),
    ]
}

//! CSIStorageCapacity: what is left of a class in a part of the cluster.

use crate::field::{Errors, Path};
use crate::kinds::Kind;
use crate::label_selector;
use crate::print::{Cells, Column, NAME, or_unset, text};
use crate::quantity::Quantity;
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    type_name: "io.k8s.api.storage.v1.CSIStorageCapacity",
    storage: "storage.k8s.io/csistoragecapacities",
    columns: COLUMNS,
    cells,
    validate,
    validate_update: |new, old, errors| {
        for key in ["nodeTopology", "storageClassName"] {
            errors.immutable(new, old, key, &Path::default());
        }
    },
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    text("StorageClassName", 0, "The class that it is about."),
    text("Capacity", 0, "What is left."),
];

fn cells(object: &Value, _: Timestamp) -> Cells {
    vec![
        meta::name(object).into(),
        meta::text(object, &["storageClassName"]).into(),
        or_unset(object, &["capacity"]),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    if let Some(selector) = object.get("nodeTopology") {
        label_selector::validate(selector, &Path::new("nodeTopology"), errors);
    }
    let class = meta::text(object, &["storageClassName"]);
    let path = Path::new("storageClassName");
    errors.invalid_each(&path, class, names::dns_subdomain(class));
    for key in ["capacity", "maximumVolumeSize"] {
        let text = meta::text(object, &[key]);
        if Quantity::parse(text).is_ok_and(|q| q.is_negative()) {
            errors.invalid(&Path::new(key), text, "must be greater than or equal to 0");
        }
    }
}

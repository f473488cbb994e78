//! VolumeAttachment: a volume that shall be attached to a node.

use crate::field::{Errors, Path};
use crate::kinds::{Kind, Subresource, strategy};
use crate::print::{AGE, Cells, Column, NAME, age, text};
use crate::{meta, names};
use jiff::Timestamp;
use serde_json::Value;

pub(in crate::kinds) static KIND: Kind = Kind {
    group: super::GROUP,
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    namespaced: false,
    type_name: "io.k8s.api.storage.v1.VolumeAttachment",
    storage: "storage.k8s.io/volumeattachments",
    subresources: &[Subresource::Status],
    columns: COLUMNS,
    cells,
    default: |object| {
        meta::ensure(object, "spec");
        let status = meta::ensure(object, "status");
        meta::default(status, "attached", false);
    },
    validate,
    validate_update: |new, old, errors| {
        errors.immutable(new, old, "spec", &Path::default());
    },
    validate_status: |new, _, errors| validate(new, errors),
    prepare_create: strategy::drop_status,
    prepare_update: strategy::keep_status,
    ..Kind::BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    Column {
        format: "name",
        ..text("Attacher", 0, "The driver that attaches it.")
    },
    text("PV", 0, "The volume."),
    text("Node", 0, "The node that it goes to."),
    Column {
        kind: "boolean",
        ..text("Attached", 0, "Whether it is attached.")
    },
    AGE,
];

/// Bytes of the metadata of an attachment, and of an error's message.
const METADATA_MAX: usize = 256 * 1024;
const MESSAGE_MAX: usize = 1024;

fn cells(object: &Value, now: Timestamp) -> Cells {
    let spec = |path: &[&str]| meta::text(&object["spec"], path).into();
    vec![
        meta::name(object).into(),
        spec(&["attacher"]),
        spec(&["source", "persistentVolumeName"]),
        spec(&["nodeName"]),
        meta::flag(object, &["status", "attached"]).into(),
        age(object, now),
    ]
}

fn validate(object: &Value, errors: &mut Errors) {
    let (spec, path) = (&object["spec"], Path::new("spec"));
    let attacher = meta::text(spec, &["attacher"]);
    super::validate_driver_name(attacher, &path.child("attacher"), errors);
    let at = path.child("source");
    let volume = meta::at(spec, &["source", "persistentVolumeName"]).and_then(Value::as_str);
    match (meta::at(spec, &["source", "inlineVolumeSpec"]), volume) {
        (None, None) => errors.required(
            &at,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (Some(_), Some(_)) => errors.forbidden(
            &at,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (None, Some("")) => errors.required(
            &at.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        ),
        (None, Some(name)) => errors.invalid_each(
            &at.child("persistentVolumeName"),
            name,
            names::dns_subdomain(name),
        ),
        (Some(_), None) => {}
    }
    let node = meta::text(spec, &["nodeName"]);
    errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node));
    validate_status(&object["status"], &Path::new("status"), errors);
}

fn validate_status(status: &Value, path: &Path, errors: &mut Errors) {
    let bytes: usize = meta::members(status, &["attachmentMetadata"])
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if bytes > METADATA_MAX {
        errors.too_long(&path.child("attachmentMetadata"), METADATA_MAX);
    }
    for key in ["attachError", "detachError"] {
        if meta::text(status, &[key, "message"]).len() > MESSAGE_MAX {
            errors.too_long(&path.child(key).child("message"), MESSAGE_MAX);
        }
    }
}

//! CustomResourceDefinition, the kind that brings kinds: its row, defaults and
//! what of it the server writes.
//!
//! `validate` says what is right, `schema` and `structural` what of its
//! schemas is, `conditions` what becomes of its names, and [`kinds_of`] makes
//! the kinds that it brings once it is established.

pub mod conditions;
mod schema;
mod structural;
mod validate;

use super::CustomKind;
use super::columns::Column;
use super::conversion::{Conversion, Converter, Webhook};
use super::schema::Schema;
use super::{Names, Scale, Sibling};
use crate::kinds::{Kind, Subresource};
use crate::meta;
use crate::names;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Held by a definition until all its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(crate) static KIND: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    type_name: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    storage: "apiextensions.k8s.io/customresourcedefinitions",
    subresources: &[Subresource::Status],
    name: names::dns_subdomain,
    default,
    validate: validate::create,
    validate_update: validate::update,
    validate_status: validate::status,
    prepare_create,
    prepare_update,
    prepare_delete,
    ..Kind::BASE
};

pub(crate) use crate::names::dns1035_label as dns_1035_label;

fn default(object: &mut Value) {
    let kind = meta::text(object, &["spec", "names", "kind"]).to_owned();
    let spec = meta::ensure(object, "spec");
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        meta::default_text(names, "listKind", &format!("{kind}List"));
        meta::default_text(names, "singular", &kind.to_lowercase());
    }
    meta::default(spec, "conversion", json!({"strategy": "None"}));
    if let Some(service) = spec["conversion"]
        .pointer_mut("/webhook/clientConfig/service")
        .and_then(Value::as_object_mut)
    {
        meta::default(service, "port", 443);
    }
    let status = meta::ensure(object, "status");
    meta::default(status, "acceptedNames", json!({"kind": "", "plural": ""}));
    meta::default(status, "conditions", json!([]));
    meta::default(status, "storedVersions", json!([]));
}

/// The name of the version that objects are stored in.
fn storage_version(definition: &Value) -> Option<&str> {
    versions(definition)
        .iter()
        .find(|v| meta::flag(v, &["storage"]))
        .map(|v| meta::text(v, &["name"]))
}

pub(crate) fn versions(definition: &Value) -> &[Value] {
    meta::list(definition, &["spec", "versions"])
}

fn prepare_create(object: &mut Value) {
    object["status"] = json!({});
    note_storage_version(object);
    meta::ensure_metadata(object).insert("generation".to_owned(), 1.into());
}

/// Deleted, it waits for its objects to go, and takes no more of them.
fn prepare_delete(object: &mut Value, now: Timestamp) {
    let metadata = meta::ensure_metadata(object);
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == FINALIZER)
    {
        list.push(FINALIZER.into());
    }
    let mut status = object["status"].clone();
    conditions::set(
        &mut status,
        "Terminating",
        "True",
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        now,
    );
    object["status"] = status;
}

fn prepare_update(new: &mut Value, old: &Value) {
    meta::keep(new, old, "status");
    default(new);
    if new.get("spec") != old.get("spec") {
        let generation = meta::int(old, &["metadata", "generation"]).unwrap_or(0);
        meta::ensure_metadata(new).insert("generation".to_owned(), (generation + 1).into());
    }
    note_storage_version(new);
}

fn note_storage_version(object: &mut Value) {
    let Some(version) = storage_version(object).map(str::to_owned) else {
        return;
    };
    let status = meta::ensure(object, "status");
    let stored = status.entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(list) = stored.as_array_mut()
        && !list.iter().any(|v| *v == version)
    {
        list.push(version.into());
    }
}

/// Whether a condition of the definition is "True".
pub fn is_true(definition: &Value, condition: &str) -> bool {
    meta::list(definition, &["status", "conditions"])
        .iter()
        .any(|c| c["type"] == condition && c["status"] == "True")
}

fn names_of(definition: &Value) -> Names {
    let accepted = &definition["status"]["acceptedNames"];
    let strings = |key: &str| {
        meta::list(accepted, &[key])
            .iter()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    let text = |key: &str| meta::text(accepted, &[key]).to_owned();
    Names {
        plural: text("plural"),
        singular: text("singular"),
        kind: text("kind"),
        list_kind: text("listKind"),
        short_names: strings("shortNames"),
        categories: strings("categories"),
    }
}

/// The kinds of a definition, if it is established: a kind for each served
/// version, the preferred one first. `converter` asks its webhook.
pub fn kinds_of(
    definition: &Value,
    converter: &dyn Fn(Webhook) -> Arc<dyn Converter>,
) -> Vec<Arc<CustomKind>> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let siblings: Vec<Sibling> = versions(definition)
        .iter()
        .map(|v| Sibling {
            version: meta::text(v, &["name"]).to_owned(),
            schema: Arc::new(Schema::parse(&v["schema"]["openAPIV3Schema"])),
        })
        .collect();
    let siblings: Arc<[Sibling]> = siblings.into();
    let conversion = match Webhook::parse(&definition["spec"]["conversion"]) {
        Some(webhook) => Conversion::Webhook(converter(webhook)),
        None => Conversion::None,
    };
    let mut kinds: Vec<Arc<CustomKind>> = versions(definition)
        .iter()
        .zip(siblings.iter())
        .filter(|(v, _)| meta::flag(v, &["served"]))
        .map(|(v, own)| Arc::new(kind(definition, v, own, &siblings, &conversion)))
        .collect();
    kinds.sort_by(|a, b| super::version_order(&a.version, &b.version));
    kinds
}

fn kind(
    definition: &Value,
    version: &Value,
    own: &Sibling,
    siblings: &Arc<[Sibling]>,
    conversion: &Conversion,
) -> CustomKind {
    let group = meta::text(definition, &["spec", "group"]).to_owned();
    let names = names_of(definition);
    let reversed: Vec<&str> = group.split('.').rev().collect();
    let scale = version.pointer("/subresources/scale").map(Scale::parse);
    CustomKind {
        definition: meta::name(definition).to_owned(),
        type_name: format!("{}.{}.{}", reversed.join("."), own.version, names.kind),
        storage: format!("{group}/{}", names.plural),
        namespaced: definition["spec"]["scope"] == "Namespaced",
        status: version.pointer("/subresources/status").is_some(),
        scale,
        terminating: is_true(definition, "Terminating") || meta::is_deleting(definition),
        columns: columns(version),
        selectable: meta::list(version, &["selectableFields"])
            .iter()
            .map(|f| {
                meta::text(f, &["jsonPath"])
                    .trim_start_matches('.')
                    .to_owned()
            })
            .collect(),
        schema: own.schema.clone(),
        published: Arc::new(version["schema"]["openAPIV3Schema"].clone()),
        siblings: siblings.clone(),
        storage_version: storage_version(definition).unwrap_or_default().to_owned(),
        conversion: conversion.clone(),
        warning: deprecation(version, &group, &names.kind),
        version: own.version.clone(),
        group,
        names,
    }
}

fn columns(version: &Value) -> Vec<Column> {
    let listed = meta::list(version, &["additionalPrinterColumns"]);
    let age = json!({
        "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": "Time since the object was created.",
    });
    let listed = match listed {
        [] => std::slice::from_ref(&age),
        some => some,
    };
    // Those before the first that can't be read, as upstream does.
    listed.iter().map_while(Column::parse).collect()
}

fn deprecation(version: &Value, group: &str, kind: &str) -> Option<String> {
    if !meta::flag(version, &["deprecated"]) {
        return None;
    }
    Some(match meta::text(version, &["deprecationWarning"]) {
        "" => format!(
            "{group}/{} {kind} is deprecated",
            meta::text(version, &["name"])
        ),
        text => text.to_owned(),
    })
}

/// The members of a node that hold schemas: each with its path below it.
pub(crate) fn children(schema: &Value) -> Vec<(String, &Value)> {
    let mut out = Vec::new();
    let object = |v: &&Value| v.is_object();
    for key in ["items", "additionalProperties", "not"] {
        if let Some(of) = schema.get(key).filter(object) {
            out.push((key.to_owned(), of));
        }
    }
    for key in ["properties", "patternProperties", "definitions"] {
        for (name, of) in schema
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::iter)
        {
            out.push((format!("{key}[{name}]"), of));
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, of) in meta::list(schema, &[key]).iter().enumerate() {
            out.push((format!("{key}[{i}]"), of));
        }
    }
    out
}

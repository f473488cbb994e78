//! OpenAPI 3.0, a document for each group-version.

use super::{Descriptions, defaults, gvk, list_type, paths, reachable};
use crate::facts::{self, Field, ListKind, Scalar, Shape, Type};
use crate::kinds::KindRef;
use serde_json::{Map, Value, json};

const REFERENCES: &str = "#/components/schemas/";

/// The document of one group-version, whose `kinds` these are; `None` without
/// any.
pub fn document(kinds: &[KindRef], server_version: &str) -> Option<Value> {
    if kinds.is_empty() {
        return None;
    }
    let descriptions = Descriptions::unpack();
    let dialect = paths::Dialect {
        references: REFERENCES,
        v3: true,
    };
    let mut all_paths = Map::new();
    let mut schemas = Map::new();
    for name in reachable(kinds.iter()) {
        if let Some(facts) = facts::of(name) {
            schemas.insert(name.to_owned(), schema(facts, &descriptions));
        }
    }
    for kind in kinds {
        paths::add(&mut all_paths, kind, &dialect);
        if let Some(custom) = kind.custom() {
            let of = crate::custom::publish::definition(custom, REFERENCES, true);
            schemas.insert(kind.type_name().to_owned(), of);
        }
        if kind.verbs().contains(&"list") {
            schemas.insert(list_type(kind), list_schema(kind));
        }
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": all_paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {"type": "apiKey", "name": "authorization",
                "in": "header", "description": "Bearer Token authentication"}},
        },
    }))
}

fn schema(facts: &Type, descriptions: &Descriptions) -> Value {
    let mut out = Map::new();
    if let Some(text) = descriptions.of(facts.name, "") {
        out.insert("description".to_owned(), text.into());
    }
    out.insert("type".to_owned(), "object".into());
    let mut properties = Map::new();
    let mut required: Vec<&str> = Vec::new();
    for field in &facts.fields {
        let text = descriptions.of(facts.name, field.name);
        properties.insert(field.name.to_owned(), property(facts.name, field, text));
        if field.required {
            required.push(field.name);
        }
    }
    if !properties.is_empty() {
        out.insert("properties".to_owned(), properties.into());
    }
    if !required.is_empty() {
        out.insert("required".to_owned(), json!(required));
    }
    if facts.atomic {
        out.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if let Some((group, version, kind)) = facts.gvk {
        out.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            gvk(group, version, kind),
        );
    }
    Value::Object(out)
}

fn property(type_name: &str, field: &Field, text: Option<&str>) -> Value {
    let mut out = with_default(shape(&field.shape), defaults::of_field(type_name, field));
    if let Some(text) = text {
        out = beside(out);
        out["description"] = text.into();
    }
    extensions(field, &mut out);
    out
}

/// A schema that may have members beside a reference.
fn beside(schema: Value) -> Value {
    match schema.get("$ref") {
        Some(_) => json!({"allOf": [schema]}),
        None => schema,
    }
}

fn with_default(schema: Value, default: Option<Value>) -> Value {
    let Some(default) = default else {
        return schema;
    };
    let mut schema = beside(schema);
    schema["default"] = default;
    schema
}

/// Of a list's elements or a map's values.
fn inner(of: &Shape) -> Value {
    with_default(shape(of), defaults::zero(of))
}

/// What merging clients need to know, as upstream names it.
pub(super) fn extensions(field: &Field, out: &mut Value) {
    if let Some(list) = field.list {
        out["x-kubernetes-list-type"] = match list {
            ListKind::Atomic => "atomic",
            ListKind::Set => "set",
            ListKind::Map => "map",
        }
        .into();
    }
    if !field.map_keys.is_empty() {
        out["x-kubernetes-list-map-keys"] = json!(field.map_keys);
    }
    if field.atomic_map {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if field.patch_merge || field.patch_retain_keys {
        let mut words = Vec::new();
        if field.patch_merge {
            words.push("merge");
        }
        if field.patch_retain_keys {
            words.push("retainKeys");
        }
        out["x-kubernetes-patch-strategy"] = words.join(",").into();
    }
    if let Some(key) = field.patch_key {
        out["x-kubernetes-patch-merge-key"] = key.into();
    }
}

fn shape(shape_of: &Shape) -> Value {
    match shape_of {
        Shape::Ref(name) if facts::of(name).is_some() => {
            json!({"$ref": format!("{REFERENCES}{name}")})
        }
        Shape::Ref(_) => json!({"type": "object"}),
        Shape::List(of) => json!({"type": "array", "items": inner(of)}),
        Shape::Map(of) => json!({"type": "object", "additionalProperties": inner(of)}),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Duration => json!({"type": "string"}),
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Scalar::IntOrString => json!({
                "format": "int-or-string",
                "oneOf": [{"type": "integer"}, {"type": "string"}]}),
            Scalar::Time | Scalar::MicroTime => json!({"type": "string", "format": "date-time"}),
            Scalar::Any => json!({"type": "object"}),
        },
    }
}

fn list_schema(kind: &KindRef) -> Value {
    let list = kind.list_kind();
    // Those of custom kinds are made in another way, without defaults.
    let empty = kind.custom().is_none().then(|| json!({}));
    let of = |name: &str| {
        let reference = json!({"$ref": format!("{REFERENCES}{name}")});
        with_default(reference, empty.clone())
    };
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": of("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
            "items": {"type": "array", "items": of(kind.type_name())},
        },
        "x-kubernetes-group-version-kind": gvk(kind.group(), kind.version(), &list),
    })
}

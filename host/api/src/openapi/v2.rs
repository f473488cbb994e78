//! OpenAPI 2.0 (Swagger), one document for everything, for older clients.

use super::{Descriptions, gvk, list_type, paths, reachable, v3::extensions};
use crate::facts::{self, Scalar, Shape, Type};
use crate::kinds::KindRef;
use serde_json::{Map, Value, json};

const REFERENCES: &str = "#/definitions/";

/// The document of all `kinds`.
pub fn document(kinds: &[KindRef], server_version: &str) -> Value {
    let descriptions = Descriptions::unpack();
    let dialect = paths::Dialect {
        references: REFERENCES,
        v3: false,
    };
    let mut definitions = Map::new();
    for name in reachable(kinds.iter()) {
        if let Some(facts) = facts::of(name) {
            definitions.insert(name.to_owned(), definition(facts, &descriptions));
        }
    }
    for (name, kind, format) in SCALARS {
        let mut scalar = json!({"type": kind});
        if !format.is_empty() {
            scalar["format"] = (*format).into();
        }
        definitions.insert((*name).to_owned(), scalar);
    }
    let mut all_paths = Map::new();
    for kind in kinds {
        paths::add(&mut all_paths, kind, &dialect);
        if let Some(custom) = kind.custom() {
            let of = crate::custom::publish::definition(custom, REFERENCES, false);
            definitions.insert(kind.type_name().to_owned(), of);
        }
        if kind.verbs().contains(&"list") {
            definitions.insert(list_type(kind), list_definition(kind));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": all_paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization",
            "in": "header", "description": "Bearer Token authentication"}},
        "security": [{"BearerToken": []}],
    })
}

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// Types that are scalars on the wire, as this dialect refers to them.
const SCALARS: &[(&str, &str, &str)] = &[
    (QUANTITY, "string", ""),
    (INT_OR_STRING, "string", "int-or-string"),
    (TIME, "string", "date-time"),
    (MICRO_TIME, "string", "date-time"),
];

fn definition(facts: &Type, descriptions: &Descriptions) -> Value {
    let mut out = Map::new();
    if let Some(text) = descriptions.of(facts.name, "") {
        out.insert("description".to_owned(), text.into());
    }
    out.insert("type".to_owned(), "object".into());
    let mut properties = Map::new();
    let mut required: Vec<&str> = Vec::new();
    for field in &facts.fields {
        let mut property = shape(&field.shape);
        if let Some(text) = descriptions.of(facts.name, field.name) {
            property["description"] = text.into();
        }
        extensions(field, &mut property);
        properties.insert(field.name.to_owned(), property);
        if field.required {
            required.push(field.name);
        }
    }
    if !required.is_empty() {
        out.insert("required".to_owned(), json!(required));
    }
    if !properties.is_empty() {
        out.insert("properties".to_owned(), properties.into());
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

fn reference(name: &str) -> Value {
    json!({"$ref": format!("{REFERENCES}{name}")})
}

fn shape(shape_of: &Shape) -> Value {
    match shape_of {
        Shape::Ref(name) if facts::of(name).is_some() => reference(name),
        Shape::Ref(_) => json!({"type": "object"}),
        Shape::List(inner) => json!({"type": "array", "items": shape(inner)}),
        Shape::Map(inner) => json!({"type": "object", "additionalProperties": shape(inner)}),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Duration => json!({"type": "string"}),
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Quantity => reference(QUANTITY),
            Scalar::IntOrString => reference(INT_OR_STRING),
            Scalar::Time => reference(TIME),
            Scalar::MicroTime => reference(MICRO_TIME),
            Scalar::Any => json!({"type": "object"}),
        },
    }
}

fn list_definition(kind: &KindRef) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
            "items": {"type": "array", "items": reference(kind.type_name())},
        },
        "x-kubernetes-group-version-kind": gvk(kind.group(), kind.version(), &kind.list_kind()),
    })
}

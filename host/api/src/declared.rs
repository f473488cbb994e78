//! Types of a kind's whole objects, for whoever checks expressions against them
//! (`cel/common/schemas.go`). What the schema of a custom kind doesn't type
//! can't be named, as upstream; of built-in kinds it can, and nothing is known
//! of it.

use crate::custom::schema::{Additional, Schema};
use crate::facts::{self, Scalar, Shape};
use crate::kinds::KindRef;
use expressions::{Type, escape};
use std::collections::BTreeMap;
use std::sync::Arc;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// `None`: nothing is known of the kind's fields.
pub fn of(kind: &KindRef) -> Option<Type> {
    match kind.custom() {
        Some(custom) => {
            let mut fields = fields(&custom.schema);
            name_kind(&mut fields);
            let metadata = of_type(METADATA, &mut Vec::new());
            fields.insert("metadata".to_owned(), metadata);
            Some(object(fields))
        }
        None => {
            facts::of(kind.type_name())?;
            Some(of_type(kind.type_name(), &mut Vec::new()))
        }
    }
}

fn object(fields: BTreeMap<String, Type>) -> Type {
    Type::Object(Arc::new(fields))
}

fn name_kind(fields: &mut BTreeMap<String, Type>) {
    for key in ["apiVersion", "kind"] {
        fields.insert(key.to_owned(), Type::String);
    }
}

/// A type of the table; within itself it is an object without fields, as
/// upstream has it.
fn of_type<'a>(name: &'a str, within: &mut Vec<&'a str>) -> Type {
    let Some(facts) = facts::of(name) else {
        return Type::Dyn;
    };
    if within.contains(&name) {
        return object(BTreeMap::new());
    }
    within.push(name);
    let fields = facts.fields.iter().filter_map(|field| {
        let of = of_shape(&field.shape, within);
        Some((escape(field.name)?, of))
    });
    let fields = fields.collect();
    within.pop();
    object(fields)
}

fn of_shape(shape: &Shape, within: &mut Vec<&str>) -> Type {
    match shape {
        Shape::Ref(name) => of_type(name, within),
        Shape::List(of) => Type::List(Arc::new(of_shape(of, within))),
        Shape::Map(of) => Type::Map(Arc::new(of_shape(of, within))),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => Type::String,
            Scalar::Int32 | Scalar::Int64 => Type::Scalar("int"),
            Scalar::Bool => Type::Bool,
            Scalar::Double => Type::Scalar("double"),
            Scalar::Bytes => Type::Scalar("bytes"),
            Scalar::Time | Scalar::MicroTime => Type::Scalar("timestamp"),
            Scalar::Quantity | Scalar::IntOrString | Scalar::Duration | Scalar::Any => Type::Dyn,
        },
    }
}

fn fields(schema: &Schema) -> BTreeMap<String, Type> {
    let typed = schema.properties.iter();
    typed
        .filter_map(|(name, of)| Some((escape(name)?, of_schema(of)?)))
        .collect()
}

/// `None`: expressions don't see it.
fn of_schema(schema: &Schema) -> Option<Type> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    Some(match schema.kind.as_str() {
        "boolean" => Type::Bool,
        "integer" => Type::Scalar("int"),
        "number" => Type::Scalar("double"),
        "string" => match schema.format.as_str() {
            "byte" => Type::Scalar("bytes"),
            "duration" => Type::Scalar("duration"),
            "date" | "date-time" => Type::Scalar("timestamp"),
            _ => Type::String,
        },
        "array" => Type::List(Arc::new(of_schema(schema.items.as_deref()?)?)),
        "object" => match &schema.additional {
            Some(Additional::Each(each)) => Type::Map(Arc::new(of_schema(each)?)),
            Some(Additional::Any | Additional::None) | None => {
                let mut fields = fields(schema);
                if schema.embedded {
                    name_kind(&mut fields);
                    let names = ["name", "generateName"].map(|n| (n.to_owned(), Type::String));
                    let names = || object(names.into());
                    fields.entry("metadata".to_owned()).or_insert_with(names);
                }
                object(fields)
            }
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn at(of: &Type, path: &[&str]) -> Option<Type> {
        path.iter().try_fold(of.clone(), |of, key| match of {
            Type::Object(fields) => fields.get(*key).cloned(),
            Type::List(items) => Some((*items).clone()),
            Type::Map(values) => Some((*values).clone()),
            _ => None,
        })
    }

    #[test]
    fn built_in_kinds_have_their_fields() {
        let deployment = kinds::by_resource("apps", "v1", "deployments").unwrap();
        let of = of(&deployment).unwrap();
        for (path, wanted) in [
            (&["spec", "replicas"][..], Some(Type::Scalar("int"))),
            (&["spec", "paused"], Some(Type::Bool)),
            (&["metadata", "labels", "x"], Some(Type::String)),
            (
                &["metadata", "creationTimestamp"],
                Some(Type::Scalar("timestamp")),
            ),
            (
                &["spec", "template", "spec", "containers", "*", "image"],
                Some(Type::String),
            ),
            (
                &["spec", "strategy", "rollingUpdate", "maxSurge"],
                Some(Type::Dyn),
            ),
            (&["spec", "nothing"], None),
        ] {
            assert_eq!(at(&of, path), wanted, "{path:?}");
        }
        let definitions =
            kinds::by_resource("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        assert!(
            super::of(&definitions.unwrap()).is_some(),
            "a type within itself"
        );
    }

    #[test]
    fn schemas_show_what_they_type() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "n": {"type": "integer"}, "d": {"type": "string", "format": "duration"},
            "either": {"x-kubernetes-int-or-string": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "a-b": {"type": "array", "items": {"type": "number"}},
        }}));
        let of = of_schema(&schema).unwrap();
        for (path, wanted) in [
            (&["n"][..], Some(Type::Scalar("int"))),
            (&["d"], Some(Type::Scalar("duration"))),
            (&["either"], Some(Type::Dyn)),
            (&["any"], None),
            (&["free"], Some(object(BTreeMap::new()))),
            (&["map", "x"], Some(Type::Bool)),
            (&["a__dash__b", "*"], Some(Type::Scalar("double"))),
        ] {
            assert_eq!(at(&of, path), wanted, "{path:?}");
        }
    }
}

//! Ownership of custom kinds: each version's type is what the definition's
//! schema says of it, as upstream reads it (`kube-openapi`'s `schemaconv`):
//!
//! | schema | owned |
//! | --- | --- |
//! | `x-kubernetes-list-type` | `set` and `map` item by item, else as a whole |
//! | `x-kubernetes-map-type` | `atomic` as a whole, else member by member |
//! | no `type` | as the value is: lists as a whole, maps member by member |
//! | an object or `x-kubernetes-embedded-resource` | with typed metadata |
//!
//! Members that the schema doesn't name are of `additionalProperties`' type;
//! without it they are untyped below `x-kubernetes-preserve-unknown-fields`
//! and where no member is named, and refused elsewhere.

use super::element::Scalar;
use super::schema::{FactsNode, ListType, MapType, Member, ScalarType, SchemaNode};
use super::set::Set;
use super::updater::Versions;
use crate::custom::CustomKind;
use crate::custom::schema::{self, Additional, Schema};
use serde_json::Value;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One endpoint of a custom kind.
#[derive(Clone, Copy)]
pub struct OfCustom<'a> {
    pub kind: &'a CustomKind,
    /// Empty for the object itself.
    pub subresource: &'a str,
}

/// What becomes of members that a schema doesn't name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    Refused,
    Untyped,
}

/// The type of a custom object or of one of its parts.
#[derive(Clone, Copy, Debug)]
pub enum CustomNode<'a> {
    /// With apiVersion, kind and metadata.
    Object(&'a Schema, Unnamed),
    Part(&'a Schema, Unnamed),
    /// Metadata, and what no schema types.
    BuiltIn(FactsNode),
}

impl<'a> CustomNode<'a> {
    /// Of a whole object.
    pub fn root(schema: &'a Schema) -> CustomNode<'a> {
        CustomNode::Object(schema, unnamed(schema, Unnamed::Refused))
    }

    fn part(schema: &'a Schema, outer: Unnamed) -> CustomNode<'a> {
        let unnamed = unnamed(schema, outer);
        match schema.embedded {
            true => CustomNode::Object(schema, unnamed),
            false => CustomNode::Part(schema, unnamed),
        }
    }
}

/// Who keeps what it doesn't know does so all the way down.
fn unnamed(schema: &Schema, outer: Unnamed) -> Unnamed {
    match schema.preserve_unknown {
        true => Unnamed::Untyped,
        false => outer,
    }
}

fn optional<S>(node: S) -> Member<S> {
    Member {
        node,
        always: false,
        required: false,
    }
}

impl<'a> SchemaNode for CustomNode<'a> {
    fn scalar(&self) -> Option<ScalarType> {
        let schema = match self {
            CustomNode::Object(..) => return None,
            CustomNode::BuiltIn(node) => return node.scalar(),
            CustomNode::Part(schema, _) => schema,
        };
        match (schema.kind.as_str(), schema.format.as_str()) {
            ("object" | "array", _) => None,
            ("integer" | "number", _) => Some(ScalarType::Number),
            ("boolean", _) => Some(ScalarType::Flag),
            ("string", "" | "byte") => Some(ScalarType::Text),
            _ => Some(ScalarType::Any),
        }
    }

    fn list(&self) -> Option<ListType<'_>> {
        let schema = match self {
            CustomNode::Object(..) => return None,
            CustomNode::BuiltIn(node) => return node.list(),
            CustomNode::Part(schema, _) => schema,
        };
        matches!(schema.kind.as_str(), "array" | "").then(|| match schema.list_type {
            schema::ListType::Atomic => ListType::Atomic,
            schema::ListType::Set => ListType::Set,
            schema::ListType::Map => {
                ListType::Map(schema.list_keys.iter().map(String::as_str).collect())
            }
        })
    }

    fn map(&self) -> Option<MapType> {
        let schema = match self {
            CustomNode::BuiltIn(node) => return node.map(),
            CustomNode::Part(schema, _) if !matches!(schema.kind.as_str(), "object" | "") => {
                return None;
            }
            CustomNode::Object(schema, _) | CustomNode::Part(schema, _) => schema,
        };
        Some(match schema.atomic_map {
            true => MapType::Atomic,
            false => MapType::Granular,
        })
    }

    fn field(&self, name: &str) -> Option<Member<CustomNode<'a>>> {
        match (self, name) {
            (CustomNode::BuiltIn(node), _) => node.field(name).map(|m| Member {
                node: CustomNode::BuiltIn(m.node),
                always: m.always,
                required: m.required,
            }),
            (CustomNode::Object(..), "metadata") => {
                Some(optional(CustomNode::BuiltIn(FactsNode::named(METADATA))))
            }
            (CustomNode::Object(..), "apiVersion" | "kind") => {
                Some(optional(CustomNode::BuiltIn(FactsNode::text())))
            }
            (CustomNode::Object(schema, unnamed) | CustomNode::Part(schema, unnamed), _) => {
                let member = schema.properties.get(name)?;
                Some(optional(CustomNode::part(member, *unnamed)))
            }
        }
    }

    fn rest(&self) -> Option<CustomNode<'a>> {
        let untyped = CustomNode::BuiltIn(FactsNode::Deduced);
        let (schema, unnamed) = match self {
            CustomNode::BuiltIn(node) => return node.rest().map(CustomNode::BuiltIn),
            CustomNode::Object(schema, unnamed) | CustomNode::Part(schema, unnamed) => {
                (*schema, *unnamed)
            }
        };
        // An object names its metadata at least; without any schema, nothing.
        let names_none = match self {
            CustomNode::Object(..) => schema.kind.is_empty(),
            CustomNode::Part(..) | CustomNode::BuiltIn(_) => true,
        };
        match &schema.additional {
            Some(Additional::Each(each)) => Some(CustomNode::part(each, unnamed)),
            Some(Additional::Any) => Some(untyped),
            Some(Additional::None) => None,
            None if unnamed == Unnamed::Untyped => Some(untyped),
            None => (schema.properties.is_empty() && names_none).then_some(untyped),
        }
    }

    fn item(&self) -> CustomNode<'a> {
        match self {
            CustomNode::BuiltIn(node) => CustomNode::BuiltIn(node.item()),
            CustomNode::Object(schema, unnamed) | CustomNode::Part(schema, unnamed) => {
                match &schema.items {
                    Some(items) => CustomNode::part(items, *unnamed),
                    None => CustomNode::BuiltIn(FactsNode::Deduced),
                }
            }
        }
    }

    fn key_default(&self, key: &str) -> Option<Scalar> {
        match self {
            CustomNode::BuiltIn(node) => node.key_default(key),
            CustomNode::Object(schema, _) | CustomNode::Part(schema, _) => {
                let member = schema.items.as_ref()?.properties.get(key)?;
                member.default.as_ref().and_then(Scalar::of)
            }
        }
    }
}

impl<'a> Versions for OfCustom<'a> {
    type Node = CustomNode<'a>;

    fn schema(&self, version: &str) -> Option<CustomNode<'a>> {
        let (group, name) = version.rsplit_once('/')?;
        if group != self.kind.group {
            return None;
        }
        if name == self.kind.version {
            return Some(CustomNode::root(&self.kind.schema));
        }
        let sibling = self.kind.siblings.iter().find(|s| s.version == name)?;
        Some(CustomNode::root(&sibling.schema))
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        if from == to {
            return Some(object.clone());
        }
        let mut object = object.clone();
        object["apiVersion"] = from.into();
        let converted = self.kind.conversion.convert(to, vec![object]);
        converted.ok()?.pop()
    }

    fn kept(&self, version: &str, set: Set) -> Set {
        match (self.subresource, self.kind.status) {
            ("", true) => set.without_trees(&Set::of_fields(&[&["status"]])),
            ("status", _) => set.intersection_with_tree("status"),
            ("scale", _) => match (&self.kind.scale, version == self.kind.api_version()) {
                (Some(scale), true) => {
                    let path: Vec<&str> = scale.spec_replicas.iter().map(String::as_str).collect();
                    set.intersection(&Set::of_fields(&[&path]))
                }
                _ => set,
            },
            _ => set,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::{field_set, validate};
    use serde_json::json;

    fn schema() -> Schema {
        let text = json!({"type": "string"});
        Schema::parse(&json!({"type": "object", "properties": {"spec": {
            "type": "object",
            "properties": {
                "keyed": {
                    "type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "zone"],
                    "items": {"type": "object", "properties": {
                        "name": text, "zone": {"type": "string", "default": "z"}, "n": {"type": "integer"}}}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
                "plain": {"type": "array", "items": text},
                "whole": {"type": "object", "x-kubernetes-map-type": "atomic",
                    "additionalProperties": text},
                "either": {"x-kubernetes-int-or-string": true},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "properties": {"data": {"type": "object", "additionalProperties": text}}},
            },
        }}}))
    }

    #[test]
    fn fields_are_owned_as_the_schema_says() {
        let schema = schema();
        let root = CustomNode::root(&schema);
        for (spec, wanted) in [
            (
                json!({"keyed": [{"name": "a", "n": 1}]}),
                json!({"f:keyed": {"k:{\"name\":\"a\",\"zone\":\"z\"}":
                    {".": {}, "f:name": {}, "f:n": {}}}}),
            ),
            (
                json!({"set": ["a"], "plain": ["b"]}),
                json!({"f:plain": {}, "f:set": {"v:\"a\"": {}}}),
            ),
            (
                json!({"whole": {"a": "b"}, "either": "5%"}),
                json!({"f:either": {}, "f:whole": {}}),
            ),
            (
                json!({"open": {"any": {"thing": [1]}}}),
                json!({"f:open": {"f:any": {".": {}, "f:thing": {}}}}),
            ),
            (
                json!({"inner": {"metadata": {"finalizers": ["x"]}, "data": {"k": "v"}}}),
                json!({"f:inner": {"f:data": {"f:k": {}},
                    "f:metadata": {"f:finalizers": {"v:\"x\"": {}}}}}),
            ),
        ] {
            let object = json!({"spec": spec});
            assert_eq!(validate(&root, &object, false), Ok(()), "{object}");
            let found = field_set(&root, &object).to_fields();
            assert_eq!(found, json!({"f:spec": wanted}), "{object}");
        }
    }

    #[test]
    fn what_the_schema_does_not_say_is_refused() {
        let schema = schema();
        let root = CustomNode::root(&schema);
        for (spec, why) in [
            (
                json!({"other": 1}),
                ".spec.other: field not declared in schema",
            ),
            (
                json!({"keyed": [{"name": "a"}, {"name": "a", "zone": "z"}]}),
                ".spec.keyed: duplicate entries for key [name=\"a\",zone=\"z\"]",
            ),
            (json!({"whole": []}), ".spec.whole: expected map, got &{[]}"),
        ] {
            let object = json!({"spec": spec});
            assert_eq!(
                validate(&root, &object, false),
                Err(why.to_owned()),
                "{object}"
            );
        }
    }
}

//! What ownership has to know of a type: a scalar, a list that is atomic, a
//! set or a map by keys, a map or struct that is atomic or granular. Built-in
//! types answer from the facts table; others implement [`SchemaNode`].

use super::element::Scalar;
use crate::facts::{self, Field, ListKind, Shape, Type};

/// Which scalars a type takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarType {
    Number,
    Text,
    Flag,
    Any,
}

/// How a list is owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType<'a> {
    Atomic,
    Set,
    /// Items are told apart by these members.
    Map(Vec<&'a str>),
}

/// How a map or a struct is owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    Granular,
}

/// A declared member of a struct.
pub struct Member<S> {
    pub node: S,
    /// A struct that is there even when nobody mentions it.
    pub always: bool,
    /// There as null or zero even when nobody mentions it.
    pub required: bool,
}

/// The type of a value. A type may take several forms (`IntOrString` doesn't,
/// but an untyped value does): each of the first three answers whether it
/// takes that form, and how it is owned then.
pub trait SchemaNode: Clone {
    fn scalar(&self) -> Option<ScalarType>;
    fn list(&self) -> Option<ListType<'_>>;
    fn map(&self) -> Option<MapType>;
    /// A member that the type declares.
    fn field(&self, name: &str) -> Option<Member<Self>>;
    /// The type of members that it doesn't declare; `None`: there are none.
    fn rest(&self) -> Option<Self>;
    /// The type of a list's items.
    fn item(&self) -> Self;
    /// What `key` of a list's item is when the item doesn't say.
    fn key_default(&self, key: &str) -> Option<Scalar>;
}

/// A built-in type.
#[derive(Clone, Copy, Debug)]
pub enum FactsNode {
    Struct(&'static Type, MapType),
    /// Of a member: its shape, and what the table says of its lists and maps.
    Member(&'static Shape, Option<&'static Field>),
    /// Anything: lists are atomic, maps granular.
    Deduced,
}

impl FactsNode {
    /// The type by its full name; unknown ones are untyped.
    pub fn named(type_name: &str) -> FactsNode {
        facts::of(type_name).map_or(FactsNode::Deduced, |t| {
            let map = if t.atomic {
                MapType::Atomic
            } else {
                MapType::Granular
            };
            FactsNode::Struct(t, map)
        })
    }

    /// Text.
    pub(super) fn text() -> FactsNode {
        FactsNode::Member(&Shape::Scalar(facts::Scalar::String), None)
    }

    fn of(shape: &'static Shape, field: Option<&'static Field>) -> FactsNode {
        match shape {
            Shape::Ref(name) => match FactsNode::named(name) {
                FactsNode::Struct(t, _) if field.is_some_and(|f| f.granular_map) => {
                    FactsNode::Struct(t, MapType::Granular)
                }
                other => other,
            },
            Shape::Scalar(facts::Scalar::Any) => FactsNode::Deduced,
            _ => FactsNode::Member(shape, field),
        }
    }
}

/// Members that tell items apart and may be left out, with what they are then.
fn default_of_key(item: &str, key: &str) -> Option<&'static str> {
    match (item, key) {
        ("ContainerPort" | "ServicePort", "protocol") => Some("TCP"),
        ("LocalObjectReference", "name") => Some(""),
        _ => None,
    }
}

impl SchemaNode for FactsNode {
    fn scalar(&self) -> Option<ScalarType> {
        match self {
            FactsNode::Struct(..) => None,
            FactsNode::Deduced => Some(ScalarType::Any),
            FactsNode::Member(Shape::Scalar(scalar), _) => Some(match scalar {
                facts::Scalar::Int32 | facts::Scalar::Int64 | facts::Scalar::Double => {
                    ScalarType::Number
                }
                facts::Scalar::Bool => ScalarType::Flag,
                facts::Scalar::String
                | facts::Scalar::Bytes
                | facts::Scalar::Time
                | facts::Scalar::MicroTime
                | facts::Scalar::Duration => ScalarType::Text,
                facts::Scalar::Quantity | facts::Scalar::IntOrString | facts::Scalar::Any => {
                    ScalarType::Any
                }
            }),
            FactsNode::Member(..) => None,
        }
    }

    fn list(&self) -> Option<ListType<'_>> {
        match self {
            FactsNode::Deduced => Some(ListType::Atomic),
            FactsNode::Member(Shape::List(_), field) => Some(match field {
                Some(f) if f.list == Some(ListKind::Set) => ListType::Set,
                Some(f) if f.list == Some(ListKind::Map) => ListType::Map(f.map_keys.clone()),
                _ => ListType::Atomic,
            }),
            FactsNode::Struct(..) | FactsNode::Member(..) => None,
        }
    }

    fn map(&self) -> Option<MapType> {
        let atomic = match self {
            FactsNode::Struct(_, map) => return Some(*map),
            FactsNode::Deduced => false,
            FactsNode::Member(Shape::Map(_), field) => field.is_some_and(|f| f.atomic_map),
            FactsNode::Member(..) => return None,
        };
        Some(if atomic {
            MapType::Atomic
        } else {
            MapType::Granular
        })
    }

    fn field(&self, name: &str) -> Option<Member<FactsNode>> {
        let FactsNode::Struct(t, _) = self else {
            return None;
        };
        t.field(name).map(|f| Member {
            node: FactsNode::of(&f.shape, Some(f)),
            always: f.plain,
            required: f.required,
        })
    }

    fn rest(&self) -> Option<FactsNode> {
        match self {
            FactsNode::Struct(..) => None,
            FactsNode::Member(Shape::Map(inner), _) => Some(FactsNode::of(inner, None)),
            FactsNode::Deduced | FactsNode::Member(..) => Some(FactsNode::Deduced),
        }
    }

    fn item(&self) -> FactsNode {
        match self {
            FactsNode::Member(Shape::List(inner), _) => FactsNode::of(inner, None),
            FactsNode::Struct(..) | FactsNode::Member(..) | FactsNode::Deduced => {
                FactsNode::Deduced
            }
        }
    }

    fn key_default(&self, key: &str) -> Option<Scalar> {
        match self.item() {
            FactsNode::Struct(t, _) => {
                default_of_key(t.short_name(), key).map(|text| Scalar::Text(text.into()))
            }
            FactsNode::Member(..) | FactsNode::Deduced => None,
        }
    }
}

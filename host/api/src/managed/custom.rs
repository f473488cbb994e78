//! Ownership of custom kinds: metadata is typed as everywhere, the rest is
//! untyped: lists are atomic, maps granular.

use super::element::Scalar;
use super::schema::{FactsNode, ListType, MapType, Member, ScalarType, SchemaNode};
use super::set::Set;
use super::updater::Versions;
use crate::custom::CustomKind;
use crate::kinds;
use serde_json::Value;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// One endpoint of a custom kind.
#[derive(Clone, Copy)]
pub struct OfCustom<'a> {
    pub kind: &'a CustomKind,
    /// Empty for the object itself.
    pub subresource: &'a str,
}

/// The type of a custom object or of one of its parts.
#[derive(Clone, Copy, Debug)]
pub enum CustomNode {
    Root,
    Part(FactsNode),
}

impl CustomNode {
    fn part(&self) -> FactsNode {
        match self {
            CustomNode::Root => FactsNode::Deduced,
            CustomNode::Part(node) => *node,
        }
    }
}

impl SchemaNode for CustomNode {
    fn scalar(&self) -> Option<ScalarType> {
        match self {
            CustomNode::Root => None,
            CustomNode::Part(node) => node.scalar(),
        }
    }

    fn list(&self) -> Option<ListType<'_>> {
        match self {
            CustomNode::Root => None,
            CustomNode::Part(node) => node.list(),
        }
    }

    fn map(&self) -> Option<MapType> {
        self.part().map()
    }

    fn field(&self, name: &str) -> Option<Member<CustomNode>> {
        match (self, name) {
            (CustomNode::Root, "metadata") => Some(Member {
                node: CustomNode::Part(FactsNode::named(METADATA)),
                always: false,
                required: false,
            }),
            (CustomNode::Root, _) => None,
            (CustomNode::Part(node), name) => node.field(name).map(|m| Member {
                node: CustomNode::Part(m.node),
                always: m.always,
                required: m.required,
            }),
        }
    }

    fn rest(&self) -> Option<CustomNode> {
        self.part().rest().map(CustomNode::Part)
    }

    fn item(&self) -> CustomNode {
        CustomNode::Part(self.part().item())
    }

    fn key_default(&self, key: &str) -> Option<Scalar> {
        self.part().key_default(key)
    }
}

impl Versions for OfCustom<'_> {
    type Node = CustomNode;

    fn schema(&self, version: &str) -> Option<CustomNode> {
        let own = kinds::api_version(&self.kind.group, &self.kind.version);
        (own == version).then_some(CustomNode::Root)
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        (from == to).then(|| object.clone())
    }

    fn kept(&self, _version: &str, set: Set) -> Set {
        match (self.subresource, self.kind.status) {
            ("", true) => set.without_trees(&Set::of_fields(&[&["status"]])),
            ("status", _) => set.intersection_with_tree("status"),
            _ => set,
        }
    }
}

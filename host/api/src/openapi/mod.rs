//! OpenAPI documents from the tables of kinds and facts, with descriptions that
//! the build took from the dependency.

mod defaults;
mod gnostic;
mod parameters;
mod paths;
mod v2;
mod v3;

pub use gnostic::encode as gnostic;
pub use v2::document as v2;
pub use v3::document as v3;

use crate::facts::{self, Shape};
use crate::kinds::KindRef;
use flate2::read::ZlibDecoder;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::Read as _;

const DESCRIPTIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.json.z"));

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// What every group-version's document holds beside its kinds.
const SHARED: &[&str] = &[
    "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
    paths::PATCH,
    "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
];

/// Texts by type and field. Unpacked for the making of a document and dropped
/// with it: documents are made rarely and kept packed.
pub(crate) struct Descriptions(Map<String, Value>);

impl Descriptions {
    pub(crate) fn unpack() -> Descriptions {
        let mut text = Vec::new();
        // The build wrote them: they unpack and parse.
        let read = ZlibDecoder::new(DESCRIPTIONS).read_to_end(&mut text);
        let parsed = read
            .ok()
            .and_then(|_| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Descriptions(parsed)
    }

    /// Of a field, or with "" of the type itself.
    pub(crate) fn of(&self, type_name: &str, field: &str) -> Option<&str> {
        self.0.get(type_name)?.get(field)?.as_str()
    }
}

/// The types that the kinds' documents speak of.
fn reachable<'a>(kinds: impl Iterator<Item = &'a KindRef>) -> BTreeSet<&'static str> {
    fn visit(name: &str, seen: &mut BTreeSet<&'static str>) {
        let Some(facts) = facts::of(name) else {
            return;
        };
        if seen.insert(facts.name) {
            facts.fields.iter().for_each(|f| follow(&f.shape, seen));
        }
    }
    fn follow(shape: &Shape, seen: &mut BTreeSet<&'static str>) {
        match shape {
            Shape::Ref(name) => visit(name, seen),
            Shape::List(inner) | Shape::Map(inner) => follow(inner, seen),
            Shape::Scalar(_) => {}
        }
    }
    let mut seen = BTreeSet::new();
    for kind in kinds {
        visit(kind.type_name(), &mut seen);
        if kind.custom().is_some() {
            visit(OBJECT_META, &mut seen);
        }
        for sub in kind.subresources() {
            let (group, version, name, _) = sub.discovery();
            let of = name.and_then(|n| facts::of_gvk((group, version, n)));
            let own = || facts::of_gvk((kind.group(), kind.version(), name?));
            if let Some(facts) = of.or_else(own) {
                visit(facts.name, &mut seen);
            }
        }
    }
    SHARED.iter().for_each(|name| visit(name, &mut seen));
    seen
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!([{"group": group, "version": version, "kind": kind}])
}

/// The full name of a kind's list type.
fn list_type(kind: &KindRef) -> String {
    format!("{}List", kind.type_name())
}

#[cfg(test)]
mod tests;

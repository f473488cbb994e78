//! Ownership of the built-in kinds: their types from the facts table, their
//! versions from the table of kinds, and the fields that an endpoint doesn't
//! take from its clients, which a write through it therefore can't own.

use super::schema::FactsNode;
use super::set::Set;
use super::updater::Versions;
use crate::kinds::{KINDS, Kind, Subresource};
use serde_json::Value;

/// One endpoint of a built-in kind.
#[derive(Clone, Copy)]
pub struct BuiltIn<'a> {
    pub kind: &'a Kind,
    /// Empty for the object itself.
    pub subresource: &'a str,
}

impl BuiltIn<'_> {
    fn row(&self, version: &str) -> Option<&Kind> {
        let (group, name) = version.rsplit_once('/').unwrap_or(("", version));
        let is_it = |k: &Kind| k.group == group && k.version == name;
        if is_it(self.kind) {
            return Some(self.kind);
        }
        KINDS
            .iter()
            .copied()
            .find(|k| k.storage == self.kind.storage && is_it(k))
    }
}

/// Paths that the endpoint resets; upstream's `GetResetFields`.
fn reset(kind: &Kind, subresource: &str) -> Vec<&'static [&'static str]> {
    match (kind.plural, subresource) {
        (_, "") if kind.subresources.contains(&Subresource::Status) => vec![&["status"]],
        ("pods", "status") => vec![
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ],
        ("deployments", "status") => vec![&["spec"], &["metadata", "labels"]],
        (_, "status") => vec![&["spec"]],
        _ => Vec::new(),
    }
}

impl Versions for BuiltIn<'_> {
    type Node = FactsNode;

    fn schema(&self, version: &str) -> Option<FactsNode> {
        self.row(version).map(|k| FactsNode::named(k.type_name))
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        let (from, to) = (self.row(from)?, self.row(to)?);
        let mut out = object.clone();
        (from.to_stored)(&mut out);
        (to.from_stored)(&mut out);
        Some(out)
    }

    fn kept(&self, _version: &str, set: Set) -> Set {
        let paths = reset(self.kind, self.subresource);
        match paths.is_empty() {
            true => set,
            false => set.without_trees(&Set::of_fields(&paths)),
        }
    }
}

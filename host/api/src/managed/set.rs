//! Sets of fields as trees. An entry is a member, or leads to members below
//! it, or both; no entry is neither. Entries are sorted, so that every
//! operation on two sets is one walk over both.

use super::element::PathElement;
use serde_json::{Map, Value};
use std::cmp::Ordering;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub element: PathElement,
    pub member: bool,
    pub children: Set,
}

/// What an operation does with one entry of either set.
type Combine = fn(Option<&Entry>, Option<&Entry>) -> (bool, Set);

impl Set {
    /// Entries in any order; equal ones are joined, empty ones dropped.
    pub fn from_entries(mut entries: Vec<Entry>) -> Set {
        entries.retain(|e| e.member || !e.children.is_empty());
        if !entries.is_sorted_by(|a, b| a.element < b.element) {
            entries.sort_by(|a, b| a.element.cmp(&b.element));
            entries.dedup_by(|next, kept| {
                let same = next.element == kept.element;
                if same {
                    kept.member |= next.member;
                    kept.children = kept.children.union(&next.children);
                }
                same
            });
        }
        Set(entries)
    }

    /// The set of one path; its parents are no members.
    pub fn of_path(path: &[PathElement]) -> Set {
        match path {
            [] => Set::default(),
            [element, rest @ ..] => Set(vec![Entry {
                element: element.clone(),
                member: rest.is_empty(),
                children: Set::of_path(rest),
            }]),
        }
    }

    /// Of paths of plain fields: `&["metadata", "name"]`.
    pub fn of_fields(paths: &[&[&str]]) -> Set {
        paths.iter().fold(Set::default(), |set, path| {
            let path: Vec<PathElement> = path.iter().map(|f| PathElement::field(f)).collect();
            set.union(&Set::of_path(&path))
        })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub fn entry(&self, element: &PathElement) -> Option<&Entry> {
        self.0
            .binary_search_by(|e| e.element.cmp(element))
            .ok()
            .map(|i| &self.0[i])
    }

    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.entry(last).is_some_and(|e| e.member),
            [first, rest @ ..] => self.entry(first).is_some_and(|e| e.children.has(rest)),
        }
    }

    pub fn union(&self, other: &Set) -> Set {
        self.combine(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member || b.member, a.children.union(&b.children)),
            (Some(e), None) | (None, Some(e)) => (e.member, e.children.clone()),
            (None, None) => (false, Set::default()),
        })
    }

    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member && b.member, a.children.intersection(&b.children)),
            _ => (false, Set::default()),
        })
    }

    /// Members of this set that aren't members of `other`.
    pub fn difference(&self, other: &Set) -> Set {
        if other.is_empty() {
            return self.clone();
        }
        self.combine(other, |a, b| match (a, b) {
            (Some(a), Some(b)) => (a.member && !b.member, a.children.difference(&b.children)),
            (Some(a), None) => (a.member, a.children.clone()),
            (None, _) => (false, Set::default()),
        })
    }

    /// Without the members of `other` and everything below them.
    pub fn without_trees(&self, other: &Set) -> Set {
        if other.is_empty() {
            return self.clone();
        }
        self.combine(other, |a, b| match (a, b) {
            (Some(_), Some(b)) if b.member => (false, Set::default()),
            (Some(a), Some(b)) => (a.member, a.children.without_trees(&b.children)),
            (Some(a), None) => (a.member, a.children.clone()),
            (None, _) => (false, Set::default()),
        })
    }

    /// Only what is in or below the field `name` of the root.
    pub fn intersection_with_tree(&self, name: &str) -> Set {
        let of_it = |e: &&Entry| e.element == PathElement::field(name);
        Set(self.0.iter().filter(of_it).cloned().collect())
    }

    fn combine(&self, other: &Set, with: Combine) -> Set {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut out = Vec::with_capacity(self.0.len());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return Set(out),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.element.cmp(&b.element),
            };
            let left = if order.is_le() { a.next() } else { None };
            let right = if order.is_ge() { b.next() } else { None };
            let (member, children) = with(left, right);
            if let (true, Some(e)) = (member || !children.is_empty(), left.or(right)) {
                out.push(Entry {
                    element: e.element.clone(),
                    member,
                    children,
                });
            }
        }
    }

    /// Every member with its path, parents before what is below them.
    pub fn each(&self, visit: &mut impl FnMut(&[PathElement])) {
        self.each_below(&mut Vec::new(), visit);
    }

    fn each_below(&self, path: &mut Vec<PathElement>, visit: &mut impl FnMut(&[PathElement])) {
        for e in self.0.iter().filter(|e| e.member) {
            path.push(e.element.clone());
            visit(path);
            path.pop();
        }
        for e in self.0.iter().filter(|e| !e.children.is_empty()) {
            path.push(e.element.clone());
            e.children.each_below(path, visit);
            path.pop();
        }
    }

    /// FieldsV1: a tree of objects, where `.` marks a member with children.
    pub fn to_fields(&self) -> Value {
        Value::Object(self.fields(false))
    }

    fn fields(&self, is_member: bool) -> Map<String, Value> {
        let mut out = Map::with_capacity(self.0.len() + 1);
        if is_member && !self.is_empty() {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for e in &self.0 {
            let mut key = String::new();
            e.element.write(&mut key);
            out.insert(key, Value::Object(e.children.fields(e.member)));
        }
        out
    }

    /// Reads FieldsV1. Its depth is bounded by the parser of the body.
    pub fn from_fields(value: &Value) -> Result<Set, String> {
        let Value::Object(members) = value else {
            return Err("fieldsV1 must be an object".to_owned());
        };
        let entries = members
            .iter()
            .filter(|(key, _)| *key != ".")
            .map(|(key, below)| {
                let children = Set::from_fields(below)?;
                Ok(Entry {
                    element: PathElement::parse(key)?,
                    member: children.is_empty() || below.get(".").is_some(),
                    children,
                })
            })
            .collect::<Result<Vec<Entry>, String>>()?;
        Ok(Set::from_entries(entries))
    }
}

/// A path as messages show it.
pub fn shown(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

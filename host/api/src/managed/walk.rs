//! One value, or two beside each other, seen through their type: the set of
//! fields that a value has, and what was added, changed and removed between
//! two values. Depth is bounded by the parsers that made the values.

use super::element::{PathElement, Scalar};
use super::schema::{ListType, MapType, SchemaNode};
use super::set::{Entry, Set};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The form that a type takes for one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Scalar,
    List,
    Map,
}

/// The form for `value`; null takes any, and what fits none is left to
/// validation.
pub(super) fn form<S: SchemaNode>(node: &S, value: &Value) -> Form {
    let (scalar, list, map) = (node.scalar(), node.list(), node.map());
    match value {
        Value::Array(_) if list.is_some() => Form::List,
        Value::Object(_) if map.is_some() => Form::Map,
        Value::Bool(_) | Value::Number(_) | Value::String(_) if scalar.is_some() => Form::Scalar,
        _ if map.is_some() => Form::Map,
        _ if scalar.is_some() => Form::Scalar,
        _ => Form::List,
    }
}

/// What stands for a list's item in a path.
pub(super) fn item_element<S: SchemaNode>(node: &S, item: &Value) -> Result<PathElement, String> {
    let keys = match node.list() {
        Some(ListType::Map(keys)) => keys,
        Some(ListType::Set) => {
            return match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type")
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements"),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null")
                }
                other => Ok(Scalar::of(other).map(PathElement::Value)),
            }
            .map_err(str::to_owned)
            .and_then(|element| element.ok_or_else(String::new));
        }
        Some(ListType::Atomic) | None => {
            return Err("invalid indexing of non-associative list".to_owned());
        }
    };
    let members = match item {
        Value::Object(members) => members,
        Value::Null => {
            return Err("associative list with keys may not have a null element".to_owned());
        }
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut fields: Vec<(Box<str>, Scalar)> = keys
        .iter()
        .filter_map(|key| {
            let value = match members.get(*key) {
                Some(value) => Scalar::of(value)?,
                None => node.key_default(key)?,
            };
            Some(((*key).into(), value))
        })
        .collect();
    if fields.is_empty() {
        let quoted: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            quoted.join(" ")
        ));
    }
    fields.sort();
    Ok(PathElement::Key(fields))
}

/// A member's type: the declared one, or that of undeclared members.
pub(super) fn member_node<S: SchemaNode>(node: &S, name: &str) -> Option<S> {
    node.field(name).map(|m| m.node).or_else(|| node.rest())
}

pub(super) fn is_atomic_list<S: SchemaNode>(node: &S) -> bool {
    !matches!(node.list(), Some(ListType::Set | ListType::Map(_)))
}

pub(super) fn is_atomic_map<S: SchemaNode>(node: &S) -> bool {
    node.map() != Some(MapType::Granular)
}

/// Every field that `value` mentions.
pub fn field_set<S: SchemaNode>(node: &S, value: &Value) -> Set {
    mentioned(node, value).1
}

/// Whether the value itself is a member of its parent's set, and its parts.
fn mentioned<S: SchemaNode>(node: &S, value: &Value) -> (bool, Set) {
    match form(node, value) {
        Form::Scalar => (true, Set::default()),
        Form::List if is_atomic_list(node) => (true, Set::default()),
        Form::Map if is_atomic_map(node) => (true, Set::default()),
        Form::List => (false, mentioned_items(node, value)),
        Form::Map => {
            let members = value.as_object().into_iter().flatten();
            let entries = members.filter_map(|(key, value)| {
                let declared = node.field(key).map(|m| m.node);
                let is_declared = declared.is_some();
                let child = declared.or_else(|| node.rest())?;
                let (member, children) = mentioned(&child, value);
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                Some(Entry {
                    element: PathElement::field(key),
                    member: member || is_empty || !is_declared,
                    children,
                })
            });
            (false, Set::from_entries(entries.collect()))
        }
    }
}

fn mentioned_items<S: SchemaNode>(node: &S, value: &Value) -> Set {
    let inner = node.item();
    let entries = grouped(node, Some(value))
        .into_iter()
        .map(|(element, items)| {
            let children = match items.as_slice() {
                [item] => mentioned(&inner, item).1,
                // Of doubles nobody owns the parts.
                _ => Set::default(),
            };
            Entry {
                element,
                member: true,
                children,
            }
        });
    Set::from_entries(entries.collect())
}

/// A list's items by what stands for them; those that nothing can stand for
/// are left to validation.
fn grouped<'a, S: SchemaNode>(
    node: &S,
    list: Option<&'a Value>,
) -> BTreeMap<PathElement, Vec<&'a Value>> {
    let mut out: BTreeMap<PathElement, Vec<&Value>> = BTreeMap::new();
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        if let Ok(element) = item_element(node, item) {
            out.entry(element).or_default().push(item);
        }
    }
    out
}

/// What differs between two values of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Each of the three through `filter`.
    pub fn filter(self, filter: impl Fn(Set) -> Set) -> Comparison {
        Comparison {
            added: filter(self.added),
            modified: filter(self.modified),
            removed: filter(self.removed),
        }
    }
}

/// What happened to a value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Modified,
    Removed,
}

#[derive(Default)]
struct Parts {
    added: Vec<Entry>,
    modified: Vec<Entry>,
    removed: Vec<Entry>,
}

impl Parts {
    fn push(&mut self, element: PathElement, change: Change, below: Comparison) {
        for (list, which, children) in [
            (&mut self.added, Change::Added, below.added),
            (&mut self.modified, Change::Modified, below.modified),
            (&mut self.removed, Change::Removed, below.removed),
        ] {
            if change == which || !children.is_empty() {
                list.push(Entry {
                    element: element.clone(),
                    member: change == which,
                    children,
                });
            }
        }
    }

    fn finish(self) -> Comparison {
        Comparison {
            added: Set::from_entries(self.added),
            modified: Set::from_entries(self.modified),
            removed: Set::from_entries(self.removed),
        }
    }
}

/// From `old` to `new`, two values of the type `node`.
pub fn compare<S: SchemaNode>(node: &S, old: &Value, new: &Value) -> Comparison {
    changes(node, Some(old), Some(new)).1
}

fn changes<S: SchemaNode>(
    node: &S,
    old: Option<&Value>,
    new: Option<&Value>,
) -> (Change, Comparison) {
    let forms = (old.map(|v| form(node, v)), new.map(|v| form(node, v)));
    let (leaf, mut below) = match forms {
        (None, None) => return (Change::None, Comparison::default()),
        (Some(a), Some(b)) if a != b => {
            let first = changes_as(node, a, old, new);
            let second = changes_as(node, b, old, new);
            let both = Comparison {
                added: first.1.added.union(&second.1.added),
                modified: first.1.modified.union(&second.1.modified),
                removed: first.1.removed.union(&second.1.removed),
            };
            (first.0 || second.0, both)
        }
        (Some(form), _) | (None, Some(form)) => changes_as(node, form, old, new),
    };
    let change = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        (Some(old), Some(new)) if leaf && old != new => Change::Modified,
        _ => Change::None,
    };
    if leaf && old.is_some() != new.is_some() {
        below = Comparison::default();
    }
    (change, below)
}

/// Whether the value is owned as a whole, and else what differs in its parts.
fn changes_as<S: SchemaNode>(
    node: &S,
    form: Form,
    old: Option<&Value>,
    new: Option<&Value>,
) -> (bool, Comparison) {
    let whole = (true, Comparison::default());
    match form {
        Form::Scalar => whole,
        Form::List => {
            let filled = |v: Option<&Value>| {
                v.and_then(Value::as_array)
                    .is_some_and(|list| !list.is_empty())
            };
            if is_atomic_list(node) || !(filled(old) || filled(new)) {
                return whole;
            }
            (false, item_changes(node, old, new))
        }
        Form::Map => {
            let filled =
                |v: Option<&Value>| v.and_then(Value::as_object).is_some_and(|m| !m.is_empty());
            if is_atomic_map(node) || !(filled(old) || filled(new)) {
                return whole;
            }
            (false, member_changes(node, old, new))
        }
    }
}

fn item_changes<S: SchemaNode>(node: &S, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let inner = node.item();
    let mut before = grouped(node, old);
    let after = grouped(node, new);
    let mut parts = Parts::default();
    for (element, new) in after {
        let old = before.remove(&element).unwrap_or_default();
        item_change(&inner, element, &old, &new, &mut parts);
    }
    for (element, old) in before {
        item_change(&inner, element, &old, &[], &mut parts);
    }
    parts.finish()
}

/// Doubles count as one whole.
fn item_change<S: SchemaNode>(
    inner: &S,
    element: PathElement,
    old: &[&Value],
    new: &[&Value],
    parts: &mut Parts,
) {
    match (old, new) {
        ([] | [_], [] | [_]) => {
            let (change, below) = changes(inner, old.first().copied(), new.first().copied());
            parts.push(element, change, below);
        }
        ([_, _, ..], [_, _, ..]) => {
            if old != new {
                parts.push(element, Change::Modified, Comparison::default());
            }
        }
        ([_, _, ..], _) => {
            let (change, below) = changes(inner, None, new.first().copied());
            parts.push(element.clone(), change, below);
            parts.push(element, Change::Removed, Comparison::default());
        }
        (_, [_, _, ..]) => {
            let (change, below) = changes(inner, old.first().copied(), None);
            parts.push(element.clone(), change, below);
            parts.push(element, Change::Added, Comparison::default());
        }
    }
}

fn member_changes<S: SchemaNode>(node: &S, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    let (old_map, new_map) = (
        old.and_then(Value::as_object),
        new.and_then(Value::as_object),
    );
    let both = old.is_some() && new.is_some();
    let mut parts = Parts::default();
    let mut visit = |key: &str, old: Option<&Value>, new: Option<&Value>| {
        let declared = node.field(key);
        // What is always there can be neither added nor removed with its parent
        // staying: it only gets filled and emptied.
        let nothing = match &declared {
            Some(m) if both && m.always => Some(empty()),
            Some(m) if both && m.required => Some(&Value::Null),
            _ => None,
        };
        let Some(child) = declared.map(|m| m.node).or_else(|| node.rest()) else {
            return;
        };
        let (change, below) = changes(&child, old.or(nothing), new.or(nothing));
        if change != Change::None || !below.is_same() {
            parts.push(PathElement::field(key), change, below);
        }
    };
    for (key, value) in old_map.into_iter().flatten() {
        visit(key, Some(value), new_map.and_then(|m| m.get(key)));
    }
    for (key, value) in new_map.into_iter().flatten() {
        if old_map.is_none_or(|m| !m.contains_key(key)) {
            visit(key, None, Some(value));
        }
    }
    parts.finish()
}

fn empty() -> &'static Value {
    static EMPTY: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    EMPTY.get_or_init(|| Value::Object(Map::new()))
}

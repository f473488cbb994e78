//! Values changed by sets and by each other: an applied configuration merged
//! into what stands, fields removed, sets completed with the structs that they
//! pass through, and sets brought to a schema that changed meanwhile.

use super::element::PathElement;
use super::schema::{ScalarType, SchemaNode};
use super::set::{Entry, Set};
use super::walk::{Form, form, is_atomic_list, is_atomic_map, item_element, member_node};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// `live` with everything that `config` says. Nothing is removed; lists keep
/// their order, but what `config` names stands in its order.
pub fn merge<S: SchemaNode>(node: &S, live: &Value, config: &Value) -> Value {
    merged(node, Some(live), Some(config)).unwrap_or(Value::Null)
}

fn merged<S: SchemaNode>(node: &S, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let form = form(node, config.or(live)?);
    let filled = |v: Option<&Value>| match v {
        Some(Value::Array(list)) => form == Form::List && !list.is_empty(),
        Some(Value::Object(map)) => form == Form::Map && !map.is_empty(),
        _ => false,
    };
    let leaf = match form {
        Form::Scalar => true,
        Form::List => is_atomic_list(node),
        Form::Map => is_atomic_map(node),
    };
    if leaf || !(filled(live) || filled(config)) {
        return config.or(live).cloned();
    }
    match form {
        Form::Map => merged_map(node, live, config),
        Form::List | Form::Scalar => merged_list(node, live, config),
    }
}

fn merged_map<S: SchemaNode>(
    node: &S,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Option<Value> {
    let (live, config) = (
        live.and_then(Value::as_object),
        config.and_then(Value::as_object),
    );
    let mut out = Map::new();
    for (key, value) in live.into_iter().flatten() {
        let new = config.and_then(|m| m.get(key));
        let value = match (new, member_node(node, key)) {
            (Some(_), Some(child)) => merged(&child, Some(value), new),
            (None, _) | (_, None) => Some(value.clone()),
        };
        out.extend(value.map(|v| (key.clone(), v)));
    }
    for (key, value) in config.into_iter().flatten() {
        if live.is_none_or(|m| !m.contains_key(key)) {
            out.insert(key.clone(), value.clone());
        }
    }
    (!out.is_empty()).then(|| Value::Object(out))
}

/// A list's items in order with what stands for each.
fn indexed<'a, S: SchemaNode>(
    node: &S,
    list: Option<&'a Value>,
) -> VecDeque<(PathElement, &'a Value)> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|item| Some((item_element(node, item).ok()?, item)))
        .collect()
}

/// Items that only `live` has stay where they are relative to those before
/// them; items of both come in the order of `config`.
fn merged_list<S: SchemaNode>(
    node: &S,
    live: Option<&Value>,
    config: Option<&Value>,
) -> Option<Value> {
    let inner = node.item();
    let (mut left, mut right) = (indexed(node, live), indexed(node, config));
    let mut standing: BTreeMap<PathElement, Option<&Value>> = BTreeMap::new();
    for (element, item) in &left {
        // Doubles of what is applied are replaced, not merged into.
        standing
            .entry(element.clone())
            .and_modify(|v| *v = None)
            .or_insert(Some(item));
    }
    let named: BTreeSet<PathElement> = right.iter().map(|(e, _)| e.clone()).collect();
    let mut shared: VecDeque<PathElement> = right
        .iter()
        .map(|(e, _)| e)
        .filter(|e| standing.contains_key(*e))
        .cloned()
        .collect();
    let mut done: BTreeSet<PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    loop {
        if let Some((element, item)) = left.front() {
            if !named.contains(element) {
                out.push((*item).clone());
                left.pop_front();
                continue;
            }
            let is_next = right.front().is_some_and(|(e, _)| e == element);
            let overtaken = !right.is_empty() && shared.front().is_some_and(|s| s != element);
            if !is_next && overtaken {
                left.pop_front();
                continue;
            }
            if is_next || done.contains(element) {
                left.pop_front();
            }
        }
        let Some((element, item)) = right.pop_front() else {
            match left.is_empty() {
                true => break,
                false => continue,
            }
        };
        if shared.front() == Some(&element) {
            shared.pop_front();
        }
        let before = standing.get(&element).copied().flatten();
        out.extend(merged(&inner, before, Some(item)));
        done.insert(element);
    }
    (!out.is_empty()).then(|| Value::Array(out))
}

/// `value` without the members of `set`. A list or a map that loses everything
/// goes too; where there is nothing to take it from, it becomes null.
///
/// Upstream leaves nulls, which disappear when the object is typed, while who
/// owned such a map goes on owning what isn't there.
pub fn remove<S: SchemaNode>(node: &S, value: &Value, set: &Set) -> Value {
    if set.is_empty() {
        return value.clone();
    }
    match (form(node, value), value) {
        (Form::List, Value::Array(items)) if !is_atomic_list(node) => {
            let inner = node.item();
            let kept = items.iter().filter_map(|item| {
                let found = item_element(node, item).ok();
                match found.and_then(|e| set.entry(&e)) {
                    None => Some(item.clone()),
                    Some(entry) if entry.member => None,
                    Some(entry) => Some(remove(&inner, item, &entry.children)),
                }
            });
            filled(Value::Array(kept.collect()))
        }
        (Form::Map, Value::Object(members)) if !is_atomic_map(node) => {
            let kept = members.iter().filter_map(|(key, value)| {
                let left = match set.entry(&PathElement::field(key)) {
                    None => value.clone(),
                    Some(entry) if entry.member => return None,
                    Some(entry) => match member_node(node, key) {
                        Some(child) => remove(&child, value, &entry.children),
                        None => value.clone(),
                    },
                };
                let emptied = left.is_null() && !value.is_null();
                (!emptied).then(|| (key.clone(), left))
            });
            filled(Value::Object(kept.collect()))
        }
        (Form::Scalar, scalar) => scalar.clone(),
        _ => Value::Null,
    }
}

fn filled(value: Value) -> Value {
    let empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    if empty { Value::Null } else { value }
}

/// `set` with every declared member that it only passes through.
pub fn with_structs<S: SchemaNode>(node: Option<&S>, set: &Set) -> Set {
    let entries = set.entries().iter().map(|e| {
        let (declared, child) = match (&e.element, node) {
            (PathElement::Field(name), Some(node)) if node.map().is_some() => {
                match node.field(name) {
                    Some(member) => (true, Some(member.node)),
                    None => (false, node.rest()),
                }
            }
            (PathElement::Key(_), Some(node)) if node.list().is_some() => {
                (false, Some(node.item()))
            }
            _ => (false, None),
        };
        Entry {
            element: e.element.clone(),
            member: e.member || (declared && !e.children.is_empty()),
            children: with_structs(child.as_ref(), &e.children),
        }
    });
    Set::from_entries(entries.collect())
}

/// `set` as it is owned now: of what has become atomic since, its owner has
/// the whole. Fields of unknown types stay as they are.
pub fn reconciled<S: SchemaNode>(node: &S, set: &Set) -> Set {
    let entries = set.entries().iter().map(|e| {
        let child = match &e.element {
            PathElement::Field(name) => member_node(node, name),
            PathElement::Key(_) | PathElement::Value(_) | PathElement::Index(_) => {
                node.list().map(|_| node.item())
            }
        };
        let mut entry = e.clone();
        if let (Some(child), false) = (child, e.children.is_empty()) {
            let only_list = child.map().is_none() && child.list().is_some();
            let only_map = child.list().is_none() && child.map().is_some();
            if (only_list && is_atomic_list(&child)) || (only_map && is_atomic_map(&child)) {
                entry.member = true;
                entry.children = Set::default();
            } else {
                entry.children = reconciled(&child, &e.children);
            }
        }
        entry
    });
    Set::from_entries(entries.collect())
}

/// Every fault of `value` as a value of its type, in upstream's words.
pub fn validate<S: SchemaNode>(node: &S, value: &Value, doubles: bool) -> Result<(), String> {
    let mut faults = Vec::new();
    check(node, value, doubles, "", &mut faults);
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

/// Most faults that one value reports.
const MAX_FAULTS: usize = 100;

fn check<S: SchemaNode>(
    node: &S,
    value: &Value,
    doubles: bool,
    path: &str,
    faults: &mut Vec<String>,
) {
    if faults.len() >= MAX_FAULTS {
        return;
    }
    let mut fault = |path: &str, what: &str| {
        faults.push(match path {
            "" => what.to_owned(),
            path => format!("{path}: {what}"),
        });
    };
    match (form(node, value), value) {
        (_, Value::Null) => {}
        (Form::Scalar, value) => {
            if let Some(what) = node.scalar().and_then(|wanted| misfit(wanted, value)) {
                fault(path, &what);
            }
        }
        (Form::List, Value::Array(items)) => check_items(node, items, doubles, path, faults),
        (Form::Map, Value::Object(members)) => {
            for (key, value) in members {
                let path = format!("{path}.{key}");
                match member_node(node, key) {
                    Some(child) => check(&child, value, doubles, &path, faults),
                    None => {
                        faults.push(format!("{path}: field not declared in schema"));
                        return;
                    }
                }
            }
        }
        (Form::List, value) => fault(path, &format!("expected list, got {}", shown(value))),
        (Form::Map, value) => fault(path, &format!("expected map, got {}", shown(value))),
    }
}

fn check_items<S: SchemaNode>(
    node: &S,
    items: &[Value],
    doubles: bool,
    path: &str,
    faults: &mut Vec<String>,
) {
    let (inner, atomic) = (node.item(), is_atomic_list(node));
    let mut seen = BTreeSet::new();
    for (i, item) in items.iter().enumerate() {
        let element = match atomic {
            true => i64::try_from(i)
                .map(PathElement::Index)
                .map_err(|e| e.to_string()),
            false => item_element(node, item),
        };
        let element = match element {
            Ok(element) => element,
            Err(why) => {
                faults.push(format!("{path}: element {i}: {why}"));
                return;
            }
        };
        let below = format!("{path}{element}");
        if !atomic && !seen.insert(element.clone()) && !doubles {
            faults.push(format!("{path}: duplicate entries for key {element}"));
        }
        check(&inner, item, doubles, &below, faults);
    }
}

/// Upstream prints the holder of a value as Go does.
fn shown(value: &Value) -> String {
    format!("&{{{}}}", plain(value))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn misfit(wanted: ScalarType, value: &Value) -> Option<String> {
    let fits = match wanted {
        ScalarType::Number => value.is_number(),
        ScalarType::Text => value.is_string(),
        ScalarType::Flag => value.is_boolean(),
        ScalarType::Any => !(value.is_array() || value.is_object()),
    };
    let kind = match value {
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) | Value::Null => "map[string]interface {}",
    };
    (!fits).then(|| match wanted {
        ScalarType::Number => format!("expected numeric (int or float), got {kind}"),
        ScalarType::Text => {
            format!("expected string, got &value.valueUnstructured{{Value:{value}}}")
        }
        ScalarType::Flag => format!("expected boolean, got {}", shown(value)),
        ScalarType::Any => format!("expected any scalar, got {}", shown(value)),
    })
}

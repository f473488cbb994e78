//! JSON patch (RFC 6902) as upstream understands it: `evanphx/json-patch` v4,
//! which takes some liberties that clients rely on.
//!
//! | what | here |
//! | --- | --- |
//! | `test` of a member that isn't there | it is null |
//! | `replace` of a member that isn't there | makes it |
//! | `copy` of a member that isn't there | copies null |
//! | an index below zero | counts from the end |
//! | the whole document | can't be named |
//!
//! Work is bounded: operations, bytes that copies add, values that are put
//! somewhere, and how deep they come to lie, because an object that nests
//! deeper is never read again.

use super::PatchError;
use serde_json::{Map, Value};

/// Most operations in one patch, as upstream bounds it.
const MAX_OPERATIONS: usize = 10_000;
/// Most bytes that the copies of a patch may add (`JSONPatchMaxCopyBytes`).
const MAX_COPIED: usize = 3 << 20;
/// What the parser of bodies and of stored objects goes down to.
const MAX_DEPTH: usize = 120;
/// Most values that are put somewhere, moved ones each time again.
const MAX_VISITED: usize = 10_000_000;

/// Why an operation fails, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failure {
    TestFailed(String),
    Other(String),
}

impl Failure {
    fn missing(what: String) -> Failure {
        Failure::Other(format!("{what}: missing value"))
    }

    fn within(self, context: &str) -> Failure {
        match self {
            Failure::TestFailed(why) => Failure::TestFailed(format!("{context}: {why}")),
            Failure::Other(why) => Failure::Other(format!("{context}: {why}")),
        }
    }
}

type Outcome<T> = Result<T, Failure>;

/// Applies `patch` to an object. After an error the target is of no use.
pub fn json_patch(target: &mut Value, patch: Value) -> Result<(), PatchError> {
    match apply(target, &operations(patch)?) {
        Ok(()) => Ok(()),
        Err(Failure::TestFailed(why) | Failure::Other(why)) => Err(PatchError::Inapplicable(why)),
    }
}

/// The same; false if a test in the patch fails. Then, too, what became of the
/// target is of no use.
pub fn json_patch_if(target: &mut Value, patch: Value) -> Result<bool, PatchError> {
    match apply(target, &operations(patch)?) {
        Ok(()) => Ok(true),
        Err(Failure::TestFailed(_)) => Ok(false),
        Err(Failure::Other(why)) => Err(PatchError::Inapplicable(why)),
    }
}

/// One operation's members; absent and null are told apart for the value alone.
struct Operation {
    op: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

fn operations(patch: Value) -> Result<Vec<Operation>, PatchError> {
    let Value::Array(list) = patch else {
        let what = kind(&patch);
        return Err(PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {what} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    if list.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            list.len()
        )));
    }
    list.into_iter().map(operation).collect()
}

fn operation(value: Value) -> Result<Operation, PatchError> {
    let mut members = match value {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        other => {
            let what = kind(&other);
            return Err(PatchError::Malformed(format!(
                "error decoding patch: json: cannot unmarshal {what} into Go value of type handlers.jsonPatchOp"
            )));
        }
    };
    let text = |key: &str| match members.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {} into Go struct field jsonPatchOp.{key} of type string",
            kind(other)
        ))),
    };
    Ok(Operation {
        op: text("op")?.unwrap_or_else(|| "unknown".to_owned()),
        path: text("path")?,
        from: text("from")?,
        value: members.shift_remove("value"),
    })
}

/// What Go's decoder calls a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn apply(target: &mut Value, operations: &[Operation]) -> Outcome<()> {
    let mut spent = Spent::default();
    for operation in operations {
        match operation.op.as_str() {
            "add" => add(target, operation, &mut spent)?,
            "remove" => remove(target, operation)?,
            "replace" => replace(target, operation, &mut spent)?,
            "move" => move_value(target, operation, &mut spent)?,
            "test" => test(target, operation)?,
            "copy" => copy(target, operation, &mut spent)?,
            other => return Err(Failure::Other(format!("Unexpected kind: {other}"))),
        }
    }
    Ok(())
}

/// What a patch has used of its bounds.
#[derive(Default)]
struct Spent {
    copied: usize,
    visited: usize,
}

impl Spent {
    /// Whether `value` may stand at `path`: not too deep there, and not looked
    /// at too often.
    fn place(&mut self, value: &Value, path: &str) -> Outcome<()> {
        let mut left = vec![(value, path.matches('/').count())];
        while let Some((value, depth)) = left.pop() {
            self.visited += 1;
            if depth > MAX_DEPTH || self.visited > MAX_VISITED {
                return Err(Failure::Other("exceeded max depth".to_owned()));
            }
            match value {
                Value::Array(items) => left.extend(items.iter().map(|v| (v, depth + 1))),
                Value::Object(members) => left.extend(members.values().map(|v| (v, depth + 1))),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        Ok(())
    }
}

/// What holds the last step of a path, and that step.
fn find<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    // What stands before the first slash doesn't count.
    let (_, inner) = path.split_once('/')?;
    let (steps, last) = match inner.rsplit_once('/') {
        Some((steps, last)) => (Some(steps), last),
        None => (None, inner),
    };
    let steps = steps.into_iter().flat_map(|steps| steps.split('/'));
    let mut at = target;
    for step in steps {
        let step = decoded(step);
        at = match at {
            Value::Object(members) => members.get_mut(&step)?,
            Value::Array(items) => {
                let index = index(&step, items.len()).ok()?;
                items.get_mut(index)?
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    matches!(at, Value::Object(_) | Value::Array(_)).then(|| (at, decoded(last)))
}

fn decoded(step: &str) -> String {
    let mut out = String::with_capacity(step.len());
    let mut rest = step;
    while let Some(at) = rest.find('~') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let (char, length) = match tail.as_bytes().get(1) {
            Some(b'0') => ('~', 2),
            Some(b'1') => ('/', 2),
            _ => ('~', 1),
        };
        out.push(char);
        rest = &tail[length..];
    }
    out + rest
}

/// An index as Go reads one, of a list of `length`.
fn index(step: &str, length: usize) -> Outcome<usize> {
    let wrong = |why| Failure::Other(format!("strconv.Atoi: parsing {step:?}: {why}"));
    let digits = step.strip_prefix(['+', '-']).unwrap_or(step);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    let number: i64 = step.parse().map_err(|_| wrong("value out of range"))?;
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let counted = if number < 0 { number + length } else { number };
    match usize::try_from(counted) {
        Ok(index) if counted < length => Ok(index),
        _ => Err(Failure::Other(format!(
            "Unable to access invalid index: {number}: invalid index referenced"
        ))),
    }
}

/// `None`: no such member, or null.
fn get<'a>(holder: &'a Value, step: &str) -> Outcome<Option<&'a Value>> {
    let found = match holder {
        Value::Array(items) => items.get(index(step, items.len())?),
        other => other.get(step),
    };
    Ok(found.filter(|value| !value.is_null()))
}

fn put(holder: &mut Value, step: String, value: Value) -> Outcome<()> {
    match holder {
        Value::Array(items) if step == "-" => items.push(value),
        Value::Array(items) => {
            let at = index(&step, items.len() + 1).map_err(|e| match e {
                Failure::Other(why) if why.starts_with("strconv") => Failure::Other(why)
                    .within(&format!("value was not a proper array index: '{step}'")),
                other => other,
            })?;
            items.insert(at, value);
        }
        Value::Object(members) => {
            members.insert(step, value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn take(holder: &mut Value, step: &str) -> Outcome<Value> {
    match holder {
        Value::Array(items) => {
            let at = index(step, items.len())?;
            Ok(items.remove(at))
        }
        other => other
            .as_object_mut()
            .and_then(|members| members.shift_remove(step))
            .ok_or_else(|| Failure::missing(format!("Unable to remove nonexistent key: {step}"))),
    }
}

fn path<'a>(operation: &'a Operation, what: &str) -> Outcome<&'a str> {
    operation.path.as_deref().ok_or_else(|| {
        let why = match what {
            "add" | "remove" | "copy" => String::new(),
            _ => ": operation missing path field".to_owned(),
        };
        Failure::missing(format!("{what} operation failed to decode path{why}"))
    })
}

fn from<'a>(operation: &'a Operation, what: &str) -> Outcome<&'a str> {
    operation.from.as_deref().ok_or_else(|| {
        Failure::missing(format!(
            "{what} operation failed to decode from: operation, missing from field"
        ))
    })
}

fn add(target: &mut Value, operation: &Operation, spent: &mut Spent) -> Outcome<()> {
    let path = path(operation, "add")?;
    let (holder, step) = find(target, path).ok_or_else(|| {
        Failure::missing(format!(
            "add operation does not apply: doc is missing path: {path:?}"
        ))
    })?;
    let value = operation.value.clone().unwrap_or(Value::Null);
    spent.place(&value, path)?;
    put(holder, step, value).map_err(|e| e.within(&format!("error in add for path: '{path}'")))
}

fn remove(target: &mut Value, operation: &Operation) -> Outcome<()> {
    let path = path(operation, "remove")?;
    let (holder, step) = find(target, path).ok_or_else(|| {
        Failure::missing(format!(
            "remove operation does not apply: doc is missing path: {path:?}"
        ))
    })?;
    take(holder, &step)
        .map(drop)
        .map_err(|e| e.within(&format!("error in remove for path: '{path}'")))
}

fn replace(target: &mut Value, operation: &Operation, spent: &mut Spent) -> Outcome<()> {
    let path = path(operation, "replace")?;
    let missing = |what: &str| {
        Failure::missing(format!(
            "replace operation does not apply: doc is missing {what}: {path}"
        ))
    };
    let (holder, step) = find(target, path).ok_or_else(|| missing("path"))?;
    let value = operation.value.clone().unwrap_or(Value::Null);
    spent.place(&value, path)?;
    match holder {
        Value::Array(items) => {
            let at = index(&step, items.len()).map_err(|_| missing("key"))?;
            items[at] = value;
            Ok(())
        }
        other => put(other, step, value),
    }
}

fn move_value(target: &mut Value, operation: &Operation, spent: &mut Spent) -> Outcome<()> {
    let from = from(operation, "move")?;
    let (holder, step) = find(target, from).ok_or_else(|| {
        Failure::missing(format!(
            "move operation does not apply: doc is missing from path: {from}"
        ))
    })?;
    let value =
        take(holder, &step).map_err(|e| e.within(&format!("error in move for path: '{step}'")))?;
    let path = path(operation, "move")?;
    let (holder, step) = find(target, path).ok_or_else(|| {
        Failure::missing(format!(
            "move operation does not apply: doc is missing destination path: {path}"
        ))
    })?;
    spent.place(&value, path)?;
    put(holder, step, value).map_err(|e| e.within(&format!("error in move for path: '{path}'")))
}

fn test(target: &mut Value, operation: &Operation) -> Outcome<()> {
    let path = path(operation, "test")?;
    let (holder, step) = find(target, path).ok_or_else(|| {
        Failure::missing(format!(
            "test operation does not apply: is missing path: {path}"
        ))
    })?;
    let found =
        get(holder, &step).map_err(|e| e.within(&format!("error in test for path: '{path}'")))?;
    let wanted = operation.value.as_ref().filter(|value| !value.is_null());
    match found == wanted {
        true => Ok(()),
        false => Err(Failure::TestFailed(format!(
            "testing value {path} failed: test failed"
        ))),
    }
}

fn copy(target: &mut Value, operation: &Operation, spent: &mut Spent) -> Outcome<()> {
    let from = from(operation, "copy")?;
    let (holder, step) = find(target, from).ok_or_else(|| {
        Failure::missing(format!(
            "copy operation does not apply: doc is missing from path: {from}"
        ))
    })?;
    let value = get(holder, &step)
        .map_err(|e| e.within(&format!("error in copy for from: '{from}'")))?
        .cloned();
    let path = path(operation, "copy")?;
    let (holder, step) = find(target, path).ok_or_else(|| {
        Failure::missing(format!(
            "copy operation does not apply: doc is missing destination path: {path}"
        ))
    })?;
    let value = value.unwrap_or(Value::Null);
    spent.place(&value, path)?;
    spent.copied += value.to_string().len();
    if spent.copied > MAX_COPIED {
        return Err(Failure::Other(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED}",
            spent.copied
        )));
    }
    put(holder, step, value).map_err(|e| e.within("error while adding value during copy"))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

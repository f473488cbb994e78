//! Field errors: where in an object, what kind of fault, and upstream's words.
//!
//! Wording follows `apimachinery/pkg/util/validation/field`, because clients
//! and their tests read it.

use serde_json::Value;
use std::fmt;

/// The path of a field, as `spec.containers[0].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    pub fn new(root: &str) -> Path {
        Path(root.to_owned())
    }

    pub fn child(&self, name: &str) -> Path {
        if self.0.is_empty() {
            Path(name.to_owned())
        } else {
            Path(format!("{}.{name}", self.0))
        }
    }

    pub fn index(&self, i: usize) -> Path {
        Path(format!("{}[{i}]", self.0))
    }

    pub fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Required,
    Invalid(Value),
    /// Invalid, and the value is better not shown.
    InvalidUnshown,
    /// A value of another type than its schema's.
    TypeInvalid(Value),
    NotSupported(Value),
    Forbidden,
    TooLong,
    TooMany(usize),
    Duplicate(Value),
    NotFound(Value),
}

impl Fault {
    /// The machine-readable reason of a `StatusCause`.
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Required => "FieldValueRequired",
            Fault::Invalid(_) | Fault::InvalidUnshown => "FieldValueInvalid",
            Fault::TypeInvalid(_) => "FieldValueTypeInvalid",
            Fault::NotSupported(_) => "FieldValueNotSupported",
            Fault::Forbidden => "FieldValueForbidden",
            Fault::TooLong => "FieldValueTooLong",
            Fault::TooMany(_) => "FieldValueTooMany",
            Fault::Duplicate(_) => "FieldValueDuplicate",
            Fault::NotFound(_) => "FieldValueNotFound",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub path: Path,
    pub fault: Fault,
    pub detail: String,
}

impl FieldError {
    /// The error without its path, as in a `StatusCause`'s message.
    pub fn body(&self) -> String {
        let head = match &self.fault {
            Fault::Required => "Required value".to_owned(),
            Fault::InvalidUnshown => "Invalid value".to_owned(),
            Fault::Invalid(v) | Fault::TypeInvalid(v) => {
                format!("Invalid value: {}", shown(v))
            }
            Fault::NotSupported(v) => format!("Unsupported value: {}", shown(v)),
            Fault::Forbidden => "Forbidden".to_owned(),
            Fault::TooLong => "Too long".to_owned(),
            Fault::TooMany(n) => format!("Too many: {n}"),
            Fault::Duplicate(v) => format!("Duplicate value: {}", shown(v)),
            Fault::NotFound(v) => format!("Not found: {}", shown(v)),
        };
        if self.detail.is_empty() {
            head
        } else {
            format!("{head}: {}", self.detail)
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A value as an error message shows it, bounded.
fn shown(value: &Value) -> String {
    const LIMIT: usize = 10_240;
    let text = value.to_string();
    match text.char_indices().nth(LIMIT) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// The faults found so far, in the order of discovery.
#[derive(Clone, Debug, Default)]
pub struct Errors(pub Vec<FieldError>);

impl Errors {
    fn push(&mut self, path: &Path, fault: Fault, detail: impl Into<String>) {
        self.0.push(FieldError {
            path: path.clone(),
            fault,
            detail: detail.into(),
        });
    }

    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Fault::Required, detail);
    }

    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Fault::Invalid(value.into()), detail);
    }

    /// As `invalid`, without the value.
    pub fn invalid_unshown(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Fault::InvalidUnshown, detail);
    }

    pub fn too_many(&mut self, path: &Path, found: usize, max: usize) {
        let detail = format!("must have at most {max} items");
        self.push(path, Fault::TooMany(found), detail);
    }

    /// The number at `key` of `object`, if it is there, must not be negative.
    pub fn nonnegative(&mut self, object: &Value, key: &str, path: &Path) {
        if let Some(n) = object.get(key).and_then(Value::as_i64).filter(|n| *n < 0) {
            self.invalid(&path.child(key), n, "must be greater than or equal to 0");
        }
    }

    /// What stands at `key` may not differ between `new` and `old`.
    pub fn immutable(&mut self, new: &Value, old: &Value, key: &str, path: &Path) {
        if new.get(key) != old.get(key) {
            let shown = new.get(key).cloned().unwrap_or_default();
            self.invalid(&path.child(key), shown, "field is immutable");
        }
    }

    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Fault::Forbidden, detail);
    }

    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, Fault::Duplicate(value.into()), "");
    }

    pub fn not_found(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, Fault::NotFound(value.into()), "");
    }

    pub fn too_long(&mut self, path: &Path, max: usize) {
        self.push(
            path,
            Fault::TooLong,
            format!("may not be more than {max} bytes"),
        );
    }

    pub fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        self.not_supported_value(path, value.into(), supported);
    }

    pub fn not_supported_value(&mut self, path: &Path, value: Value, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.push(
            path,
            Fault::NotSupported(value),
            format!("supported values: {}", list.join(", ")),
        );
    }

    /// One `invalid` for each message of a name check.
    pub fn invalid_each(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    /// The same errors below `base`; those without a field stand at it.
    #[must_use]
    pub fn below(self, base: &Path) -> Errors {
        Errors(
            self.0
                .into_iter()
                .map(|e| FieldError {
                    path: match e.path.0.as_str() {
                        "" | "<nil>" => base.clone(),
                        path => base.child(path),
                    },
                    ..e
                })
                .collect(),
        )
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All errors in one line, equal ones once.
    pub fn aggregate(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for e in &self.0 {
            let line = e.to_string();
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        match lines.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }
}

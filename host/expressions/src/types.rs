//! Types of values, as far as they are known before an expression runs. What
//! isn't known is [`Type::Dyn`] and passes every check.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Dyn,
    Bool,
    String,
    /// Another scalar, by its name: `int`, `double`, `bytes`, `timestamp` …
    Scalar(&'static str),
    List(Arc<Type>),
    Map(Arc<Type>),
    /// These fields, by the names that expressions use, and no others.
    Object(Arc<BTreeMap<String, Type>>),
    /// A type without fields, by its full name.
    Opaque(&'static str),
}

const NUMBERS: &[&str] = &["int", "uint", "double"];

impl Type {
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Type::Scalar(name) if NUMBERS.contains(name))
    }

    /// Whether a value of one type may be one of the other.
    pub(crate) fn fits(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.fits(b),
            (Type::Object(a), Type::Object(b)) => Arc::ptr_eq(a, b) || a == b,
            (Type::Scalar("null"), of) | (of, Type::Scalar("null")) => matches!(
                of,
                Type::Object(_) | Type::Opaque(_) | Type::Scalar("null" | "timestamp" | "duration")
            ),
            (a, b) => a == b,
        }
    }

    /// The type of what is the one or the other.
    pub(crate) fn joined(self, other: Type) -> Type {
        match (&self, &other) {
            (Type::Scalar("null"), _) => other,
            (_, Type::Scalar("null")) => self,
            _ if self == other => self,
            _ => Type::Dyn,
        }
    }
}

/// As upstream's checker names them.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Bool => f.write_str("bool"),
            Type::String => f.write_str("string"),
            Type::Scalar(name) | Type::Opaque(name) => f.write_str(name),
            Type::List(of) => write!(f, "list({of})"),
            Type::Map(of) => write!(f, "map(string, {of})"),
            Type::Object(_) => f.write_str("object"),
        }
    }
}

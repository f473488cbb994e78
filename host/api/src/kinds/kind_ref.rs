//! [`KindRef`]: any kind that is served, a row of the table or one that a
//! CustomResourceDefinition brought at run time. Everything outside of the
//! rows speaks of kinds through it; it is cheap to clone.

use super::{Deletion, Kind, Subresource, api_version, update_rules};
use crate::custom::CustomKind;
use crate::field::Errors;
use crate::print::Cells;
use crate::status::Qualified;
use crate::{decode, names};
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

#[derive(Clone)]
pub enum KindRef {
    Row(&'static Kind),
    Custom(Arc<CustomKind>),
}

impl From<&'static Kind> for KindRef {
    fn from(row: &'static Kind) -> KindRef {
        KindRef::Row(row)
    }
}

impl From<Arc<CustomKind>> for KindRef {
    fn from(custom: Arc<CustomKind>) -> KindRef {
        KindRef::Custom(custom)
    }
}

impl fmt::Debug for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural())
    }
}

/// The kind itself, not an equal description of it.
impl PartialEq for KindRef {
    fn eq(&self, other: &KindRef) -> bool {
        match (self, other) {
            (KindRef::Row(a), KindRef::Row(b)) => std::ptr::eq(*a, *b),
            (KindRef::Custom(a), KindRef::Custom(b)) => Arc::ptr_eq(a, b),
            (KindRef::Row(_), KindRef::Custom(_)) | (KindRef::Custom(_), KindRef::Row(_)) => false,
        }
    }
}

/// What the kind is called and how it is reached.
impl KindRef {
    pub fn group(&self) -> &str {
        match self {
            KindRef::Row(k) => k.group,
            KindRef::Custom(c) => &c.group,
        }
    }

    pub fn version(&self) -> &str {
        match self {
            KindRef::Row(k) => k.version,
            KindRef::Custom(c) => &c.version,
        }
    }

    pub fn kind(&self) -> &str {
        match self {
            KindRef::Row(k) => k.kind,
            KindRef::Custom(c) => &c.names.kind,
        }
    }

    pub fn list_kind(&self) -> String {
        match self {
            KindRef::Row(k) => format!("{}List", k.kind),
            KindRef::Custom(c) => c.names.list_kind.clone(),
        }
    }

    pub fn plural(&self) -> &str {
        match self {
            KindRef::Row(k) => k.plural,
            KindRef::Custom(c) => &c.names.plural,
        }
    }

    pub fn singular(&self) -> &str {
        match self {
            KindRef::Row(k) => k.singular,
            KindRef::Custom(c) => &c.names.singular,
        }
    }

    pub fn short_names(&self) -> Vec<&str> {
        match self {
            KindRef::Row(k) => k.short_names.to_vec(),
            KindRef::Custom(c) => c.names.short_names.iter().map(String::as_str).collect(),
        }
    }

    pub fn categories(&self) -> Vec<&str> {
        match self {
            KindRef::Row(k) => k.categories.to_vec(),
            KindRef::Custom(c) => c.names.categories.iter().map(String::as_str).collect(),
        }
    }

    /// A word for it in metrics, from a bounded set.
    pub fn label(&self) -> &'static str {
        match self {
            KindRef::Row(k) => k.plural,
            KindRef::Custom(_) => "customresources",
        }
    }

    /// Group and version in metrics, from a bounded set.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            KindRef::Row(k) => (k.group, k.version),
            KindRef::Custom(_) => ("custom", ""),
        }
    }

    /// `v1`, `coordination.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        api_version(self.group(), self.version())
    }

    pub fn resource(&self) -> Qualified<'_> {
        Qualified {
            group: self.group(),
            name: self.plural(),
        }
    }

    pub fn qualified_kind(&self) -> Qualified<'_> {
        Qualified {
            group: self.group(),
            name: self.kind(),
        }
    }

    pub fn namespaced(&self) -> bool {
        match self {
            KindRef::Row(k) => k.namespaced,
            KindRef::Custom(c) => c.namespaced,
        }
    }

    pub fn verbs(&self) -> &'static [&'static str] {
        match self {
            KindRef::Row(k) => k.verbs,
            KindRef::Custom(c) => c.verbs(),
        }
    }

    pub fn subresources(&self) -> &'static [Subresource] {
        match self {
            KindRef::Row(k) => k.subresources,
            KindRef::Custom(c) => c.subresources(),
        }
    }

    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources().contains(&subresource)
    }

    /// Whether the kind has a `status` that only its endpoint writes.
    pub fn has_status(&self) -> bool {
        self.has(Subresource::Status)
    }

    /// `<group>/<plural>` under `/registry`; views of one object share it.
    pub fn storage(&self) -> &str {
        match self {
            KindRef::Row(k) => k.storage,
            KindRef::Custom(c) => &c.storage,
        }
    }

    /// Whether it shows what another row stores.
    pub fn is_view(&self) -> bool {
        match self {
            KindRef::Row(k) => k.view,
            KindRef::Custom(_) => false,
        }
    }

    /// The full name of its type in OpenAPI; for rows also its facts.
    pub fn type_name(&self) -> &str {
        match self {
            KindRef::Row(k) => k.type_name,
            KindRef::Custom(c) => &c.type_name,
        }
    }

    /// What upstream's Go calls the type of such an object, in messages.
    pub fn go_type(&self) -> String {
        match self {
            KindRef::Row(k) => {
                let package = match k.type_name.rsplit('.').nth(2) {
                    None | Some("events") => "core",
                    Some(package) => package,
                };
                format!("{package}.{}", k.kind)
            }
            KindRef::Custom(_) => "unstructured.Unstructured".to_owned(),
        }
    }

    pub fn deletion(&self) -> Deletion {
        match self {
            KindRef::Row(k) => k.deletion,
            KindRef::Custom(_) => Deletion::Immediate,
        }
    }

    /// What is wrong with a name of such an object.
    pub fn check_name(&self, name: &str) -> Vec<String> {
        match self {
            KindRef::Row(k) => (k.name)(name),
            KindRef::Custom(_) => names::dns_subdomain(name),
        }
    }

    /// Whether an update makes what isn't there (`AllowCreateOnUpdate`).
    pub fn creates_on_update(&self) -> bool {
        match self {
            KindRef::Row(k) => update_rules::creates(k),
            KindRef::Custom(_) => false,
        }
    }

    /// Whether an update may leave out which version it is of
    /// (`AllowUnconditionalUpdate`).
    pub fn updates_unconditionally(&self) -> bool {
        match self {
            KindRef::Row(k) => update_rules::unconditional(k),
            KindRef::Custom(_) => false,
        }
    }

    /// Whether field selectors may name `path`, beside name and namespace.
    pub fn is_selectable(&self, path: &str) -> bool {
        match self {
            KindRef::Row(k) => k.selectable.contains(&path),
            KindRef::Custom(c) => c.is_selectable(path),
        }
    }
}

/// What happens to its objects. The functions are documented at [`Kind`].
impl KindRef {
    /// Makes a decoded body conform to the kind's type: see
    /// [`decode::conform`].
    pub fn conform(&self, value: &mut Value, unknown: &mut Vec<String>) -> Result<(), String> {
        match self {
            KindRef::Row(k) => decode::conform(value, k.type_name, unknown),
            KindRef::Custom(c) => c.conform(value, unknown),
        }
    }

    pub fn column_definitions(&self) -> Value {
        match self {
            KindRef::Row(k) => k.columns.iter().map(crate::print::definition).collect(),
            KindRef::Custom(c) => c.column_definitions(),
        }
    }

    pub fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        match self {
            KindRef::Row(k) => (k.cells)(object, now),
            KindRef::Custom(c) => c.cells(object, now),
        }
    }

    pub fn row_conditions(&self, object: &Value) -> Option<Value> {
        match self {
            KindRef::Row(k) => (k.row_conditions)(object),
            KindRef::Custom(_) => None,
        }
    }

    pub fn order(&self, a: &Value, b: &Value) -> Ordering {
        match self {
            KindRef::Row(k) => (k.order)(a, b),
            KindRef::Custom(_) => Ordering::Equal,
        }
    }

    pub fn default(&self, object: &mut Value) {
        match self {
            KindRef::Row(k) => (k.default)(object),
            KindRef::Custom(c) => c.default(object),
        }
    }

    pub fn validate(&self, object: &Value, errors: &mut Errors) {
        match self {
            KindRef::Row(k) => (k.validate)(object, errors),
            KindRef::Custom(c) => c.validate(object, errors),
        }
    }

    pub fn validate_create(&self, object: &Value, errors: &mut Errors) {
        match self {
            KindRef::Row(k) => (k.validate_create)(object, errors),
            KindRef::Custom(_) => {}
        }
    }

    pub fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        match self {
            KindRef::Row(k) => (k.validate_update)(new, old, errors),
            KindRef::Custom(c) => c.validate_update(new, old, errors),
        }
    }

    pub fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        match self {
            KindRef::Row(k) => (k.validate_status)(new, old, errors),
            KindRef::Custom(c) => c.validate_status(new, old, errors),
        }
    }

    pub fn validate_approval(&self, new: &Value, old: &Value, errors: &mut Errors) {
        match self {
            KindRef::Row(k) => (k.validate_approval)(new, old, errors),
            KindRef::Custom(_) => {}
        }
    }

    pub fn prepare_approval(&self, new: &mut Value, old: &Value) {
        match self {
            KindRef::Row(k) => (k.prepare_approval)(new, old),
            KindRef::Custom(_) => {}
        }
    }

    pub fn prepare_create(&self, object: &mut Value) {
        match self {
            KindRef::Row(k) => (k.prepare_create)(object),
            KindRef::Custom(c) => c.prepare_create(object),
        }
    }

    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        match self {
            KindRef::Row(k) => (k.prepare_update)(new, old),
            KindRef::Custom(c) => c.prepare_update(new, old),
        }
    }

    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        match self {
            KindRef::Row(k) => (k.prepare_status)(new, old),
            KindRef::Custom(c) => c.prepare_status(new, old),
        }
    }

    pub fn prepare_delete(&self, object: &mut Value, now: Timestamp) {
        match self {
            KindRef::Row(k) => (k.prepare_delete)(object, now),
            KindRef::Custom(_) => {}
        }
    }

    /// The custom kind, if it is one.
    pub fn custom(&self) -> Option<&Arc<CustomKind>> {
        match self {
            KindRef::Row(_) => None,
            KindRef::Custom(c) => Some(c),
        }
    }

    pub fn to_stored(&self, object: &mut Value) {
        match self {
            KindRef::Row(k) => (k.to_stored)(object),
            KindRef::Custom(_) => {}
        }
    }

    pub fn from_stored(&self, object: &mut Value) {
        match self {
            KindRef::Row(k) => (k.from_stored)(object),
            KindRef::Custom(c) => c.revive(object),
        }
    }
}

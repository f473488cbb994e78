//! Kinds that come from CustomResourceDefinitions: [`CustomKind`] is one
//! version of one definition, with what the definition says of its objects.
//!
//! Objects from clients are typed, pruned and defaulted ([`CustomKind::conform`]),
//! those from the store too, by the schema of the version that they are stored
//! in; then they are converted ([`conversion`]). Who does the asking of
//! webhooks is the API server.

pub mod columns;
pub mod conversion;
pub mod definition;
mod json_path;
pub mod publish;
pub mod rules;
pub mod scale;
pub mod schema;

pub use scale::Scale;

use crate::field::{Errors, Path};
use crate::kinds::{self, Subresource};
use crate::print::{self, Cells};
use columns::Column;
use conversion::Conversion;
use jiff::Timestamp;
use schema::{Schema, defaulting, embedded, lists, pruning, validation};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// What a definition calls its kind: `status.acceptedNames`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
}

/// A version of the same definition, served or not.
#[derive(Clone, Debug)]
pub struct Sibling {
    pub version: String,
    pub schema: Arc<Schema>,
}

/// One served version of a definition.
#[derive(Clone, Debug, Default)]
pub struct CustomKind {
    /// The definition's name.
    pub definition: String,
    pub group: String,
    pub version: String,
    pub names: Names,
    pub namespaced: bool,
    /// The type's full name in OpenAPI: `com.example.v1.Thing`.
    pub type_name: String,
    /// `<group>/<plural>` under `/registry`.
    pub storage: String,
    /// Whether `status` is a subresource.
    pub status: bool,
    pub scale: Option<Scale>,
    /// The definition is going: nothing new is made.
    pub terminating: bool,
    pub columns: Vec<Column>,
    /// Dotted paths that field selectors may name.
    pub selectable: Vec<String>,
    pub schema: Arc<Schema>,
    /// The schema as the definition has it.
    pub published: Arc<Value>,
    pub siblings: Arc<[Sibling]>,
    pub storage_version: String,
    pub conversion: Conversion,
    /// What every request for it is warned of.
    pub warning: Option<String>,
}

/// As upstream orders versions: stable before beta before alpha, newer first,
/// then other names by the alphabet.
pub fn version_order(a: &str, b: &str) -> Ordering {
    fn rank(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let (major, tail) = rest.split_at(digits(rest));
        let major = major.parse().ok()?;
        if tail.is_empty() {
            return Some((2, major, 0));
        }
        let (level, minor) = match tail.strip_prefix("beta") {
            Some(minor) => (1, minor),
            None => (0, tail.strip_prefix("alpha")?),
        };
        Some((level, major, minor.parse().ok()?))
    }
    match (rank(a), rank(b)) {
        (Some(x), Some(y)) => y.cmp(&x),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

impl CustomKind {
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match self.terminating {
            true => &["delete", "deletecollection", "get", "list", "watch"],
            false => kinds::ALL_VERBS,
        }
    }

    pub(crate) fn subresources(&self) -> &'static [Subresource] {
        match (self.status, self.scale.is_some()) {
            (true, true) => &[Subresource::Status, Subresource::Scale],
            (true, false) => &[Subresource::Status],
            (false, true) => &[Subresource::Scale],
            (false, false) => &[],
        }
    }

    pub(crate) fn is_selectable(&self, path: &str) -> bool {
        self.selectable.iter().any(|own| own == path)
    }

    /// Types metadata, drops what the schema doesn't know and names it in
    /// `unknown`.
    pub(crate) fn conform(
        &self,
        value: &mut Value,
        unknown: &mut Vec<String>,
    ) -> Result<(), String> {
        embedded::coerce(value, Some(&self.schema), true, &Path::default(), unknown)
            .map_err(|faults| faults.aggregate())?;
        pruning::prune(value, &self.schema, unknown);
        Ok(())
    }

    pub(crate) fn column_definitions(&self) -> Value {
        let name = print::definition(&print::NAME);
        let own = self.columns.iter().map(Column::definition);
        std::iter::once(name).chain(own).collect()
    }

    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let name = crate::meta::name(object).into();
        let own = self.columns.iter().map(|c| c.cell(object, now));
        std::iter::once(name).chain(own).collect()
    }

    pub(crate) fn default(&self, object: &mut Value) {
        defaulting::default(object, &self.schema);
    }

    pub(crate) fn validate(&self, object: &Value, errors: &mut Errors) {
        self.validate_parts(object, None, errors);
        self.validate_rules(object, None, errors);
    }

    fn validate_parts(&self, object: &Value, old: Option<&Value>, errors: &mut Errors) {
        errors
            .0
            .extend(validation::validate(object, old, &self.schema, "").0);
        if let Some(scale) = &self.scale {
            scale.validate(object, errors);
        }
        embedded::validate(object, &self.schema, &Path::default(), errors);
        let mut before = Errors::default();
        if let Some(old) = old {
            lists::validate(old, &self.schema, &Path::default(), &mut before);
        }
        if before.is_empty() {
            lists::validate(object, &self.schema, &Path::default(), errors);
        }
    }

    fn validate_rules(&self, object: &Value, old: Option<&Value>, errors: &mut Errors) {
        if rules::any(&self.schema) {
            rules::evaluate(object, old, &self.schema, errors);
        }
    }

    /// Everything of a whole update, what is new and what was.
    pub(crate) fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate_parts(new, Some(old), errors);
        self.validate_rules(new, Some(old), errors);
    }

    pub(crate) fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        if let (Some(of), Some(status)) = (self.schema.properties.get("status"), new.get("status"))
        {
            let was = old.get("status");
            let found = validation::validate(status, was, of, "status");
            errors.0.extend(found.0);
        }
        if let Some(scale) = &self.scale {
            scale.validate(new, errors);
        }
        embedded::validate(new, &self.schema, &Path::default(), errors);
        lists::validate(new, &self.schema, &Path::default(), errors);
        self.validate_rules(new, Some(old), errors);
    }

    pub(crate) fn prepare_create(&self, object: &mut Value) {
        if self.status
            && let Some(map) = object.as_object_mut()
        {
            map.shift_remove("status");
        }
        crate::meta::ensure_metadata(object).insert("generation".to_owned(), 1.into());
    }

    pub(crate) fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.status {
            crate::meta::keep(new, old, "status");
        }
        self.default(new);
        if differ(new, old) {
            let generation = crate::meta::int(old, &["metadata", "generation"]).unwrap_or(0);
            let metadata = crate::meta::ensure_metadata(new);
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }

    pub(crate) fn prepare_status(&self, new: &mut Value, old: &Value) {
        kinds::keep_all_but_status_and_owners(new, old);
    }

    /// Brings a stored object up to the schema of the version that it is in:
    /// what a schema no longer knows goes, what it defaults comes.
    pub fn revive(&self, object: &mut Value) {
        let version = crate::meta::text(object, &["apiVersion"]);
        let version = version.rsplit('/').next().unwrap_or_default();
        let own = self.siblings.iter().find(|s| s.version == version);
        let schema = own.map_or(&self.schema, |s| &s.schema);
        pruning::prune(object, schema, &mut Vec::new());
        defaulting::default(object, schema);
    }

    /// Whether somebody else converts its objects.
    pub fn asks(&self) -> bool {
        matches!(self.conversion, Conversion::Webhook(_))
    }

    /// Stored objects in this version; the error is the converter's.
    pub fn from_storage(&self, objects: Vec<Value>) -> Result<Vec<Value>, String> {
        let version = self.api_version();
        let mut out = self.conversion.convert(&version, objects)?;
        for object in &mut out {
            pruning::prune(object, &self.schema, &mut Vec::new());
        }
        Ok(out)
    }

    /// An object of this version in the one that is stored.
    pub fn to_storage(&self, object: Value) -> Result<Value, String> {
        let version = self.stored_api_version();
        let mut out = self.conversion.convert(&version, vec![object])?;
        let mut object = out.pop().ok_or("no object")?;
        if let Some(own) = self
            .siblings
            .iter()
            .find(|s| s.version == self.storage_version)
        {
            pruning::prune(&mut object, &own.schema, &mut Vec::new());
        }
        Ok(object)
    }

    /// The kind's apiVersion.
    pub fn api_version(&self) -> String {
        kinds::api_version(&self.group, &self.version)
    }

    /// The apiVersion that objects are stored in.
    pub fn stored_api_version(&self) -> String {
        kinds::api_version(&self.group, &self.storage_version)
    }
}

/// Whether two objects differ beside their metadata: what a generation counts.
pub fn differ(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| -> Map<String, Value> {
        let members = object.as_object().into_iter().flatten();
        members
            .filter(|(key, _)| key.as_str() != "metadata")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    rest(new) != rest(old)
}

#[cfg(test)]
mod tests;

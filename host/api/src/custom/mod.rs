//! Kinds that come from CustomResourceDefinitions: [`CustomKind`] is one
//! version of one definition, with what the definition says of its objects.

use crate::decode;
use crate::field::Errors;
use crate::kinds::{self, Subresource};
use crate::print::{self, Cells};
use jiff::Timestamp;
use serde_json::Value;

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

/// One served version of a definition.
#[derive(Clone, Debug, Default)]
pub struct CustomKind {
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
    /// The definition is going: nothing new is made.
    pub terminating: bool,
}

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

impl CustomKind {
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match self.terminating {
            true => &["delete", "deletecollection", "get", "list", "watch"],
            false => kinds::ALL_VERBS,
        }
    }

    pub(crate) fn subresources(&self) -> &'static [Subresource] {
        match self.status {
            true => &[Subresource::Status],
            false => &[],
        }
    }

    pub(crate) fn is_selectable(&self, _path: &str) -> bool {
        false
    }

    /// Metadata is typed as everywhere; the rest is as the client sent it.
    pub(crate) fn conform(
        &self,
        value: &mut Value,
        unknown: &mut Vec<String>,
    ) -> Result<(), String> {
        match value.get_mut("metadata") {
            Some(metadata) => {
                let mut found = Vec::new();
                decode::conform(metadata, METADATA, &mut found)?;
                unknown.extend(found.into_iter().map(|f| format!("metadata.{f}")));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn column_definitions(&self) -> Value {
        print::NAME_AGE.iter().map(print::definition).collect()
    }

    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        print::name_age(object, now)
    }

    pub(crate) fn default(&self, _object: &mut Value) {}

    pub(crate) fn validate(&self, _object: &Value, _errors: &mut Errors) {}

    pub(crate) fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    pub(crate) fn validate_status(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    pub(crate) fn prepare_create(&self, object: &mut Value) {
        if self.status
            && let Some(map) = object.as_object_mut()
        {
            map.shift_remove("status");
        }
    }

    pub(crate) fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.status {
            crate::meta::keep(new, old, "status");
        }
    }

    pub(crate) fn prepare_status(&self, new: &mut Value, old: &Value) {
        kinds::keep_all_but_status_and_owners(new, old);
    }

    pub(crate) fn restore(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            let version = kinds::api_version(&self.group, &self.version);
            map.insert("apiVersion".to_owned(), version.into());
        }
    }
}

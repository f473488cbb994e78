//! What a client selects: keys, labels, fields.

use super::super::Call;
use crate::registry;
use api::kinds::KindRef;
use api::pick::{Paths, pick};
use api::selector::{FieldSelector, FieldTerm, LabelSelector};
use api::status::Status;
use bytes::Bytes;
use serde_json::Value;
use store::{KeyValue, prefix_end};

/// What a client selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    /// What of a stored object decides, where the stored form is the served.
    paths: Paths,
}

impl Selection {
    pub(crate) fn of(call: &Call) -> Result<Selection, Status> {
        let mut fields = call.query.fields()?;
        for term in &fields.0 {
            let path = term.path.as_str();
            let known = matches!(path, "metadata.name" | "metadata.namespace")
                || call.kind.is_selectable(path);
            if !known {
                return Err(unknown_field(&call.kind, call, path));
            }
        }
        if !call.route.name.is_empty() {
            fields.0.push(FieldTerm {
                path: "metadata.name".to_owned(),
                value: call.route.name.clone(),
                equal: true,
            });
        }
        let labels = call.query.labels()?;
        let mut paths = Paths::default();
        labels.paths(&mut paths);
        fields.paths(&mut paths);
        Ok(Selection {
            labels,
            fields,
            paths,
        })
    }

    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.0.is_empty()
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    /// Whether a stored object is selected, reading no more than that takes.
    pub(crate) fn matches_stored(&self, kind: &KindRef, kv: &KeyValue) -> Result<bool, Status> {
        if self.is_everything() {
            return Ok(true);
        }
        if registry::is_direct(kind) {
            let part = pick(&kv.value, &self.paths);
            let part = part.ok_or_else(|| Status::internal("a stored object isn't JSON"))?;
            return Ok(self.matches(&part));
        }
        let object = registry::decode(kind, &kv.value, kv.mod_revision)?;
        Ok(self.matches(&object))
    }
}

/// Whether a webhook makes the served form of the stored one: it had better be
/// asked once for many objects.
pub(super) fn asks_for_many(kind: &KindRef) -> bool {
    kind.custom().is_some_and(|custom| custom.asks())
}

fn unknown_field(kind: &KindRef, call: &Call, path: &str) -> Status {
    Status::bad_request(format!(
        "Unable to find {:?} that match label selector {:?}, field selector {:?}: field label not supported: {path}",
        format!(
            "{}/{}, Resource={}",
            kind.group(),
            kind.version(),
            kind.plural()
        ),
        call.query.text("labelSelector"),
        call.query.text("fieldSelector"),
    ))
}

/// The keys that a request goes over.
pub(crate) fn range_of(call: &Call) -> (Bytes, Bytes) {
    let prefix = registry::prefix(&call.kind, &call.route.namespace);
    let name = call.route.name.as_str();
    let of_one = !call.kind.namespaced() || !call.route.namespace.is_empty();
    if of_one && !name.is_empty() {
        let key = prefix + name;
        return (Bytes::from(key.clone()), Bytes::from(key + "\0"));
    }
    let end = prefix_end(prefix.as_bytes());
    (Bytes::from(prefix), end)
}

//! `metav1.Status`: every refusal of the API, with upstream's code, reason and
//! words (`apimachinery/pkg/api/errors`).

use crate::field::Errors;
use serde_json::{Value, json};
use std::ops::Deref;

/// A refusal, ready to be sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub code: u16,
    pub reason: Reason,
    pub message: String,
    pub details: Option<Value>,
}

/// One word for a refusal: upstream's, or a webhook's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(Box<str>);

impl<T: Into<Box<str>>> From<T> for Reason {
    fn from(word: T) -> Reason {
        Reason(word.into())
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for Reason {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

/// Names a resource or kind in messages: `pods`, `leases.coordination.k8s.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qualified<'a> {
    pub group: &'a str,
    pub name: &'a str,
}

impl std::fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group {
            "" => f.write_str(self.name),
            group => write!(f, "{}.{group}", self.name),
        }
    }
}

impl Qualified<'_> {
    fn details(&self, object: &str) -> Value {
        let mut details = serde_json::Map::new();
        if !object.is_empty() {
            details.insert("name".into(), object.into());
        }
        if !self.group.is_empty() {
            details.insert("group".into(), self.group.into());
        }
        if !self.name.is_empty() {
            details.insert("kind".into(), self.name.into());
        }
        Value::Object(details)
    }
}

impl Status {
    pub fn new(code: u16, reason: impl Into<Reason>, message: impl Into<String>) -> Status {
        Status {
            code,
            reason: reason.into(),
            message: message.into(),
            details: None,
        }
    }

    fn with(mut self, details: Value) -> Status {
        self.details = Some(details);
        self
    }

    pub fn not_found(resource: Qualified<'_>, name: &str) -> Status {
        Status::new(404, "NotFound", format!("{resource} {name:?} not found"))
            .with(resource.details(name))
    }

    /// For a path that nothing answers.
    pub fn no_such_path() -> Status {
        Status::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with(json!({}))
    }

    pub fn already_exists(resource: Qualified<'_>, name: &str) -> Status {
        Status::new(
            409,
            "AlreadyExists",
            format!("{resource} {name:?} already exists"),
        )
        .with(resource.details(name))
    }

    pub fn conflict(resource: Qualified<'_>, name: &str, why: &str) -> Status {
        Status::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {resource} {name:?}: {why}"),
        )
        .with(resource.details(name))
    }

    /// The conflict of an update against an older revision.
    pub fn modified(resource: Qualified<'_>, name: &str) -> Status {
        Status::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn invalid(kind: Qualified<'_>, name: &str, errors: &Errors) -> Status {
        let causes: Vec<Value> = errors
            .0
            .iter()
            .map(|e| json!({"reason": e.fault.reason(), "message": e.body(), "field": e.path.to_string()}))
            .collect();
        let mut details = kind.details(name);
        details["causes"] = causes.into();
        Status::new(
            422,
            "Invalid",
            format!("{kind} {name:?} is invalid: {}", errors.aggregate()),
        )
        .with(details)
    }

    pub fn forbidden(resource: Qualified<'_>, name: &str, why: &str) -> Status {
        let message = match (resource.name, name) {
            ("", "") => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Status::new(403, "Forbidden", message).with(resource.details(name))
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Status {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn method_not_allowed() -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
        .with(json!({}))
    }

    pub fn not_acceptable(supported: &[&str]) -> Status {
        Status::new(
            406,
            "NotAcceptable",
            format!(
                "only the following media types are accepted: {}",
                supported.join(", ")
            ),
        )
    }

    /// Asked for as `wanted`, which it can't be: it is `found`.
    pub fn not_acceptable_as(wanted: &str, found: &str) -> Status {
        let why = format!("you requested {wanted}, but the requested object is {found}");
        Status::new(406, "NotAcceptable", why)
    }

    pub fn unsupported_media_type(supported: &[&str]) -> Status {
        Status::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                supported.join(", ")
            ),
        )
    }

    pub fn too_large(limit: usize) -> Status {
        Status::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// A watch or a continue token from before the last compaction.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    pub fn timeout(message: impl Into<String>) -> Status {
        Status::new(504, "Timeout", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::new(429, "TooManyRequests", message)
            .with(json!({"retryAfterSeconds": retry_after_seconds}))
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::new(503, "ServiceUnavailable", message)
    }

    pub fn internal(message: impl std::fmt::Display) -> Status {
        Status::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
        .with(json!({"causes": [{"message": message.to_string()}]}))
    }

    /// The object on the wire.
    pub fn to_value(&self) -> Value {
        let mut v = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.message,
        });
        if !self.reason.is_empty() {
            v["reason"] = (*self.reason).into();
        }
        if let Some(details) = &self.details {
            v["details"] = details.clone();
        }
        v["code"] = self.code.into();
        v
    }
}

/// The success answer of a deletion and of a binding.
pub fn success(resource: Option<(Qualified<'_>, &str, &str)>) -> Value {
    let mut v = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    if let Some((resource, name, uid)) = resource {
        let mut details = resource.details(name);
        details["uid"] = uid.into();
        v["details"] = details;
    }
    v
}

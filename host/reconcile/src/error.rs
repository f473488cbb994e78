//! What a request can come to instead of an answer.

use crate::transport::TransportError;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// The API's own refusal: `metav1.Status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub code: u16,
    /// As upstream spells them: `NotFound`, `Conflict`, `Expired`, ...
    pub reason: String,
    pub message: String,
    pub details: Option<Value>,
    pub retry_after: Option<Duration>,
}

impl Status {
    /// From a response's status and body, whatever it is: a proxy's error
    /// page has no `Status`.
    pub(crate) fn parse(code: u16, body: &[u8], retry_after: Option<Duration>) -> Status {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if value.get("kind").and_then(Value::as_str) == Some("Status") => Status {
                retry_after,
                ..Status::from_value(&value, code)
            },
            _ => Status {
                code,
                reason: String::new(),
                message: String::from_utf8_lossy(body.get(..256).unwrap_or(body)).into_owned(),
                details: None,
                retry_after,
            },
        }
    }

    /// `code` is for a `Status` that has none.
    pub(crate) fn from_value(value: &Value, code: u16) -> Status {
        let text = |field| {
            value
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let own = value
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|c| u16::try_from(c).ok());
        Status {
            code: own.unwrap_or(code),
            reason: text("reason"),
            message: text("message"),
            details: value.get("details").cloned(),
            retry_after: None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.reason, self.message)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{operation}: {status}")]
    Api {
        operation: String,
        status: Box<Status>,
    },
    #[error("{operation}: {source}")]
    Transport {
        operation: String,
        source: TransportError,
    },
    #[error("{operation}: no answer within {seconds} s")]
    Timeout { operation: String, seconds: u64 },
    #[error("{operation}: malformed answer: {what}")]
    Malformed { operation: String, what: String },
    #[error("{operation}: the object has no {field}")]
    Incomplete {
        operation: String,
        field: &'static str,
    },
}

impl ClientError {
    pub fn status(&self) -> Option<&Status> {
        match self {
            ClientError::Api { status, .. } => Some(status),
            ClientError::Transport { .. }
            | ClientError::Timeout { .. }
            | ClientError::Malformed { .. }
            | ClientError::Incomplete { .. } => None,
        }
    }

    fn is(&self, code: u16) -> bool {
        self.status().is_some_and(|status| status.code == code)
    }

    fn has_reason(&self, reason: &str) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }

    pub fn is_not_found(&self) -> bool {
        self.is(404)
    }

    /// Somebody wrote first: read again, decide again.
    pub fn is_conflict(&self) -> bool {
        self.is(409) && !self.is_already_exists()
    }

    pub fn is_already_exists(&self) -> bool {
        self.has_reason("AlreadyExists")
    }

    /// The resource version is too old: list again.
    pub fn is_gone(&self) -> bool {
        self.is(410) || self.has_reason("Expired") || self.has_reason("Gone")
    }

    pub fn retry_after(&self) -> Option<Duration> {
        self.status()?.retry_after
    }
}

//! Documents that describe the server: version and OpenAPI.

use crate::query::Query;
use crate::respond::{self, Accepted};
use crate::rest::Answer;
use api::status::Status;
use serde_json::{Value, json};

/// `/version`: the API level, and Atoll's own version behind the plus.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "gitVersion": concat!("v1.36.0+atoll.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

pub(crate) fn openapi(path: &str, _accept: &str, _query: &Query, accepted: Accepted) -> Answer {
    match path {
        "/openapi/v3" => Ok(respond::json(200, &json!({"paths": {}}), accepted)),
        _ => Err(Status::no_such_path()),
    }
}

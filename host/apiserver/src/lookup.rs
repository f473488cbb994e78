//! Objects that the server itself looks up to decide about a request.

use crate::registry;
use api::kinds;
use api::status::Status;
use serde_json::Value;
use store::Store;

/// One object of a built-in kind in version `v1`, as it stands.
pub(crate) fn object(
    store: &Store,
    (group, plural): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<Value, Status> {
    let kind = kinds::by_resource(group, "v1", plural).ok_or_else(Status::no_such_path)?;
    registry::get(store, &kind, namespace, name).map(|found| found.object)
}

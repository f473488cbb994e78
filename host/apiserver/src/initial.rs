//! Objects that every cluster has: made at start where they are missing.

use crate::registry;
use crate::rest::create::ensure;
use crate::run::RunError;
use crate::server::Server;
use api::kinds;
use api::meta;

/// Makes what is missing; what is there stays as it is.
pub(crate) async fn make(server: &Server) -> Result<(), RunError> {
    for (kind, object) in kinds::initial_objects() {
        let name = meta::name(&object).to_owned();
        if registry::get(&server.store, &kind, "", &name).is_ok() {
            continue;
        }
        ensure(&server.store, &kind, object)
            .await
            .map_err(|e| RunError::Object {
                name,
                message: e.message,
            })?;
    }
    Ok(())
}

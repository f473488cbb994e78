//! The status of ValidatingAdmissionPolicies: what is doubtful of their
//! expressions, once for each generation (upstream's
//! `validatingadmissionpolicystatus` controller).
//!
//! One task looks at all policies whenever one changes, and applies the status
//! as any client would. Where several servers share a store each does so; the
//! second finds nothing to do.

use crate::admission::type_warnings;
use crate::registry;
use crate::server::Server;
use crate::user::User;
use api::kinds::{KindRef, by_resource};
use api::meta;
use api::status::Status;
use bytes::Bytes;
use http::{Method, Request};
use reconcile::Transport;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::Range;
use tokio::sync::watch;

const GROUP: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies";
const MANAGER: &str = "validatingadmissionpolicy-status-controller";
/// Before the task tries again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// Works until `stopped` is told.
pub(crate) async fn run(server: Arc<Server>, mut stopped: watch::Receiver<bool>) {
    let Some(kind) = by_resource(GROUP, "v1", POLICIES) else {
        return;
    };
    let transport = server.local_transport(User::controllers());
    loop {
        let seen = server.store.revision();
        let failed = match pass(&server, &kind, &*transport).await {
            Ok(()) => false,
            Err(why) => {
                log::warn!("status of admission policies: {why}");
                true
            }
        };
        tokio::select! {
            _ = stopped.changed() => return,
            () = registry::changed(&server.store, &kind, seen, RETRY) => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

async fn pass(server: &Server, kind: &KindRef, client: &dyn Transport) -> Result<(), String> {
    let why = |status: Status| status.message;
    let range = Range::prefix(registry::prefix(kind, ""));
    let found = server.store.range(&range);
    let found = found.map_err(|e| why(registry::store_status(e)))?;
    for kv in &found.items {
        let policy = registry::decode(kind, &kv.value, kv.mod_revision).map_err(why)?;
        if is_observed(&policy) || meta::is_deleting(&policy) {
            continue;
        }
        let table = server.kinds.table();
        let status = tokio::task::spawn_blocking(move || status(&policy, &table)).await;
        apply(client, &status.map_err(|e| e.to_string())?).await?;
    }
    Ok(())
}

fn is_observed(policy: &Value) -> bool {
    let number = |path: &[&str]| meta::at(policy, path).and_then(Value::as_i64).unwrap_or(0);
    number(&["metadata", "generation"]) <= number(&["status", "observedGeneration"])
}

/// What is applied.
fn status(policy: &Value, table: &crate::kinds::Table) -> Value {
    let warnings = type_warnings(policy, table);
    let checked = match warnings.is_empty() {
        true => json!({}),
        false => json!({"expressionWarnings": warnings}),
    };
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": meta::name(policy)},
        "status": {
            "observedGeneration": policy["metadata"]["generation"],
            "typeChecking": checked,
        },
    })
}

async fn apply(client: &dyn Transport, wanted: &Value) -> Result<(), String> {
    let name = meta::name(wanted);
    let path = format!("/apis/{GROUP}/v1/{POLICIES}/{name}/status");
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager={MANAGER}&force=true"))
        .header("content-type", "application/apply-patch+yaml")
        .header("user-agent", MANAGER)
        .body(Bytes::from(wanted.to_string()))
        .map_err(|e| e.to_string())?;
    let answer = client.send(request).await.map_err(|e| e.to_string())?;
    match answer.status() {
        code if code.is_success() => Ok(()),
        // It went meanwhile.
        http::StatusCode::NOT_FOUND => Ok(()),
        code => Err(format!("apply that of {name:?}: {code}")),
    }
}

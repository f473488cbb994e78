//! Whether an extension server is there: upstream's
//! `remote_available_controller.go`, reasons and messages as there.

use super::Remote;
use crate::endpoints::{self, Endpoints};
use crate::registry;
use api::custom::definition::conditions;
use api::meta;
use api::status::Status;
use jiff::Timestamp;
use serde_json::Value;
use store::Store;

/// A condition's status, reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict {
            status: "False",
            reason,
            message,
        }
    }

    /// Of what this server serves itself.
    pub(super) fn local() -> Verdict {
        Verdict {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        }
    }

    pub(super) fn passed() -> Verdict {
        Verdict {
            status: "True",
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    /// The server doesn't answer as it has to.
    pub(super) fn failed(why: String) -> Verdict {
        Verdict::no("FailedDiscoveryCheck", why)
    }

    /// The status of an APIService with this in it.
    pub(super) fn in_status(&self, service: &Value, now: Timestamp) -> Value {
        let mut status = service.get("status").cloned().unwrap_or_default();
        if !status.is_object() {
            status = Value::Object(serde_json::Map::new());
        }
        let (state, reason) = (self.status, self.reason);
        conditions::set(&mut status, "Available", state, reason, &self.message, now);
        status
    }
}

pub(super) fn is_available(service: &Value) -> bool {
    meta::list(service, &["status", "conditions"])
        .iter()
        .any(|c| meta::text(c, &["type"]) == "Available" && meta::text(c, &["status"]) == "True")
}

/// What the objects say; `None`: nothing against it.
pub(super) fn by_objects(store: &Store, remote: &Remote) -> Option<Verdict> {
    let (namespace, name) = (remote.namespace(), remote.name());
    let unknown = |reason, e: Status| Verdict {
        status: "Unknown",
        reason,
        message: format!(
            "service/{name} in {namespace:?} cannot be checked due to: {}",
            e.message
        ),
    };
    let services = match endpoints::row("", "services") {
        Ok(kind) => kind,
        Err(e) => return Some(unknown("ServiceAccessError", e)),
    };
    let service = match registry::get(store, &services, namespace, name) {
        Ok(found) => found.object,
        Err(e) if e.code == 404 => {
            let why = format!("service/{name} in {namespace:?} is not present");
            return Some(Verdict::no("ServiceNotFound", why));
        }
        Err(e) => return Some(unknown("ServiceAccessError", e)),
    };
    match Endpoints::of(store, namespace, name) {
        Ok(known) => by_service(remote, &service, &known),
        Err(e) => Some(unknown("EndpointsAccessError", e)),
    }
}

/// What a Service and its endpoints say.
fn by_service(remote: &Remote, service: &Value, known: &Endpoints) -> Option<Verdict> {
    let (namespace, name, port) = (remote.namespace(), remote.name(), remote.port());
    if meta::text(service, &["spec", "type"]) != "ClusterIP" {
        return None;
    }
    let Some(port_name) = endpoints::port_name(service, i64::from(port)) else {
        let why = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Verdict::no("ServicePortError", why));
    };
    if known.is_empty() {
        let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Verdict::no("EndpointsNotFound", why));
    }
    if known.ready(port_name, "").is_empty() {
        let why = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Some(Verdict::no("MissingEndpoints", why));
    }
    None
}

/// The URL that says whether a server serves the group-version, for messages.
pub(super) fn url(store: &Store, remote: &Remote) -> String {
    let service = endpoints::row("", "services")
        .and_then(|kind| registry::get(store, &kind, remote.namespace(), remote.name()));
    let ip = service.map_or(String::new(), |found| {
        meta::text(&found.object, &["spec", "clusterIP"]).to_owned()
    });
    let host = match ip.as_str() {
        "" | "None" => remote.host(),
        ip if ip.contains(':') => format!("[{ip}]"),
        ip => ip.to_owned(),
    };
    let (group, version) = (remote.group(), remote.version());
    format!("https://{host}:{}/apis/{group}/{version}", remote.port())
}

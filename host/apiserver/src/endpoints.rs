//! Which address behind a Service a connection goes to: a ready endpoint of its
//! EndpointSlices, of its Endpoints where it has no slice (upstream's
//! `apiserver/pkg/util/proxy`, `RandomEndpoint`).

use crate::registry;
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use serde_json::Value;
use store::{Range, Store};

/// Where EndpointSlices say whose they are.
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// An address that answers for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) ip: String,
    pub(crate) port: u16,
    /// What stands behind the address, if it is said.
    pub(crate) target: Value,
}

/// What is known of the endpoints of a Service.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// The EndpointSlices that name it.
    pub(crate) slices: Vec<Value>,
    /// Its Endpoints, where there is no slice.
    endpoints: Value,
}

pub(crate) fn row(group: &str, plural: &str) -> Result<KindRef, Status> {
    kinds::by_resource(group, "v1", plural).ok_or_else(Status::no_such_path)
}

impl Endpoints {
    /// Those of the Service `name`; 500 where the store can't be read.
    pub(crate) fn of(store: &Store, namespace: &str, name: &str) -> Result<Endpoints, Status> {
        let kind = row("discovery.k8s.io", "endpointslices")?;
        let range = Range::prefix(registry::prefix(&kind, namespace));
        let found = store.range(&range).map_err(registry::store_status)?;
        let mut slices = Vec::new();
        for kv in &found.items {
            let slice = registry::decode(&kind, &kv.value, kv.mod_revision)?;
            if meta::text(&slice, &["metadata", "labels", OF_SERVICE]) == name {
                slices.push(slice);
            }
        }
        let endpoints = match slices.is_empty() {
            true => registry::get(store, &row("", "endpoints")?, namespace, name)
                .map_or(Value::Null, |found| found.object),
            false => Value::Null,
        };
        Ok(Endpoints { slices, endpoints })
    }

    /// Whether nothing is known at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.endpoints.is_null()
    }

    /// All ready addresses of the port, those of `family` first.
    pub(crate) fn ready(&self, port: &str, family: &str) -> Vec<Backend> {
        let mut out = Vec::new();
        for slice in &self.slices {
            let at = meta::list(slice, &["ports"])
                .iter()
                .find(|p| meta::text(p, &["name"]) == port)
                .and_then(number);
            let Some(at) = at else { continue };
            let preferred = meta::text(slice, &["addressType"]) == family;
            for endpoint in meta::list(slice, &["endpoints"]) {
                let ready = meta::at(endpoint, &["conditions", "ready"]);
                let address = meta::list(endpoint, &["addresses"]).first();
                if let (true, Some(ip)) = (ready != Some(&Value::Bool(false)), address) {
                    let ip = ip.as_str().unwrap_or_default();
                    out.push((!preferred, backend(ip, at, endpoint)));
                }
            }
        }
        for subset in meta::list(&self.endpoints, &["subsets"]) {
            let at = meta::list(subset, &["ports"])
                .iter()
                .find(|p| meta::text(p, &["name"]) == port)
                .and_then(number);
            let Some(at) = at else { continue };
            for address in meta::list(subset, &["addresses"]) {
                out.push((false, backend(meta::text(address, &["ip"]), at, address)));
            }
        }
        out.sort_by_key(|(later, _)| *later);
        out.into_iter().map(|(_, backend)| backend).collect()
    }
}

fn number(port: &Value) -> Option<u16> {
    meta::int(port, &["port"]).and_then(|p| u16::try_from(p).ok())
}

fn backend(ip: &str, port: u16, of: &Value) -> Backend {
    Backend {
        ip: ip.to_owned(),
        port,
        target: of.get("targetRef").cloned().unwrap_or(Value::Null),
    }
}

/// The family that a Service prefers, as EndpointSlices write it.
pub(crate) fn family(service: &Value) -> &str {
    let families = meta::list(service, &["spec", "ipFamilies"]);
    families.first().and_then(Value::as_str).unwrap_or_default()
}

/// The name of the Service's port with this number.
pub(crate) fn port_name(service: &Value, port: i64) -> Option<&str> {
    meta::list(service, &["spec", "ports"])
        .iter()
        .find(|p| meta::int(p, &["port"]) == Some(port))
        .map(|p| meta::text(p, &["name"]))
}

/// One of `among`; all the same often, by chance.
pub(crate) fn any<T>(among: &[T]) -> Option<&T> {
    let chance = uuid::Uuid::new_v4().as_u128() % (among.len().max(1) as u128);
    usize::try_from(chance).ok().and_then(|at| among.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_addresses_of_the_port_count() {
        let slice = |family: &str, ip: &str, ready: Value| {
            json!({"addressType": family, "ports": [{"name": "http", "port": 80}],
                "endpoints": [{"addresses": [ip], "conditions": {"ready": ready}}]})
        };
        let slices = vec![
            slice("IPv6", "fd00::1", json!(true)),
            slice("IPv4", "10.0.0.1", json!(null)),
            slice("IPv4", "10.0.0.2", json!(false)),
        ];
        let of_slices = Endpoints {
            slices,
            endpoints: Value::Null,
        };
        let of_endpoints = Endpoints {
            slices: Vec::new(),
            endpoints: json!({"subsets": [
                {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 8080}]},
                {"notReadyAddresses": [{"ip": "10.0.0.4"}], "ports": [{"port": 8080}]},
            ]}),
        };
        for (of, port, family, wanted) in [
            (&of_slices, "http", "IPv4", "10.0.0.1:80 fd00::1:80"),
            (&of_slices, "http", "IPv6", "fd00::1:80 10.0.0.1:80"),
            (&of_slices, "", "IPv4", ""),
            (&of_endpoints, "", "IPv4", "10.0.0.3:8080"),
            (&of_endpoints, "http", "IPv4", ""),
        ] {
            let found: Vec<String> = of
                .ready(port, family)
                .iter()
                .map(|b| format!("{}:{}", b.ip, b.port))
                .collect();
            assert_eq!(found.join(" "), wanted, "{port} {family}");
        }
        assert_eq!(any::<u8>(&[]), None);
        assert_eq!(any(&[7]), Some(&7));
    }
}

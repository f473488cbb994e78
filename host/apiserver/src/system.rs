//! The objects by which the API server describes itself: the range of cluster
//! addresses, the `kubernetes` Service with its Endpoints and EndpointSlice,
//! and what extension servers have to know to trust it. Settled at each start.

use crate::authn::front_proxy::FrontProxy;
use crate::config::RequestHeader;
use crate::registry::{self, Along};
use crate::rest::create::{Creation, create_object, ensure};
use crate::rest::update::write;
use crate::run::RunError;
use crate::services;
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use serde_json::{Value, json};
use std::iter;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use store::{Range, Store};

/// The Service's port, and its name.
const PORT: u16 = 443;
const PORT_NAME: &str = "https";
const NAME: &str = "kubernetes";

/// What the server knows of itself.
pub(crate) struct Own<'a> {
    pub(crate) service_cidrs: &'a [String],
    /// Where it listens.
    pub(crate) addresses: &'a [SocketAddr],
    /// PEM of the CA that client certificates are checked against.
    pub(crate) client_ca: &'a str,
    /// PEM of the CA of front proxies: who it certifies may name users.
    pub(crate) front_proxy_ca: &'a str,
    /// Other front proxies, if any.
    pub(crate) front: Option<&'a FrontProxy>,
}

/// As whom the server asks extension servers.
pub(crate) const FRONT_PROXY: &str = "front-proxy-client";

pub(crate) async fn make(store: &Store, own: &Own<'_>) -> Result<(), RunError> {
    settle(store, own).await.map_err(|e| RunError::Object {
        name: NAME.to_owned(),
        message: e.message,
    })
}

async fn settle(store: &Store, own: &Own<'_>) -> Result<(), Status> {
    make_range(store, own).await?;
    let port = own.addresses.first().map_or(6443, SocketAddr::port);
    make_service(store, port).await?;
    let address = advertised(own.addresses);
    make_endpoints(store, address, port).await?;
    make_slice(store, address, port).await?;
    make_trust(store, own).await
}

fn row(group: &str, plural: &str) -> Result<KindRef, Status> {
    kinds::by_resource(group, "v1", plural).ok_or_else(Status::no_such_path)
}

/// A range that is there stays: addresses have been given out of it.
async fn make_range(store: &Store, own: &Own<'_>) -> Result<(), Status> {
    let any = Range {
        limit: 1,
        ..Range::prefix(services::CIDRS)
    };
    let found = store.range(&any).map_err(registry::store_status)?;
    if !found.items.is_empty() {
        return Ok(());
    }
    let object = json!({
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": NAME}, "spec": {"cidrs": own.service_cidrs},
    });
    ensure(store, &row("networking.k8s.io", "servicecidrs")?, object).await
}

/// The first address of the first range.
fn service_address(store: &Store) -> Result<Option<IpAddr>, Status> {
    let range = row("networking.k8s.io", "servicecidrs")?;
    Ok(match registry::get(store, &range, "", NAME) {
        Ok(found) => meta::list(&found.object, &["spec", "cidrs"])
            .first()
            .and_then(Value::as_str)
            .and_then(services::first_address),
        Err(_) => None,
    })
}

async fn make_service(store: &Store, port: u16) -> Result<(), Status> {
    let kind = row("", "services")?;
    let ports = json!([{"name": PORT_NAME, "port": PORT, "protocol": "TCP", "targetPort": port}]);
    if let Ok(current) = registry::get(store, &kind, "default", NAME) {
        let mut wanted = current.object.clone();
        meta::ensure(&mut wanted, "spec").insert("ports".to_owned(), ports);
        write(store, &kind, current, wanted, Along::default()).await?;
        return Ok(());
    }
    let mut object = json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {
            "name": NAME, "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {"ports": ports, "type": "ClusterIP", "sessionAffinity": "None"},
    });
    if let Some(ip) = service_address(store)? {
        object["spec"]["clusterIP"] = ip.to_string().into();
    }
    create_object(store, &kind, object, &Creation::by_server()).await?;
    Ok(())
}

/// An address that others than this machine may reach; none where there is
/// no network.
fn advertised(addresses: &[SocketAddr]) -> Option<IpAddr> {
    let usable = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified();
    let own = addresses.iter().map(SocketAddr::ip).find(usable);
    own.or_else(|| outbound().filter(usable))
}

/// The address that packets leave by: a datagram socket knows it without
/// sending any (RFC 5737's documentation range is never routed to a host).
fn outbound() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

async fn make_endpoints(store: &Store, ip: Option<IpAddr>, port: u16) -> Result<(), Status> {
    let subsets: Vec<Value> = ip
        .map(|ip| {
            json!({
                "addresses": [{"ip": ip.to_string()}],
                "ports": [{"name": PORT_NAME, "port": port, "protocol": "TCP"}],
            })
        })
        .into_iter()
        .collect();
    let object = json!({
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": {
            "name": NAME, "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": subsets,
    });
    replace(store, &row("", "endpoints")?, object).await
}

async fn make_slice(store: &Store, ip: Option<IpAddr>, port: u16) -> Result<(), Status> {
    let endpoints: Vec<Value> = ip
        .map(|ip| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}}))
        .into_iter()
        .collect();
    let v6 = ip.is_some_and(|ip| ip.is_ipv6());
    let object = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": NAME, "namespace": "default",
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints,
        "ports": [{"name": PORT_NAME, "port": port, "protocol": "TCP"}],
    });
    replace(store, &row("discovery.k8s.io", "endpointslices")?, object).await
}

/// How extension servers tell the users that this one has authenticated.
async fn make_trust(store: &Store, own: &Own<'_>) -> Result<(), Status> {
    let object = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {
            "name": "extension-apiserver-authentication", "namespace": "kube-system",
        },
        "data": trusted(own),
    });
    replace(store, &row("", "configmaps")?, object).await
}

/// Whom extension servers may trust: this server, and other front proxies.
fn trusted(own: &Own<'_>) -> Value {
    let none = RequestHeader::default();
    let front = own.front.map_or(&none, |f| &f.config);
    let with = |first: &str, more: &[String]| {
        let more = more.iter().map(String::as_str).filter(|m| *m != first);
        let all: Vec<&str> = iter::once(first).chain(more).collect();
        json!(all).to_string()
    };
    let names = match own.front {
        Some(_) if front.allowed_names.is_empty() => "[]".to_owned(),
        _ => with(FRONT_PROXY, &front.allowed_names),
    };
    let more = own.front.map_or("", |f| f.ca.as_str());
    json!({
        "client-ca-file": own.client_ca,
        "requestheader-allowed-names": names,
        "requestheader-client-ca-file": format!("{}{more}", own.front_proxy_ca),
        "requestheader-extra-headers-prefix": with("X-Remote-Extra-", &front.extra_headers_prefix),
        "requestheader-group-headers": with("X-Remote-Group", &front.group_headers),
        "requestheader-uid-headers": with("X-Remote-Uid", &front.uid_headers),
        "requestheader-username-headers": with("X-Remote-User", &front.username_headers),
    })
}

/// Makes the object, or gives the one that is there its content.
async fn replace(store: &Store, kind: &KindRef, object: Value) -> Result<(), Status> {
    let (namespace, name) = (meta::namespace(&object), meta::name(&object));
    let Ok(current) = registry::get(store, kind, namespace, name) else {
        return ensure(store, kind, object).await;
    };
    let mut wanted = current.object.clone();
    for (key, value) in object.as_object().into_iter().flatten() {
        if key != "metadata" {
            wanted[key] = value.clone();
        }
    }
    if let Some(map) = wanted.as_object_mut() {
        // Lists that came to be empty aren't stored.
        map.retain(|_, v| v.as_array().is_none_or(|a| !a.is_empty()));
    }
    write(store, kind, current, wanted, Along::default()).await?;
    Ok(())
}

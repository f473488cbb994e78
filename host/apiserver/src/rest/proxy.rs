//! `proxy` of pods, Services and nodes: a request of any method, passed on to
//! `[SCHEME:]NAME[:PORT]` (upstream's `ResourceLocation` of each). A pod's port
//! is a number, its first one if none is given; a Service's is a number or a
//! name; a node's is that of its own endpoint unless told.

use super::pod::Endpoint;
use super::{Answer, Call, connect};
use crate::dialer::Destination;
use crate::endpoints::{self, Backend, Endpoints};
use crate::peers::{Http, Peer};
use crate::proxy::forward::{self, Failed, Passing, Towards};
use crate::proxy::rewrite::Links;
use crate::query::percent_encode;
use crate::registry;
use crate::respond;
use api::kinds::Subresource;
use api::meta;
use api::status::Status;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::net::IpAddr;

/// `[SCHEME:]NAME[:PORT]`.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    tls: bool,
    name: &'a str,
    /// Empty where none is given.
    port: &'a str,
}

impl Asked<'_> {
    fn parse(text: &str) -> Option<Asked<'_>> {
        let words: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match words.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        let tls = scheme == "https";
        (known && !name.is_empty()).then_some(Asked { tls, name, port })
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    /// An address, with the port as it was asked for; empty: the scheme's.
    Address { tls: bool, ip: String, port: String },
    /// A node's own endpoint.
    Node {
        node: String,
        host: String,
        port: u16,
    },
}

/// Go's `IsGlobalUnicast`: what a client may have this server connect to.
fn is_allowed(ip: &str) -> bool {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            let local = ip.is_unspecified() || ip.is_loopback() || ip.is_link_local();
            !(local || ip.is_multicast() || ip.is_broadcast())
        }
        Ok(IpAddr::V6(ip)) => {
            if let Some(ip) = ip.to_ipv4_mapped() {
                return is_allowed(&ip.to_string());
            }
            let local = ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local();
            !(local || ip.is_multicast())
        }
        Err(_) => false,
    }
}

pub(crate) async fn answer(mut call: Call, of: Subresource) -> Answer {
    if !matches!(
        call.route.verb,
        "get" | "create" | "update" | "patch" | "delete" | ""
    ) {
        return Err(Status::method_not_allowed());
    }
    let path = connect::admit_path(&call, of, &call.route.path).await?;
    let location = locate(&call, of)?;
    let upgrade = call.upgrade.is_some() && forward::wants_upgrade(&call.headers);
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    if path.is_empty() && reads && !upgrade {
        return Ok(to_root(&call));
    }
    let towards = towards(&call, &path, &location);
    let peer = peer(&call, &location);
    let peer = peer.map_err(|why| Failed::Unreached(why).status(upgrade))?;
    let body = match call.streamed.take() {
        Some(body) => forward::coming(body),
        None => respond::body(call.body),
    };
    let passing = Passing {
        method: call.method,
        headers: call.headers,
        body,
        upgrade: call.upgrade,
        remote: call.remote,
        trail: call.trail,
    };
    let answer = forward::pass(passing, towards, &call.streams.peers, &peer).await;
    answer.map_err(|e| e.status(upgrade))
}

/// Encoded, slashes kept.
fn encoded(path: &str) -> String {
    let words: Vec<String> = path.split('/').map(percent_encode).collect();
    words.join("/")
}

/// The path of the proxy itself.
fn prefix(call: &Call) -> String {
    let r = &call.route;
    let mut out = format!("/api/{}", r.version);
    if !r.namespace.is_empty() {
        out += &format!("/namespaces/{}", r.namespace);
    }
    // Colons in a name stay: it may have a scheme and a port.
    let name = percent_encode(&r.name).replace("%3A", ":");
    out + &format!("/{}/{name}/{}", r.resource, r.subresource)
}

/// Go's `path.Join("/", path)`: without `.`, `..` and empty words.
fn cleaned(path: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in path.split('/') {
        match word {
            "" | "." => {}
            ".." => drop(words.pop()),
            word => words.push(word),
        }
    }
    format!("/{}", words.join("/"))
}

/// A root without its slash is another page: relative links need it.
fn to_root(call: &Call) -> Response<reconcile::Body> {
    let mut response = Response::new(respond::body(Bytes::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let mut to = format!("{}/", prefix(call));
    if !call.raw_query.is_empty() {
        to += &format!("?{}", call.raw_query);
    }
    if let Ok(to) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn towards(call: &Call, path: &str, location: &Location) -> Towards {
    let mut target = cleaned(path);
    if path.ends_with('/') && !target.ends_with('/') {
        target.push('/');
    }
    let mut target = encoded(&target);
    if !call.raw_query.is_empty() {
        target += &format!("?{}", call.raw_query);
    }
    let asked = call.headers.get(header::HOST);
    Towards {
        target,
        links: Links {
            prefix: prefix(call),
            server: location.authority(),
            asked: asked
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
        },
        headers: HeaderMap::new(),
    }
}

impl Location {
    /// HOST:PORT, as a URL has it.
    fn authority(&self) -> String {
        let (host, port) = match self {
            Location::Address { ip, port, .. } => (ip, port.clone()),
            Location::Node { host, port, .. } => (host, port.to_string()),
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        match port.as_str() {
            "" => host,
            port => format!("{host}:{port}"),
        }
    }
}

fn peer(call: &Call, location: &Location) -> Result<Peer, String> {
    let (tls, ip, port) = match location {
        Location::Address { tls, ip, port } => (*tls, ip, port),
        Location::Node { node, host, port } => {
            let endpoint = Endpoint {
                node: node.clone(),
                host: host.clone(),
                port: *port,
            };
            return Peer::node(endpoint, call.streams.tls.clone());
        }
    };
    let port = match port.as_str() {
        "" if tls => 443,
        "" => 80,
        text => text
            .parse()
            .map_err(|_| format!("dial tcp: lookup tcp/{text}: unknown port"))?,
    };
    if !is_allowed(ip) {
        return Err("address not allowed".to_owned());
    }
    let name = ServerName::try_from(ip.clone()).map_err(|e| e.to_string())?;
    let secured = tls.then(|| (call.streams.unverified.clone(), name));
    let host = ip.clone();
    let to = Destination::Host { host, port };
    Ok(Peer::network(to, secured, Http::Any))
}

fn locate(call: &Call, of: Subresource) -> Result<Location, Status> {
    let what = call.kind.singular();
    let asked = Asked::parse(&call.route.name).ok_or_else(|| {
        Status::bad_request(format!("invalid {what} request {:?}", call.route.name))
    })?;
    match of {
        Subresource::PodProxy => locate_pod(call, &asked),
        Subresource::ServiceProxy => locate_service(call, &asked),
        _ => locate_node(call, &asked),
    }
}

fn read(call: &Call, name: &str) -> Result<Value, Status> {
    let found = registry::get(&call.store, &call.kind, &call.route.namespace, name)?;
    Ok(found.object)
}

fn locate_pod(call: &Call, asked: &Asked<'_>) -> Result<Location, Status> {
    let pod = read(call, asked.name)?;
    let first = || {
        let containers = meta::list(&pod, &["spec", "containers"]).iter();
        let ports = containers.filter_map(|c| meta::list(c, &["ports"]).first());
        ports
            .filter_map(|p| meta::int(p, &["containerPort"]))
            .next()
    };
    let port = match asked.port {
        "" => first().map(|p| p.to_string()).unwrap_or_default(),
        port => port.to_owned(),
    };
    let ips = meta::list(&pod, &["status", "podIPs"]);
    let ip = ips.first().map_or("", |ip| meta::text(ip, &["ip"]));
    if !is_allowed(ip) {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(Location::Address {
        tls: asked.tls,
        ip: ip.to_owned(),
        port,
    })
}

fn locate_service(call: &Call, asked: &Asked<'_>) -> Result<Location, Status> {
    let service = read(call, asked.name)?;
    let name = asked.name;
    let port = match asked.port.parse::<i64>() {
        Ok(number) => endpoints::port_name(&service, number).ok_or_else(|| {
            Status::unavailable(format!(
                "no service port {number} found for service {name:?}"
            ))
        })?,
        Err(_) => asked.port,
    };
    let known = Endpoints::of(&call.store, &call.route.namespace, name)?;
    let mut ready = known.ready(port, endpoints::family(&service));
    ready.retain(|backend| is_pods(call, backend));
    match endpoints::any(&ready) {
        Some(Backend { ip, port, .. }) => Ok(Location::Address {
            tls: asked.tls,
            ip: ip.clone(),
            port: port.to_string(),
        }),
        None => Err(Status::unavailable(format!(
            "no endpoints available for service {name:?}"
        ))),
    }
}

/// Whether a pod of the namespace has the address: who writes endpoints can't
/// have this server connect to anything else (upstream's `isValidAddress`).
fn is_pods(call: &Call, backend: &Backend) -> bool {
    let namespace = &call.route.namespace;
    let target = &backend.target;
    if meta::text(target, &["namespace"]) != namespace || meta::text(target, &["kind"]) != "Pod" {
        return false;
    }
    let Ok(pods) = endpoints::row("", "pods") else {
        return false;
    };
    let name = meta::text(target, &["name"]);
    registry::get(&call.store, &pods, namespace, name).is_ok_and(|pod| {
        meta::list(&pod.object, &["status", "podIPs"])
            .iter()
            .any(|ip| meta::text(ip, &["ip"]) == backend.ip)
    })
}

fn locate_node(call: &Call, asked: &Asked<'_>) -> Result<Location, Status> {
    let node = read(call, asked.name)?;
    let Endpoint { node, host, port } = Endpoint::of(&node)?;
    if asked.port.is_empty() || asked.port == port.to_string() {
        return Ok(Location::Node { node, host, port });
    }
    if !is_allowed(&host) {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(Location::Address {
        tls: asked.tls,
        ip: host,
        port: asked.port.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        for (text, wanted) in [
            ("a", Some((false, "a", ""))),
            ("a:80", Some((false, "a", "80"))),
            ("a:web", Some((false, "a", "web"))),
            ("https:a:443", Some((true, "a", "443"))),
            ("http:a:", Some((false, "a", ""))),
            (":a:80", Some((false, "a", "80"))),
            ("ftp:a:80", None),
            (":80", None),
            ("", None),
            ("https:a:1:2", None),
        ] {
            let wanted = wanted.map(|(tls, name, port)| Asked { tls, name, port });
            assert_eq!(Asked::parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn only_addresses_of_others_are_allowed() {
        for (ip, wanted) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
            ("host", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(ip), wanted, "{ip}");
        }
    }

    #[test]
    fn paths_are_joined_as_go_joins_them() {
        for (path, wanted) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b/", "/a/b"),
            ("/a/../../b", "/b"),
            ("//a/./b", "/a/b"),
        ] {
            assert_eq!(cleaned(path), wanted, "{path}");
        }
        assert_eq!(encoded("/a b/c%/é"), "/a%20b/c%25/%C3%A9");
    }
}

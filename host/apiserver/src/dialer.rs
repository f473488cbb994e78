//! The one way out to webhooks, pods, Services and extension servers: streams
//! to hosts and to Services. On the appliance the network opens them; alone, the
//! server dials for itself and resolves a Service by its endpoints.

use crate::endpoints::{self, Backend, Endpoints};
use crate::registry;
use api::custom::conversion::Target;
use api::status::Status;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connected stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    Host {
        host: String,
        port: u16,
    },
    /// A port of a Service.
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
}

impl Destination {
    /// Of a webhook, with the name that its certificate has and the path to
    /// ask for; `None` for a URL that isn't one.
    pub fn of(target: &Target) -> Option<(Destination, String, String)> {
        match target {
            Target::Url(url) => {
                let rest = url.strip_prefix("https://")?;
                let (authority, path) = match rest.find('/') {
                    Some(at) => rest.split_at(at),
                    None => (rest, "/"),
                };
                let (host, port) = match authority.rsplit_once(':') {
                    Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
                    _ => (authority, 443),
                };
                let host = host.trim_matches(['[', ']']).to_owned();
                let to = Destination::Host {
                    host: host.clone(),
                    port,
                };
                (!host.is_empty()).then(|| (to, host, path.to_owned()))
            }
            Target::Service {
                namespace,
                name,
                path,
                port,
            } => {
                let to = Destination::Service {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    port: *port,
                };
                let path = format!("/{}", path.trim_start_matches('/'));
                Some((to, format!("{name}.{namespace}.svc"), path))
            }
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Host { host, port } if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Destination::Host { host, port } => write!(f, "{host}:{port}"),
            Destination::Service {
                namespace,
                name,
                port,
            } => write!(f, "{name}.{namespace}.svc:{port}"),
        }
    }
}

/// Why there is no stream, as Go says it.
pub(crate) fn undialed(to: &Destination, e: &io::Error) -> String {
    match (to, e.kind()) {
        (Destination::Host { .. }, io::ErrorKind::ConnectionRefused) => {
            format!("dial tcp {to}: connect: connection refused")
        }
        _ => e.to_string(),
    }
}

pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Opens streams. No timeout of its own: who asks bounds the whole.
pub trait Dialer: Send + Sync {
    fn connect<'a>(&'a self, to: &'a Destination) -> Connecting<'a>;
}

/// Dials by the host's own network.
pub(crate) struct HostDialer {
    pub(crate) store: Store,
}

impl Dialer for HostDialer {
    fn connect<'a>(&'a self, to: &'a Destination) -> Connecting<'a> {
        Box::pin(async move {
            let (host, port) = match to {
                Destination::Host { host, port } => (host.clone(), *port),
                Destination::Service {
                    namespace,
                    name,
                    port,
                } => self.resolve(namespace, name, *port)?,
            };
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl HostDialer {
    /// A ready address behind a Service's port.
    fn resolve(&self, namespace: &str, name: &str, port: u16) -> io::Result<(String, u16)> {
        let not_found = |why: String| io::Error::new(io::ErrorKind::NotFound, why);
        let refused = |status: Status| not_found(status.message);
        let services = endpoints::row("", "services").map_err(refused)?;
        let found = registry::get(&self.store, &services, namespace, name).map_err(refused)?;
        let service = found.object;
        let of_port = endpoints::port_name(&service, i64::from(port)).ok_or_else(|| {
            not_found(format!("no service port {port} found for service {name:?}"))
        })?;
        let known = Endpoints::of(&self.store, namespace, name).map_err(refused)?;
        let ready = known.ready(of_port, endpoints::family(&service));
        match endpoints::any(&ready) {
            Some(Backend { ip, port, .. }) => Ok((ip.clone(), *port)),
            None => Err(not_found(format!(
                "no endpoints available for service {name:?}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_services_are_destinations() {
        let host = |host: &str, port| Destination::Host {
            host: host.to_owned(),
            port,
        };
        for (url, wanted) in [
            ("https://h:8443/a/b", Some((host("h", 8443), "/a/b"))),
            ("https://h", Some((host("h", 443), "/"))),
            ("https://[::1]:1/x", Some((host("::1", 1), "/x"))),
            ("http://h/", None),
            ("https://:1/", None),
            ("https://h:port/", None),
        ] {
            let found = Destination::of(&Target::Url(url.to_owned()));
            let found = found.map(|(to, _, path)| (to, path));
            let wanted = wanted.map(|(to, path)| (to, path.to_owned()));
            assert_eq!(found, wanted, "{url}");
        }
        let service = Target::Service {
            namespace: "n".to_owned(),
            name: "s".to_owned(),
            path: "p".to_owned(),
            port: 9443,
        };
        let Some((_, name, path)) = Destination::of(&service) else {
            panic!("a service is a destination");
        };
        assert_eq!((name.as_str(), path.as_str()), ("s.n.svc", "/p"));
    }
}

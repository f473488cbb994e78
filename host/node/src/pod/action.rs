//! What a probe or a lifecycle hook does, read from the pod: names of ports
//! resolved, variables expanded.

use super::environment::expand;
use super::view::View;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::time::Duration;

/// Something to be done in, or with, a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Exec(Vec<String>),
    Http(HttpGet),
    /// Whether a connection to the port is taken.
    Tcp(u16),
    /// gRPC's health checking protocol (`grpc.health.v1`).
    Grpc {
        port: u16,
        service: String,
    },
    Sleep(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpGet {
    pub(crate) https: bool,
    /// As URLs and messages show it; connected is always to the pod itself.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// What a probe does.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(crate) fn of_probe(
    view: View<'_>,
    container: &Container,
    probe: &Probe,
) -> Result<Action, String> {
    if let Some(exec) = &probe.exec {
        // Only what the pod itself says is known here, as upstream has it.
        let known: BTreeMap<String, String> = container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
            .collect();
        let args = command(exec);
        return Ok(Action::Exec(
            args.iter().map(|text| expand(text, &known)).collect(),
        ));
    }
    if let Some(http) = &probe.http_get {
        return http_get(view, container, http).map(Action::Http);
    }
    if let Some(tcp) = &probe.tcp_socket {
        return tcp_socket(container, tcp);
    }
    if let Some(grpc) = &probe.grpc {
        return Ok(Action::Grpc {
            port: narrow(i64::from(grpc.port))?,
            service: grpc.service.clone().unwrap_or_default(),
        });
    }
    Err(format!("missing probe handler for {}", container.name))
}

/// What a hook does.
///
/// # Errors
/// As `of_probe`.
pub(crate) fn of_hook(
    view: View<'_>,
    container: &Container,
    hook: &LifecycleHandler,
) -> Result<Action, String> {
    if let Some(exec) = &hook.exec {
        return Ok(Action::Exec(command(exec)));
    }
    if let Some(http) = &hook.http_get {
        return http_get(view, container, http).map(Action::Http);
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        return Ok(Action::Sleep(Duration::from_secs(seconds)));
    }
    Err("invalid handler".to_owned())
}

fn command(exec: &ExecAction) -> Vec<String> {
    exec.command.clone().unwrap_or_default()
}

fn http_get(
    view: View<'_>,
    container: &Container,
    http: &HTTPGetAction,
) -> Result<HttpGet, String> {
    let host = http.host.as_deref().filter(|host| !host.is_empty());
    let path = http.path.as_deref().unwrap_or_default();
    let headers = http.http_headers.iter().flatten();
    Ok(HttpGet {
        https: http.scheme.as_deref() == Some("HTTPS"),
        host: host.unwrap_or_else(|| own_host(view)).to_owned(),
        port: port(container, &http.port)?,
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
    })
}

fn tcp_socket(container: &Container, tcp: &TCPSocketAction) -> Result<Action, String> {
    port(container, &tcp.port).map(Action::Tcp)
}

/// The pod's address, or its loopback one as long as it has no other.
fn own_host(view: View<'_>) -> &str {
    let status = view.0.status.as_ref();
    let address = status.and_then(|status| status.pod_ip.as_deref());
    address.unwrap_or("127.0.0.1")
}

/// Whether a probe of this host asks the pod itself.
pub(crate) fn is_own_host(host: Option<&str>) -> bool {
    matches!(
        host,
        None | Some("" | "localhost" | "127.0.0.1" | "::1" | "[::1]")
    )
}

/// A port by number, or by its name in the container.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    match port {
        IntOrString::Int(number) => narrow(i64::from(*number)),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            match ports.find(|port| port.name.as_ref() == Some(name)) {
                Some(port) => narrow(i64::from(port.container_port)),
                // It may be a number after all.
                None => name
                    .parse()
                    .map_err(|_| format!("strconv.Atoi: parsing \"{name}\": invalid syntax"))
                    .and_then(narrow),
            }
        }
    }
}

fn narrow(number: i64) -> Result<u16, String> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    fn action(probe: Value) -> Result<Action, String> {
        let pod = pod(json!({"containers": [{
            "name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}],
            "ports": [{"name": "web", "containerPort": 8080}], "livenessProbe": probe,
        }]}));
        let view = View(&pod);
        let (_, container) = view.container("a").expect("it is there");
        let probe = container.liveness_probe.as_ref().expect("it has one");
        of_probe(view, container, probe)
    }

    #[test]
    fn probes_are_read_whole() {
        let exec = action(json!({"exec": {"command": ["sh", "$(X)$(Y)"]}}));
        let args = ["sh", "1$(Y)"].map(str::to_owned).to_vec();
        assert_eq!(exec, Ok(Action::Exec(args)));
        let http = action(json!({"httpGet": {"port": "web", "path": "healthz?x",
            "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]}}));
        let wanted = HttpGet {
            https: true,
            host: "127.0.0.1".to_owned(),
            port: 8080,
            path: "/healthz?x".to_owned(),
            headers: vec![("A".to_owned(), "b".to_owned())],
        };
        assert_eq!(http, Ok(Action::Http(wanted)));
        assert_eq!(
            action(json!({"tcpSocket": {"port": "81"}})),
            Ok(Action::Tcp(81))
        );
        let grpc = Action::Grpc {
            port: 9,
            service: "s".to_owned(),
        };
        assert_eq!(
            action(json!({"grpc": {"port": 9, "service": "s"}})),
            Ok(grpc)
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (probe, message) in [
            (json!({"tcpSocket": {"port": 0}}), "invalid port number: 0"),
            (
                json!({"tcpSocket": {"port": "x"}}),
                "strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (json!({}), "missing probe handler for a"),
        ] {
            assert_eq!(action(probe), Err(message.to_owned()));
        }
    }
}

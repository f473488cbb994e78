//! `proxy` of pods, Services and nodes, against servers that play them.

use crate::POD;
use crate::others::{Network, Server, full, tls};
use crate::session::{Lines, Session};
use crate::streams;
use crate::wire::Client;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use reconcile::Body;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;

const PAGE: &str = r#"<html><a href="/next">n</a><img src='pic'><a href="http://else/x"></html>"#;

/// Tells what it was asked; some paths answer otherwise.
async fn answer(mut request: Request<Incoming>) -> Response<Body> {
    let html = || Response::builder().header("content-type", "text/html; charset=utf-8");
    match request.uri().path() {
        "/page" => html().body(full(PAGE)).unwrap(),
        "/packed" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(PAGE.as_bytes()).unwrap();
            html()
                .header("content-encoding", "gzip")
                .body(full(encoder.finish().unwrap()))
                .unwrap()
        }
        "/elsewhere" => Response::builder()
            .status(302)
            .header(header::LOCATION, "/there/?a=b")
            .body(full(""))
            .unwrap(),
        "/refuse" => Response::builder()
            .status(418)
            .header("content-type", "text/plain")
            .header("access-control-allow-origin", "*")
            .body(full("short and stout"))
            .unwrap(),
        "/chat" if request.headers().contains_key("upgrade") => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let stream = TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(stream);
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                writer.write_all(b"bye").await.unwrap();
                writer.shutdown().await.unwrap();
            });
            Response::builder()
                .status(101)
                .header("connection", "Upgrade")
                .header("upgrade", "chat")
                .body(full(""))
                .unwrap()
        }
        _ => {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let headers: serde_json::Map<String, Value> = parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                .collect();
            let seen = json!({
                "method": parts.method.as_str(), "uri": parts.uri.path_and_query().unwrap().as_str(),
                "headers": headers, "size": body.len(),
            });
            Response::builder()
                .header("content-type", "application/json")
                .header("x-own", "1")
                .body(full(seen.to_string()))
                .unwrap()
        }
    }
}

struct Scene {
    client: Client,
    network: Arc<Network>,
    server: Server,
}

impl Scene {
    /// A pod `web` at 10.1.2.3, whose port 80 answers.
    fn start() -> Scene {
        let network: Arc<Network> = Arc::default();
        let server = Server::start(None, answer);
        network.lead("10.1.2.3:80", server.port);
        let s = Session::dialing(None, network.clone());
        s.run_with(&["apply", "-f", "-"], POD).says("created");
        place(&s, "web", "10.1.2.3");
        Scene {
            client: Client::of(s),
            network,
            server,
        }
    }

    fn session(&self) -> &Session {
        self.client.session()
    }
}

pub(crate) fn place(s: &Session, pod: &str, ip: &str) {
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
    let (kind, patch) = (["--subresource=status", "--type=merge"], status.to_string());
    s.run(&["patch", "pod", pod, kind[0], kind[1], "-p", &patch])
        .says("patched");
}

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn a_pod_is_reached_by_its_name_and_port() {
    let scene = Scene::start();
    let (s, c) = (scene.session(), &scene.client);
    let raw = |path: &str| s.run(&["get", "--raw", &format!("{PODS}/{path}")]);
    for at in ["web", "web:80", "http:web:80", "http:web:"] {
        raw(&format!("{at}/proxy/a%20b/c?d=e&f"))
            .says(r#""uri":"/a%20b/c?d=e&f=""#)
            .says(r#""host":"127.0.0.1:"#)
            .says(r#""method":"GET""#);
    }
    raw("web/proxy/").says(r#""uri":"/""#);
    raw("web/proxy/x/").says(r#""uri":"/x/""#);
    raw("nobody/proxy/").fails(r#"pods "nobody" not found"#);
    raw("ftp:web:80/proxy/").fails(r#"invalid pod request "ftp:web:80""#);
    raw("web:81/proxy/")
        .fails("error trying to reach service: dial tcp 10.1.2.3:81: connect: connection refused");
    for (port, why) in [
        ("x", "lookup tcp/x: unknown port"),
        ("81", "connection refused"),
    ] {
        let (code, status) = c.get(&format!("{PODS}/web:{port}/proxy/"));
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status["reason"], "ServiceUnavailable");
        assert!(
            status["message"].as_str().unwrap().ends_with(why),
            "{status}"
        );
    }
    let (code, _, body) = c.raw(Method::GET, &format!("{PODS}/web/proxy/refuse"), &[], b"");
    assert_eq!(code, StatusCode::IM_A_TEAPOT);
    assert_eq!(body, "short and stout");
    for ip in ["127.0.0.1", "169.254.169.254"] {
        place(s, "web", ip);
        raw("web/proxy/").fails("address not allowed");
    }
}

#[test]
fn methods_bodies_and_headers_pass_but_credentials() {
    let scene = Scene::start();
    let c = &scene.client;
    let headers = [
        ("x-some", "thing"),
        ("authorization", "Bearer secret"),
        ("x-remote-user", "root"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("accept", "text/weird"),
        ("content-type", "text/odd"),
    ];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let asked = method.parse().unwrap();
        let (code, seen) = c.send(asked, &format!("{PODS}/web/proxy/m"), &headers, b"12345");
        assert_eq!(code, StatusCode::OK, "{method}: {seen}");
        assert_eq!(
            (&seen["method"], &seen["size"]),
            (&json!(method), &json!(5))
        );
        let got = &seen["headers"];
        assert_eq!(got["x-some"], "thing");
        assert_eq!(got["accept"], "text/weird");
        assert_eq!(got["content-type"], "text/odd");
        assert_eq!(got["x-forwarded-uri"], format!("{PODS}/web/proxy/m"));
        for gone in ["authorization", "x-remote-user", "x-hop"] {
            assert!(got.get(gone).is_none(), "{gone}: {got}");
        }
    }
}

#[test]
fn pages_and_redirections_lead_through_the_proxy() {
    let scene = Scene::start();
    let s = scene.session();
    let at = format!("{PODS}/web/proxy");
    let wanted = PAGE.replace("/next", &format!("{at}/next"));
    for page in ["page", "packed"] {
        s.run(&["get", "--raw", &format!("{at}/{page}")])
            .says(&wanted);
    }
    let mut proxy = Lines::of(s.command(&["proxy", "--port=0"]));
    let address = listening(&mut proxy);
    let head = ask(&address, &format!("GET {at}/elsewhere HTTP/1.1"), "", b"");
    assert!(head.starts_with("HTTP/1.1 302 "), "{head}");
    let to = format!("location: {at}/there/?a=b");
    assert!(head.to_lowercase().contains(&to.to_lowercase()), "{head}");
    let head = ask(&address, &format!("GET {at}?x=y HTTP/1.1"), "", b"");
    assert!(head.starts_with("HTTP/1.1 301 "), "{head}");
    assert!(head.contains(&format!("{at}/?x=y")), "{head}");
    let head = ask(&address, &format!("GET {at}/refuse HTTP/1.1"), "", b"");
    assert!(!head.to_lowercase().contains("access-control"), "{head}");
    assert!(head.ends_with("short and stout"), "{head}");
}

/// Where `kubectl proxy` listens: it speaks TLS and credentials for a plain
/// socket.
pub(crate) fn listening(proxy: &mut Lines) -> String {
    let said = proxy.wait_for("Starting to serve on");
    said.trim().rsplit(' ').next().unwrap().to_owned()
}

/// The whole answer to one request.
fn ask(address: &str, line: &str, headers: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let size = body.len();
    let head = format!(
        "{line}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn large_bodies_stream_and_upgrades_pass() {
    let scene = Scene::start();
    let s = scene.session();
    let mut proxy = Lines::of(s.command(&["proxy", "--port=0"]));
    let address = listening(&mut proxy);
    // More than any object may have.
    let large = vec![b'x'; 8 << 20];
    let line = format!("POST {PODS}/web/proxy/up HTTP/1.1");
    let seen = ask(&address, &line, "", &large);
    assert!(
        seen.contains(&format!("\"size\":{}", large.len())),
        "{seen}"
    );
    assert!(seen.contains("\"x-forwarded-for\":\""), "{seen}");
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = format!(
        "GET {PODS}/web/proxy/chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    stream.write_all(b"ping").unwrap();
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"ping");
    // What answers without changing protocol.
    let upgrade = "Upgrade: chat\r\nConnection: Upgrade\r\n";
    let refused = ask(
        &address,
        &format!("GET {PODS}/web/proxy/no HTTP/1.1"),
        upgrade,
        b"",
    );
    assert!(
        refused.contains("invalid upgrade response: status code 200"),
        "{refused}"
    );
}

#[test]
fn a_service_is_reached_by_ready_endpoints_that_are_pods() {
    let scene = Scene::start();
    let (s, network) = (scene.session(), &scene.network);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"ports": [{"name": "http", "port": 8080}, {"name": "tls", "port": 8443}]},
    });
    s.run_with(&["create", "-f", "-"], &service.to_string())
        .says("created");
    let at = |name: &str| format!("/api/v1/namespaces/default/services/{name}/proxy/x");
    let raw = |name: &str| s.run(&["get", "--raw", &at(name)]);
    raw("front:http").fails(r#"no endpoints available for service "front""#);
    let slice = |ready: bool, target: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "front-1", "labels": {"kubernetes.io/service-name": "front"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}],
            "endpoints": [{
                "addresses": ["10.1.2.3"], "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": target},
            }],
        })
        .to_string()
    };
    s.run_with(&["apply", "-f", "-"], &slice(true, "web"))
        .says("created");
    for name in ["front:http", "front:8080", "http:front:8080"] {
        raw(name).says(r#""uri":"/x""#);
    }
    let (acceptor, _) = tls(&["whoever"], None);
    let secured = Server::start(Some(acceptor), answer);
    network.lead("10.1.2.3:443", secured.port);
    raw("https:front:tls").says(r#""uri":"/x""#);
    raw("front").fails(r#"no endpoints available for service "front""#);
    raw("front:1").fails(r#"no service port 1 found for service "front""#);
    raw("nobody").fails(r#"services "nobody" not found"#);
    raw("a:b:c:d").fails(r#"invalid service request "a:b:c:d""#);
    for (ready, target) in [(false, "web"), (true, "other")] {
        s.run_with(&["apply", "-f", "-"], &slice(ready, target))
            .says("configured");
        raw("front:http").fails(r#"no endpoints available for service "front""#);
    }
    network.cut("10.1.2.3:80");
    s.run_with(&["apply", "-f", "-"], &slice(true, "web"))
        .says("configured");
    raw("front:http").fails("error trying to reach service: dial tcp 10.1.2.3:80");
    assert_ne!(scene.server.port, secured.port);
}

#[test]
fn a_node_is_reached_at_its_endpoint_and_at_other_ports() {
    let scene = Scene::start();
    let s = scene.session();
    let kubelet = Server::start(Some(streams::acceptor(s)), answer);
    let node = streams::node(s, "127.0.0.1", kubelet.port);
    let raw = |path: &str| s.run(&["get", "--raw", &format!("/api/v1/nodes/{path}")]);
    for at in ["n1", &format!("n1:{}", kubelet.port)] {
        raw(&format!("{at}/proxy/healthz?x=y")).says(r#""uri":"/healthz?x=y""#);
    }
    raw("n1:81/proxy/").fails("address not allowed");
    raw("n2/proxy/").fails(r#"nodes "n2" not found"#);
    node("10.1.2.3");
    raw("http:n1:80/proxy/y").says(r#""uri":"/y""#);
}

#[test]
fn who_may_get_a_pod_may_not_reach_it() {
    let scene = Scene::start();
    let s = scene.session();
    let role = ["create", "role", "r", "--verb=get", "--resource=pods"];
    s.run(&role).says("created");
    s.run(&["create", "rolebinding", "r", "--role=r", "--user=bob"])
        .says("created");
    let at = format!("{PODS}/web/proxy/x");
    s.run_as("sesame", &["get", "--raw", &at])
        .fails(r#"cannot get resource "pods/proxy" in API group """#);
    let role = ["create", "role", "p", "--verb=get", "--resource=pods/proxy"];
    s.run(&role).says("created");
    s.run(&["create", "rolebinding", "p", "--role=p", "--user=bob"])
        .says("created");
    s.run_as("sesame", &["get", "--raw", &at])
        .says(r#""uri":"/x""#)
        .silent_of("sesame");
    s.run_as("sesame", &["delete", "--raw", &at])
        .fails(r#"cannot delete resource "pods/proxy""#);
}

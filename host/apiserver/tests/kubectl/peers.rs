//! How many connections the API server opens to other servers, and what it does
//! about those that die: the other side counts.

use crate::POD;
use crate::aggregated;
use crate::hooks;
use crate::others::{self, Network, full, tls};
use crate::proxy::{PODS, place};
use crate::session::Session;
use crate::webhooks::respond;
use crate::wire::{Client, MAPS, map};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use reconcile::Body;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let size = request.into_body().collect().await.unwrap().to_bytes();
    let json = Response::builder().header("content-type", "application/json");
    if path == "/endless" {
        let frames = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"[")))]);
        let frames = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
        return json.body(StreamBody::new(frames).boxed_unsync()).unwrap();
    }
    json.body(full(size.len().to_string())).unwrap()
}

/// A pod `web` at 10.1.2.3.
fn pod(network: &Arc<Network>) -> Client {
    let s = Session::dialing(None, network.clone());
    s.run_with(&["apply", "-f", "-"], POD).says("created");
    place(&s, "web", "10.1.2.3");
    Client::of(s)
}

#[test]
fn requests_one_after_the_other_share_a_connection() {
    for secure in [false, true] {
        let network: Arc<Network> = Arc::default();
        let acceptor = secure.then(|| tls(&["whoever"], None).0);
        let server = others::Server::start(acceptor, answer);
        network.lead("10.1.2.3:80", server.port);
        let c = pod(&network);
        let at = match secure {
            true => format!("{PODS}/https:web:80/proxy/x"),
            false => format!("{PODS}/web:80/proxy/x"),
        };
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"] {
            let (code, ..) = c.raw(method.parse().unwrap(), &at, &[], b"12345");
            assert_eq!(code, StatusCode::OK, "{method}");
        }
        assert_eq!(server.accepted(), 1, "secure: {secure}");
        // Only HTTP/2 has room beside a request that doesn't end.
        let request = Request::get(at.replace("/x", "/endless"));
        let request = request.body(Bytes::new()).unwrap();
        let root = apiserver::User::new("root", ["system:masters".to_owned()]);
        let transport = c.session().running().server().local_transport(root);
        let sent = reconcile::Transport::send(&*transport, request);
        let endless = c.session().runtime().block_on(sent).unwrap();
        assert_eq!(endless.status(), StatusCode::OK);
        assert_eq!(c.get(&at).0, StatusCode::OK);
        assert_eq!(server.accepted(), if secure { 1 } else { 2 });
        drop(endless);
    }
}

#[test]
fn extension_servers_have_one_connection_for_all_users() {
    let scene = aggregated::Scene::start(None);
    scene.serve();
    let c = Client::of(scene.session);
    let before = scene.server.accepted();
    for _ in 0..20 {
        assert_eq!(c.get(aggregated::NOTES).0, StatusCode::OK);
    }
    // What the availability is asked by has its own.
    let opened = scene.server.accepted() - before;
    assert!(opened <= 10, "{opened}");
}

#[test]
fn webhooks_are_asked_over_a_connection_for_each_trust() {
    let server = hooks::Server::start(|_, review| respond(review, json!({})));
    let c = Client::start();
    let create = |name: &str| c.post(MAPS, &map(name));
    let hook = |config: serde_json::Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "hook"},
            "webhooks": [{
                "name": "hook.example.com", "clientConfig": config,
                "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "rules": [{"operations": ["CREATE"], "apiGroups": [""],
                    "apiVersions": ["v1"], "resources": ["configmaps"]}],
            }],
        })
    };
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    assert_eq!(
        c.post(hooks, &hook(server.config("/a"))).0,
        StatusCode::CREATED
    );
    for i in 0..10 {
        assert_eq!(create(&format!("cm-{i}")).0, StatusCode::CREATED);
    }
    assert_eq!((server.asked().len(), server.accepted()), (10, 1));
    // Another CA is another trust: what was opened under the first is no way.
    let (_, other) = tls(&["127.0.0.1"], None);
    let mut config = server.config("/a");
    use base64::Engine as _;
    config["caBundle"] = base64::engine::general_purpose::STANDARD
        .encode(&other)
        .into();
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = hook(config).to_string();
    let (code, said) = c.send(
        Method::PATCH,
        &format!("{hooks}/hook"),
        &merge,
        patched.as_bytes(),
    );
    assert_eq!(code, StatusCode::OK, "{said}");
    let (code, said) = create("untrusted");
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{said}");
    assert!(
        said["message"].as_str().unwrap().contains("tls: "),
        "{said}"
    );
    assert_eq!((server.asked().len(), server.accepted()), (0, 2));
}

/// Reads the head of a request without a body; none at the end.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Answers the first request of each connection and hangs up at the second.
fn fickle() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted: Arc<AtomicUsize> = Arc::default();
    let count = accepted.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                if head(&mut stream).is_none() {
                    return;
                }
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer.as_bytes()).unwrap();
                head(&mut stream);
            });
        }
    });
    (port, accepted)
}

#[test]
fn a_dead_connection_is_replaced_for_what_changes_nothing() {
    let network: Arc<Network> = Arc::default();
    let (port, accepted) = fickle();
    network.lead("10.1.2.3:80", port);
    let c = pod(&network);
    let at = format!("{PODS}/web/proxy/x");
    let ask = |method: Method| c.raw(method, &at, &[], b"").0;
    assert_eq!(ask(Method::GET), StatusCode::OK);
    // The one that was kept dies under it; the next one answers.
    assert_eq!(ask(Method::GET), StatusCode::OK);
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    // It may have had an effect.
    assert_eq!(ask(Method::POST), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    assert_eq!(ask(Method::POST), StatusCode::OK);
    assert_eq!(accepted.load(Ordering::SeqCst), 3);
}

#[test]
fn a_connection_that_ended_unused_is_no_obstacle() {
    let network: Arc<Network> = Arc::default();
    let server = others::Server::start(None, answer);
    network.lead("10.1.2.3:80", server.port);
    let c = pod(&network);
    let at = format!("{PODS}/web/proxy/x");
    let post = || c.send(Method::POST, &at, &[], b"1").0;
    assert_eq!(post(), StatusCode::OK);
    network.cut("10.1.2.3:80");
    // The end has to have come through.
    std::thread::sleep(Duration::from_millis(200));
    network.lead("10.1.2.3:80", server.port);
    assert_eq!(post(), StatusCode::OK);
    assert_eq!(server.accepted(), 2);
}

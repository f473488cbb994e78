//! What the audit log has of requests that go on for long, that break off, and
//! in which the server fails.

use crate::audit::{Audited, configured, stages, start};
use crate::session::{self, Session};
use crate::sockets::connect;
use crate::streams::{place, play};
use crate::wire::{Client, MAPS, map};
use apiserver::{Connecting, Destination, Dialer};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const ALL: &str = "rules: [{level: Metadata}]";
const WHOLE: [&str; 3] = ["RequestReceived", "ResponseStarted", "ResponseComplete"];

/// Lets bob, whose token is known, do everything.
fn trust_bob(c: &Client) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let (code, made) = c.post(path, &binding);
    assert_eq!(code, StatusCode::CREATED, "{made}");
}

/// A request by bob as it is written, and what was answered up to its head's end.
async fn write(a: &Audited, head: &str, body: &str) -> TlsStream<TcpStream> {
    let mut stream = connect(a.client.session(), b"http/1.1").await;
    let text =
        format!("{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n{body}");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn streams_have_a_start_and_an_end() {
    let a = start(ALL);
    trust_bob(&a.client);
    let s = a.client.session();
    let node = play(s);
    place(s, node.port);
    let pod = "/api/v1/namespaces/default/pods/web";
    let headers = [("audit-id", "log")];
    let (code, _, text) = a
        .client
        .raw(Method::GET, &format!("{pod}/log"), &headers, b"");
    assert_eq!((code, &text[..]), (StatusCode::OK, &b"hello\n"[..]));
    let events = a.of_id("log", "ResponseComplete");
    assert_eq!(stages(&events), WHOLE);
    assert_eq!(events[2]["verb"], "get");
    assert_eq!(events[2]["objectRef"]["subresource"], "log");
    for (subresource, query) in [
        ("exec", "?command=sh&stdin=true&stdout=true"),
        ("attach", "?stdin=true&stdout=true"),
        ("portforward", "?ports=80"),
    ] {
        let upgrade = format!(
            "Audit-ID: {subresource}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
        );
        let stream = s.runtime().block_on(async {
            let head = format!("POST {pod}/{subresource}{query}");
            let mut stream = write(&a, &head, &upgrade).await;
            let head = answer(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            // What the client says is echoed: it goes on.
            stream.write_all(b"ping").await.unwrap();
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed).await.unwrap();
            stream
        });
        let events = a.of_id(subresource, "ResponseStarted");
        assert_eq!(stages(&events), WHOLE[..2], "{subresource}");
        assert_eq!(events[1]["responseStatus"]["code"], 101);
        drop(stream);
        let events = a.of_id(subresource, "ResponseComplete");
        assert_eq!(stages(&events), WHOLE, "{subresource}");
        assert_eq!(events[2]["verb"], "create");
        assert_eq!(events[2]["objectRef"]["subresource"], subresource);
        assert_eq!(events[2]["responseStatus"]["code"], 101);
    }
    // One that is refused has all its stages too.
    let (code, _) = a.client.send(
        Method::GET,
        "/api/v1/namespaces/default/pods/nobody/log",
        &[("audit-id", "nobody")],
        b"",
    );
    assert_eq!(code, StatusCode::NOT_FOUND);
    let events = a.of_id("nobody", "ResponseComplete");
    assert_eq!(stages(&events), WHOLE);
    assert_eq!(events[1]["responseStatus"]["reason"], "NotFound");
}

#[test]
fn requests_that_break_off_are_recorded() {
    let a = start(ALL);
    trust_bob(&a.client);
    let s = a.client.session();
    s.runtime().block_on(async {
        let said = "Audit-ID: cut\r\nContent-Length: 1000\r\n\r\n{\"kind\"";
        let mut stream = write(&a, &format!("POST {MAPS}"), said).await;
        stream.flush().await.unwrap();
        // The end of TLS, then of TCP.
        stream.shutdown().await.unwrap();
    });
    let events = a.of_id("cut", "ResponseComplete");
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let event = &events[1];
    assert_eq!(event["user"]["username"], "bob");
    assert_eq!(event["verb"], "create");
    assert_eq!(event["responseStatus"]["code"], 400);
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "allow"
    );
    // As a stream of HTTP/2 that the client takes back, once the server has it:
    // it has answered a later one on the same connection.
    s.runtime().block_on(async {
        let io = TokioIo::new(connect(s, b"h2").await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
        tokio::spawn(connection);
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let begun = stream::once(async { Ok(Frame::data(Bytes::from_static(b"{"))) });
        let broken = stream::once(async {
            let _ = told.await;
            Err(io::Error::other("enough"))
        });
        let request = |path: &str, id: &str| {
            Request::post(format!("https://localhost{path}"))
                .header("authorization", "Bearer sesame")
                .header("audit-id", id)
        };
        let body = StreamBody::new(begun.chain(broken)).boxed_unsync();
        let reset = sender.send_request(request(MAPS, "reset").body(body).unwrap());
        let reset = tokio::spawn(reset);
        let empty = StreamBody::new(stream::empty()).boxed_unsync();
        let later = request("/healthz", "later").body(empty).unwrap();
        sender.send_request(later).await.unwrap();
        tell.send(()).unwrap();
        assert!(reset.await.unwrap().is_err());
    });
    let events = a.of_id("reset", "ResponseComplete");
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    assert_eq!(events[1]["responseStatus"]["code"], 400);
    // One that is too large.
    s.runtime().block_on(async {
        let said = "Audit-ID: large\r\nContent-Length: 4000000\r\n\r\n";
        let mut stream = write(&a, &format!("POST {MAPS}"), said).await;
        let most = 3 << 20;
        stream.write_all(&vec![b' '; most + 1]).await.unwrap();
        let head = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    });
    let events = a.of_id("large", "ResponseComplete");
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    assert_eq!(events[1]["responseStatus"]["code"], 413);
    let (code, made) = a.client.post(MAPS, &map("after"));
    assert_eq!(code, StatusCode::CREATED, "{made}");
}

/// Fails as no dialer should.
struct Failing;

impl Dialer for Failing {
    fn connect<'a>(&'a self, _to: &'a Destination) -> Connecting<'a> {
        Box::pin(async { panic!("no dialing today") })
    }
}

#[test]
fn a_failure_of_the_server_is_recorded_as_one() {
    let dialer: Arc<dyn Dialer> = Arc::new(Failing);
    let s = Session::configured_dialing(
        |dir| apiserver::Config {
            audit: Some(configured(dir, ALL)),
            ..session::config(dir)
        },
        dialer,
    );
    let log = s.path("log/audit.log");
    let a = Audited {
        client: Client::of(s),
        log,
    };
    trust_bob(&a.client);
    let service = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    assert_eq!(a.client.post(pods, &service).0, StatusCode::CREATED);
    let status =
        json!({"status": {"podIP": "192.0.2.1", "podIPs": [{"ip": "192.0.2.1"}]}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    let path = format!("{pods}/p/status");
    let (code, patched) = a
        .client
        .send(Method::PATCH, &path, &headers, status.as_bytes());
    assert_eq!(code, StatusCode::OK, "{patched}");
    a.client.session().runtime().block_on(async {
        let mut stream = write(
            &a,
            &format!("GET {pods}/p/proxy/"),
            "Audit-ID: broken\r\n\r\n",
        )
        .await;
        // There is no answer: the connection ends.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
    });
    let events = a.of_id("broken", "Panic");
    assert_eq!(stages(&events), ["RequestReceived", "Panic"]);
    let said = &events[1]["responseStatus"];
    assert_eq!(said["code"], 500);
    assert_eq!(said["reason"], "InternalError");
    assert_eq!(said["message"], "APIServer panic'd: no dialing today");
    // The others don't notice.
    assert_eq!(a.client.post(MAPS, &map("after")).0, StatusCode::CREATED);
}

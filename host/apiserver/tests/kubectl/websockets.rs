//! Watches and logs by WebSocket, as a program in a browser asks for them: its
//! token among the subprotocols.

use crate::session::Session;
use crate::sockets::connect;
use crate::streams::{place, play};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_key};
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// `sesame`, bob's.
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.c2VzYW1l";
const WRONG: &str = "base64url.bearer.authorization.k8s.io.d3Jvbmc";

async fn open(s: &Session, path: &str, protocols: &str) -> Result<(Socket, Response), Error> {
    let request = http::Request::get(format!("wss://localhost{path}"))
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("sec-websocket-protocol", protocols)
        .body(())
        .unwrap();
    let stream = connect(s, b"http/1.1").await;
    tokio_tungstenite::client_async(request, stream).await
}

/// What the server says instead of changing the protocol.
async fn refused(s: &Session, path: &str, protocols: &str) -> (u16, String) {
    match open(s, path, protocols).await {
        Err(Error::Http(answer)) => {
            let code = answer.status().as_u16();
            let body = answer.into_body().unwrap_or_default();
            (code, String::from_utf8(body).unwrap())
        }
        other => panic!("{:?}", other.map(|(_, answer)| answer)),
    }
}

async fn event(socket: &mut Socket) -> (String, String) {
    let message = socket.next().await.unwrap().unwrap();
    let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&event["type"]),
        text(&event["object"]["metadata"]["name"]),
    )
}

/// With bob as its administrator.
fn session() -> Session {
    let s = Session::first();
    let words = "create clusterrolebinding bob --clusterrole=cluster-admin --user=bob";
    let words: Vec<&str> = words.split(' ').collect();
    s.run(&words).says("created");
    s
}

#[test]
fn an_event_is_a_message() {
    let s = session();
    for name in ["a", "b"] {
        s.run(&["create", "configmap", name]).says("created");
        s.run(&["label", "configmap", name, "test=ws"])
            .says("labeled");
    }
    let path = "/api/v1/namespaces/default/configmaps?watch=1&labelSelector=test%3Dws";
    s.runtime().block_on(async {
        let protocols = format!("{TOKEN}, any");
        let (mut socket, answer) = open(&s, path, &protocols).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "any");
        for name in ["a", "b"] {
            assert_eq!(event(&mut socket).await, ("ADDED".into(), name.into()));
        }
        tokio::task::block_in_place(|| s.run(&["delete", "configmap", "a"]).says("deleted").out());
        assert_eq!(event(&mut socket).await, ("DELETED".into(), "a".into()));
        let short = format!("{path}&timeoutSeconds=1");
        let (mut socket, _) = open(&s, &short, &protocols).await.unwrap();
        assert_eq!(event(&mut socket).await, ("ADDED".into(), "b".into()));
        let last = socket.next().await.unwrap().unwrap();
        assert!(matches!(last, Message::Close(_)), "{last:?}");
        let (code, said) = refused(&s, path, &format!("{WRONG}, any")).await;
        assert_eq!(code, 401, "{said}");
        let (code, said) = refused(&s, path, TOKEN).await;
        assert_eq!(code, 401, "no protocol to answer with: {said}");
        let (code, said) = refused(&s, path, "any").await;
        assert_eq!(code, 403, "nobody: {said}");
        let (code, said) = refused(&s, &format!("{path}&resourceVersion=x"), &protocols).await;
        assert_eq!(code, 400, "{said}");
    });
}

#[test]
fn a_log_is_messages() {
    let s = session();
    let node = play(&s);
    place(&s, node.port);
    let path = "/api/v1/namespaces/default/pods/web/log";
    s.runtime().block_on(async {
        for (protocol, text, wanted) in [
            ("binary.k8s.io", false, "hello\n"),
            ("base64.binary.k8s.io", true, "aGVsbG8K"),
        ] {
            let protocols = format!("{TOKEN}, {protocol}");
            let (mut socket, answer) = open(&s, path, &protocols).await.unwrap();
            assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
            let mut all = String::new();
            while let Some(message) = socket.next().await {
                let message = message.unwrap();
                if message.is_close() {
                    break;
                }
                assert_eq!(message.is_text(), text);
                all.push_str(message.to_text().unwrap());
            }
            assert_eq!(all, wanted);
        }
        let (code, said) = refused(&s, path, &format!("{TOKEN}, x")).await;
        assert_eq!(code, 400, "{said}");
        assert!(said.contains("unable to negotiate protocol"), "{said}");
        let other = path.replace("web", "none");
        let (code, _) = refused(&s, &other, &format!("{TOKEN}, binary.k8s.io")).await;
        assert_eq!(code, 404);
    });
}

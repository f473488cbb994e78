//! Logs and upgraded streams, against a node's endpoint played by the test: a
//! TLS server with the node's certificate that demands the API server's.

use crate::session::{Lines, Session};
use crate::{NODE, POD};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

/// Where the played node listens, and the heads of what it was asked for.
pub(crate) struct PlayedNode {
    pub(crate) port: u16,
    requests: std::sync::mpsc::Receiver<String>,
}

pub(crate) fn acceptor(s: &Session) -> TlsAcceptor {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let pem = |name: &str| std::fs::read(s.path(&format!("data/pki/nodes/n1/{name}"))).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&pem("ca.crt")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    )
    .build()
    .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(&pem("kubelet.crt")).unwrap()],
            PrivateKeyDer::from_pem_slice(&pem("kubelet.key")).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers logs with text; upgrades everything else and then echoes bytes.
pub(crate) fn play(s: &Session) -> PlayedNode {
    let acceptor = acceptor(s);
    let (sender, requests) = std::sync::mpsc::channel();
    let listener = s
        .runtime()
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    s.runtime().spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tls.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let first = head.lines().next().unwrap().to_owned();
                if first.contains(" /metrics/resource ") {
                    // The server itself asks; not what a test waits for.
                    return;
                }
                let logs = first.contains("/containerLogs/");
                sender.send(head).unwrap();
                if logs {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n";
                    tls.write_all(answer.as_bytes()).await.unwrap();
                    tls.shutdown().await.unwrap();
                    return;
                }
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
                tls.write_all(answer.as_bytes()).await.unwrap();
                let (mut reader, mut writer) = tokio::io::split(tls);
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                // The client's half is over: say goodbye on the other one.
                writer.write_all(b"bye").await.unwrap();
                writer.shutdown().await.unwrap();
            });
        }
    });
    PlayedNode { port, requests }
}

/// The node `n1` at an address; what is given back moves it to another.
pub(crate) fn node<'a>(s: &'a Session, address: &str, port: u16) -> impl Fn(&str) + use<'a> {
    s.run_with(&["apply", "-f", "-"], NODE).says("created");
    let at = move |address: &str| {
        let status = format!(
            r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"{address}"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
        );
        s.run(&[
            "patch",
            "node",
            "n1",
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ])
        .says("patched");
    };
    at(address);
    at
}

/// A pod that runs on the played node.
pub(crate) fn place(s: &Session, port: u16) {
    drop(node(s, "127.0.0.1", port));
    s.run_with(
        &["apply", "-f", "-"],
        &POD.replace("spec:\n", "spec:\n  nodeName: n1\n"),
    )
    .says("created");
}

#[test]
fn logs_come_from_the_node() {
    let s = Session::first();
    let node = play(&s);
    place(&s, node.port);
    s.run(&["logs", "web", "--tail=5", "--timestamps"])
        .says("hello");
    let asked = node.requests.recv().unwrap();
    assert!(
        asked.starts_with(
            "GET /containerLogs/default/web/main?timestamps=true&tailLines=5 HTTP/1.1"
        ),
        "{asked}"
    );
    s.run(&["logs", "web", "-c", "nobody"])
        .fails("container nobody is not valid for pod web");
    let debug = r#"{"spec": {"ephemeralContainers": [{"name": "debug", "image": "i"}]}}"#;
    let patch = ["patch", "pod", "web", "--subresource=ephemeralcontainers"];
    s.run(&[&patch[..], &["-p", debug]].concat())
        .says("patched");
    s.run(&["logs", "web", "-c", "debug"]).says("hello");
    let asked = node.requests.recv().unwrap();
    let path = "GET /containerLogs/default/web/debug";
    assert!(asked.starts_with(path), "{asked}");
}

#[test]
fn containers_have_to_be_named_where_there_are_several() {
    let s = Session::first();
    let two = POD.replace(
        "spec:\n  containers:",
        "spec:\n  containers:\n  - {name: side, image: s}",
    );
    s.run_with(&["apply", "-f", "-"], &two).says("created");
    s.run(&["get", "--raw", "/api/v1/namespaces/default/pods/web/log"])
        .fails("a container name must be specified for pod web, choose one of: [side main]");
    s.run(&["logs", "web", "-c", "main"])
        .fails("pod web does not have a host assigned");
}

/// One upgraded connection to the API server, byte by byte.
#[test]
fn an_upgraded_stream_passes_both_ways_with_half_close() {
    let s = Session::first();
    let node = play(&s);
    place(&s, node.port);
    // `kubectl proxy` speaks TLS and credentials for a plain socket.
    let mut proxy = Lines::of(s.command(&["proxy", "--port=0"]));
    let said = proxy.wait_for("Starting to serve on");
    let address = said.trim().rsplit(' ').next().unwrap();
    let mut byte = [0];
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let path = "/api/v1/namespaces/default/pods/web/portforward?ports=80";
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(b"ping").unwrap();
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"ping");
    let asked = node.requests.recv().unwrap().to_lowercase();
    assert!(
        asked.starts_with("post /portforward/default/web?ports=80 http/1.1"),
        "{asked}"
    );
    assert!(asked.contains("upgrade: spdy/3.1"), "{asked}");
    assert!(
        asked.contains("x-stream-protocol-version: portforward.k8s.io"),
        "{asked}"
    );
}

//! The real kubectl against a small server: exec, attach and port-forward over
//! SPDY and over WebSocket.

#![expect(clippy::unwrap_used, reason = "tests")]

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use streams::{Kind, Status, StreamSet, negotiate, port_forward, remote_command};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);
const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"default","uid":"1"},"spec":{"containers":[{"name":"main","image":"x","stdin":true}]},"status":{"phase":"Running"}}"#;
const VERSIONS: &str = r#"{"kind":"APIVersions","versions":["v1"]}"#;
const GROUPS: &str = r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#;
const RESOURCES: &str = r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get","list"],"shortNames":["po"]}]}"#;

type Answer = Response<Full<Bytes>>;

fn json(text: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.to_owned())));
    let kind = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert("content-type", kind);
    answer
}

async fn serve(mut request: Request<Incoming>) -> Result<Answer, Infallible> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let has = |pair: &str| query.split('&').any(|part| part == pair);
    let path = request.uri().path().to_owned();
    let kind = match path.rsplit('/').next() {
        Some("exec" | "attach") => Kind::RemoteCommand,
        Some("portforward") => Kind::PortForward,
        Some("web") if request.method() == Method::GET => return Ok(json(POD)),
        Some("api") => return Ok(json(VERSIONS)),
        Some("apis") => return Ok(json(GROUPS)),
        Some("v1") => return Ok(json(RESOURCES)),
        _ => {
            let mut answer = json("{}");
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return Ok(answer);
        }
    };
    let negotiated = match negotiate(request.headers(), kind) {
        Ok(negotiated) => negotiated,
        Err(refusal) => {
            let mut answer = json(&refusal.message);
            *answer.status_mut() = refusal.status;
            return Ok(answer);
        }
    };
    let answer = negotiated.response(Full::default());
    let wants = StreamSet {
        stdin: has("stdin=true"),
        stdout: has("stdout=true"),
        stderr: has("stderr=true"),
        tty: has("tty=true"),
    };
    let fails = has("command=fail");
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade.await.unwrap());
        match kind {
            Kind::RemoteCommand => command(io, negotiated, wants, fails).await,
            Kind::PortForward => forward(io, negotiated).await,
            other => panic!("{other:?} is not served here"),
        }
    });
    Ok(answer)
}

/// Upper-cases its input, says so on stderr, ends with code 3 or an error.
async fn command(
    io: TokioIo<hyper::upgrade::Upgraded>,
    negotiated: streams::Negotiated,
    wants: StreamSet,
    fails: bool,
) {
    let mut command = remote_command(io, negotiated, wants).await.unwrap();
    let mut stdout = command.stdout.take().unwrap();
    let mut total = 0;
    if let Some(mut stdin) = command.stdin.take() {
        while let Some(data) = stdin.read().await {
            total += data.len();
            let upper = Bytes::from(data.to_ascii_uppercase());
            stdout.write(upper).await.unwrap();
        }
    }
    drop(stdout);
    if let Some(mut stderr) = command.stderr.take() {
        let line = format!("{total} bytes\n");
        stderr.write(Bytes::from(line)).await.unwrap();
    }
    let status = if fails {
        Status::Error("out of \"order\"".to_owned())
    } else {
        Status::ExitCode(3)
    };
    command.status.finish(status).await.unwrap();
}

/// Port 80 sends back what it gets after its end; other ports refuse.
async fn forward(io: TokioIo<hyper::upgrade::Upgraded>, negotiated: streams::Negotiated) {
    let mut listener = port_forward(io, negotiated).await.unwrap();
    while let Some(mut forward) = listener.accept().await {
        tokio::spawn(async move {
            if forward.port != 80 {
                forward.error.fail("connection refused").await.unwrap();
                return;
            }
            let mut text = Vec::new();
            forward.data.read_to_end(&mut text).await.unwrap();
            forward.data.write_all(b"got ").await.unwrap();
            forward.data.write_all(&text).await.unwrap();
            forward.data.shutdown().await.unwrap();
        });
    }
}

async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let http = hyper::server::conn::http1::Builder::new();
            let io = TokioIo::new(stream);
            let connection = http.serve_connection(io, service_fn(serve)).with_upgrades();
            tokio::spawn(connection);
        }
    });
    address
}

/// The newest kubectl of ATOLL_KUBECTLS, or the one on PATH: only a new one
/// speaks WebSocket.
fn program() -> PathBuf {
    let listed = std::env::var_os("ATOLL_KUBECTLS").unwrap_or_default();
    let newest = std::env::split_paths(&listed).next();
    let newest = newest.filter(|path| !path.as_os_str().is_empty());
    newest.unwrap_or_else(|| "kubectl".into())
}

/// Whether kubectl is here; these tests say loudly when it is not.
fn has_kubectl() -> bool {
    let found = std::process::Command::new(program())
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("SKIPPED, NOTHING WAS TESTED: kubectl is missing");
    }
    found
}

fn kubectl(server: SocketAddr, websocket: bool, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .arg(format!("--server=http://{server}"))
        .args(args)
        .env("KUBECONFIG", "/dev/null")
        .env("HOME", env!("CARGO_TARGET_TMPDIR"))
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket.to_string())
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websocket.to_string())
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = tokio::spawn(async move {
        // A kubectl that has ended takes no more.
        let _ = stdin.write_all(&input).await;
    });
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    feed.abort();
    output.expect("kubectl ends").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_streams_and_a_code() {
    if !has_kubectl() {
        return;
    }
    let server = start().await;
    for websocket in [false, true] {
        let input = b"abcdefg\n".repeat(200_000);
        let args = ["exec", "-i", "web", "--", "run"];
        let output = run(kubectl(server, websocket, &args), input.clone()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(3),
            "websocket {websocket}: {stderr}"
        );
        assert!(
            output.stdout == input.to_ascii_uppercase(),
            "websocket {websocket}"
        );
        assert!(
            stderr.contains("1600000 bytes\n"),
            "websocket {websocket}: {stderr}"
        );
        let args = ["exec", "web", "--", "fail"];
        let output = run(kubectl(server, websocket, &args), Vec::new()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("out of \"order\""),
            "websocket {websocket}: {stderr}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_has_streams() {
    if !has_kubectl() {
        return;
    }
    let server = start().await;
    for websocket in [false, true] {
        let args = ["attach", "-i", "web"];
        let output = run(kubectl(server, websocket, &args), b"hello\n".to_vec()).await;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stdout.contains("HELLO\n"),
            "websocket {websocket}: {stdout} {stderr}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_one_connection_after_another_and_at_once() {
    if !has_kubectl() {
        return;
    }
    let server = start().await;
    for websocket in [false, true] {
        let args = [
            "port-forward",
            "pod/web",
            ":80",
            ":81",
            "--address=127.0.0.1",
        ];
        let mut child = kubectl(server, websocket, &args).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut local = Vec::new();
        while local.len() < 2 {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
            let line = line.expect("kubectl listens").unwrap().unwrap();
            let address = line.split(' ').nth(2).unwrap_or_default().to_owned();
            local.push(address);
        }
        let mut clients = Vec::new();
        for number in 0..8 {
            let address = local[0].clone();
            clients.push(tokio::spawn(async move {
                let text = number.to_string().repeat(100_000);
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut got = String::new();
                stream.read_to_string(&mut got).await.unwrap();
                assert!(got == format!("got {text}"), "{} bytes", got.len());
            }));
        }
        for client in clients {
            tokio::time::timeout(PATIENCE, client)
                .await
                .unwrap()
                .unwrap();
        }
        let mut refused = TcpStream::connect(&local[1]).await.unwrap();
        let mut got = Vec::new();
        // Closed or reset, but nothing comes.
        let _ = refused.read_to_end(&mut got).await;
        assert!(got.is_empty());
        child.start_kill().unwrap();
        let output = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("connection refused"),
            "websocket {websocket}: {stderr}"
        );
    }
}

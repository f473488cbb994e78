//! `kubectl top` and what is behind it, against a node played by the test.

use crate::session::Session;
use crate::streams::{acceptor, place};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the node says: half a CPU for itself, a quarter for the pod's container,
/// both since the epoch.
fn figures() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (ms, seconds) = (now.as_millis(), now.as_secs_f64() - 1e9);
    let labels = |container: &str, pod: &str| {
        format!("{{container=\"{container}\",namespace=\"default\",pod=\"{pod}\"}}")
    };
    let (main, gone) = (labels("main", "web"), labels("main", "gone"));
    let (node, pod) = (seconds / 2.0, seconds / 4.0);
    format!(
        "# TYPE node_cpu_usage_seconds_total counter\n\
         node_cpu_usage_seconds_total {node} {ms}\n\
         node_memory_working_set_bytes 1.073741824e+09 {ms}\n\
         container_cpu_usage_seconds_total{main} {pod} {ms}\n\
         container_memory_working_set_bytes{main} 10485760 {ms}\n\
         container_start_time_seconds{main} 1000\n\
         container_cpu_usage_seconds_total{gone} {pod} {ms}\n\
         container_memory_working_set_bytes{gone} 10485760 {ms}\n\
         resource_scrape_error 0\n"
    )
}

/// The port of a node that answers everything with its figures.
fn play(s: &Session) -> u16 {
    let acceptor = acceptor(s);
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listener = s.runtime().block_on(listening).unwrap();
    let port = listener.local_addr().unwrap().port();
    s.runtime().spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tls.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /metrics/resource "));
                let body = figures();
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                tls.write_all(answer.as_bytes()).await.unwrap();
                tls.shutdown().await.unwrap();
            });
        }
    });
    port
}

/// Waits until a command succeeds.
fn eventually(s: &Session, command: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = s.run(command);
        if said.succeeded() {
            return said.out();
        }
        assert!(Instant::now() < deadline, "{command:?}: {}", said.shown());
        std::thread::sleep(Duration::from_millis(200));
    }
}

const ADDED: &str = "rbac.authorization.k8s.io/aggregate-to-view=true,\
    rbac.authorization.k8s.io/aggregate-to-edit=true,rbac.authorization.k8s.io/aggregate-to-admin=true";

const THEIRS: &str = r#"
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics-server, namespace: kube-system}
"#;

#[test]
fn nodes_and_pods_are_topped() {
    let s = Session::first();
    s.run(&["top", "nodes"]).fails("metrics not available yet");
    s.run(&["get", "apiservice", "v1beta1.metrics.k8s.io"])
        .says("Local")
        .says("True");
    let port = play(&s);
    place(&s, port);
    s.run(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/n1"])
        .fails("nodemetrics.metrics.k8s.io \"n1\" not found");
    let pods = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    s.run(&["get", "--raw", &format!("{pods}/web")])
        .fails("podmetrics.metrics.k8s.io \"default/web\" not found");
    let top = eventually(&s, &["top", "pods", "--no-headers"]);
    let words: Vec<&str> = top.split_whitespace().collect();
    assert!(
        matches!(words[..], ["web", "249m" | "250m" | "251m", "10Mi"]),
        "{top}"
    );
    s.run(&["top", "pods", "--containers"]).says("main");
    s.run(&["top", "pods", "-A", "--sort-by=cpu"])
        .says("web")
        .silent_of("gone");
    s.run(&["top", "pods", "-l", "app=web"]).says("web");
    s.run(&["top", "pods", "-l", "app=other"]).silent_of("web");
    s.run(&["top", "pod", "web"]).says("10Mi");
    s.run(&["top", "pod", "other"])
        .fails("pods \"other\" not found");
    s.run(&["get", "pods.metrics.k8s.io"])
        .says("CPU")
        .says("WINDOW")
        .says("10Mi");
    s.run(&["get", "nodes.metrics.k8s.io", "n2"])
        .fails("node \"n2\" not found");
    s.run(&[
        "get",
        "--raw",
        &format!("{pods}?fieldSelector=metadata.name%3Dother"),
    ])
    .says("\"items\":[]");
    s.run(&[
        "get",
        "--raw",
        &format!("{pods}?fieldSelector=status.phase%3DRunning"),
    ])
    .fails("field label not supported: status.phase");
    let one = s.run(&["get", "--raw", &format!("{pods}/web")]);
    one.says("\"kind\":\"PodMetrics\"")
        .says("\"memory\":\"10Mi\"")
        .says("\"window\":\"");
    s.run(&[
        "auth",
        "can-i",
        "list",
        "pods.metrics.k8s.io",
        "--as=x",
        "--as-group=system:nobody",
    ])
    .finds("no");
    s.run(&[
        "create",
        "rolebinding",
        "viewer",
        "--clusterrole=system:aggregated-metrics-reader",
        "--user=x",
    ])
    .says("created");
    // A controller adds it to these roles.
    let added = ["get", "clusterroles", "-o", "name", "-l", ADDED];
    s.run(&added).says("system:aggregated-metrics-reader");
    s.run(&["auth", "can-i", "list", "pods.metrics.k8s.io", "--as=x"])
        .says("yes");
    s.run(&["explain", "pods", "--api-version=metrics.k8s.io/v1beta1"])
        .says("PodMetrics")
        .says("window");
    let top = s.run(&["top", "nodes"]);
    top.says("n1").says("1024Mi");
    theirs_win(&s);
}

/// Who installs a metrics server has it answer.
fn theirs_win(s: &Session) {
    s.run_with(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        THEIRS,
    )
    .says("serverside-applied");
    let path = "/apis/metrics.k8s.io/v1beta1/nodes";
    let deadline = Instant::now() + Duration::from_secs(20);
    while s.run(&["get", "--raw", path]).succeeded() {
        assert!(Instant::now() < deadline, "still ours");
    }
    s.run(&["get", "--raw", path]).fails("(ServiceUnavailable)");
    s.run(&["delete", "apiservice", "v1beta1.metrics.k8s.io"])
        .says("deleted");
    eventually(s, &["get", "--raw", path]);
}

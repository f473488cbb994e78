//! What the kubelet's surface says that pods use.

use super::init::Script;
use super::scenarios::{Stage, UID, one, running};
use crate::Shutdown;
use guest_protocol::{ContainerStats, InterfaceStats, MemoryStats, Stats};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LABELS: &str = "{container=\"a\",namespace=\"default\",pod=\"web\"}";
const POD_LABELS: &str = "{namespace=\"default\",pod=\"web\"}";

/// A guest that claims more than its machine has had, and a container that
/// isn't its pod's.
fn boasting() -> Stats {
    let container = |name: &str| ContainerStats {
        name: name.to_owned(),
        cpu_ns: u64::MAX,
        memory_working_set: 5000,
        memory: Some(MemoryStats {
            usage: u64::MAX,
            ..MemoryStats::default()
        }),
        ..ContainerStats::default()
    };
    Stats {
        containers: vec![container("a"), container("ghost")],
        interfaces: vec![InterfaceStats {
            name: "eth0".to_owned(),
            rx_bytes: 7,
            ..InterfaceStats::default()
        }],
        ..Stats::default()
    }
}

/// The cgroup around the pod's machine, as the kernel would fill it.
fn fill_group(stage: &Stage) {
    let group = stage.path().join("cgroup/vmm").join(UID.replace('-', ""));
    std::fs::create_dir_all(&group).unwrap();
    for (file, content) in [
        (
            "cpu.stat",
            "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n",
        ),
        ("memory.current", "9000\n"),
        ("memory.max", "10000\n"),
        ("memory.stat", "anon 6000\ninactive_file 1000\n"),
        ("pids.current", "5\n"),
    ] {
        std::fs::write(group.join(file), content).unwrap();
    }
}

/// The value of a line that begins so.
fn value<'a>(text: &'a str, line: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|found| found.strip_prefix(line))?;
    line.split_whitespace().next()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_guests_are_bounded_and_those_of_pods_are_the_hosts() {
    let stage = Stage::new(Script {
        figures: boasting(),
        ..Script::default()
    });
    let node = stage.node();
    stage.apply(one("Always"));
    stage.status("Running", running).await;
    fill_group(&stage);
    let (code, text) = stage.kubelet("/metrics/resource").await;
    assert_eq!(code, 200);
    for (name, wanted) in [
        (
            format!("container_cpu_usage_seconds_total{LABELS}"),
            Some("3"),
        ),
        (
            format!("container_memory_working_set_bytes{LABELS}"),
            Some("5000"),
        ),
        (
            format!("pod_cpu_usage_seconds_total{POD_LABELS}"),
            Some("3"),
        ),
        (
            format!("pod_memory_working_set_bytes{POD_LABELS}"),
            Some("8000"),
        ),
        ("resource_scrape_error".to_owned(), Some("0")),
        (
            "container_cpu_usage_seconds_total{container=\"ghost\"".to_owned(),
            None,
        ),
    ] {
        assert_eq!(value(&text, &name), wanted, "{name} in {text}");
    }
    assert!(
        text.contains(&format!("container_start_time_seconds{LABELS} ")),
        "{text}"
    );
    let (code, text) = stage.kubelet("/metrics/cadvisor").await;
    assert_eq!(code, 200);
    let group = format!("id=\"/vmm/{}\"", UID.replace('-', ""));
    let line = format!(
        "container_network_receive_bytes_total{{container=\"\",{group},image=\"\",interface=\"eth0\",name=\"\",namespace=\"default\",pod=\"web\"}}"
    );
    assert_eq!(value(&text, &line), Some("7"), "{text}");
    let (code, text) = stage.kubelet("/stats/summary").await;
    assert_eq!(code, 200);
    let summary: Value = serde_json::from_str(&text).unwrap();
    for (pointer, wanted) in [
        ("/node/nodeName", json!("n1")),
        ("/pods/0/podRef/uid", json!(UID)),
        ("/pods/0/memory/workingSetBytes", json!(8000)),
        ("/pods/0/memory/availableBytes", json!(2000)),
        ("/pods/0/containers/0/name", json!("a")),
        ("/pods/0/containers/0/memory/usageBytes", json!(10000)),
        ("/pods/0/network/name", json!("eth0")),
    ] {
        assert_eq!(
            summary.pointer(pointer),
            Some(&wanted),
            "{pointer} in {summary:#}"
        );
    }
    let (_, text) = stage
        .kubelet("/stats/summary?only_cpu_and_memory=true")
        .await;
    assert!(!text.contains("network"), "{text}");
    node.stop(Shutdown::PowerOff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_guest_delays_nobody_for_long() {
    let stage = Stage::new(Script::default());
    let node = stage.node();
    stage.apply(one("Always"));
    stage.status("Running", running).await;
    fill_group(&stage);
    stage.init.fall_silent();
    let began = Instant::now();
    let (code, text) = stage.kubelet("/metrics/resource").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(code, 200);
    assert_eq!(
        value(&text, &format!("pod_cpu_usage_seconds_total{POD_LABELS}")),
        Some("3")
    );
    assert!(!text.contains("container_cpu_usage"), "{text}");
    node.stop(Shutdown::PowerOff).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_bears_a_token_gets_what_the_api_allows() {
    let stage = Stage::new(Script::default());
    let (code, text) = stage
        .kubelet_as(Some("Bearer abc"), "/metrics/resource")
        .await;
    assert_eq!(code, 200, "{text}");
    for (token, path, wanted) in [
        ("Bearer x", "/metrics", (401, "Unauthorized")),
        ("Basic abc", "/metrics", (401, "Unauthorized")),
        (
            "Bearer abc",
            "/pods",
            (
                403,
                "Forbidden (user=prometheus, verb=get, resource=nodes, subresource(s)=[pods proxy])",
            ),
        ),
        (
            "Bearer abc",
            "/stats/summary",
            (
                403,
                "Forbidden (user=prometheus, verb=get, resource=nodes, subresource(s)=[stats])",
            ),
        ),
    ] {
        let (code, text) = stage.kubelet_as(Some(token), path).await;
        assert_eq!((code, text.as_str()), wanted, "{token} {path}");
    }
}

//! What pods and the node use, as `kubectl top` and the kubelet's surface tell.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_test::appliance::{Appliance, NODE};
use qemu_test::pod::Pod;
use qemu_test::wait::{self, Seen};
use serde_json::Value;

/// Some rounds of the API server's questions.
const TOLD: Duration = Duration::from_secs(180);

pub(crate) fn what_is_used_is_told(appliance: &mut Appliance) -> Result<()> {
    let script = "while :; do :; done";
    let burner = Pod::script("burner", script).beside("idle", "exec sleep 100000");
    appliance.create(&burner)?;
    appliance.until_phase("burner", "Running")?;
    top(appliance)?;
    summary(appliance)?;
    exposition(appliance)?;
    appliance.delete("burner")?;
    Ok(())
}

/// Of a line of `kubectl top`: thousandths of a CPU, and the memory.
fn figures(line: &str) -> Result<(u64, &str)> {
    let mut words = line.split_whitespace().rev();
    let memory = words.next().context("no memory")?;
    let cpu = words.next().and_then(|word| word.strip_suffix('m'));
    Ok((cpu.context("no CPU")?.parse()?, memory))
}

fn top(appliance: &Appliance) -> Result<()> {
    let kubectl = &appliance.kubectl;
    wait::until("the burner burns in kubectl top", TOLD, || {
        let said = kubectl.say(&["top", "pod", "burner", "--containers", "--no-headers"])?;
        let of = |name: &str| {
            let lines = said.stdout.lines();
            let found = lines.filter(|line| line.split_whitespace().nth(1) == Some(name));
            found.map(figures).next()
        };
        let burns = match (of("main"), of("idle")) {
            (Some(Ok((main, _))), Some(Ok((idle, memory)))) => {
                main > 200 && idle < 50 && memory.ends_with("Mi")
            }
            _ => false,
        };
        Ok(match burns {
            true => Seen::Done(()),
            false => Seen::NotYet(format!("{}{}", said.stdout, said.stderr)),
        })
    })?;
    let nodes = kubectl.run(&["top", "nodes", "--no-headers"])?;
    ensure!(nodes.starts_with(NODE), "{nodes}");
    let sorted = kubectl.run(&["top", "pods", "-A", "--sort-by=cpu", "--no-headers"])?;
    ensure!(
        sorted
            .lines()
            .next()
            .is_some_and(|line| line.contains("burner")),
        "{sorted}"
    );
    Ok(())
}

fn raw(appliance: &Appliance, path: &str) -> Result<String> {
    let path = format!("/api/v1/nodes/{NODE}/proxy/{path}");
    appliance.kubectl.run(&["get", "--raw", &path])
}

/// The first look at a pod knows no rate yet.
fn summary(appliance: &Appliance) -> Result<()> {
    wait::until("the burner in stats/summary", TOLD, || {
        Ok(match summarized(appliance) {
            Ok(()) => Seen::Done(()),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        })
    })
}

fn summarized(appliance: &Appliance) -> Result<()> {
    let text = raw(appliance, "stats/summary")?;
    let summary: Value = serde_json::from_str(&text)?;
    ensure!(summary["node"]["nodeName"] == NODE, "{text}");
    let pods = summary["pods"].as_array().context("no pods")?;
    let pod = pods.iter().find(|pod| pod["podRef"]["name"] == "burner");
    let pod = pod.context("no burner")?;
    for pointer in [
        "/cpu/usageNanoCores",
        "/memory/workingSetBytes",
        "/containers/0/rootfs/capacityBytes",
        "/containers/0/cpu/usageCoreNanoSeconds",
        "/ephemeral-storage/usedBytes",
    ] {
        let figure = pod.pointer(pointer).and_then(Value::as_u64);
        ensure!(
            figure.is_some_and(|figure| figure > 0),
            "{pointer}: {pod:#}"
        );
    }
    // The host's own: more than what its programs use.
    let (host, guest) = (&pod["memory"], &pod["containers"][0]["memory"]);
    let of = |memory: &Value| memory["workingSetBytes"].as_u64();
    ensure!(of(host) > of(guest), "{pod:#}");
    Ok(())
}

fn exposition(appliance: &Appliance) -> Result<()> {
    for (path, parts) in [
        (
            "metrics/resource",
            &[
                "pod_memory_working_set_bytes{namespace=\"default\",pod=\"burner\"} ",
                "container_start_time_seconds{container=\"idle\",namespace=\"default\",pod=\"burner\"} ",
                "resource_scrape_error 0",
            ][..],
        ),
        (
            "metrics/cadvisor",
            &["container_cpu_usage_seconds_total{container=\"main\",cpu=\"total\",id=\"/vmm/"],
        ),
        ("metrics", &["process_resident_memory_bytes "]),
    ] {
        let text = raw(appliance, path)?;
        for part in parts {
            ensure!(text.contains(part), "{path} lacks {part}: {text}");
        }
    }
    Ok(())
}

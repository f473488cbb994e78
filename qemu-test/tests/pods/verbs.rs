//! What kubectl can do, with every kubectl on this machine.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use qemu_test::appliance::{Appliance, NODE};
use qemu_test::kubectl::Kubectl;
use qemu_test::memory::Memory;
use qemu_test::pod::Pod;

const IDLE_MAX_MIB: u64 = 200;

pub(crate) fn node_has_capacity(appliance: &mut Appliance) -> Result<()> {
    let node = appliance.kubectl.get(&["node", NODE])?;
    for resource in ["cpu", "memory", "pods"] {
        for field in ["capacity", "allocatable"] {
            ensure!(
                node["status"][field][resource].is_string(),
                "{field}.{resource}: {node}"
            );
        }
    }
    ensure!(node["status"]["capacity"]["cpu"] == "2", "{node}");
    let shown = appliance.kubectl.run(&["get", "nodes"])?;
    let line = shown.lines().nth(1).context("no node")?;
    ensure!(line.split_whitespace().nth(1) == Some("Ready"), "{shown}");
    appliance.kubectl.run(&["describe", "node", NODE])?;
    Ok(())
}

/// Told, so that a run shows how it changes; the limit catches a leak of memory,
/// the goal stands in docs/measurements.md.
pub(crate) fn idle_memory_is_bounded(appliance: &mut Appliance) -> Result<()> {
    let memory = Memory::of(appliance.agent()?)?;
    let used = memory.in_use()? >> 10;
    let shared = memory.field("Shmem")? >> 10;
    println!("idle appliance: {used} MiB in use, {shared} MiB Shmem");
    ensure!(used < IDLE_MAX_MIB, "{}", memory.text());
    Ok(())
}

pub(crate) fn verbs_of_kubectl(appliance: &mut Appliance) -> Result<()> {
    for program in Kubectl::found()? {
        verbs(appliance, &program).with_context(|| program.display().to_string())?;
    }
    Ok(())
}

fn verbs(appliance: &Appliance, program: &Path) -> Result<()> {
    let kubectl = Kubectl::new(program, &appliance.kubeconfig());
    let version = kubectl.run(&["version"])?;
    let manifest = Pod::script("verbs", "echo here; exec sleep 100000").manifest();
    kubectl.run_with(&["create", "-f", "-"], &manifest)?;
    appliance.until_phase("verbs", "Running")?;
    let listed = kubectl.run(&["get", "pods"])?;
    ensure!(listed.contains("verbs"), "{listed}");
    ensure!(kubectl.run(&["logs", "verbs"])? == "here\n");
    // Debian 12's has no more than these.
    if !version.contains("v1.20") {
        modern_verbs(&kubectl)?;
    }
    kubectl.run(&["delete", "pod", "verbs"])?;
    let said = kubectl.say(&["get", "pod", "verbs"])?;
    ensure!(said.stderr.contains("NotFound"), "{said:?}");
    Ok(())
}

fn modern_verbs(kubectl: &Kubectl) -> Result<()> {
    let described = kubectl.run(&["describe", "pod", "verbs"])?;
    for part in ["Status:", "Running", "Events:", "Scheduled", "Started"] {
        ensure!(
            described.contains(part),
            "describe lacks {part}:\n{described}"
        );
    }
    let wide = kubectl.run(&["get", "pod", "verbs", "-o", "wide"])?;
    let (head, line) = wide.split_once('\n').context("no table")?;
    ensure!(
        head.contains("NODE") && head.contains("IP") && line.contains(NODE),
        "{wide}"
    );
    kubectl.run(&["label", "pod", "verbs", "tier=test"])?;
    let listed = kubectl.run(&["get", "pods", "-l", "tier=test", "-o", "name"])?;
    ensure!(listed == "pod/verbs\n", "{listed}");
    kubectl.run(&["annotate", "pod", "verbs", "note=one"])?;
    let patch = "{\"metadata\":{\"annotations\":{\"note\":\"two\"}}}";
    kubectl.run(&["patch", "pod", "verbs", "-p", patch])?;
    let path = "jsonpath={.metadata.annotations.note}";
    let note = kubectl.run(&["get", "pod", "verbs", "-o", path])?;
    ensure!(note == "two", "{note}");
    let editor = [("KUBE_EDITOR", "sed -i s/two/three/")];
    kubectl.run_env(&["edit", "pod", "verbs"], &editor)?;
    let note = kubectl.run(&["get", "pod", "verbs", "-o", path])?;
    ensure!(note == "three", "{note}");
    discovery(kubectl)?;
    kubectl.run(&[
        "wait",
        "--for=condition=Ready",
        "pod/verbs",
        "--timeout=30s",
    ])?;
    objects_of_a_namespace(kubectl)
}

fn discovery(kubectl: &Kubectl) -> Result<()> {
    let resources = kubectl.run(&["api-resources", "-o", "name"])?;
    for kind in [
        "pods",
        "nodes",
        "namespaces",
        "events",
        "configmaps",
        "secrets",
        "serviceaccounts",
    ] {
        ensure!(
            resources.lines().any(|line| line.starts_with(kind)),
            "no {kind}: {resources}"
        );
    }
    let explained = kubectl.run(&["explain", "pod.spec.restartPolicy"])?;
    ensure!(
        explained.contains("restartPolicy") && explained.contains("OnFailure"),
        "{explained}"
    );
    Ok(())
}

fn objects_of_a_namespace(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["create", "namespace", "other"])?;
    kubectl.run(&[
        "create",
        "configmap",
        "data",
        "-n",
        "other",
        "--from-literal=a=b",
    ])?;
    kubectl.run(&[
        "create",
        "secret",
        "generic",
        "key",
        "-n",
        "other",
        "--from-literal=a=b",
    ])?;
    let secret = kubectl.run(&[
        "get",
        "secret",
        "key",
        "-n",
        "other",
        "-o",
        "jsonpath={.data.a}",
    ])?;
    ensure!(secret == "Yg==", "{secret}");
    kubectl.run(&["delete", "namespace", "other", "--timeout=60s"])?;
    Ok(())
}

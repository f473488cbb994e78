//! A disk that fills up: images that nobody uses go, then the pod that holds
//! most of it, and nobody else.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, NODE, POD};
use qemu_test::pod::Pod;
use qemu_test::wait;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const FILLERS: [&str; 2] = ["/var/lib/atoll/data/filler", "/var/lib/atoll/data/filler-2"];
/// Less than the threshold.
const LEFT: u64 = 32 * MIB;
/// The node looks every ten seconds, and tells what it has every ten.
const PATIENCE: Duration = Duration::from_secs(120);
const FILL: &str = "dd if=/dev/zero of=/data/big bs=1M count=96 2>/dev/null; echo filled
    exec sleep 100000";

/// Little enough that no other scenario comes near it.
pub(crate) fn kubelet() -> Value {
    json!({
        "evictionHard": { "memory.available": "64Mi", "nodefs.available": "64Mi" },
        "evictionPressureTransitionPeriod": "5s",
        "imageMinimumGCAge": "0s",
    })
}

pub(crate) fn a_full_disk_costs_images_then_a_pod(appliance: &mut Appliance) -> Result<()> {
    appliance.create(&Pod::script("modest", "exec sleep 100000"))?;
    let greedy = Pod::script("greedy", FILL)
        .with("/spec/volumes", json!([{ "name": "data", "emptyDir": {} }]))
        .with(
            "/spec/containers/0/volumeMounts",
            json!([{ "name": "data", "mountPath": "/data" }]),
        );
    appliance.create(&greedy)?;
    appliance.create(&Pod::new("visitor", "python", &["/bin/true"]))?;
    appliance.until_phase("visitor", "Succeeded")?;
    appliance.delete("visitor")?;
    appliance.until_phase("modest", "Running")?;
    appliance.until_phase("greedy", "Running")?;
    wait::until_equal("the log of greedy", POD, &"filled\n".to_owned(), || {
        appliance.kubectl.run(&["logs", "greedy"])
    })?;
    until_node(appliance, "python's image", |node| {
        has_image(node, "python")
    })?;
    let mut made = Vec::new();
    let done = presses(appliance, &mut made);
    for filler in made {
        appliance.agent()?.remove(filler)?;
    }
    done?;
    let relieved = |node: &Value| condition(node, "DiskPressure") == Some("False");
    until_node(appliance, "no DiskPressure", relieved)?;
    let modest = appliance.kubectl.get(&["pod", "modest"])?;
    ensure!(modest["status"]["phase"] == "Running", "{modest}");
    appliance.delete("greedy")?;
    appliance.delete("modest")
}

/// Notes in `made` what is to be removed afterwards.
fn presses(appliance: &mut Appliance, made: &mut Vec<&'static str>) -> Result<()> {
    appliance.agent()?.fill(FILLERS[0], LEFT)?;
    made.push(FILLERS[0]);
    until_node(appliance, "an image less", |node| {
        condition(node, "DiskPressure") == Some("True") && !has_image(node, "python")
    })?;
    // What was reclaimed may have been enough.
    let greedy = appliance.kubectl.get(&["pod", "greedy"])?;
    if greedy["status"]["phase"] == "Running" {
        appliance.agent()?.fill(FILLERS[1], LEFT)?;
        made.push(FILLERS[1]);
    }
    let evicted = appliance
        .kubectl
        .until("an eviction", &["pod", "greedy"], PATIENCE, |pod| {
            (pod["status"]["phase"] == "Failed").then(|| pod.clone())
        })?;
    let status = &evicted["status"];
    ensure!(status["reason"] == "Evicted", "{status}");
    let message = status["message"].as_str().unwrap_or_default();
    let wanted = "The node was low on resource: ephemeral-storage. Threshold quantity: 64Mi";
    ensure!(message.starts_with(wanted), "{message}");
    ensure!(
        condition(&evicted, "DisruptionTarget") == Some("True"),
        "{status}"
    );
    let told = appliance.until_event("greedy", "Evicted")?;
    ensure!(told == message, "{told}");
    Ok(())
}

fn until_node(appliance: &Appliance, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let held = |node: &Value| wanted(node).then_some(());
    appliance
        .kubectl
        .until(what, &["node", NODE], PATIENCE.max(POD), held)
}

fn has_image(node: &Value, name: &str) -> bool {
    let images = node["status"]["images"].as_array();
    let mut names = images
        .into_iter()
        .flatten()
        .filter_map(|image| image["names"].as_array())
        .flatten();
    names.any(|found| found.as_str().is_some_and(|found| found.contains(name)))
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == name)?;
    found["status"].as_str()
}

//! What goes wrong inside of guests, of vmms, at registries and on DATA stays
//! there. DATA is small: images and a little more. At the end the machine powers
//! off, pod after pod.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD, Setup, Storage};
use qemu_test::images;
use qemu_test::machine::Image;
use qemu_test::pod::Pod;
use qemu_test::process::Bond;
use qemu_test::suite::{self, Scenario};
use serde_json::{Value, json};

mod data;
mod guest_ends;
mod node;
mod registries;

const DATA: u64 = 400 << 20;

const SCENARIOS: &[Scenario] = &[
    ("a_static_pod_has_a_mirror", node::a_static_pod_has_a_mirror),
    ("allocating_without_end", allocating_without_end),
    ("forking_without_end", forking_without_end),
    ("filling_the_overlay", filling_the_overlay),
    ("a_guest_panics", guest_ends::a_guest_panics),
    ("a_guest_resets", guest_ends::a_guest_resets),
    (
        "a_container_that_reboots_ends",
        guest_ends::a_container_that_reboots_ends,
    ),
    (
        "a_forbidden_call_ends_the_vmm",
        guest_ends::a_forbidden_call_ends_the_vmm,
    ),
    (
        "registries_that_misbehave",
        registries::registries_that_misbehave,
    ),
    (
        "a_slow_and_breaking_registry_is_enough",
        registries::a_slow_and_breaking_registry_is_enough,
    ),
    (
        "a_registry_that_comes_back",
        registries::a_registry_that_comes_back,
    ),
    ("a_private_registry", registries::a_private_registry),
    // The only one to pull python, since it needs a large image.
    ("data_is_full", data::data_is_full),
    ("pods_end_in_order", node::pods_end_in_order),
    // After its boot: nobody of before is there.
    ("the_clock_steps", node::the_clock_steps),
];

fn main() -> ExitCode {
    suite::run(boot, SCENARIOS)
}

fn boot(image: &Image) -> Result<Appliance> {
    let mut appliance = Appliance::start(&Setup {
        image,
        directory: suite::directory("faults")?,
        storage: Storage::Files { data: DATA },
        images: images::ALL,
        memory_mib: 2560,
        node: json!({ "kubelet": kubelet(), "staticPods": [node::static_pod()] }),
        agent: true,
        bond: Bond::Tied,
    })?;
    appliance.until_ready()?;
    appliance.create(&Pod::script("bystander", "exec sleep 100000"))?;
    appliance.until_phase("bystander", "Running")?;
    Ok(appliance)
}

/// Pressure is told and soon over, but costs nobody anything.
fn kubelet() -> Value {
    json!({
        "evictionHard": {},
        "evictionSoft": { "nodefs.available": "10%" },
        "evictionSoftGracePeriod": { "nodefs.available": "10h" },
        "evictionPressureTransitionPeriod": "5s",
        "imageGCHighThresholdPercent": 100,
        "shutdownGracePeriod": "40s",
        "shutdownGracePeriodCriticalPods": "15s",
    })
}

/// The node is well and another pod didn't notice.
pub(crate) fn unharmed(appliance: &Appliance) -> Result<()> {
    appliance.until_node()?;
    let said = appliance
        .kubectl
        .run(&["exec", "bystander", "--", "echo", "well"])?;
    ensure!(said == "well\n", "{said:?}");
    let pod = appliance.kubectl.get(&["pod", "bystander"])?;
    let status = &pod["status"]["containerStatuses"][0];
    ensure!(status["restartCount"] == 0, "{status}");
    Ok(())
}

fn allocating_without_end(appliance: &mut Appliance) -> Result<()> {
    // tail keeps a line until it ends, and this one never does.
    appliance.create(&Pod::script("hungry", "tail /dev/zero"))?;
    appliance.until_phase("hungry", "Failed")?;
    let pod = appliance.kubectl.get(&["pod", "hungry"])?;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    ensure!(ended["exitCode"] == 137, "{ended}");
    ensure!(ended["reason"] == "OOMKilled", "{ended}");
    unharmed(appliance)?;
    appliance.delete("hungry")
}

fn forking_without_end(appliance: &mut Appliance) -> Result<()> {
    let script = "f() { f | f & }; f; exec sleep 100000";
    appliance.create(&Pod::script("bomb", script))?;
    appliance.until_phase("bomb", "Running")?;
    unharmed(appliance)?;
    appliance.delete("bomb")?;
    unharmed(appliance)
}

fn filling_the_overlay(appliance: &mut Appliance) -> Result<()> {
    let script = "dd if=/dev/zero of=/fill bs=1M; echo ended with $?; rm /fill; exec sleep 100000";
    appliance.create(&Pod::script("full", script))?;
    appliance
        .kubectl
        .until("an answer of dd", &["pod", "full"], POD, |_| {
            let log = appliance.kubectl.run(&["logs", "full"]).ok()?;
            (log.contains("No space left on device") && log.contains("ended with 1")).then_some(())
        })?;
    let said = appliance
        .kubectl
        .run(&["exec", "full", "--", "echo", "alive"])?;
    ensure!(said == "alive\n", "{said:?}");
    unharmed(appliance)?;
    appliance.delete("full")
}

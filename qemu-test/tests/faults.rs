//! What goes wrong inside of guests and at registries stays there.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD, Setup, Storage};
use qemu_test::faulty::Fault;
use qemu_test::images;
use qemu_test::machine::Image;
use qemu_test::pod::Pod;
use qemu_test::process::Bond;
use qemu_test::suite::{self, Scenario};

const SCENARIOS: &[Scenario] = &[
    ("allocating_without_end", allocating_without_end),
    ("forking_without_end", forking_without_end),
    ("filling_the_overlay", filling_the_overlay),
    ("registries_that_misbehave", registries_that_misbehave),
    (
        "a_slow_and_breaking_registry_is_enough",
        a_slow_and_breaking_registry_is_enough,
    ),
    ("a_registry_that_comes_back", a_registry_that_comes_back),
];

fn main() -> ExitCode {
    suite::run(boot, SCENARIOS)
}

fn boot(image: &Image) -> Result<Appliance> {
    let mut appliance = Appliance::start(&Setup {
        image,
        directory: suite::directory("faults")?,
        storage: Storage::Live,
        images: images::ALL,
        memory_mib: 3072,
        agent: true,
        bond: Bond::Tied,
    })?;
    appliance.until_api()?;
    appliance.until_node()?;
    appliance.create(&Pod::script("bystander", "exec sleep 100000"))?;
    appliance.until_phase("bystander", "Running")?;
    Ok(appliance)
}

/// The node is well and another pod didn't notice.
fn unharmed(appliance: &Appliance) -> Result<()> {
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

fn registries_that_misbehave(appliance: &mut Appliance) -> Result<()> {
    for (name, fault, part) in [
        ("down", Fault::Down, ""),
        ("garbage", Fault::Garbage, ""),
        ("digest", Fault::WrongDigest, "digest"),
        ("truncated", Fault::Truncated, ""),
    ] {
        appliance.faulty.set(fault);
        // redis is in no cache yet.
        let image = format!("{}/redis", appliance.faulty.host());
        appliance.create(&Pod::new(name, &image, &["/bin/true"]))?;
        let message = appliance.until_event_with(name, "Failed", &image)?;
        ensure!(message.contains(part), "{name}: {message}");
        unharmed(appliance)?;
        appliance.faulty.set(Fault::None);
        appliance.delete(name)?;
    }
    Ok(())
}

fn a_slow_and_breaking_registry_is_enough(appliance: &mut Appliance) -> Result<()> {
    for (name, image, fault) in [
        ("slow", "busybox", Fault::Slow(Duration::from_secs(3))),
        ("breaking", "python", Fault::Broken),
    ] {
        appliance.faulty.set(fault);
        let image = format!("{}/{image}", appliance.faulty.host());
        appliance.create(&Pod::new(name, &image, &["/bin/true"]))?;
        appliance.until_phase(name, "Succeeded")?;
        appliance.faulty.set(Fault::None);
        appliance.delete(name)?;
    }
    Ok(())
}

fn a_registry_that_comes_back(appliance: &mut Appliance) -> Result<()> {
    appliance.faulty.set(Fault::Down);
    let image = format!("{}/nginx", appliance.faulty.host());
    appliance.create(&Pod::new("patient", &image, &["/bin/true"]))?;
    appliance.until_event("patient", "Failed")?;
    appliance.faulty.set(Fault::None);
    appliance.until_phase("patient", "Succeeded")?;
    appliance.delete("patient")
}

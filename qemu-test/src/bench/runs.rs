//! What is run inside an appliance to be measured, and its raw figures.
//!
//! `Measured` holds what one boot by one clock gave: each list has a value for
//! each repetition, in microseconds of the appliance's clock.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use image_build::progress::say;
use qemu_test::agent::Agent;
use qemu_test::appliance::Appliance;
use serde_json::json;

use crate::archive::QEMU;
use crate::figures::{self, Times};

/// What guest-init writes first.
const MARK: &str = "guest-init: ";
const PATIENCE: Duration = Duration::from_secs(90);
/// How long exits of a quiet guest are counted.
const QUIET: u64 = 10;
/// As the node's.
const KERNEL_LINE: &str = "console=ttyS0 quiet tsc=nowatchdog";

#[derive(Default)]
pub(crate) struct Measured {
    /// By the watcher, since the request was sent.
    pub(crate) watched: Vec<Times>,
    /// By the node, since it saw the pod.
    pub(crate) phases: Vec<Times>,
    pub(crate) boots: Vec<Times>,
    /// QEMU's exec to guest-init's line.
    pub(crate) peer: Vec<u64>,
}

/// Pods, machines and peers, `count` of each after one that warms up.
pub(crate) fn measure(appliance: &mut Appliance, count: u32) -> Result<Measured> {
    let mut measured = Measured::default();
    start_pod(appliance, "bench-0", false).context("the first pod")?;
    for number in 1..=count {
        say(format!("pod {number} of {count}"));
        let name = format!("bench-{number}");
        measured.watched.push(start_pod(appliance, &name, false)?);
        let phases = figures::phases(&appliance.machine.console(), &format!("default/{name}"));
        measured.phases.extend(phases);
    }
    let agent = appliance.agent()?;
    for number in 1..=count {
        say(format!("atoll-vmm and QEMU {number} of {count}"));
        measured.boots.push(boot(agent)?);
        measured.peer.push(peer(agent)?);
    }
    Ok(measured)
}

/// A pod that sleeps, from the tools image, which is pulled only when missing.
pub(crate) fn start_pod(appliance: &mut Appliance, name: &str, keep: bool) -> Result<Times> {
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": { "containers": [{
            "name": "main",
            "image": appliance.image("busybox"),
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sleep", "3600"],
        }]},
    });
    let inside = inside_kubeconfig(appliance)?;
    let manifest = manifest.to_string();
    let keep = if keep { "keep" } else { "delete" };
    let command = ["/bench/pod_start", &manifest, keep];
    let lines = appliance.agent()?.run(&command, &inside, None, PATIENCE)?;
    let times = lines
        .iter()
        .find_map(|line| serde_json::from_str::<Times>(&line.text).ok());
    times.with_context(|| format!("pod_start said {lines:?}"))
}

/// The administrator's, for who stands inside the appliance.
fn inside_kubeconfig(appliance: &Appliance) -> Result<String> {
    let text = std::fs::read_to_string(appliance.kubeconfig())?;
    let (before, rest) = text.split_once("127.0.0.1:").context("the server")?;
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    Ok(format!("{before}127.0.0.1:6443{after}"))
}

fn shell(agent: &mut Agent, script: &str) -> Result<Vec<String>> {
    let command = ["/bench/busybox", "sh", "-c", script];
    let lines = agent.run(&command, "", None, PATIENCE)?;
    Ok(lines.into_iter().map(|line| line.text).collect())
}

/// One atoll-vmm with the guest's kernel and initramfs, started as by the node.
///
/// The example tells its times when the vmm has ended: it is ended after ten
/// seconds, when the guest has long been up even on a busy machine.
fn boot(agent: &mut Agent) -> Result<Times> {
    let script = format!(
        "/bench/boot /usr/bin/atoll-vmm /bench/kernel --initramfs /bench/initramfs \
         --memory 128 --cmdline '{KERNEL_LINE}' --mark '{MARK}' & \
         /bench/busybox sleep 10; kill $(/bench/busybox cat /proc/$!/task/$!/children); wait"
    );
    let lines = shell(agent, &script)?;
    let times = figures::boot(&lines);
    if times.len() != 3 {
        bail!("the boot example said {lines:?}");
    }
    Ok(times)
}

/// QEMU's smallest machine that boots this kernel: no ACPI, no option ROMs, none
/// of the old timers, a serial port.
fn peer_arguments() -> Vec<&'static str> {
    let mut all = vec![QEMU];
    all.extend("-M microvm,x-option-roms=off,acpi=off,rtc=off,pit=off,pic=off".split(' '));
    all.extend("-accel kvm -cpu host -smp 1 -m 128 -nodefaults -no-user-config".split(' '));
    all.extend("-display none -no-reboot -serial stdio -kernel /bench/kernel".split(' '));
    all.extend(["-initrd", "/bench/initramfs", "-append", KERNEL_LINE]);
    all
}

fn peer(agent: &mut Agent) -> Result<u64> {
    let lines = agent.run(&peer_arguments(), "", Some(MARK), PATIENCE)?;
    let line = lines.iter().find(|line| line.text.contains(MARK));
    let line = line.with_context(|| format!("QEMU said {lines:?}"))?;
    Ok(line.micros)
}

/// KiB beside the guest's memory, of QEMU ten seconds after its start.
pub(crate) fn peer_resident(agent: &mut Agent) -> Result<u64> {
    let quoted: Vec<String> = peer_arguments()
        .iter()
        .map(|word| format!("'{word}'"))
        .collect();
    let script = format!(
        "{} -no-shutdown > /dev/null 2>&1 & /bench/busybox sleep 10; \
         /bench/busybox cat /proc/$!/smaps; kill -9 $!; wait",
        quoted.join(" ")
    );
    let smaps = shell(agent, &script)?.join("\n");
    figures::beside_guest(&smaps).with_context(|| format!("smaps of QEMU: {smaps:?}"))
}

/// KiB beside the guest's memory, of the one vmm that runs.
pub(crate) fn vmm_resident(agent: &mut Agent) -> Result<u64> {
    let vmm = agent.the("vmm", PATIENCE)?;
    let smaps = agent.read(&format!("/proc/{}/smaps", vmm.pid))?;
    figures::beside_guest(&smaps).context("smaps of the vmm")
}

/// What the host kernel counted of its guests in `QUIET` seconds, a second,
/// the largest first.
pub(crate) fn quiet(agent: &mut Agent) -> Result<Vec<(String, f64)>> {
    let script = format!(
        "debug=/sys/kernel/debug; [ -d $debug/kvm ] || \
         /bench/busybox mount -t debugfs none $debug; cd $debug/kvm; \
         look() {{ for f in *; do [ -f $f ] && echo $f $(/bench/busybox cat $f); done; }}; \
         /bench/busybox sleep 5; look; /bench/busybox sleep {QUIET}; look"
    );
    let lines = shell(agent, &script)?;
    let gained = figures::gained(&lines);
    if gained.iter().all(|(name, _)| name != "exits") {
        bail!("kvm's counts: {lines:?}");
    }
    let seconds = f64::from(u32::try_from(QUIET)?);
    let rates = gained.into_iter().map(|(name, gain)| {
        let gain = f64::from(u32::try_from(gain).unwrap_or(u32::MAX));
        (name, gain / seconds)
    });
    Ok(rates.collect())
}

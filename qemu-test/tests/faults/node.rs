//! What the node's own config asks for: a pod that needs no API, and an order in
//! which pods end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait::{self, Seen};
use serde_json::{Value, json};

/// The static pod's name on the node `lab`.
const KEEPER: &str = "keeper-lab";
const UID: [&str; 5] = ["get", "pod", KEEPER, "-o", "jsonpath={.metadata.uid}"];
const BOOT_ID: [&str; 5] = [
    "exec",
    KEEPER,
    "--",
    "cat",
    "/proc/sys/kernel/random/boot_id",
];
/// Longer than any lease, token or back-off lasts, in seconds.
const STEP: i64 = 7200;
/// The periods of the config, and what else there is to do.
const OFF: Duration = Duration::from_secs(100);
/// Says so when it is told to end, after as many seconds.
const TOLD: &str = "trap 'sleep SECONDS; echo told; exit 0' TERM; echo ready
    while :; do sleep 1; done";

/// As it stands in the machine config.
pub(crate) fn static_pod() -> Value {
    Pod::script("keeper", "exec sleep 100000")
        .restart("Always")
        .value()
}

pub(crate) fn a_static_pod_has_a_mirror(appliance: &mut Appliance) -> Result<()> {
    appliance.until_phase(KEEPER, "Running")?;
    let boot = appliance.kubectl.run(&BOOT_ID)?;
    let mirror = appliance.kubectl.get(&["pod", KEEPER])?;
    let annotations = &mirror["metadata"]["annotations"];
    ensure!(
        annotations["kubernetes.io/config.mirror"].is_string(),
        "{annotations}"
    );
    let old = appliance.kubectl.run(&UID)?;
    appliance
        .kubectl
        .run(&["delete", "pod", KEEPER, "--wait=false"])?;
    wait::until("another mirror", POD, || {
        let said = appliance.kubectl.say(&UID)?;
        Ok(match said.status.success() && said.stdout != old {
            true => Seen::Done(()),
            false => Seen::NotYet(format!("{}{}", said.stdout, said.stderr)),
        })
    })?;
    appliance.until_phase(KEEPER, "Running")?;
    let now = appliance.kubectl.run(&BOOT_ID)?;
    ensure!(now == boot, "boot {now}, was {boot}");
    Ok(())
}

/// Nobody is taken for dead and nothing is due early or late for long: a probe that
/// fails by its time would restart its container.
pub(crate) fn the_clock_steps(appliance: &mut Appliance) -> Result<()> {
    let probe = json!({ "exec": { "command": ["true"] }, "periodSeconds": 2 });
    let pod = |name: &str| {
        Pod::script(name, "exec sleep 100000")
            .with("/spec/containers/0/livenessProbe", probe.clone())
    };
    appliance.create(&pod("across"))?;
    appliance.until_phase("across", "Running")?;
    for (step, name) in [(STEP, "after"), (-STEP, "before")] {
        appliance.agent()?.step_clock(step)?;
        appliance.create(&pod(name))?;
        appliance.until_phase(name, "Running")?;
        appliance.delete(name)?;
        appliance.until_node()?;
    }
    let pod = appliance.kubectl.get(&["pod", "across"])?;
    let status = &pod["status"]["containerStatuses"][0];
    ensure!(
        status["restartCount"] == 0 && status["ready"] == true,
        "{status}"
    );
    appliance.delete("across")
}

pub(crate) fn pods_end_in_order(appliance: &mut Appliance) -> Result<()> {
    let told = |name: &str, seconds: &str| {
        let script = TOLD.replace("SECONDS", seconds);
        Pod::script(name, &script).with("/spec/terminationGracePeriodSeconds", json!(20))
    };
    let critical = told("critical", "0");
    let class = json!("system-node-critical");
    appliance.create(&told("usual", "3"))?;
    appliance.create(&critical.with("/spec/priorityClassName", class))?;
    for pod in ["usual", "critical"] {
        appliance.until_phase(pod, "Running")?;
        wait::until_equal(format!("{pod} ready"), POD, &"ready\n".to_owned(), || {
            appliance.kubectl.run(&["logs", pod])
        })?;
    }
    let status = appliance.machine.power_off(OFF)?;
    ensure!(status.success(), "QEMU: {status}");
    appliance.boot_again()?;
    appliance.until_ready()?;
    for pod in ["usual", "critical", "bystander"] {
        ended_with_the_node(appliance, pod)?;
    }
    for pod in ["usual", "critical"] {
        let log = appliance.kubectl.run(&["logs", pod])?;
        ensure!(log == "ready\ntold\n", "{pod}: {log:?}");
    }
    in_order(&appliance.machine.console())?;
    appliance.until_phase(KEEPER, "Running")
}

fn ended_with_the_node(appliance: &Appliance, pod: &str) -> Result<()> {
    let status = appliance.kubectl.get(&["pod", pod])?["status"].take();
    let message = "Pod was terminated in response to imminent node shutdown.";
    let wanted = [
        ("phase", "Failed"),
        ("reason", "Terminated"),
        ("message", message),
    ];
    for (field, value) in wanted {
        ensure!(status[field] == value, "{field} of {pod}: {status}");
    }
    let conditions = status["conditions"].as_array().context("no conditions")?;
    let told = |one: &Value| one["type"] == "DisruptionTarget" && one["status"] == "True";
    ensure!(conditions.iter().any(told), "{pod}: {status}");
    Ok(())
}

/// A group begins when the machines of the one before it have ended.
fn in_order(console: &str) -> Result<()> {
    let marks = [
        "shutdown: pods that end now, within 25s: ",
        "pod usual_default",
        "shutdown: pods that end now, within 15s: 1",
        "pod critical_default",
    ];
    let mut rest = console;
    for mark in marks {
        let missed = || format!("no {mark:?} after the one before it");
        let (_, after) = rest.split_once(mark).with_context(missed)?;
        rest = after;
    }
    Ok(())
}

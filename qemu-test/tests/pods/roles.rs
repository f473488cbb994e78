//! Roles and vmms die; pods go on.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use qemu_test::wait::{self, Seen};

const OFF: Duration = Duration::from_secs(60);
const BACK: Duration = Duration::from_secs(60);
const STAYS: &str = "cat /proc/sys/kernel/random/boot_id; exec sleep 100000";

/// Which boot of which guest: the same as long as nothing was restarted.
fn boot_id(appliance: &Appliance, pod: &str) -> Result<String> {
    let words = ["exec", pod, "--", "cat", "/proc/sys/kernel/random/boot_id"];
    wait::until(format!("exec in {pod}"), POD, || {
        let said = appliance.kubectl.say(&words)?;
        Ok(if said.status.success() {
            Seen::Done(said.stdout)
        } else {
            Seen::NotYet(said.stderr)
        })
    })
}

pub(crate) fn a_killed_vmm_is_replaced(appliance: &mut Appliance) -> Result<()> {
    appliance.create(&Pod::script("victim", STAYS).restart("Always"))?;
    appliance.until_phase("victim", "Running")?;
    let before = boot_id(appliance, "victim")?;
    let newest = appliance
        .agent()?
        .of_role("vmm")?
        .into_iter()
        .max_by_key(|vmm| vmm.pid);
    let vmm = newest.ok_or_else(|| anyhow::anyhow!("no vmm runs"))?;
    appliance.agent()?.kill(vmm.pid)?;
    wait::until("another guest", POD, || {
        let said = appliance.kubectl.say(&[
            "exec",
            "victim",
            "--",
            "cat",
            "/proc/sys/kernel/random/boot_id",
        ])?;
        Ok(if said.status.success() && said.stdout != before {
            Seen::Done(())
        } else {
            Seen::NotYet(format!("{said:?}"))
        })
    })?;
    let pod = appliance.kubectl.get(&["pod", "victim"])?;
    let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
    ensure!(count >= Some(1), "restartCount {count:?}");
    appliance.delete("victim")
}

pub(crate) fn killed_roles_come_back(appliance: &mut Appliance) -> Result<()> {
    appliance.create(&Pod::script("steady", STAYS).restart("Always"))?;
    appliance.until_phase("steady", "Running")?;
    let before = boot_id(appliance, "steady")?;
    let vmms = appliance.agent()?.of_role("vmm")?;
    for role in ["control", "node", "fabric"] {
        let old = appliance.agent()?.the(role, BACK)?;
        appliance.agent()?.kill(old.pid)?;
        wait::until(format!("another {role}"), BACK, || {
            let all = appliance.agent()?.of_role(role)?;
            Ok(match &all[..] {
                [one] if one.pid != old.pid => Seen::Done(()),
                other => Seen::NotYet(format!("{other:?}")),
            })
        })?;
        appliance.until_ready()?;
        let after = boot_id(appliance, "steady")?;
        ensure!(before == after, "after {role}: boot {after}, was {before}");
    }
    let pids = |all: &[test_agent::Process]| all.iter().map(|vmm| vmm.pid).collect::<Vec<_>>();
    let now = appliance.agent()?.of_role("vmm")?;
    ensure!(pids(&now) == pids(&vmms), "vmms {now:?}, were {vmms:?}");
    let pod = appliance.kubectl.get(&["pod", "steady"])?;
    ensure!(
        pod["status"]["containerStatuses"][0]["restartCount"] == 0,
        "restarted: {pod}"
    );
    appliance.delete("steady")
}

pub(crate) fn powers_off_and_comes_back(appliance: &mut Appliance) -> Result<()> {
    appliance.create(&Pod::script("again", STAYS).restart("Always"))?;
    appliance.until_phase("again", "Running")?;
    let before = boot_id(appliance, "again")?;
    let status = appliance.machine.power_off(OFF)?;
    ensure!(status.success(), "QEMU: {status}");
    appliance.boot_again()?;
    appliance.until_ready()?;
    wait::until("a new guest", POD, || {
        let after = boot_id(appliance, "again")?;
        Ok(if after == before {
            Seen::NotYet("the old boot".to_owned())
        } else {
            Seen::Done(())
        })
    })?;
    appliance.delete("again")
}

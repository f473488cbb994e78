//! A guest ends in a way that nobody asked for: by its kernel, by the host's
//! seccomp filter. The pod ends or comes back as its restartPolicy says, and an
//! Event and the container's status name the cause.

use anyhow::{Context, Result, bail, ensure};
use qemu_test::appliance::{Appliance, POD};
use qemu_test::pod::Pod;
use serde_json::{Value, json};

use crate::unharmed;

/// The event of a machine that ended by itself.
const ENDED: &str = "MachineFailed";
const OPENAT: u64 = 257;
/// As upstream's for a container whose end nobody saw.
const LOST: i32 = 255;

/// Any shortage of memory becomes a panic (vm.panic_on_oom, 2).
const PANIC: &str = "echo 2 > /proc/sys/vm/panic_on_oom && exec tail /dev/zero";
/// The kernel starts this helper outside of the container: there, reboot(2) is
/// the guest's. Kubernetes reads `$$` as an escaped `$`.
const RESET: &str = "echo '|/proc/%P/root/bin/busybox reboot -f' > /proc/sys/kernel/core_pattern; \
     ulimit -c unlimited; sh -c 'kill -SEGV $$$$'; exec sleep 100000";

fn privileged(name: &str, script: &str) -> Pod {
    let security = json!({ "privileged": true });
    Pod::script(name, script).with("/spec/containers/0/securityContext", security)
}

pub(crate) fn a_guest_panics(appliance: &mut Appliance) -> Result<()> {
    ends_by(appliance, "panics", PANIC, "the guest's kernel panicked")
}

pub(crate) fn a_guest_resets(appliance: &mut Appliance) -> Result<()> {
    ends_by(appliance, "resets", RESET, "the guest asked for a reset")
}

fn ends_by(appliance: &mut Appliance, name: &str, script: &str, cause: &str) -> Result<()> {
    appliance.create(&privileged(name, script))?;
    appliance.until_phase(name, "Failed")?;
    let pod = appliance.kubectl.get(&["pod", name])?;
    names_the_cause(&pod["status"]["containerStatuses"][0]["state"], cause)?;
    appliance.until_event_with(name, ENDED, cause)?;
    appliance.delete(name)?;
    let again = format!("{name}-again");
    appliance.create(&privileged(&again, script).restart("Always"))?;
    let status = appliance
        .kubectl
        .until("a restart", &["pod", &again], POD, |pod| {
            let status = &pod["status"]["containerStatuses"][0];
            let count = status["restartCount"].as_u64()?;
            (count >= 1).then(|| status.clone())
        })?;
    names_the_cause(&status["lastState"], cause)?;
    appliance.until_event_with(&again, ENDED, cause)?;
    unharmed(appliance)?;
    appliance.delete(&again)
}

fn names_the_cause(state: &Value, cause: &str) -> Result<()> {
    let ended = &state["terminated"];
    ensure!(
        ended["exitCode"] == LOST && ended["reason"] == "Error",
        "{state}"
    );
    let message = ended["message"].as_str().unwrap_or_default();
    ensure!(message.contains(cause), "{state}");
    Ok(())
}

/// reboot(2) in a container's own PID namespace ends its first process by a
/// signal (pid_namespaces(7)), and the guest lives.
pub(crate) fn a_container_that_reboots_ends(appliance: &mut Appliance) -> Result<()> {
    for (name, applet, code) in [("reboots", "reboot", 129), ("powers-off", "poweroff", 130)] {
        let script = format!("exec {applet} -f");
        appliance.create(&privileged(name, &script).beside("other", "exec sleep 100000"))?;
        appliance
            .kubectl
            .until("an end by a signal", &["pod", name], POD, |pod| {
                let statuses = pod["status"]["containerStatuses"].as_array()?;
                let main = statuses.iter().find(|status| status["name"] == "main")?;
                (main["state"]["terminated"]["exitCode"] == code).then_some(())
            })?;
        let words = ["exec", name, "-c", "other", "--", "echo", "lives"];
        let said = appliance.kubectl.run(&words)?;
        ensure!(said == "lives\n", "{said:?}");
        appliance.delete(name)?;
    }
    Ok(())
}

/// In each of a vmm's threads, since each has a list of its own.
pub(crate) fn a_forbidden_call_ends_the_vmm(appliance: &mut Appliance) -> Result<()> {
    let cause = "killed by signal 31 (SIGSYS)";
    for (name, thread) in [
        ("forbidden-main", None),
        ("forbidden-vcpu", Some("vcpu")),
        ("forbidden-disk", Some("img")),
    ] {
        appliance.create(&Pod::script(name, "exec sleep 100000").restart("Always"))?;
        appliance.until_phase(name, "Running")?;
        let thread = thread_of_newest(appliance, thread)?;
        appliance.agent()?.divert(thread, OPENAT)?;
        appliance.until_event_with(name, ENDED, cause)?;
        appliance
            .kubectl
            .until("a restart", &["pod", name], POD, |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                (status["restartCount"] == 1 && status["state"]["running"].is_object())
                    .then_some(())
            })?;
        unharmed(appliance)?;
        appliance.delete(name)?;
    }
    Ok(())
}

/// Of the vmm that was started last: its first thread, or the one whose name
/// starts so.
fn thread_of_newest(appliance: &mut Appliance, start: Option<&str>) -> Result<i32> {
    let agent = appliance.agent()?;
    let newest = agent.of_role("vmm")?.into_iter().max_by_key(|vmm| vmm.pid);
    let vmm = newest.context("no vmm runs")?;
    let Some(start) = start else {
        return Ok(vmm.pid);
    };
    let mut seen = Vec::new();
    for thread in agent.list(&format!("/proc/{}/task", vmm.pid))? {
        let name = agent.read(&format!("/proc/{}/task/{thread}/comm", vmm.pid))?;
        if name.starts_with(start) {
            return Ok(thread.parse()?);
        }
        seen.push(name);
    }
    bail!("no thread {start} among {seen:?}")
}

//! What a running vmm can do: nothing.

use anyhow::{Result, ensure};
use qemu_test::appliance::Appliance;
use qemu_test::pod::Pod;

pub(crate) fn vmms_are_jailed(appliance: &mut Appliance) -> Result<()> {
    for name in ["jailed", "jailed-too"] {
        appliance.create(&Pod::script(name, "exec sleep 100000"))?;
        appliance.until_phase(name, "Running")?;
    }
    all_are_jailed(appliance)?;
    appliance.delete("jailed")?;
    appliance.delete("jailed-too")
}

fn all_are_jailed(appliance: &mut Appliance) -> Result<()> {
    let agent = appliance.agent()?;
    let all = agent.of_role("vmm")?;
    ensure!(all.len() >= 2, "vmms: {all:?}");
    let mut uids = Vec::new();
    for vmm in &all {
        let mut fields = vec![("NoNewPrivs", "1"), ("Seccomp", "2"), ("Groups", "")];
        let none = "0000000000000000";
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            fields.push((set, none));
        }
        for (field, wanted) in fields {
            let seen = agent.status(vmm.pid, field)?;
            ensure!(
                seen == wanted,
                "{field} of {vmm:?} is {seen:?}, not {wanted:?}"
            );
        }
        ensure!(vmm.uid != 0, "{vmm:?} is root");
        uids.push(vmm.uid);
        let root = agent.list(&format!("/proc/{}/root/", vmm.pid))?;
        ensure!(root.is_empty(), "root of {vmm:?}: {root:?}");
        let threads = agent.list(&format!("/proc/{}/task", vmm.pid))?;
        for thread in threads {
            let path = format!("/proc/{}/task/{thread}/status", vmm.pid);
            let status = agent.read(&path)?;
            ensure!(
                status.contains("Seccomp:\t2"),
                "thread {thread} has no filter"
            );
        }
        descriptors(agent.descriptors(vmm.pid)?)?;
    }
    let count = uids.len();
    uids.sort_unstable();
    uids.dedup();
    ensure!(uids.len() == count, "vmms share uids: {uids:?}");
    Ok(())
}

/// Every descriptor is of a documented kind; none is a directory or a device
/// other than KVM's.
fn descriptors(names: Vec<String>) -> Result<()> {
    for name in names {
        let kinds = [
            "socket:",
            "pipe:",
            "anon_inode:",
            "/memfd:",
            "/dev/kvm",
            "/dev/null",
        ];
        let file = name.starts_with('/') && (name.contains("/images/") || name.contains("guest-"));
        ensure!(
            file || kinds.iter().any(|kind| name.starts_with(kind)),
            "a vmm holds {name}"
        );
    }
    Ok(())
}

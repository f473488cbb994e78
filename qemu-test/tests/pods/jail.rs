//! What a running vmm can do: nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::agent::Agent;
use qemu_test::appliance::Appliance;
use qemu_test::pod::Pod;
use qemu_test::wait;

const QUIET: Duration = Duration::from_secs(30);

pub(crate) fn vmms_are_jailed(appliance: &mut Appliance) -> Result<()> {
    for name in ["jailed", "jailed-too"] {
        appliance.create(&Pod::script(name, "exec sleep 100000"))?;
        appliance.until_phase(name, "Running")?;
    }
    all_are_jailed(appliance)?;
    init_keeps_a_machine(appliance.agent()?)?;
    appliance.delete("jailed")?;
    appliance.delete("jailed-too")
}

/// So that KVM patches no code of its own when pods come and go; nobody else
/// has it.
fn init_keeps_a_machine(agent: &mut Agent) -> Result<()> {
    let holders = |agent: &mut Agent| -> Result<Vec<i32>> {
        let mut found = Vec::new();
        for process in agent.processes()? {
            let open = agent.descriptors(process.pid).unwrap_or_default();
            if open.iter().any(|target| target.contains("kvm-vcpu")) {
                found.push(process.pid);
            }
        }
        Ok(found)
    };
    let vmms: Vec<i32> = agent.of_role("vmm")?.iter().map(|vmm| vmm.pid).collect();
    let mut others = holders(agent)?;
    others.retain(|pid| !vmms.contains(pid));
    ensure!(others == [1], "vCPUs are held by {others:?}");
    Ok(())
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
            // The list of setup, and the thread's own.
            ensure!(
                status.contains("Seccomp:\t2") && status.contains("Seccomp_filters:\t2"),
                "thread {thread} lacks a filter: {status}"
            );
        }
        has_documented_descriptors(agent, vmm.pid)?;
    }
    let count = uids.len();
    uids.sort_unstable();
    uids.dedup();
    ensure!(uids.len() == count, "vmms share uids: {uids:?}");
    Ok(())
}

/// What the table in docs/architecture.md says of a machine of one vCPU and one
/// disk whose pod has one running container: no more, no less.
const DESCRIPTORS: &[(&str, usize)] = &[
    ("/dev/null", 2),
    ("pipe", 2),
    ("socket", 3),
    ("kvm-vm", 1),
    ("kvm-vcpu", 1),
    ("eventfd", 10),
    ("eventpoll", 1),
    ("timerfd", 1),
    ("image", 1),
];

/// A session that opens or closes right now has a socket more or less.
fn has_documented_descriptors(agent: &mut Agent, pid: i32) -> Result<()> {
    let wanted: BTreeMap<String, usize> = DESCRIPTORS
        .iter()
        .map(|(kind, count)| ((*kind).to_owned(), *count))
        .collect();
    wait::until_equal("descriptors of a vmm", QUIET, &wanted, || {
        let mut seen = BTreeMap::new();
        for name in agent.descriptors(pid)? {
            *seen.entry(kind(&name)).or_insert(0) += 1;
        }
        Ok(seen)
    })
}

/// A descriptor's target as the table names it, or as it is.
fn kind(target: &str) -> String {
    let kind = match target {
        "/dev/null" => "/dev/null",
        _ if target.starts_with("pipe:") => "pipe",
        _ if target.starts_with("socket:") => "socket",
        "anon_inode:kvm-vm" => "kvm-vm",
        _ if target.starts_with("anon_inode:kvm-vcpu:") => "kvm-vcpu",
        "anon_inode:[eventfd]" => "eventfd",
        "anon_inode:[eventpoll]" => "eventpoll",
        "anon_inode:[timerfd]" => "timerfd",
        _ if target.contains("/data/node/images/") && target.ends_with(".erofs") => "image",
        other => other,
    };
    kind.to_owned()
}

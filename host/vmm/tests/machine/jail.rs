//! What the process may do, seen from outside and from inside.

use crate::guest::{SPIN, Vmm};
use machine_spec::control::{Answer, Request};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_running_vmm_has_no_privilege_and_no_stranger() {
    let mut vmm = Vmm::boot(SPIN);
    // A thread confines itself before it takes an order: one that is parked has.
    assert_eq!(vmm.ask(Request::Pause, vec![]), Answer::Done);
    let pid = vmm.child.id();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = task.unwrap().path().join("status");
        let status = std::fs::read_to_string(path).unwrap();
        let fields: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .collect();
        assert_eq!((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"));
        // The list of setup, and the thread's own.
        assert_eq!(fields["Seccomp_filters"], "2");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(fields[set], "0000000000000000", "{set}");
        }
    }
    // Control, the serial log, and what the vmm made itself; no /dev/kvm.
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let fd = fd.unwrap();
        let number: u32 = fd.file_name().to_str().unwrap().parse().unwrap();
        let target = std::fs::read_link(fd.path()).unwrap();
        let target = target.to_str().unwrap();
        let known = number <= 2
            || target.starts_with("socket:")
            || target.starts_with("anon_inode:")
            || target.ends_with("(deleted)");
        assert!(known, "{number} is {target}");
    }
    assert_eq!(vmm.ask(Request::Kill, vec![]), Answer::Done);
    vmm.end();
}

/// It reads nothing from its control socket before.
#[test]
fn a_vmm_that_waits_is_confined_already() {
    let mut vmm = Vmm::spawn();
    let path = format!("/proc/{}/status", vmm.child.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&path)
        .unwrap()
        .contains("Seccomp:\t2")
    {
        assert!(Instant::now() < deadline, "no filter");
        std::thread::yield_now();
    }
    vmm.child.kill().unwrap();
    vmm.child.wait().unwrap();
}

/// Run as a child of the test below: confines itself and does the forbidden.
#[test]
fn forbidden() {
    let Ok(list) = std::env::var("FORBIDDEN_IN") else {
        return;
    };
    match list.as_str() {
        "setup" => vmm::jail::confine_setup(),
        "main" => vmm::jail::confine_main(),
        "vcpu" => vmm::jail::confine_vcpu(),
        _ => vmm::jail::confine_disk(),
    }
    .unwrap();
    let _ = std::fs::File::open("/etc/passwd");
    unreachable!("the call was let through");
}

#[test]
fn a_forbidden_call_kills_the_process() {
    const SIGSYS: i32 = 31;
    for list in ["setup", "main", "vcpu", "disk"] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "jail::forbidden", "--test-threads", "1"])
            .env("FORBIDDEN_IN", list)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(SIGSYS), "{list}: {status}");
    }
}

#[test]
fn every_call_has_a_reason() {
    for (name, list) in vmm::jail::lists() {
        for call in list {
            assert!(!call.reason.is_empty(), "{name}: {}", call.number);
        }
    }
}

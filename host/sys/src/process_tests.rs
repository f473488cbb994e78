//! Processes that really start; those that need root say so by being skipped
//! without it.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::io::Read;

const SH: &CStr = c"/bin/sh";

fn plan<'a>(arguments: &'a [CString], descriptors: &'a [BorrowedFd<'a>]) -> Spawn<'a> {
    Spawn {
        program: Program::Path(SH),
        arguments,
        environment: &[],
        descriptors,
        namespaces: &[],
        cgroup: None,
        oom_score_adj: Some(500),
        rlimits: &[],
        credentials: None,
        no_new_privs: true,
    }
}

fn shell(script: &str) -> Vec<CString> {
    ["sh", "-c", script]
        .map(|text| CString::new(text).unwrap())
        .to_vec()
}

/// Runs a script, gives its standard output and status.
fn run(script: &str, change: impl FnOnce(&mut Spawn<'_>)) -> (String, i32) {
    let null = std::fs::File::open("/dev/null").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let arguments = shell(script);
    let descriptors = [null.as_fd(), writer.as_fd(), writer.as_fd()];
    let mut spawn = plan(&arguments, &descriptors);
    change(&mut spawn);
    let child = spawn.spawn().unwrap();
    drop(writer);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (output, wait(child.pid).unwrap())
}

#[test]
fn a_child_has_only_what_the_plan_gives() {
    let _leak = std::fs::File::open("/proc/self/status").unwrap();
    let (output, status) = run(
        "cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; \
         ls /proc/$$/fd; exit 3",
        |_plan| {},
    );
    assert_eq!(output, "500\nNoNewPrivs:\t1\n0\n1\n2\n");
    assert_eq!(describe_status(status), "exit status 3");
}

#[test]
fn a_program_that_does_not_exist_is_reported() {
    let arguments = shell("true");
    let mut spawn = plan(&arguments, &[]);
    spawn.program = Program::Path(c"/nonexistent");
    let error = spawn.spawn().unwrap_err();
    assert_eq!((error.step, error.errno), ("execve", Errno::NOENT));
}

#[test]
fn credentials_leave_only_the_wanted_capabilities() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let script = "grep -E '^(Uid|Groups|CapEff|CapBnd|CapAmb)' /proc/self/status";
    for (capabilities, mask) in [
        (CapabilitySet::empty(), "0000000000000000"),
        (CapabilitySet::CHOWN, "0000000000000001"),
    ] {
        let (output, _status) = run(script, |plan| {
            plan.credentials = Some(Credentials {
                uid: 4242,
                gid: 4242,
                capabilities,
            });
        });
        let wanted = format!(
            "Uid:\t4242\t4242\t4242\t4242\nGroups:\t \nCapEff:\t{mask}\nCapBnd:\t{mask}\nCapAmb:\t{mask}\n"
        );
        assert_eq!(output, wanted);
    }
}

/// In a process of its own, because it reaps every child: `sys` of this very
/// test, told by the environment.
#[test]
fn children_in_sessions_of_their_own_are_reaped() {
    const ALONE: &str = "SYS_TEST_REAP";
    if std::env::var_os(ALONE).is_none() {
        let test = std::env::current_exe().unwrap();
        let name = "process::tests::children_in_sessions_of_their_own_are_reaped";
        let status = std::process::Command::new(test)
            .args(["--exact", name])
            .env(ALONE, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    assert_eq!(reap().unwrap(), None);
    let arguments = shell("exit 5");
    let child = plan(&arguments, &[]).spawn().unwrap();
    let reaped = loop {
        if let Some(reaped) = reap().unwrap() {
            break reaped;
        }
        std::thread::yield_now();
    };
    assert_eq!((reaped.pid, reaped.status), (child.pid, 5 << 8));
}

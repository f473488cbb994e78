//! The launch socket with real processes: as root, in real namespaces, with
//! busybox in the vmm's place.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::init::role;
use std::fs::File;
use sys::process::{Program, Spawn};

const LIMITS: Limits = Limits {
    memory: 64 << 20,
    cpu_weight: 100,
    pids: 8,
};

fn id(number: u8) -> MachineId {
    MachineId([number; 16])
}

/// What `node` sees of the next reply.
fn next(node: &OwnedFd) -> (Reply, Vec<OwnedFd>) {
    let mut buffer = [0; machine_spec::launch::REPLY_LEN];
    match sys::message::receive(node, &mut buffer, false).unwrap() {
        Received::Message { length, fds } => (Reply::decode(&buffer[..length]).unwrap(), fds),
        Received::Closed => panic!("closed"),
    }
}

fn ask(launcher: &mut Launcher, node: &OwnedFd, request: Request, start: &mut Start<'_>) -> Reply {
    sys::message::send(node, &request.encode(), &[]).unwrap();
    launcher.serve(start);
    next(node).0
}

fn attached(launcher: &mut Launcher) -> OwnedFd {
    let (ours, theirs) = sys::message::pair().unwrap();
    launcher.attach(ours);
    theirs
}

fn never(_: MachineId, _: Limits, _: u32) -> io::Result<Launched> {
    Err(io::Error::from_raw_os_error(19))
}

#[test]
fn wrong_requests_get_their_errno() {
    let mut launcher = Launcher::default();
    let node = attached(&mut launcher);
    let bad_limits = Limits {
        cpu_weight: 0,
        ..LIMITS
    };
    let failed = |number, errno| Reply::Failed {
        id: id(number),
        errno,
    };
    for (request, wanted) in [
        (
            Request::Launch {
                id: id(1),
                limits: LIMITS,
            },
            failed(1, 19),
        ),
        (
            Request::Launch {
                id: id(1),
                limits: bad_limits,
            },
            failed(1, EINVAL),
        ),
        (Request::Kill { id: id(2) }, failed(2, ENOENT)),
        (
            Request::Limit {
                id: id(2),
                limits: LIMITS,
            },
            failed(2, ENOENT),
        ),
        (
            Request::Limit {
                id: id(2),
                limits: bad_limits,
            },
            failed(2, EINVAL),
        ),
        (Request::Forget { id: id(2) }, failed(2, ENOENT)),
        (Request::List, Reply::Done { id: id(0) }),
    ] {
        assert_eq!(ask(&mut launcher, &node, request, &mut never), wanted);
    }
    for garbage in [&b"x"[..], &[7; REQUEST_LEN], &[7; 2 * REQUEST_LEN]] {
        sys::message::send(&node, garbage, &[]).unwrap();
        assert_eq!(launcher.serve(&mut never), Wants::Requests);
        assert_eq!(next(&node).0, failed(0, EINVAL));
    }
    drop(node);
    assert_eq!(launcher.serve(&mut never), Wants::Nothing);
}

/// Starts busybox in the vmm's place: it ends when its control socket closes.
fn busybox(id: MachineId, _: Limits, slot: u32) -> io::Result<Launched> {
    let null = File::open("/dev/null")?;
    let program = File::open("/bin/busybox")?;
    let (control, theirs) = sys::message::pair()?;
    let arguments = role::strings(&["sh", "-c", "read line <&3; exit 7"])?;
    let spawn = Spawn {
        program: Program::Fd(program.as_fd()),
        arguments: &arguments,
        environment: &[],
        descriptors: &[null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd()],
        namespaces: &[],
        cgroup: None,
        oom_score_adj: None,
        rlimits: &[],
        credentials: None,
        no_new_privs: true,
    };
    let directory = std::env::temp_dir().join(format!("atoll-{id}-{slot}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    Ok(Launched {
        child: spawn.spawn().map_err(io::Error::other)?,
        control,
        group: MachineGroup::at(directory),
    })
}

/// Waits for the pidfd, then does what `init` does on SIGCHLD.
fn reap(launcher: &mut Launcher, id: MachineId) -> i32 {
    let State::Running { pid, .. } = launcher.machines[&id].state else {
        panic!("{id} has ended");
    };
    let status = sys::process::wait(pid).unwrap();
    assert!(launcher.reaped(pid, status));
    assert!(!launcher.reaped(pid, status));
    status
}

#[test]
fn machines_outlive_the_node_that_started_them() {
    let mut launcher = Launcher::default();
    let first = attached(&mut launcher);
    for number in [1, 2] {
        let request = Request::Launch {
            id: id(number),
            limits: LIMITS,
        };
        sys::message::send(&first, &request.encode(), &[]).unwrap();
        launcher.serve(&mut busybox);
        let (reply, fds) = next(&first);
        assert_eq!((reply, fds.len()), (Reply::Running { id: id(number) }, 2));
        let again = ask(&mut launcher, &first, request, &mut busybox);
        assert_eq!(
            again,
            Reply::Failed {
                id: id(number),
                errno: EEXIST
            }
        );
    }
    let busy = ask(
        &mut launcher,
        &first,
        Request::Forget { id: id(1) },
        &mut never,
    );
    assert_eq!(
        busy,
        Reply::Failed {
            id: id(1),
            errno: EBUSY
        }
    );
    drop(first);
    assert_eq!(launcher.serve(&mut never), Wants::Nothing);
    launcher.detach();

    let second = attached(&mut launcher);
    let reply = ask(&mut launcher, &second, Request::List, &mut never);
    assert_eq!(reply, Reply::Running { id: id(1) });
    let (reply, mut fds) = next(&second);
    assert_eq!(reply, Reply::Running { id: id(2) });
    assert_eq!(next(&second).0, Reply::Done { id: id(0) });
    // The control socket that came is the one of the running machine.
    let control = fds.pop().unwrap();
    // One byte: the shell reads byte by byte, and a message's rest would be lost.
    sys::message::send(&control, b"\n", &[]).unwrap();
    let status = reap(&mut launcher, id(2));
    assert_eq!(status, 7 << 8);
    let killed = ask(
        &mut launcher,
        &second,
        Request::Kill { id: id(1) },
        &mut never,
    );
    assert_eq!(killed, Reply::Ended { id: id(2), status });
    assert_eq!(next(&second).0, Reply::Done { id: id(1) });
    assert_eq!(reap(&mut launcher, id(1)), 9);
    launcher.serve(&mut never);
    assert_eq!(
        next(&second).0,
        Reply::Ended {
            id: id(1),
            status: 9
        }
    );
    assert_eq!(launcher.running(), 0);
    for number in [1, 2] {
        let request = Request::Forget { id: id(number) };
        let reply = ask(&mut launcher, &second, request, &mut never);
        assert_eq!(reply, Reply::Done { id: id(number) });
    }
    assert_eq!(launcher.free_slot(), 0);
}

#[test]
fn a_full_socket_loses_no_end() {
    let mut launcher = Launcher::default();
    let node = attached(&mut launcher);
    let mut asked = 0;
    // Nobody reads: requests pile up until the socket's room for replies ends.
    loop {
        let sent = sys::message::send(&node, &Request::List.encode(), &[]);
        asked += u32::from(sent.is_ok());
        if launcher.serve(&mut never) == Wants::Room {
            break;
        }
    }
    let mut answered = 0;
    while answered < asked {
        let mut buffer = [0; machine_spec::launch::REPLY_LEN];
        match sys::message::receive(&node, &mut buffer, false) {
            Ok(Received::Message { .. }) => answered += 1,
            _ => {
                launcher.serve(&mut never);
            }
        }
    }
    assert_eq!(launcher.serve(&mut never), Wants::Requests);
}

//! What a container sees and what it may do.

use crate::harness::{Guest, container, pod, shell};
use guest_protocol::{Action, Container, End, FileEntry, Pod, Rlimit, SecurityContext, User};

/// Runs a container to its end and gives what it wrote to both streams.
fn run(container: Container) -> Option<(End, String)> {
    let guest = Guest::start()?;
    let mut control = guest.ready();
    let name = container.name.clone();
    control.start(container).unwrap();
    let end = control.end(&name, 0).0;
    let (stdout, stderr) = guest.output(&name, 0);
    Some((end, stdout + &stderr))
}

fn check(container: Container, expected: &str) {
    if let Some((_, output)) = run(container) {
        assert_eq!(output, expected);
    }
}

#[test]
fn the_root_is_the_disk_with_a_bounded_layer_above() {
    let script =
        "ls /; echo $PWD; dd if=/dev/zero of=/big bs=64k count=64 2>&1 | grep -o 'No space.*'";
    let main = Container {
        working_dir: "/made/here".to_owned(),
        ..shell("main", script)
    };
    check(
        main,
        "bin\ndev\netc\nmade\nproc\nsys\ntmp\n/made/here\nNo space left on device\n",
    );
}

#[test]
fn a_read_only_root_stays_so() {
    let main = Container {
        security: SecurityContext {
            read_only_root: true,
            ..container("main", &[]).security
        },
        ..shell("main", "touch /x; echo x > /dev/shm/y && cat /dev/shm/y")
    };
    check(main, "x\ntouch: /x: Read-only file system\n");
}

#[test]
fn files_of_the_pod_and_projected_files_are_there() {
    let script = "cat /etc/hosts /etc/hostname /etc/resolv.conf /a/b/secret; hostname; \
                  echo x > /a/b/secret; ls -l /a/b/secret | head -c 10; cat /etc/passwd | wc -l";
    let main = Container {
        files: vec![FileEntry {
            path: "/a/b/secret".to_owned(),
            mode: 0o400,
            content: b"hush\n".to_vec(),
        }],
        ..shell("main", script)
    };
    let expected = "127.0.0.1 localhost\npod-1\nnameserver 10.0.0.1\nhush\npod-1\n\
                    -r--------2\nsh: can't create /a/b/secret: Read-only file system\n";
    check(main, expected);
}

#[test]
fn devices_and_masks_are_runc_s() {
    let script = "for f in null zero full random urandom tty ptmx fd stdin shm mqueue pts; do \
                  test -e /dev/$f || echo no $f; done; echo x > /dev/full; \
                  echo 1 > /proc/sys/kernel/threads-max; ls /sys/firmware | wc -l; \
                  touch /sys/x; readlink /dev/ptmx";
    let expected = "0\npts/ptmx\nsh: write error: No space left on device\n\
                    sh: can't create /proc/sys/kernel/threads-max: Read-only file system\n\
                    touch: /sys/x: Read-only file system\n";
    check(shell("main", script), expected);
}

#[test]
fn a_named_user_has_its_groups_home_and_no_capabilities() {
    let script = "id; echo $HOME $COLOUR; grep -E 'Cap|NoNew' /proc/self/status";
    let main = Container {
        user: User {
            user: "web".to_owned(),
            group: None,
            additional_groups: vec![2000],
            strict: false,
        },
        security: SecurityContext {
            no_new_privileges: true,
            ..container("main", &[]).security
        },
        ..shell("main", script)
    };
    let expected = "uid=101(web) gid=102(web) groups=102(web),103(extra),2000\n/home/web red\n\
                    CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
                    CapEff:\t0000000000000000\nCapBnd:\t00000000000000eb\n\
                    CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
    check(main, expected);
}

#[test]
fn a_strict_user_has_the_pods_groups_only_and_all_are_told() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    for (name, strict, groups) in [
        ("merge", false, &[102, 103, 2000][..]),
        ("strict", true, &[102, 2000]),
    ] {
        let user = User {
            user: "web".to_owned(),
            group: None,
            additional_groups: vec![2000],
            strict,
        };
        let main = Container {
            user,
            ..shell(name, "id -G")
        };
        control.start(main).unwrap();
        let identity = control.identity(name);
        assert_eq!((identity.uid, identity.gid), (101, 102), "{name}");
        assert_eq!(identity.groups, groups, "{name}");
        let said: Vec<String> = groups.iter().map(u32::to_string).collect();
        assert_eq!(guest.output(name, 0).0, said.join(" ") + "\n");
    }
}

#[test]
fn root_has_what_is_granted_and_limits_hold() {
    let script = "grep -E 'Cap(Eff|Inh|Bnd)|SigBlk' /proc/self/status; \
                  set -- $(grep SigIgn /proc/self/status); echo $((0x$2 & 0x7fffffff)); ulimit -n; echo $$";
    let main = Container {
        rlimits: vec![Rlimit {
            resource: 7,
            soft: 100,
            hard: 200,
        }],
        ..shell("main", script)
    };
    let expected = "SigBlk:\t0000000000000000\nCapInh:\t0000000000000000\nCapEff:\t00000000000000eb\n\
                    CapBnd:\t00000000000000eb\n0\n100\n1\n";
    check(main, expected);
}

#[test]
fn a_shared_process_namespace_shows_the_others() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.control();
    control.done(Action::SetUp(Box::new(Pod {
        share_process_namespace: true,
        ..pod()
    })));
    control
        .start(container("first", &["sleep", "1000"]))
        .unwrap();
    let script = "ps | grep -c '[s]leep 1000'; cat /proc/1/comm; echo a > /dev/shm/a";
    control.start(shell("second", script)).unwrap();
    control.end("second", 0);
    assert_eq!(guest.output("second", 0).0, "1\npause\n");
    control
        .start(shell("third", "cat /dev/shm/a; kill -9 2"))
        .unwrap();
    assert_eq!(control.end("first", 0).0, End::Signal(9));
    assert_eq!(guest.output("third", 0).0, "a\n");
}

#[test]
fn a_target_shares_its_processes() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.control();
    control.done(Action::SetUp(Box::new(pod())));
    let debug = |name: &str, script: &str| Container {
        target: Some("first".to_owned()),
        ..shell(name, script)
    };
    let refused = control.start(debug("early", "true")).unwrap_err();
    assert_eq!(refused.message, "target: container first does not run");
    control
        .start(container("first", &["sleep", "1000"]))
        .unwrap();
    let script = "cat /proc/1/comm; echo > /dev/shm/read; exec sleep 1000";
    control.start(debug("second", script)).unwrap();
    let wait = "until [ -e /dev/shm/read ]; do sleep 0.02; done";
    control.start(shell("third", wait)).unwrap();
    control.end("third", 0);
    // What ends the target's namespace ends all that is in it.
    control.done(Action::Stop {
        container: "first".to_owned(),
        grace_ms: 0,
    });
    assert_eq!(control.end("first", 0).0, End::Signal(9));
    assert_eq!(control.end("second", 0).0, End::Signal(9));
    assert_eq!(guest.output("second", 0).0, "sleep\n");
}

#[test]
fn privileged_containers_have_more_devices() {
    let list = "cd /dev; stat -c '%n %F %t %T' net/tun fuse loop-control loop7 2>/dev/null";
    let privileged = Container {
        security: SecurityContext {
            privileged: true,
            ..SecurityContext::default()
        },
        ..shell("a", list)
    };
    let Some((_, said)) = run(privileged) else {
        return;
    };
    let wanted = "net/tun character special file a c8\nfuse character special file a e5\n\
        loop-control character special file a ed\nloop7 block special file 7 7\n";
    assert_eq!(said, wanted);
    let Some((_, said)) = run(shell("a", list)) else {
        return;
    };
    assert_eq!(said, "");
}

#[test]
fn parameters_of_the_kernel_are_set() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.control();
    let with = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        Action::SetUp(Box::new(Pod {
            sysctls: pairs
                .map(|(path, value)| ((*path).to_owned(), (*value).to_owned()))
                .collect(),
            ..pod()
        }))
    };
    for (path, value, expected) in [
        (
            "kernel/none",
            "1",
            "sysctl \"kernel/none\": this kernel has none",
        ),
        ("kernel", "1", "sysctl \"kernel\": this kernel has none"),
        (
            "../self/comm",
            "x",
            "sysctl \"../self/comm\": this kernel has none",
        ),
        (
            "kernel/msgmax",
            "10000000000",
            "sysctl \"kernel/msgmax\": invalid value \"10000000000\"",
        ),
    ] {
        let refused = control.ask(with(&[(path, value)]));
        let message = refused.map_err(|refusal| refusal.message);
        assert_eq!(message, Err(expected.to_owned()));
    }
    // This guest-init has an IPC namespace of its own.
    control.done(with(&[
        ("kernel/shm_rmid_forced", "1"),
        ("kernel/sem", "300 1000 10 20"),
    ]));
    let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/sem";
    control.start(shell("a", script)).unwrap();
    assert_eq!(guest.output("a", 0).0, "1\n300\t1000\t10\t20\n");
    let masked = "mount | grep -c ' /proc/'";
    let unmasked = Container {
        security: SecurityContext {
            unmasked_proc: true,
            ..shell("b", "").security
        },
        ..shell("b", masked)
    };
    control.start(unmasked).unwrap();
    assert_eq!(guest.output("b", 0).0, "0\n");
    control.start(shell("c", masked)).unwrap();
    assert_ne!(guest.output("c", 0).0, "0\n");
}

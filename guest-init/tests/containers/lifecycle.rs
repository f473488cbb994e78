//! Start, end, stop, remove, power off.

use crate::harness::{Guest, container, pod, shell};
use guest_protocol::{
    Action, Container, End, Event, Limits, Log, Open, Phase, Pod, RefusalKind, VERSION,
};
use std::time::{Duration, Instant};

#[test]
fn a_container_runs_and_its_streams_stay_apart() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    let script = "echo out; echo err >&2; echo bye > /dev/termination-log; exit 3";
    control.start(shell("main", script)).unwrap();
    let (end, message) = control.end("main", 0);
    assert_eq!(end, End::Code(3));
    assert_eq!(message, "bye\n");
    let (stdout, stderr) = guest.output("main", 0);
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn power_off_stops_what_runs_and_ends() {
    let Some(mut guest) = Guest::start() else {
        return;
    };
    let mut control = guest.ready();
    let sleep = container("main", &["sleep", "1000"]);
    control.start(sleep).unwrap();
    control.done(Action::PowerOff { grace_ms: 0 });
    assert_eq!(control.end("main", 0).0, End::Signal(9));
    assert!(guest.wait().success());
}

/// With nothing to stop, the answer still comes before the end.
#[test]
fn power_off_of_an_idle_guest_is_answered() {
    let Some(mut guest) = Guest::start() else {
        return;
    };
    let mut control = guest.ready();
    control.done(Action::PowerOff { grace_ms: 0 });
    assert!(guest.wait().success());
}

#[test]
fn commands_may_be_repeated() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    control.done(Action::SetUp(Box::new(pod())));
    let other = Pod {
        hostname: "other".to_owned(),
        ..pod()
    };
    let refusal = control.ask(Action::SetUp(Box::new(other))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    let main = shell("main", "echo once");
    control.start(main.clone()).unwrap();
    control.start(main.clone()).unwrap();
    control.end("main", 0);
    control.start(main.clone()).unwrap();
    assert_eq!(guest.output("main", 0).0, "once\n");
    for _ in 0..2 {
        control.done(Action::Stop {
            container: "main".to_owned(),
            grace_ms: 1,
        });
        control.done(Action::Remove {
            container: "main".to_owned(),
            attempt: 0,
        });
    }
    let again = Container { attempt: 1, ..main };
    control.start(again.clone()).unwrap();
    control.end("main", 1);
    let earlier = Container {
        attempt: 0,
        ..again
    };
    assert_eq!(
        control.start(earlier).unwrap_err().kind,
        RefusalKind::Conflict
    );
}

#[test]
fn a_new_control_connection_learns_everything() {
    let Some(guest) = Guest::start() else { return };
    let mut first = guest.ready();
    first.start(container("main", &["sleep", "1000"])).unwrap();
    first.start(shell("done", "exit 7")).unwrap();
    first.end("done", 0);
    let open = |version| Open::Control {
        version,
        entropy: vec![1; 32],
        realtime_ns: 1,
    };
    let mut second = guest.open(&open(VERSION)).unwrap();
    let Event::Snapshot { set_up, containers } = second.json() else {
        panic!("no snapshot first");
    };
    assert!(set_up);
    let phase = |name: &str| {
        containers
            .iter()
            .find(|one| one.name == name)
            .unwrap()
            .phase
            .clone()
    };
    assert!(matches!(phase("main"), Phase::Running { pid } if pid > 0));
    assert!(matches!(
        phase("done"),
        Phase::Ended {
            end: End::Code(7),
            ..
        }
    ));
    drop(first);
    // News go on to whoever is left.
    let mut third = guest.control();
    third.done(Action::Stop {
        container: "main".to_owned(),
        grace_ms: 0,
    });
    third.end("main", 0);
    assert!(matches!(second.json(), Event::Changed(state) if state.name == "main"));
    let refusal = guest.open(&open(VERSION + 1)).err().unwrap();
    assert_eq!(refusal.kind, RefusalKind::Version);
}

#[test]
fn stopping_asks_first_and_kills_when_the_grace_is_over() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    let traps = "trap 'echo term; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
    let ignores = "trap '' TERM; echo ready; sleep 1000 & wait; sleep 1000";
    let table = [
        ("polite", traps, 10_000, End::Code(5)),
        ("deaf", ignores, 200, End::Signal(9)),
    ];
    for (name, script, grace_ms, expected) in table {
        control.start(shell(name, script)).unwrap();
        let log = Open::Logs {
            container: name.to_owned(),
            attempt: 0,
            from: 0,
        };
        let mut log = guest.open(&log).unwrap();
        assert!(matches!(log.json(), Log::From { offset: 0 }));
        assert!(matches!(log.json(), Log::At { .. }));
        assert_eq!(log.until("ready\n"), "ready\n");
        let begun = Instant::now();
        control.done(Action::Stop {
            container: name.to_owned(),
            grace_ms,
        });
        assert_eq!(control.end(name, 0).0, expected, "{name}");
        let passed = begun.elapsed();
        assert!(passed < Duration::from_secs(8), "{name}: {passed:?}");
    }
}

#[test]
fn a_second_stop_brings_the_deadline_nearer() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    control
        .start(container("main", &["sleep", "1000"]))
        .unwrap();
    for grace_ms in [3_600_000, 0] {
        control.done(Action::Stop {
            container: "main".to_owned(),
            grace_ms,
        });
    }
    // As the init of its namespace, it takes no signal that it does not handle.
    assert_eq!(control.end("main", 0).0, End::Signal(9));
}

#[test]
fn what_can_not_start_says_why() {
    let Some(guest) = Guest::start() else { return };
    let mut early = guest.control();
    let main = container("main", &["sh"]);
    assert_eq!(
        early.start(main.clone()).unwrap_err().kind,
        RefusalKind::Conflict
    );
    let mut control = guest.ready();
    let with = |args: &[&str]| container("main", args);
    let table = [
        (
            with(&["foo"]),
            "exec: \"foo\": executable file not found in $PATH",
        ),
        (
            with(&["/etc/passwd"]),
            "exec: \"/etc/passwd\": permission denied",
        ),
        (
            with(&["/bin/broken"]),
            "exec /bin/broken: exec format error",
        ),
        (
            with(&["/no"]),
            "exec: \"/no\": stat /no: no such file or directory",
        ),
        (with(&[]), "args: empty"),
        (
            Container {
                disk: "none".to_owned(),
                ..main.clone()
            },
            "disk \"none\": not found",
        ),
        (
            Container {
                name: "../x".to_owned(),
                ..main.clone()
            },
            "name \"../x\": not a DNS label",
        ),
    ];
    for (container, message) in table {
        assert_eq!(control.start(container).unwrap_err().message, message);
    }
    control.start(shell("main", "true")).unwrap();
    assert_eq!(
        control.end("main", 0).0,
        End::Code(0),
        "a refused attempt may be tried again"
    );
}

#[test]
fn when_the_init_ends_everything_ends() {
    for share_process_namespace in [false, true] {
        let Some(guest) = Guest::start() else { return };
        let mut control = guest.control();
        control.done(Action::SetUp(Box::new(Pod {
            share_process_namespace,
            ..pod()
        })));
        // The child keeps stdout open; the log still ends.
        let script = "sleep 1000 & echo started; exit 0";
        control.start(shell("main", script)).unwrap();
        assert_eq!(control.end("main", 0).0, End::Code(0));
        assert_eq!(guest.output("main", 0).0, "started\n");
        guest.wait_empty("main.0");
    }
}

#[test]
fn limits_change_while_a_container_runs() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.ready();
    let ask = |attempt, limits| Action::Resize {
        container: "main".to_owned(),
        attempt,
        limits,
    };
    let none = Limits::default();
    let refused = control.ask(ask(0, none)).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
    let container = Container {
        limits: Limits {
            memory: 256 << 20,
            cpu_milli: 500,
            ..none
        },
        ..shell("main", "exec sleep 1000")
    };
    control.start(container).unwrap();
    let older = control.ask(ask(7, none)).unwrap_err();
    assert_eq!(older.kind, RefusalKind::Conflict);
    let group = guest.cgroup.join("containers/main.0");
    // What the kernel of this machine counts.
    let seen = |file: &str| {
        let text = std::fs::read_to_string(group.join(file)).ok();
        text.map(|text| text.trim().to_owned())
    };
    let limits = Limits {
        memory: 128 << 20,
        cpu_milli: 1500,
        cpu_weight: 300,
        ..none
    };
    for (limits, files) in [
        (limits, ["134217728", "150000 100000", "300"]),
        (none, ["max", "max 100000", "100"]),
    ] {
        control.done(ask(0, limits));
        for (file, wanted) in ["memory.max", "cpu.max", "cpu.weight"]
            .into_iter()
            .zip(files)
        {
            assert!(seen(file).is_none_or(|text| text == wanted), "{file}");
        }
    }
    let little = Limits {
        memory: 4096,
        ..none
    };
    match (seen("memory.current"), control.ask(ask(0, little))) {
        (None, answer) => assert!(answer.is_ok(), "nothing is counted here"),
        (Some(_), answer) => {
            let refusal = answer.unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::InUse);
            let words = "attempting to set container \"main\" memory limit (4096) below";
            assert!(refusal.message.starts_with(words), "{refusal}");
        }
    }
}

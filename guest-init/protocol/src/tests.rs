//! What both sides say survives a round trip, and mutated it is refused or
//! understood, never a panic.

use super::*;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

fn container() -> Container {
    Container {
        name: "main".to_owned(),
        attempt: 3,
        disk: "vda".to_owned(),
        overlay_size: 1 << 20,
        args: vec!["sh".to_owned(), "-c".to_owned()],
        env: vec!["A=b".to_owned()],
        working_dir: "/".to_owned(),
        user: User {
            user: "web:1".to_owned(),
            group: Some(5),
            additional_groups: vec![1, 2],
            strict: false,
        },
        security: SecurityContext::default(),
        limits: Limits::default(),
        rlimits: vec![Rlimit {
            resource: 7,
            soft: 1,
            hard: 2,
        }],
        stdin: true,
        stdin_once: false,
        tty: false,
        stop_signal: 15,
        termination_message_path: "/dev/termination-log".to_owned(),
        files: vec![FileEntry {
            path: "/a".to_owned(),
            mode: 0o644,
            content: vec![1, 2, 3],
        }],
        mounts: vec![Mount {
            volume: "data".to_owned(),
            path: "/data".to_owned(),
            sub_path: "a/b".to_owned(),
            read_only: true,
            disk: Some("img1".to_owned()),
        }],
        target: Some("other".to_owned()),
    }
}

fn volume(name: &str, kind: VolumeKind) -> Volume {
    Volume {
        name: name.to_owned(),
        kind,
    }
}

fn from_host() -> (Vec<Open>, Vec<Command>) {
    let opens = vec![
        Open::Control {
            version: VERSION,
            entropy: vec![255; 32],
            realtime_ns: u64::MAX,
        },
        Open::Logs {
            container: "main".to_owned(),
            attempt: 1,
            from: 9,
        },
        Open::Attach {
            container: "main".to_owned(),
            stdin: true,
        },
        Open::PortForward { port: 80 },
        Open::Project(Box::new(Projection {
            volume: "files".to_owned(),
            files: vec![ProjectedFile {
                path: "a/b".to_owned(),
                mode: 0o644,
                owner: Some(1000),
                length: 7,
            }],
        })),
    ];
    let actions = [
        Action::SetUp(Box::new(Pod {
            volumes: vec![
                volume("scratch", VolumeKind::Memory { size: 1 << 20 }),
                volume("files", VolumeKind::Files),
            ],
            fs_group: Some(2000),
            ..Pod::default()
        })),
        Action::Start(Box::new(container())),
        Action::Remove {
            container: "main".to_owned(),
            attempt: 1,
        },
        Action::Stats,
        Action::PowerOff { grace_ms: 1 },
    ];
    let command = |action| Command { id: 1, action };
    (opens, actions.map(command).to_vec())
}

fn stats() -> Stats {
    Stats {
        memory_total: u64::MAX,
        containers: vec![ContainerStats {
            name: "main".to_owned(),
            attempt: Some(3),
            throttling: Some(Throttling::default()),
            memory: Some(MemoryStats::default()),
            io: Some(IoStats::default()),
            layer: Some(Filesystem::default()),
            ..ContainerStats::default()
        }],
        interfaces: vec![InterfaceStats::default()],
        volumes: vec![VolumeStats::default()],
        ..Stats::default()
    }
}

#[test]
fn figures_of_an_older_guest_are_understood() {
    let text = r#"{"memory_total":2,"memory_available":1,"cpu_ns":3,"containers":
        [{"name":"main","cpu_ns":4,"memory_working_set":5,"pids":6}]}"#;
    let stats: Stats = serde_json::from_str(text).expect("valid");
    let [main] = &stats.containers[..] else {
        panic!("{stats:?}");
    };
    assert_eq!((main.cpu_ns, main.memory, main.attempt), (4, None, None));
    assert!(stats.volumes.is_empty() && stats.interfaces.is_empty());
}

fn from_guest() -> Vec<Event> {
    let ended = ContainerState {
        name: "main".to_owned(),
        attempt: 1,
        started_at_ns: 2,
        identity: Some(Identity {
            uid: 7,
            gid: 8,
            groups: vec![8, 9],
        }),
        phase: Phase::Ended {
            at_ns: 3,
            end: End::OomKilled,
            message: "late \u{1f600}".to_owned(),
        },
    };
    let refusal = Refusal {
        kind: RefusalKind::NotFound,
        message: "no".to_owned(),
    };
    vec![
        Event::Snapshot {
            set_up: true,
            containers: vec![ended.clone()],
        },
        Event::Changed(ended),
        Event::Answer {
            id: 1,
            result: Err(refusal),
        },
        Event::Answer {
            id: 2,
            result: Ok(Answer::Stats(stats())),
        },
    ]
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T]) {
    let mut seed = 0x5851_f42d_4c95_7f2d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) as usize
    };
    for value in values {
        let json = serde_json::to_vec(value).expect("our types are JSON");
        let back: T = serde_json::from_slice(&json).expect("what we wrote");
        assert_eq!(back, *value);
        for _ in 0..fuzzing::rounds(3000) {
            let mut bytes = json.clone();
            for _ in 0..=random() % 3 {
                let at = random() % bytes.len();
                match random() % 3 {
                    0 => drop(bytes.remove(at)),
                    1 => bytes.insert(at, b"\"{}[],:0-e\\u\xff"[random() % 13]),
                    _ => bytes[at] ^= 1 << (random() % 8),
                }
            }
            if let Ok(understood) = serde_json::from_slice::<T>(&bytes) {
                let again = serde_json::to_vec(&understood).expect("our types are JSON");
                assert_eq!(serde_json::from_slice::<T>(&again).ok(), Some(understood));
            }
        }
    }
}

#[test]
fn what_the_host_says_is_parsed_or_refused() {
    let (opens, commands) = from_host();
    check(&opens);
    check(&commands);
    check(&[
        Stream::Resize {
            columns: 1,
            rows: 2,
        },
        Stream::CloseStdin,
    ]);
    check(&[Log::Ack { offset: 1 }]);
}

#[test]
fn what_the_guest_says_is_parsed_or_refused() {
    check(&from_guest());
    check(&[Opened::Ok]);
    check(&[Stream::Exit(End::Signal(9))]);
    check(&[
        Log::From { offset: 1 },
        Log::At { realtime_ns: 1 },
        Log::End { offset: 2 },
    ]);
}

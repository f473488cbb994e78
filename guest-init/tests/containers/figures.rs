//! What a guest measures of its containers.

use crate::harness::{Control, Guest, PATIENCE, pod, shell};
use guest_protocol::{Action, Answer, Container, Mount, Pod, Stats, Volume, VolumeKind};
use std::time::Instant;

/// Asks until the figures are as wanted.
fn figures(control: &mut Control, wanted: impl Fn(&Stats) -> bool) -> Stats {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Ok(Answer::Stats(stats)) = control.ask(Action::Stats) else {
            panic!("no figures");
        };
        if wanted(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        std::thread::yield_now();
    }
}

#[test]
fn figures_are_those_of_the_running_attempt() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.control();
    let volume = Volume {
        name: "data".to_owned(),
        kind: VolumeKind::Memory { size: 1 << 20 },
    };
    control.done(Action::SetUp(Box::new(Pod {
        volumes: vec![volume],
        ..pod()
    })));
    let script = "dd if=/dev/zero of=/layer bs=65536 count=2 2>/dev/null
        dd if=/dev/zero of=/data/file bs=65536 count=4 2>/dev/null
        while :; do :; done";
    let burner = Container {
        mounts: vec![Mount {
            volume: "data".to_owned(),
            path: "/data".to_owned(),
            sub_path: String::new(),
            read_only: false,
            disk: None,
        }],
        ..shell("burner", script)
    };
    control.start(burner.clone()).unwrap();
    control.start(shell("idle", "exec sleep 1000")).unwrap();
    let of = |stats: &Stats, name: &str| {
        let found = stats.containers.iter().find(|one| one.name == name);
        found.unwrap().clone()
    };
    let stats = figures(&mut control, |stats| {
        let written = stats.volumes[0].filesystem.used >= 256 << 10;
        written && of(stats, "burner").cpu_ns > 50_000_000
    });
    assert_eq!(stats.containers.len(), 2);
    let (burner_now, idle) = (of(&stats, "burner"), of(&stats, "idle"));
    assert_eq!((burner_now.attempt, idle.attempt), (Some(0), Some(0)));
    assert!(burner_now.cpu_ns > idle.cpu_ns, "{burner_now:?} {idle:?}");
    let (wrote, other) = (burner_now.layer.unwrap(), idle.layer.unwrap());
    assert!(
        wrote.used >= other.used + (128 << 10),
        "{wrote:?} {other:?}"
    );
    assert!(wrote.inodes - wrote.inodes_free > other.inodes - other.inodes_free);
    assert_eq!(wrote.capacity, burner.overlay_size);
    assert_eq!(stats.volumes[0].name, "data");
    assert_eq!(stats.volumes[0].filesystem.capacity, 1 << 20);
    control.done(Action::Stop {
        container: "burner".to_owned(),
        grace_ms: 0,
    });
    control.end("burner", 0);
    let stats = figures(&mut control, |_| true);
    assert_eq!(stats.containers.len(), 1, "what ended has no figures");
    let again = Container {
        attempt: 1,
        ..burner
    };
    control.start(again).unwrap();
    let stats = figures(&mut control, |_| true);
    assert_eq!(of(&stats, "burner").attempt, Some(1));
}

//! Volumes and writable layers on a scratch disk, as the host makes one.

use crate::harness::{Control, Guest, pod, run, shell};
use guest_protocol::{
    Action, Container, End, Mount, Pod, Refusal, SCRATCH_DISK, Slice, Volume, VolumeKind,
};
use std::os::unix::fs::symlink;

const MIB: u64 = 1 << 20;

/// A disk with a file system for each size, and where they are.
fn disk(guest: &Guest, sizes: &[u64]) -> Vec<Slice> {
    let path = guest.directory().join("scratch");
    let file = std::fs::File::create(&path).unwrap();
    let mut start = MIB;
    let slices = (1..).zip(sizes).map(|(number, usable)| {
        let length = volume::ext4::size(*usable);
        let slice = Slice {
            number,
            start,
            length,
        };
        file.set_len(start + length).unwrap();
        volume::ext4::write(&file, start, length, [number as u8; 16], 1_700_000_000).unwrap();
        start += length;
        slice
    });
    let slices = slices.collect();
    let path = path.to_str().unwrap();
    let device = run("losetup", &["--find", "--show", "--partscan", path]);
    symlink(&device, guest.directory().join("disks").join(SCRATCH_DISK)).unwrap();
    // Detached when its last mount goes.
    let held = std::fs::File::open(&device).unwrap();
    run("losetup", &["--detach", &device]);
    std::mem::forget(held);
    slices
}

fn volume(name: &str, slice: Slice) -> Volume {
    Volume {
        name: name.to_owned(),
        kind: VolumeKind::Disk(slice),
    }
}

fn set_up(guest: &Guest, pod: Pod) -> Control {
    let mut control = guest.control();
    control.done(Action::SetUp(Box::new(pod)));
    control
}

fn with_volume(name: &str, attempt: u32, script: &str) -> Container {
    Container {
        attempt,
        mounts: vec![Mount {
            volume: "v".to_owned(),
            path: "/v".to_owned(),
            sub_path: String::new(),
            read_only: false,
            disk: None,
        }],
        ..shell(name, script)
    }
}

/// What a container that ends well wrote to both streams.
fn output(guest: &Guest, control: &mut Control, container: Container) -> String {
    let (name, attempt) = (container.name.clone(), container.attempt);
    control.start(container).unwrap();
    let (stdout, stderr) = guest.output(&name, attempt);
    let (end, _) = control.end(&name, attempt);
    assert_eq!(end, End::Code(0), "{stdout}{stderr}");
    stdout + &stderr
}

#[test]
fn a_volume_on_the_disk_ends_at_its_size_and_outlives_containers() {
    let Some(guest) = Guest::start() else { return };
    let slices = disk(&guest, &[MIB, 8 * MIB]);
    let volumes = vec![volume("w", slices[0]), volume("v", slices[1])];
    let pod = Pod {
        volumes,
        fs_group: Some(1234),
        ..pod()
    };
    let mut control = set_up(&guest, pod);
    let script = "ls -A /v; stat -c '%a %g' /v; dd if=/dev/zero of=/v/big bs=1M count=8 2>&1 | grep -o '8+0 records out'; \
        dd if=/dev/zero of=/v/more bs=64k count=1 2>&1 | grep -o 'No space left on device'; \
        rm /v/more; echo kept > /v/w || { rm /v/big; echo kept > /v/w; }";
    let first = output(&guest, &mut control, with_volume("a", 0, script));
    let wanted = "2777 1234\n8+0 records out\nNo space left on device\n";
    assert!(first.starts_with(wanted), "{first}");
    // Another container, and another attempt of the first.
    let read = "cat /v/w";
    for (name, attempt) in [("b", 0), ("a", 1)] {
        let seen = output(&guest, &mut control, with_volume(name, attempt, read));
        assert_eq!(seen, "kept\n");
    }
    let devices = with_volume("c", 0, "mknod /v/n c 1 3; cat /v/n");
    control.start(devices).unwrap();
    let (_, stderr) = guest.output("c", 0);
    assert!(stderr.contains("ermi"), "{stderr}");
}

#[test]
fn a_layer_on_the_disk_is_larger_than_memory_gives_and_new_each_time() {
    let Some(guest) = Guest::start() else { return };
    let slices = disk(&guest, &[12 * MIB]);
    let pod = Pod {
        layers: [("a".to_owned(), slices[0])].into(),
        ..pod()
    };
    let mut control = set_up(&guest, pod);
    let script = "ls /new 2>/dev/null; echo gone >> /bin/broken; stat -c %a /; \
        dd if=/dev/zero of=/new bs=1M count=8 2>&1 | grep -o '8+0 records out'";
    for attempt in 0..3 {
        let container = Container {
            attempt,
            ..shell("a", script)
        };
        let seen = output(&guest, &mut control, container);
        assert_eq!(seen, "755\n8+0 records out\n", "attempt {attempt}");
    }
    // Others have theirs in memory.
    let small = "dd if=/dev/zero of=/new bs=1M count=8 2>&1 | grep -o 'No space'";
    assert_eq!(
        output(&guest, &mut control, shell("b", small)),
        "No space\n"
    );
}

#[test]
fn a_disk_that_is_not_there_is_named() {
    let Some(guest) = Guest::start() else { return };
    let slice = Slice {
        number: 1,
        start: MIB,
        length: MIB,
    };
    let mut control = guest.control();
    let pod = Pod {
        volumes: vec![volume("v", slice)],
        ..pod()
    };
    let refused = control.ask(Action::SetUp(Box::new(pod)));
    let message = refused.map_err(|Refusal { message, .. }| message);
    let wanted = "volume v: disk \"scratch\": not found";
    assert_eq!(message, Err(wanted.to_owned()));
}

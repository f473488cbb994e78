//! Volumes as containers see them.

use crate::harness::{Control, Guest, container, pod, shell};
use guest_protocol::{
    Action, Channel, Container, End, Exec, Mount, Open, Opened, Pod, ProjectedFile, Projection,
    Refusal, RefusalKind, User, Volume, VolumeKind,
};
use rustix::fs::inotify;
use std::mem::MaybeUninit;

const FILES: VolumeKind = VolumeKind::Files;
const MEMORY: VolumeKind = VolumeKind::Memory { size: 0 };

fn pod_with(volumes: &[(&str, VolumeKind)]) -> Pod {
    let volumes = volumes.iter().map(|(name, kind)| Volume {
        name: (*name).to_owned(),
        kind: *kind,
    });
    Pod {
        volumes: volumes.collect(),
        ..pod()
    }
}

fn guest_with(pod: &Pod) -> Option<(Guest, Control)> {
    let guest = Guest::start()?;
    let mut control = guest.control();
    control.done(Action::SetUp(Box::new(pod.clone())));
    // Repeated it is the same.
    control.done(Action::SetUp(Box::new(pod.clone())));
    Some((guest, control))
}

fn mount(volume: &str, path: &str) -> Mount {
    Mount {
        volume: volume.to_owned(),
        path: path.to_owned(),
        sub_path: String::new(),
        read_only: false,
        disk: None,
    }
}

fn part(volume: &str, path: &str, sub_path: &str) -> Mount {
    Mount {
        sub_path: sub_path.to_owned(),
        ..mount(volume, path)
    }
}

fn mounted(container: Container, mounts: Vec<Mount>) -> Container {
    Container {
        mounts,
        ..container
    }
}

/// Runs a container to its end and gives what it wrote to both streams.
fn run(guest: &Guest, control: &mut Control, container: Container) -> String {
    let (name, attempt) = (container.name.clone(), container.attempt);
    control.start(container).unwrap();
    control.end(&name, attempt);
    let (stdout, stderr) = guest.output(&name, attempt);
    stdout + &stderr
}

fn exec(guest: &Guest, container: &str, script: &str) -> String {
    let exec = Exec {
        container: container.to_owned(),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: false,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut wire = guest.open(&Open::Exec(Box::new(exec))).unwrap();
    let (stdout, stderr, _) = wire.until_exit();
    stdout + &stderr
}

fn file(path: &str, mode: u32, content: &str) -> (ProjectedFile, Vec<u8>) {
    let file = ProjectedFile {
        path: path.to_owned(),
        mode,
        owner: None,
        length: content.len() as u64,
    };
    (file, content.as_bytes().to_vec())
}

fn opening(volume: &str, files: &[(ProjectedFile, Vec<u8>)]) -> Open {
    Open::Project(Box::new(Projection {
        volume: volume.to_owned(),
        files: files.iter().map(|(file, _)| file.clone()).collect(),
    }))
}

fn project(guest: &Guest, volume: &str, files: &[(ProjectedFile, Vec<u8>)]) -> Result<(), Refusal> {
    let mut wire = guest.open(&opening(volume, files))?;
    let bytes: Vec<_> = files.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    // Frames know nothing of files.
    for chunk in bytes.chunks(7) {
        wire.send_on(Channel::Stdin, chunk);
    }
    match wire.json::<Opened>() {
        Opened::Ok => Ok(()),
        Opened::Refused(refusal) => Err(refusal),
    }
}

#[test]
fn containers_share_a_volume_that_outlives_them() {
    let volume = pod_with(&[("data", MEMORY)]);
    let Some((mut guest, mut control)) = guest_with(&volume) else {
        return;
    };
    let script = "cp /bin/busybox /data/echo && /data/echo program runs; echo first > /data/a; \
                  stat -c '%a %u %g' /data; mknod /data/null c 1 3; echo x > /data/null";
    let mut first = mounted(shell("first", script), vec![mount("data", "/data")]);
    first.security.capabilities.push("CAP_MKNOD".to_owned());
    let expected = "program runs\n777 0 0\nsh: can't create /data/null: Permission denied\n";
    assert_eq!(run(&guest, &mut control, first.clone()), expected);
    let script = "cat /made/by/guest/a; echo second >> /made/by/guest/a";
    let second = mounted(
        shell("second", script),
        vec![mount("data", "/made/by/guest")],
    );
    assert_eq!(run(&guest, &mut control, second), "first\n");
    let again = Container {
        attempt: 1,
        ..mounted(shell("first", "cat /data/a"), first.mounts)
    };
    assert_eq!(run(&guest, &mut control, again), "first\nsecond\n");
    assert!(guest.directory().join("run/volumes/data").exists());
    control.done(Action::PowerOff { grace_ms: 0 });
    assert!(guest.wait().success());
    assert!(!guest.directory().join("run/volumes").exists());
}

#[test]
fn a_size_is_a_limit() {
    let size = VolumeKind::Memory { size: 256 << 10 };
    let volume = pod_with(&[("small", size)]);
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    let script = "dd if=/dev/zero of=/v/big bs=64k count=8 2>&1 | grep -o 'No space.*'; \
                  stat -c %s /v/big";
    let main = mounted(shell("main", script), vec![mount("small", "/v")]);
    let output = run(&guest, &mut control, main);
    assert_eq!(output, "No space left on device\n262144\n");
}

#[test]
fn another_set_up_and_wrong_volumes_are_refused() {
    let Some(guest) = Guest::start() else { return };
    let mut control = guest.control();
    let wrong = pod_with(&[("data", MEMORY), ("Data", MEMORY)]);
    let refusal = control.ask(Action::SetUp(Box::new(wrong))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert_eq!(refusal.message, "volumes[1].name \"Data\": not a DNS label");
    assert!(!guest.directory().join("run/volumes").exists());
    let right = pod_with(&[("data", MEMORY)]);
    control.done(Action::SetUp(Box::new(right)));
    let other = pod_with(&[("data", FILES)]);
    let refusal = control.ask(Action::SetUp(Box::new(other))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    let main = mounted(shell("main", "true"), vec![mount("other", "/v")]);
    let refusal = control.start(main).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    assert_eq!(
        refusal.message,
        "mounts[0].volume \"other\": no such volume"
    );
}

#[test]
fn a_part_of_a_volume_stays_in_it() {
    let volume = pod_with(&[("data", MEMORY)]);
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    let script = "mkdir -p /v/dir/below; echo hello > /v/dir/file; ln -s dir /v/inside; \
                  ln -s ../../dir /v/dir/below/round; ln -s /etc /v/absolute; \
                  ln -s ../.. /v/up; ln -s missing /v/dangling";
    let main = mounted(shell("main", script), vec![mount("data", "/v")]);
    assert_eq!(run(&guest, &mut control, main), "");
    let mut attempt = 0;
    let mut try_part = |sub_path: &str, script: &str| {
        let mounts = vec![part("data", "/p", sub_path)];
        let main = Container {
            attempt,
            ..mounted(shell("part", script), mounts)
        };
        attempt += 1;
        match control.start(main.clone()) {
            Ok(_) => {
                control.end("part", main.attempt);
                let (stdout, stderr) = guest.output("part", main.attempt);
                stdout + &stderr
            }
            Err(refusal) => refusal.to_string(),
        }
    };
    let out = |path: &str| format!("Invalid: mounts[0].sub_path {path:?}: leads out of the volume");
    for (sub_path, script, expected) in [
        ("dir", "ls /p", "below\nfile\n".to_owned()),
        (
            "inside/file",
            "cat /p; test -f /p && echo f",
            "hello\nf\n".to_owned(),
        ),
        ("dir/below/round", "ls /p", "below\nfile\n".to_owned()),
        (
            "new/deeper",
            "stat -c '%a %F' /p; touch /p/x",
            "777 directory\n".to_owned(),
        ),
        ("new/deeper", "ls /p", "x\n".to_owned()),
        (
            "./inside//below/",
            "readlink /p/round",
            "../../dir\n".to_owned(),
        ),
        ("absolute", "true", out("absolute")),
        ("absolute/new", "true", out("absolute/new")),
        ("up", "true", out("up")),
        (
            "dangling/x",
            "true",
            "Failed: mounts[0].sub_path \"dangling/x\": file exists".to_owned(),
        ),
        (
            "dir/file/x",
            "true",
            "Failed: mounts[0].sub_path \"dir/file/x\": not a directory".to_owned(),
        ),
    ] {
        assert_eq!(try_part(sub_path, script), expected, "{sub_path}");
    }
}

#[test]
fn mounts_are_found_or_made_in_the_root_and_take_a_default_s_place() {
    let volume = pod_with(&[
        ("data", MEMORY),
        ("small", VolumeKind::Memory { size: 4096 }),
    ]);
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    let script = "echo mine > /v/hosts; echo nobody > /v/passwd; mkdir /v/etc";
    let main = mounted(shell("main", script), vec![mount("data", "/v")]);
    assert_eq!(run(&guest, &mut control, main), "");
    // /etc/hosts of the image is a link to ../../../../etc/passwd.
    let script = "cat /etc/hosts; grep -c . /etc/passwd; grep -c ' /dev/shm ' /proc/mounts; \
                  df -k /dev/shm | grep -c ' 4 '; ls /inner; cat /etc/hostname";
    let mounts = vec![
        part("data", "/etc/hosts", "hosts"),
        mount("small", "/dev/shm"),
        mount("data", "/inner"),
        mount("small", "/inner/etc"),
    ];
    let second = mounted(shell("second", script), mounts);
    assert_eq!(
        run(&guest, &mut control, second),
        "mine\n1\n1\n1\netc\nhosts\npasswd\npod-1\n"
    );
    // Over /etc as a whole the pod's own files still show.
    let script = "cat /etc/hosts /etc/hostname; ls /etc; cat /etc/passwd";
    let third = mounted(shell("third", script), vec![mount("data", "/etc")]);
    assert_eq!(
        run(&guest, &mut control, third),
        "127.0.0.1 localhost\npod-1\netc\nhostname\nhosts\npasswd\nresolv.conf\nnobody\n"
    );
    for (mount, expected) in [
        (
            mount("data", "/proc/sys"),
            "Invalid: mounts[0].path \"/proc/sys\": inside of /proc",
        ),
        (
            mount("data", "/bin/busybox"),
            "Failed: mounts[0].path \"/bin/busybox\": not a directory",
        ),
        (
            part("data", "/bin", "passwd"),
            "Failed: mounts[0].path \"/bin\": not a directory",
        ),
    ] {
        let fourth = mounted(shell("fourth", "true"), vec![mount]);
        let refusal = control.start(fourth).unwrap_err();
        assert_eq!(refusal.to_string(), expected);
    }
}

#[test]
fn no_link_of_a_volume_leads_out_of_the_root_that_is_made() {
    let volume = Pod {
        share_process_namespace: true,
        ..pod_with(&[("data", MEMORY), ("other", MEMORY)])
    };
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    // Process 1 is the pod's, whose root is the guest's own.
    let outside = guest.directory().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = format!("ln -s /proc/1/root{} /v/link", outside.display());
    let first = mounted(shell("first", &link), vec![mount("data", "/v")]);
    assert_eq!(run(&guest, &mut control, first), "");
    let script = format!("ls {}", outside.display());
    let mounts = vec![mount("data", "/v"), mount("other", "/v/link/made")];
    let second = mounted(shell("second", &script), mounts);
    // Made in the container's root, entered through the link, which may not be.
    let third = Container {
        name: "third".to_owned(),
        working_dir: "/v/link/working".to_owned(),
        ..second.clone()
    };
    let refusal = control.start(third).unwrap_err();
    assert!(refusal.message.contains("permission denied"), "{refusal}");
    assert_eq!(run(&guest, &mut control, second), "made\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

/// A mount of the disk that also is the containers' root.
fn image(path: &str, sub_path: &str) -> Mount {
    Mount {
        disk: Some("busybox".to_owned()),
        ..part("image", path, sub_path)
    }
}

#[test]
fn an_image_is_a_volume_to_read() {
    let Some((guest, mut control)) = guest_with(&pod()) else {
        return;
    };
    let script = "head -n 1 /image/etc/passwd; cat /one | wc -l; test -f /made/group && echo part
        touch /image/x; /image/bin/true 2>/dev/null || echo no program
        grep -c '/image erofs ro,nosuid,nodev,noexec' /proc/mounts; /bin/true && echo own program";
    let mounts = vec![
        image("/image", ""),
        image("/one", "etc/passwd"),
        image("/made", "./etc/"),
    ];
    for attempt in 0..2 {
        let main = Container {
            attempt,
            ..mounted(shell("main", script), mounts.clone())
        };
        assert_eq!(
            run(&guest, &mut control, main),
            "root:x:0:0::/root:/bin/sh\n2\npart\nno program\n1\nown program\n\
             touch: /image/x: Read-only file system\n"
        );
    }
    let other = Mount {
        disk: Some("other".to_owned()),
        ..image("/a", "")
    };
    for (mount, wanted) in [
        (
            image("/a", "etc/none"),
            "mounts[0].sub_path \"etc/none\": no such file",
        ),
        (
            image("/a", "etc/hosts"),
            "mounts[0].sub_path \"etc/hosts\": leads out of the volume",
        ),
        (other, "disk \"other\": not found"),
    ] {
        let bad = mounted(shell("bad", "true"), vec![mount]);
        let refusal = control.start(bad).unwrap_err();
        assert!(refusal.message.starts_with(wanted), "{refusal}");
    }
}

#[test]
fn read_only_mounts_are_so_and_others_are_not() {
    let volume = pod_with(&[("data", MEMORY), ("files", FILES)]);
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    project(&guest, "files", &[file("a", 0o644, "a")]).unwrap();
    let script = "touch /rw/x /ro/y; touch /files/z; ls /ro";
    let mounts = vec![
        mount("data", "/rw"),
        Mount {
            read_only: true,
            ..mount("data", "/ro")
        },
        mount("files", "/files"),
    ];
    let main = mounted(shell("main", script), mounts);
    assert_eq!(
        run(&guest, &mut control, main),
        "x\ntouch: /ro/y: Read-only file system\ntouch: /files/z: Read-only file system\n"
    );
}

#[test]
fn a_group_for_files_lets_others_than_root_write() {
    let volume = Pod {
        fs_group: Some(2000),
        ..pod_with(&[("data", MEMORY), ("files", FILES)])
    };
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    let (mut owned, content) = file("token", 0o600, "secret\n");
    owned.owner = Some(101);
    let files = [(owned, content), file("dir/plain", 0o400, "plain\n")];
    project(&guest, "files", &files).unwrap();
    let script = "stat -c '%a %u %g' /v; echo x > /v/mine; stat -c '%u %g' /v/mine; \
                  mkdir /v/sub; stat -c '%a %g' /v/sub; stat -c '%a %g' /part; \
                  stat -Lc '%a %u %g' /f/token /f/dir /f/dir/plain; cat /f/token /f/dir/plain";
    let mounts = vec![
        mount("data", "/v"),
        part("data", "/part", "made/here"),
        mount("files", "/f"),
    ];
    let main = Container {
        user: User {
            user: "101".to_owned(),
            group: Some(102),
            additional_groups: vec![2000],
            strict: false,
        },
        ..mounted(shell("main", script), mounts)
    };
    assert_eq!(
        run(&guest, &mut control, main),
        "2777 0 2000\n101 2000\n2755 2000\n2777 2000\n\
         640 101 2000\n2755 0 2000\n440 0 2000\nsecret\nplain\n"
    );
}

/// A guest with a container `main` that sleeps with the volume at `/f`.
fn sleeping_with_files(mounts: Vec<Mount>) -> Option<(Guest, Control)> {
    let (guest, mut control) = guest_with(&pod_with(&[("files", FILES), ("data", MEMORY)]))?;
    let files = [
        file("key", 0o644, "one\n"),
        file("dir/other", 0o400, "two\n"),
        file("gone", 0o644, "three\n"),
        file("empty", 0o644, ""),
    ];
    project(&guest, "files", &files).unwrap();
    let main = mounted(container("main", &["sleep", "1000"]), mounts);
    control.start(main).unwrap();
    Some((guest, control))
}

#[test]
fn projected_files_change_at_once_in_a_running_container() {
    let mounts = vec![mount("files", "/f"), part("files", "/old", "key")];
    let Some((guest, _control)) = sleeping_with_files(mounts) else {
        return;
    };
    let look = "cat /f/key /f/dir/other; ls /f; readlink /f/key; readlink /f/dir; \
                stat -Lc %a /f/dir /f/dir/other; cat /old; \
                ls -a /f | grep -c '^[.][.]20[0-9_]*[.][0-9]*$'";
    assert_eq!(
        exec(&guest, "main", look),
        "one\ntwo\ndir\nempty\ngone\nkey\n..data/key\n..data/dir\n755\n400\none\n1\n"
    );
    let data = "readlink /f/..data; stat -c %i /f/..data";
    let before = exec(&guest, "main", data);
    let same = [
        file("empty", 0o644, ""),
        file("key", 0o644, "one\n"),
        file("gone", 0o644, "three\n"),
        file("./dir//other", 0o400, "two\n"),
    ];
    project(&guest, "files", &same).unwrap();
    assert_eq!(exec(&guest, "main", data), before);

    let new = [
        file("key", 0o600, "changed\n"),
        file("dir", 0o644, "now a file\n"),
        file("new/key", 0o644, "new\n"),
    ];
    project(&guest, "files", &new).unwrap();
    let look = "cat /f/key /f/dir /f/new/key /old; ls /f; stat -Lc %a /f/key; \
                ls -a /f | grep -c '^[.][.]20'; ls -a /f | grep -c tmp";
    assert_eq!(
        exec(&guest, "main", look),
        "changed\nnow a file\nnew\none\ndir\nkey\nnew\n600\n1\n0\n"
    );
    assert_ne!(exec(&guest, "main", data), before);

    let before = exec(&guest, "main", data);
    let mode = [
        file("key", 0o640, "changed\n"),
        file("dir", 0o644, "now a file\n"),
        file("new/key", 0o644, "new\n"),
    ];
    project(&guest, "files", &mode).unwrap();
    assert_ne!(exec(&guest, "main", data), before);
    project(&guest, "files", &[]).unwrap();
    assert_eq!(exec(&guest, "main", "ls /f"), "");
}

#[test]
fn a_watcher_sees_the_link_change_place() {
    let Some((guest, control)) = sleeping_with_files(vec![mount("files", "/f")]) else {
        return;
    };
    let path = format!("/proc/{}/root/f", control.pid("main"));
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let events = inotify::WatchFlags::ALL_EVENTS;
    inotify::add_watch(&watch, path, events).unwrap();
    project(&guest, "files", &[file("key", 0o644, "changed\n")]).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut names = Vec::new();
    while let Ok(event) = events.next() {
        let moved = event.events().contains(inotify::ReadFlags::MOVED_TO);
        let name = event.file_name().map(|name| name.to_owned());
        names.push((name.unwrap_or_default(), moved));
    }
    assert!(names.contains(&(c"..data".to_owned(), true)), "{names:?}");
}

#[test]
fn a_broken_connection_changes_nothing() {
    let Some((guest, _control)) = sleeping_with_files(vec![mount("files", "/f")]) else {
        return;
    };
    let look = "ls -a /f; cat /f/key; stat -c %i /f/..data";
    let before = exec(&guest, "main", look);
    let files = [file("key", 0o644, "changed\n"), file("b", 0o644, "more\n")];
    for sent in [0, 1, 8, 12] {
        let mut wire = guest.open(&opening("files", &files)).unwrap();
        wire.send_on(Channel::Stdin, &b"changed\nmore\n"[..sent]);
        drop(wire);
    }
    // Who comes next has its turn when those before have lost theirs.
    let mut wire = guest.open(&opening("files", &files)).unwrap();
    assert_eq!(exec(&guest, "main", look), before);
    wire.send_on(Channel::Stdin, b"changed\nmore\nand too much");
    let Opened::Refused(refusal) = wire.json() else {
        panic!("too many bytes were taken");
    };
    assert_eq!(
        refusal.to_string(),
        "Invalid: files: more bytes than their lengths say"
    );
    let mut wire = guest.open(&opening("files", &files)).unwrap();
    wire.send_on(Channel::Json, b"{}");
    wire.ended();
    assert_eq!(exec(&guest, "main", look), before);
    project(&guest, "files", &files).unwrap();
    assert_eq!(exec(&guest, "main", "cat /f/key /f/b"), "changed\nmore\n");
}

#[test]
fn one_projection_is_over_before_the_next_begins() {
    let Some((guest, _control)) = sleeping_with_files(vec![mount("files", "/f")]) else {
        return;
    };
    let first = [file("key", 0o644, "first\n")];
    let second = [file("key", 0o644, "second\n")];
    let mut one = guest.open(&opening("files", &first)).unwrap();
    let mut other = guest.connect();
    other.send(&opening("files", &second));
    other.send_on(Channel::Stdin, b"second\n");
    // The other waits for as long as this one has not ended.
    one.send_on(Channel::Stdin, b"fir");
    assert_eq!(exec(&guest, "main", "cat /f/key"), "one\n");
    one.send_on(Channel::Stdin, b"st\n");
    assert_eq!(one.json::<Opened>(), Opened::Ok);
    assert_eq!(other.json::<Opened>(), Opened::Ok);
    assert_eq!(other.json::<Opened>(), Opened::Ok);
    assert_eq!(exec(&guest, "main", "cat /f/key"), "second\n");
}

#[test]
fn hostile_projections_are_refused() {
    let Some((guest, _control)) = sleeping_with_files(vec![mount("files", "/f")]) else {
        return;
    };
    let before = exec(&guest, "main", "ls -a /f");
    let absent = "NotFound: volume: no volume of files has this name";
    for (volume, files, expected) in [
        ("none", vec![file("a", 0o644, "")], absent),
        ("../files", vec![file("a", 0o644, "")], absent),
        ("data", vec![file("a", 0o644, "")], absent),
        (
            "files",
            vec![file("../a", 0o644, "")],
            "Invalid: files[0].path \"../a\": contains \"..\"",
        ),
        (
            "files",
            vec![file("a", 0o644, ""), file("a/b", 0o644, "")],
            "Invalid: files[1].path \"a/b\": below files[0], which is a file",
        ),
        (
            "files",
            vec![file("a", 0o6755, "")],
            "Invalid: files[0].mode 6755: not permission bits",
        ),
    ] {
        let refusal = project(&guest, volume, &files).unwrap_err();
        assert_eq!(refusal.to_string(), expected);
    }
    let (mut huge, _) = file("a", 0o644, "");
    huge.length = u64::MAX;
    let refusal = project(&guest, "files", &[(huge, Vec::new())]).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Invalid: files[0].length: in all more than 16777216 bytes"
    );
    assert_eq!(exec(&guest, "main", "ls -a /f"), before);
}

#[test]
fn no_mount_is_left_of_a_container() {
    let volume = pod_with(&[("data", MEMORY)]);
    let Some((guest, mut control)) = guest_with(&volume) else {
        return;
    };
    let before = guest.mounts();
    let main = mounted(shell("main", "true"), vec![mount("data", "/v")]);
    control.start(main).unwrap();
    assert_eq!(control.end("main", 0).0, End::Code(0));
    let refused = mounted(shell("refused", "true"), vec![mount("data", "/proc/sys")]);
    control.start(refused).unwrap_err();
    guest.wait_empty("main.0");
    control.done(Action::Remove {
        container: "main".to_owned(),
        attempt: 0,
    });
    assert_eq!(guest.mounts(), before);
}

//! What the host may say of volumes, mounts and files, and what a volume of
//! files holds after any sequence of projections.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use fuzzing::Random;
use guest_protocol::{
    Mount, PROJECTED_BYTES_MAX, PROJECTED_FILES_MAX, ProjectedFile, Projection, RefusalKind,
};
use std::time::{Duration, SystemTime};

fn file(path: &str, length: u64) -> ProjectedFile {
    ProjectedFile {
        path: path.to_owned(),
        mode: 0o644,
        owner: None,
        length,
    }
}

fn projection(files: Vec<ProjectedFile>) -> Projection {
    Projection {
        volume: "v".to_owned(),
        files,
    }
}

fn message(result: Result<(), Refusal>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::Invalid);
            refusal.message
        }
    }
}

#[test]
fn hostile_projections_are_refused_by_their_field() {
    let long = "x".repeat(256);
    let longer = "x/".repeat(2048);
    let deep = "x/".repeat(65);
    for (paths, expected) in [
        (&["a", "b/c", "b/d", "b.e"][..], "ok"),
        (&["a//b/", "./c", "a/...", "a/..b"], "ok"),
        (&[""], "files[0].path \"\": empty"),
        (&["a", "./"], "files[1].path \"./\": empty"),
        (&["/a"], "files[0].path \"/a\": not relative"),
        (&["a\0"], "files[0].path \"a\\0\": contains a zero byte"),
        (&["a/../b"], "files[0].path \"a/../b\": contains \"..\""),
        (&[".."], "files[0].path \"..\": contains \"..\""),
        (&["..data"], "files[0].path \"..data\": begins with \"..\""),
        (
            &["./..data/x"],
            "files[0].path \"./..data/x\": begins with \"..\"",
        ),
        (
            &["a", "b", "./a"],
            "files[2].path \"a\": also that of files[0]",
        ),
        (
            &["a.b", "a/b/c", "a", "ab"],
            "files[1].path \"a/b/c\": below files[2], which is a file",
        ),
        (&[&long], "names"),
        (&[&longer], "4095 bytes"),
        (&[&deep], "64 names deep"),
    ] {
        let files = paths.iter().map(|path| file(path, 1)).collect();
        let projection = projection(files);
        let found = message(Plan::new(&projection).map(drop));
        let same = match expected {
            "names" => found.ends_with("a name in it has more than 255 bytes"),
            part if !part.starts_with("files") && part != "ok" => found.contains(part),
            whole => found == whole,
        };
        assert!(same, "{paths:?}: {found}");
        assert!(found.len() < 400, "{found}");
    }
    let changed = |change: fn(&mut ProjectedFile)| {
        let mut one = file("a", 1);
        change(&mut one);
        message(Plan::new(&projection(vec![file("b", 1), one])).map(drop))
    };
    let length = "files[1].length: in all more than 16777216 bytes";
    assert_eq!(changed(|one| one.length = u64::MAX), length);
    assert_eq!(changed(|one| one.length = PROJECTED_BYTES_MAX), length);
    assert_eq!(changed(|one| one.length = PROJECTED_BYTES_MAX - 1), "ok");
    let mode = "files[1].mode 4755: not permission bits";
    assert_eq!(changed(|one| one.mode = 0o4755), mode);
    let owner = "files[1].owner 4294967295: not a user";
    assert_eq!(changed(|one| one.owner = Some(u32::MAX)), owner);
}

#[test]
fn counts_of_files_and_directories_are_bounded() {
    let many = |count: usize, path: fn(usize) -> String| {
        let files = (0..count).map(|index| file(&path(index), 0)).collect();
        message(Plan::new(&projection(files)).map(drop))
    };
    let most = PROJECTED_FILES_MAX;
    assert_eq!(many(most, |index| format!("d/{index}")), "ok");
    assert_eq!(
        many(most + 1, |index| index.to_string()),
        "files: 4097 of them, at most 4096"
    );
    assert_eq!(many(most, |index| format!("{index}/a")), "ok");
    assert_eq!(
        many(most / 2 + 1, |index| format!("{index}/a/b")),
        "files: more than 4096 directories"
    );
}

#[test]
fn hostile_slices_are_refused_by_their_owner() {
    use guest_protocol::Slice;
    let slice = |number, start, length| Slice {
        number,
        start,
        length,
    };
    for (slices, layer, expected) in [
        (&[slice(1, 0, 512), slice(255, 512, 512)][..], "a", "ok"),
        (&[slice(0, 0, 512)], "a", "volume v0: slice 0"),
        (&[slice(256, 0, 512)], "a", "volume v0: slice 256"),
        (
            &[slice(1, 0, 512), slice(1, 512, 512)],
            "a",
            "layer \"a\": slice 1",
        ),
        (&[slice(1, 1, 512)], "a", "volume v0: 512 bytes from 1 on"),
        (&[slice(1, 0, 0)], "a", "volume v0: 0 bytes from 0 on"),
        (
            &[slice(1, 1 << 63, 512)],
            "a",
            "volume v0: 512 bytes from 9223372036854775808 on",
        ),
        (
            &[slice(1, u64::MAX - 511, 512)],
            "a",
            "volume v0: 512 bytes from 18446744073709551104 on",
        ),
        (
            &[slice(1, 0, 512), slice(2, 0, 512)],
            "../a",
            "layer \"../a\": not a DNS label",
        ),
    ] {
        let mut pod = Pod::default();
        for (index, slice) in slices.iter().enumerate() {
            if index == 0 {
                pod.volumes.push(Volume {
                    name: format!("v{index}"),
                    kind: VolumeKind::Disk(*slice),
                });
            } else {
                pod.layers.insert(layer.to_owned(), *slice);
            }
        }
        assert_eq!(message(check(&pod)), expected, "{slices:?}");
    }
}

fn random_projection(random: &mut Random) -> Projection {
    let names = ["a", "b", "a.b", "..", "...", "..a", ".", "", "\0", "é"];
    let files = (0..random.below(7)).map(|_| {
        let path: Vec<_> = (0..=random.below(4))
            .map(|_| match random.one_in(4) {
                true => random.pick(&names),
                false => random.pick(&["a", "b", "c", "d", "e"]),
            })
            .collect();
        ProjectedFile {
            path: path.join("/"),
            mode: match random.one_in(16) {
                true => random.draw() as u32,
                false => 0o600 | random.below(0o77) as u32,
            },
            owner: random.one_in(8).then(|| random.draw() as u32 % 3),
            length: match random.one_in(16) {
                true => random.draw() >> random.below(64),
                false => random.below(20) as u64,
            },
        }
    });
    projection(files.collect())
}

/// The rules once more, each by itself.
fn is_allowed(projection: &Projection) -> bool {
    let clean = |path: &str| {
        let names = path.split('/').filter(|name| !["", "."].contains(name));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let files = &projection.files;
    let paths: Vec<_> = files.iter().map(|file| clean(&file.path)).collect();
    let total: u128 = files.iter().map(|file| u128::from(file.length)).sum();
    let apart = |one: usize, other: usize| one == other || !paths[other].starts_with(&paths[one]);
    total <= u128::from(PROJECTED_BYTES_MAX)
        && (0..paths.len()).all(|one| (0..paths.len()).all(|other| apart(one, other)))
        && files.iter().zip(&paths).all(|(file, names)| {
            !names.is_empty()
                && !file.path.starts_with('/')
                && !file.path.contains('\0')
                && !names[0].starts_with("..")
                && !names.contains(&"..".to_owned())
                && file.mode <= 0o777
        })
}

#[test]
fn any_projection_is_refused_or_as_the_rules_say() {
    let mut random = Random::seeded();
    let mut allowed = 0;
    for _ in 0..fuzzing::rounds(60_000) {
        let projection = random_projection(&mut random);
        match Plan::new(&projection) {
            Ok(plan) => {
                assert!(is_allowed(&projection), "{projection:?}");
                let total: u64 = projection.files.iter().map(|file| file.length).sum();
                assert_eq!(plan.length() as u64, total);
                allowed += 1;
            }
            Err(refusal) => {
                assert!(!is_allowed(&projection), "{refusal}: {projection:?}");
                assert!(refusal.message.starts_with("files"), "{refusal}");
            }
        }
    }
    assert!(allowed > 100, "{allowed}");
}

/// What a reader of the volume sees: path, mode, owner, content.
fn seen(volume: &Path) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    let mut waiting = vec![volume.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(volume).unwrap().to_owned();
            let metadata = fs::metadata(&path).unwrap();
            if name.as_os_str().as_encoded_bytes().starts_with(b"..") {
                continue;
            }
            if metadata.is_dir() {
                waiting.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                all.push((name, metadata.mode() & 0o7777, metadata.uid(), content));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_volume_holds_what_came_last_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED, NOTHING WAS TESTED: not root");
        return;
    }
    let mut random = Random::seeded();
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path();
    let files = Files::new(volume.to_owned(), None);
    let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_300_982);
    let mut before: Option<(Vec<_>, PathBuf)> = None;
    for _ in 0..fuzzing::rounds(300) {
        let projection = random_projection(&mut random);
        let Ok(plan) = Plan::new(&projection) else {
            continue;
        };
        let bytes: Vec<_> = (0..plan.length().min(1 << 16))
            .map(|_| b"ab"[random.below(2)])
            .collect();
        if bytes.len() < plan.length() {
            continue;
        }
        // Often within the same instant.
        now += Duration::from_nanos(random.below(2) as u64);
        for _ in 0..2 {
            files.turn().write(&plan, &bytes, now).unwrap();
            let mut rest = bytes.as_slice();
            let mut expected = Vec::new();
            for file in &projection.files {
                let (content, after) = rest.split_at(file.length as usize);
                rest = after;
                let path: PathBuf = Path::new(&file.path).components().collect();
                let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
                expected.push((path, file.mode, file.owner.unwrap_or(0), content.to_vec()));
            }
            expected.sort();
            assert_eq!(seen(volume), expected, "{projection:?}");
            let data = fs::read_link(volume.join("..data")).unwrap();
            let entries = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap());
            let hidden = entries.filter(|entry| {
                let name = entry.file_name();
                name.as_encoded_bytes().starts_with(b"..")
            });
            let mut hidden: Vec<_> = hidden
                .map(|entry| PathBuf::from(entry.file_name()))
                .collect();
            hidden.sort();
            assert_eq!(hidden, [data.clone(), PathBuf::from("..data")]);
            if let Some((same, link)) = &before {
                assert_eq!(*same == expected, *link == data, "{projection:?}");
            }
            before = Some((expected, data));
        }
    }
}

#[test]
fn volumes_of_a_pod_are_checked() {
    let pod = |names: &[&str]| Pod {
        volumes: names
            .iter()
            .map(|name| Volume {
                name: (*name).to_owned(),
                kind: VolumeKind::Files,
            })
            .collect(),
        ..Pod::default()
    };
    let label = |name: &str| format!("volumes[1].name {name:?}: not a DNS label");
    let long = "x".repeat(64);
    for (names, expected) in [
        (&["a", "b-1", "0"][..], "ok".to_owned()),
        (&["a", ""], label("")),
        (&["a", ".."], label("..")),
        (&["a", "b/c"], label("b/c")),
        (&["a", "-b"], label("-b")),
        (&["a", "B"], label("B")),
        (&["a", &long], label(&long)),
        (
            &["a", "b", "a"],
            "volumes[2].name \"a\": also that of volumes[0]".to_owned(),
        ),
    ] {
        assert_eq!(message(check(&pod(names))), expected);
    }
    let names: Vec<_> = (0..=VOLUMES_MAX).map(|index| index.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(
        message(check(&pod(&names))),
        "volumes: 257 of them, at most 256 are allowed"
    );
    let group = Pod {
        fs_group: Some(u32::MAX),
        ..Pod::default()
    };
    assert_eq!(message(check(&group)), "fs_group 4294967295: not a group");
}

#[test]
fn mounts_of_a_container_are_checked() {
    let pod = Pod {
        volumes: vec![Volume {
            name: "v".to_owned(),
            kind: VolumeKind::Files,
        }],
        ..Pod::default()
    };
    let container: Container = serde_json::from_value(serde_json::json!({
        "name": "main", "attempt": 0, "disk": "d", "overlay_size": 0, "args": ["sh"],
        "env": [], "working_dir": "", "limits": {"memory": 0, "cpu_milli": 0,
        "cpu_weight": 0, "pids": 0}, "user": {"user": "", "group": null,
        "additional_groups": []}, "security": {"capabilities": [],
        "no_new_privileges": false, "read_only_root": false, "privileged": false},
        "rlimits": [], "stdin": false, "tty": false, "stop_signal": 15,
        "termination_message_path": "", "files": [],
    }))
    .unwrap();
    let mount = |volume: &str, path: &str, sub_path: &str| Mount {
        volume: volume.to_owned(),
        path: path.to_owned(),
        sub_path: sub_path.to_owned(),
        read_only: false,
        disk: None,
    };
    let checked = |mounts: Vec<Mount>| {
        let container = Container {
            mounts,
            ..container.clone()
        };
        message(check_mounts(&pod, &container))
    };
    for (volume, path, part, expected) in [
        ("v", "/a", "", "ok"),
        ("v", "/a/./b", "c/./d//", "ok"),
        ("w", "/a", "", "mounts[1].volume \"w\": no such volume"),
        ("v", "a", "", "mounts[1].path \"a\": not absolute"),
        ("v", "", "", "mounts[1].path \"\": not absolute"),
        ("v", "/./", "", "mounts[1].path \"/./\": the root itself"),
        (
            "v",
            "/a/..",
            "",
            "mounts[1].path \"/a/..\": contains \"..\"",
        ),
        ("v", "/a", "/b", "mounts[1].sub_path \"/b\": not relative"),
        (
            "v",
            "/a",
            "b/../c",
            "mounts[1].sub_path \"b/../c\": contains \"..\"",
        ),
        (
            "v",
            "/a",
            "b\0",
            "mounts[1].sub_path \"b\\0\": contains a zero byte",
        ),
    ] {
        let mounts = vec![mount("v", "/first", ""), mount(volume, path, part)];
        assert_eq!(checked(mounts), expected);
    }
    let many = vec![mount("v", "/a", ""); MOUNTS_MAX + 1];
    assert_eq!(
        checked(many),
        "mounts: 513 of them, at most 512 are allowed"
    );
}

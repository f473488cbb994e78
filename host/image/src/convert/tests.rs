#![expect(clippy::unwrap_used, reason = "tests")]
use std::io::Write as _;
use std::path::Path;

use crate::config::Limits;
use crate::digest::Digest;
use crate::testing::{Archive, Seen, View, contents, convert, convert_with, extracted};

fn at<'a>(view: &'a View, path: &str) -> &'a Seen {
    view.get(Path::new(path))
        .unwrap_or_else(|| panic!("no {path} in {:?}", view.keys().collect::<Vec<_>>()))
}

/// Converts and gives what is in the image; `None` if no oracle is there.
fn converted(layers: &[Vec<u8>]) -> Option<(View, bool)> {
    let image = convert(layers).unwrap();
    contents(image.path())
}

#[test]
fn every_kind_of_file_arrives() {
    let big = vec![7; 3 * 4096 + 5];
    let layer = Archive::new()
        .add(b'5', "./", "", b"", |h| h.set_mode(0o751))
        .dir("dir/", 0o1777)
        .file("dir/small", b"hello")
        .file("dir/empty", b"")
        .file("dir/big", &big)
        .symlink("dir/link", "../dir/small")
        .symlink("dir/long", &"x/".repeat(2000))
        .hard("hard", "dir/small")
        .add(b'3', "char", "", b"", |h| {
            h.set_device_major(259).unwrap();
            h.set_device_minor(70_000).unwrap();
        })
        .add(b'4', "block", "", b"", |h| h.set_device_major(8).unwrap())
        .add(b'6', "fifo", "", b"", |_| {})
        .add(b'0', "owned", "", b"x", |h| {
            h.set_uid(3_000_000_000);
            h.set_gid(70_000);
            h.set_mode(0o4755);
        })
        .pax(&[
            ("mtime", b"1234567890.123456789"),
            ("SCHILY.xattr.user.a", b"b"),
            (
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.com.apple.x", b"y"),
        ])
        .file("attributes", b"1")
        .end();
    let Some((view, full)) = converted(&[layer]) else {
        return;
    };
    assert_eq!(at(&view, "").mode, 0o751);
    assert_eq!(
        (at(&view, "dir").kind, at(&view, "dir").mode),
        ('d', 0o1777)
    );
    assert_eq!(at(&view, "dir/small").content, b"hello");
    assert_eq!(at(&view, "hard").content, b"hello");
    assert_eq!(at(&view, "dir/empty").content, b"");
    assert_eq!(at(&view, "dir/big").content, big);
    assert_eq!(at(&view, "dir/link").content, b"../dir/small");
    assert_eq!(at(&view, "dir/long").content.len(), 4000);
    assert_eq!(at(&view, "char").rdev, rustix::fs::makedev(259, 70_000));
    assert_eq!(
        (at(&view, "block").kind, at(&view, "block").rdev),
        ('b', rustix::fs::makedev(8, 0))
    );
    assert_eq!(at(&view, "fifo").kind, 'p');
    let owned = at(&view, "owned");
    assert_eq!(
        (owned.uid, owned.gid, owned.mode),
        (3_000_000_000, 70_000, 0o4755)
    );
    assert_eq!(at(&view, "attributes").mtime, (1_234_567_890, 123_456_789));
    if full {
        assert_eq!(at(&view, "hard").links, 2);
        assert_eq!(at(&view, "").links, 3);
        let xattrs = &at(&view, "attributes").xattrs;
        let names: Vec<&str> = xattrs.keys().map(String::as_str).collect();
        assert_eq!(names, ["security.capability", "user.a"]);
        assert_eq!(xattrs["user.a"], b"b");
    }
}

#[test]
fn layers_hide_what_is_below_them() {
    let lower = Archive::new()
        .dir("gone", 0o755)
        .file("gone/a", b"a")
        .file("kept", b"lower")
        .dir("opaque", 0o700)
        .file("opaque/old", b"old")
        .dir("merged", 0o755)
        .file("merged/old", b"old")
        .file("file-to-dir", b"f")
        .dir("dir-to-file", 0o755)
        .file("dir-to-file/x", b"x")
        .symlink("link", "merged")
        .file("target", b"t")
        .end();
    let upper = Archive::new()
        .file(".wh.gone", b"")
        .file("opaque/new", b"new")
        .file("opaque/.wh..wh..opq", b"")
        .add(b'5', "merged", "", b"", |h| h.set_mode(0o711))
        .file("merged/new", b"new")
        .file("file-to-dir/x", b"x")
        .file("dir-to-file", b"f")
        .file("link/into", b"i")
        .hard("across", "target")
        .file(".wh.target", b"")
        .file("kept", b"upper")
        .file(".wh.kept", b"")
        .file(".wh..wh.plnk", b"")
        .file("no/.wh.such", b"")
        .end();
    let Some((view, _)) = converted(&[lower, upper]) else {
        return;
    };
    let names: Vec<String> = view.keys().map(|p| p.display().to_string()).collect();
    assert_eq!(
        names,
        [
            "",
            "across",
            "dir-to-file",
            "file-to-dir",
            "file-to-dir/x",
            "kept",
            "link",
            "link/into",
            "merged",
            "merged/new",
            "merged/old",
            "opaque",
            "opaque/new",
        ]
    );
    assert_eq!(at(&view, "kept").content, b"upper");
    assert_eq!(at(&view, "across").content, b"t");
    assert_eq!(at(&view, "opaque").mode, 0o700);
    assert_eq!(at(&view, "merged").mode, 0o711);
    assert_eq!(
        (at(&view, "link").kind, at(&view, "dir-to-file").kind),
        ('d', 'f')
    );
}

#[test]
fn paths_stay_in_the_tree() {
    let layer = Archive::new()
        .symlink("up", "../../..")
        .symlink("abs", "/inside")
        .file("up/escaped", b"1")
        .file("abs/file", b"2")
        .file("../../etc/passwd", b"3")
        .file("/absolute", b"4")
        .file("a/./b//c/../d", b"5")
        .symlink("chain1", "chain2")
        .symlink("chain2", "deep/er")
        .file("chain1/x", b"6")
        .end();
    let Some((view, _)) = converted(&[layer]) else {
        return;
    };
    for path in [
        "escaped",
        "inside/file",
        "etc/passwd",
        "absolute",
        "a/b/d",
        "deep/er/x",
    ] {
        assert_eq!(at(&view, path).kind, 'f', "{path}");
    }
}

#[test]
fn bad_layers_say_what_is_wrong() {
    let a = Archive::new;
    let long = "n".repeat(256);
    let table: Vec<(Vec<u8>, &str)> = vec![
        (a().hard("x", "missing").end(), "no such file"),
        (
            a().dir("d", 0o755).hard("x", "d").end(),
            "hard link to a directory",
        ),
        (
            a().symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", b"")
                .end(),
            "levels of symbolic links",
        ),
        (a().file("x/.wh.", b"").end(), "invalid whiteout"),
        (a().file(".wh...", b"").end(), "invalid whiteout"),
        (a().file("./.", b"").end(), "the root is no directory"),
        (a().file(&long, b"").end(), "more than 255 bytes"),
        (
            a().file(&"d/".repeat(2100), b"").end(),
            "more than 4096 bytes",
        ),
        (a().add(b'M', "x", "", b"", |_| {}).end(), "multi-volume"),
        (
            a().add(b'3', "x", "", b"", |h| h.set_device_major(5000).unwrap())
                .end(),
            "device number",
        ),
        (a().symlink("x", "").end(), "target is empty"),
    ];
    for (layer, want) in table {
        let message = convert(&[layer]).unwrap_err();
        assert!(message.contains(want), "{message:?} lacks {want:?}");
        assert!(message.starts_with("layer 1: "), "{message}");
    }
}

#[test]
fn limits_are_kept_and_named() {
    let layer = || {
        let mut archive = Archive::new();
        for i in 0..100 {
            archive = archive.file(&format!("f{i}"), &[0; 1000]);
        }
        vec![archive.end()]
    };
    let table: Vec<(Limits, &str)> = vec![
        (
            Limits {
                max_inodes: 50,
                ..Limits::default()
            },
            "limits.maxInodes",
        ),
        (
            Limits {
                max_unpacked_bytes: 50_000,
                ..Limits::default()
            },
            "limits.maxUnpackedBytes",
        ),
        (
            Limits {
                max_file_bytes: 999,
                ..Limits::default()
            },
            "limits.maxFileBytes",
        ),
        (
            Limits {
                max_image_bytes: 100_000,
                ..Limits::default()
            },
            "limits.maxImageBytes",
        ),
        (
            Limits {
                converter_memory_bytes: 50_000,
                ..Limits::default()
            },
            "limits.converterMemoryBytes",
        ),
    ];
    for (limits, name) in table {
        let layers = layer();
        let ids = vec![Digest::of(&layers[0])];
        let message = convert_with(&layers, ids, limits).unwrap_err();
        assert!(message.contains(name), "{message:?} lacks {name:?}");
    }
}

#[test]
fn compressed_layers_give_the_same_bytes() {
    let plain = Archive::new()
        .dir("d", 0o755)
        .file("d/x", &vec![3; 100_000])
        .end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain[..50_000]).unwrap();
    let mut members = gzip.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&plain[50_000..]).unwrap();
    members.extend(gzip.finish().unwrap());
    let zstd = zstd::stream::encode_all(&plain[..], 3).unwrap();
    let id = vec![Digest::of(&plain)];
    let images: Vec<Vec<u8>> = [&plain, &members, &zstd]
        .into_iter()
        .map(|layer| {
            let image = convert_with(std::slice::from_ref(layer), id.clone(), Limits::default());
            std::fs::read(image.unwrap().path()).unwrap()
        })
        .collect();
    assert_eq!(images[0].len() % (2 << 20), 0);
    assert!(images.iter().all(|i| *i == images[0]));
    for cut in [members.len() - 1, members.len() / 2, 5] {
        let layer = vec![members[..cut].to_vec()];
        assert!(convert_with(&layer, id.clone(), Limits::default()).is_err());
    }
    let message = convert_with(&[zstd], vec![Digest::of(b"other")], Limits::default()).unwrap_err();
    assert!(message.contains("wrong diff id"), "{message}");
}

#[test]
fn large_directories_and_holes() {
    let mut archive = Archive::new();
    for i in 0..100_000 {
        archive = archive.add(
            b'0',
            &format!("many/{i:x}-{}", "y".repeat(i % 40)),
            "",
            b"",
            |_| {},
        );
    }
    // PAX 0.1: 1 TiB with two small parts.
    let size = (1_u64 << 40).to_string();
    let map = format!("0,3,{},4", 1_u64 << 39);
    let archive = archive
        .pax(&[
            ("GNU.sparse.size", size.as_bytes()),
            ("GNU.sparse.map", map.as_bytes()),
            ("GNU.sparse.name", b"sparse"),
        ])
        .file("ignored", b"abcdefg");
    let image = convert(&[archive.end()]).unwrap();
    crate::testing::fsck(image.path());
    let Some(mounted) = crate::testing::Mounted::new(image.path()) else {
        return;
    };
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    let count = std::fs::read_dir(mounted.path().join("many"))
        .unwrap()
        .count();
    assert_eq!(count, 100_000);
    for i in (0..100_000).step_by(997) {
        let name = format!("many/{i:x}-{}", "y".repeat(i % 40));
        assert!(mounted.path().join(name).exists());
    }
    let file = std::fs::File::open(mounted.path().join("sparse")).unwrap();
    assert_eq!(file.metadata().unwrap().size(), 1 << 40);
    let mut bytes = [9; 8];
    for (at, want) in [
        (0, b"abc\0\0\0\0\0"),
        (1 << 39, b"defg\0\0\0\0"),
        (1 << 38, &[0; 8]),
    ] {
        file.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(&bytes, want, "{at}");
    }
    assert!(image.as_file().metadata().unwrap().size() < 32 << 20);
}

#[test]
fn gnu_tars_own_archives_are_read() {
    use std::process::Command;
    if !crate::testing::have("tar") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let name = "long".repeat(60);
    std::fs::create_dir(root.join(&name)).unwrap();
    std::fs::write(root.join(&name).join(&name), b"deep").unwrap();
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    use std::os::unix::fs::FileExt as _;
    for i in 0..50_u64 {
        sparse
            .write_all_at(&[i as u8 + 1; 100], i * 200_000)
            .unwrap();
    }
    drop(sparse);
    let formats: [&[&str]; 6] = [
        &["--format=gnu"],
        &["--format=pax"],
        &["--format=gnu", "-S"],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
    ];
    for format in formats {
        let mut tar = Command::new("tar");
        tar.args(format).arg("-C").arg(&root).args(["-c", "."]);
        let out = tar.output().unwrap();
        assert!(out.status.success());
        let image = convert(&[out.stdout]).unwrap();
        let Some((view, true)) = contents(image.path()) else {
            return;
        };
        assert_eq!(
            at(&view, &format!("{name}/{name}")).content,
            b"deep",
            "{format:?}"
        );
        let want = std::fs::read(root.join("sparse")).unwrap();
        assert!(at(&view, "sparse").content == want, "{format:?}");
        // fsck.erofs 1.5 leaves holes out when it extracts.
        if let Some(view) = extracted(image.path()) {
            assert_eq!(
                at(&view, &format!("{name}/{name}")).content,
                b"deep",
                "{format:?}"
            );
        }
    }
}

/// Prints what a conversion costs beside the packaged tools on the same
/// files: `tar -xz` into a directory and mkfs.erofs over it.
#[test]
fn figures_beside_the_packaged_tools() {
    use std::process::Command;
    use std::time::Instant;
    let needed = ["tar", "gzip", "mkfs.erofs", "fsck.erofs"];
    if !needed.into_iter().all(crate::testing::have) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, peer) = (dir.path().join("root"), dir.path().join("peer"));
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&peer).unwrap();
    let mut copied = 0;
    for entry in std::fs::read_dir("/usr/bin").unwrap().flatten() {
        let is_file = entry.file_type().is_ok_and(|t| t.is_file());
        if is_file && copied < 100 << 20 {
            copied += std::fs::copy(entry.path(), root.join(entry.file_name())).unwrap_or(0);
        }
    }
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let start = Instant::now();
        let out = Command::new(program).args(arguments).output().unwrap();
        assert!(out.status.success(), "{program}");
        (out.stdout, start.elapsed().as_secs_f64())
    };
    let arguments = ["-C".as_ref(), root.as_os_str(), "-c".as_ref(), ".".as_ref()];
    let (plain, _) = run("tar", &arguments);
    let archive = dir.path().join("layer.tar");
    std::fs::write(&archive, &plain).unwrap();
    run("gzip", &["-1".as_ref(), "-k".as_ref(), archive.as_os_str()]);
    let packed = dir.path().join("layer.tar.gz");
    let gzip = std::fs::read(&packed).unwrap();
    let zstd = zstd::stream::encode_all(&plain[..], 3).unwrap();
    let megabytes = plain.len() as f64 / 1e6;
    let id = vec![Digest::of(&plain)];
    let mut took = Vec::new();
    for layer in [&plain, &gzip, &zstd] {
        let layers = [layer.clone()];
        let start = Instant::now();
        let image = convert_with(&layers, id.clone(), Limits::default()).unwrap();
        took.push(start.elapsed().as_secs_f64());
        crate::testing::fsck(image.path());
    }
    let image = dir.path().join("peer.erofs");
    let unpack = [
        "-C".as_ref(),
        peer.as_os_str(),
        "-xzf".as_ref(),
        packed.as_os_str(),
    ];
    let (_, untar) = run("tar", &unpack);
    let pack = [
        "-E".as_ref(),
        "noinline_data".as_ref(),
        image.as_os_str(),
        peer.as_os_str(),
    ];
    let (_, mkfs) = run("mkfs.erofs", &pack);
    println!(
        "{megabytes:.0} MB: plain {:.0} MB/s, gzip {:.0} MB/s, zstd {:.0} MB/s; peer: tar -xz and \
         mkfs.erofs {:.0} MB/s (mkfs.erofs alone {:.0}); gzip takes {:.2} of the peer's time",
        megabytes / took[0],
        megabytes / took[1],
        megabytes / took[2],
        megabytes / (untar + mkfs),
        megabytes / mkfs,
        took[1] / (untar + mkfs),
    );
}

#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::testing::Archive;
use proptest::prelude::*;

fn all(bytes: &[u8]) -> Result<Vec<Entry>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn one(archive: Archive) -> Entry {
    let mut entries = all(&archive.end()).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

#[test]
fn numbers_beyond_octal_are_read() {
    let e = one(Archive::new().add(b'0', "x", "", b"", |h| {
        h.as_old_mut().uid = [0x80, 0, 0, 0, 0xb2, 0xd0, 0x5e, 0];
        h.as_old_mut().mtime = [0xff; 12];
    }));
    assert_eq!((e.attributes.uid, e.attributes.mtime), (3_000_000_000, -1));
    for field in [
        *b"12345678",
        *b"0000 00\0",
        *b"9\0\0\0\0\0\0\0",
        [0x80, 1, 0, 0, 0, 0, 0, 0],
    ] {
        let bad = Archive::new().add(b'0', "x", "", b"", |h| h.as_old_mut().uid = field);
        assert!(all(&bad.end()).is_err(), "{field:?}");
    }
}

#[test]
fn pax_records_override_the_header() {
    let e = one(Archive::new()
        .pax(&[
            ("path", b"p\xc3\xa9"),
            ("size", b"3"),
            ("uid", b"4294967294"),
            ("mtime", b"-1.25"),
            ("SCHILY.xattr.user.k", b"\0=\n"),
        ])
        .file("x", b"abc"));
    assert_eq!(e.path, "pé".as_bytes());
    let a = &e.attributes;
    assert_eq!(
        (a.uid, a.mtime, a.mtime_nsec),
        (4_294_967_294, -2, 750_000_000)
    );
    assert_eq!(a.xattrs, [(b"user.k".to_vec(), b"\0=\n".to_vec())]);
    let Kind::File(data) = e.kind else { panic!() };
    assert_eq!((data.size, data.extents[0].length), (3, 3));
}

#[test]
fn broken_archives_are_refused_with_their_place() {
    let good = Archive::new().file("x", &[1; 600]).end();
    assert_eq!(all(&good).unwrap().len(), 1);
    // The end mark may be missing, data may not.
    assert!(all(&good[..512 + 1024]).is_ok());
    for cut in [100, 512, 700, 512 + 1023] {
        assert!(
            matches!(all(&good[..cut]), Err(TarError::Truncated { .. })),
            "{cut}"
        );
    }
    let mut bad = good.clone();
    bad[0] ^= 1;
    let message = all(&bad).unwrap_err().to_string();
    assert!(message.contains("byte 512: the checksum"), "{message}");
    for record in [
        "9 path=x\n",
        "7 path=x\n",
        "x",
        "5 abc\n",
        "99 a=b\n",
        "11 size=abc\n",
    ] {
        let mut archive = Archive::new();
        archive = archive.add(b'x', "pax", "", record.as_bytes(), |_| {});
        let bytes = archive.file("x", b"").end();
        let ok = record == "9 path=x\n";
        assert_eq!(all(&bytes).is_ok(), ok, "{record:?}");
    }
    let huge = Archive::new().add(b'x', "pax", "", &vec![b'x'; 2 << 20], |_| {});
    assert!(all(&huge.end()).unwrap_err().to_string().contains("1 MiB"));
    let alone = Archive::new().pax(&[("path", b"x")]).end();
    assert!(matches!(all(&alone), Err(TarError::Truncated { .. })));
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    for (size, map, ok) in [
        ("10", "0,3", true),
        ("10", "", true),
        ("10", "0,3,2,1", false),
        ("10", "8,3", false),
        ("10", "0", false),
        ("10", "0,5", false),
        ("10", "18446744073709551615,3", false),
    ] {
        let bytes = Archive::new()
            .pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.map", map.as_bytes()),
            ])
            .file("x", b"abc")
            .end();
        assert_eq!(all(&bytes).is_ok(), ok, "{map}");
    }
}

/// Archives with every feature, to be damaged.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let long = "l".repeat(150);
    let pax = Archive::new()
        .dir("d", 0o755)
        .file("d/x", &[5; 700])
        .pax(&[
            ("path", b"other"),
            ("mtime", b"1.5"),
            ("SCHILY.xattr.user.a", b"b"),
        ])
        .file("y", b"1")
        .pax(&[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"0,3,50,4")])
        .file("s", b"abcdefg")
        .symlink("l", "d/x")
        .hard("h", "d/x")
        .file(".wh.d", b"")
        .file(&long, b"long")
        .end();
    let version_1 = Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"1000"),
            ("GNU.sparse.name", b"s"),
        ])
        .file("s", &[&b"1\n0\n3\n"[..], &[0; 506], b"abc"].concat())
        .end();
    let old = Archive::new()
        .add(b'S', "old", "", b"abc", |h| {
            let b = h.as_mut_bytes();
            b[257..265].copy_from_slice(b"ustar  \0");
            b[386..398].copy_from_slice(b"00000000005\0");
            b[398..410].copy_from_slice(b"00000000003\0");
            b[483..495].copy_from_slice(b"00000000100\0");
        })
        .add(b'L', "././@LongLink", "", long.as_bytes(), |_| {})
        .file("short", b"x")
        .end();
    vec![pax, version_1, old]
}

#[test]
fn the_seeds_are_good() {
    let counts: Vec<usize> = seeds().iter().map(|s| all(s).unwrap().len()).collect();
    assert_eq!(counts, [8, 1, 2]);
}

/// Sets the checksum of each header right again, so that mutations get
/// further than the first check.
pub(crate) fn repair(bytes: &mut [u8], at: usize) {
    let start = at / 512 * 512;
    if let Some(block) = bytes.get_mut(start..start + 512) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzzing::cases(3000)))]

    /// Whatever is damaged: an error or entries whose extents lie inside
    /// the archive, never a panic.
    #[test]
    fn damaged_archives_never_panic(
        seed in 0_usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (at, value, fix) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
            if fix {
                repair(&mut bytes, at);
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        for entry in all(&bytes).unwrap_or_default() {
            if let Kind::File(data) = entry.kind {
                let mut file = 0;
                for e in data.extents {
                    prop_assert!(e.file >= file && e.file + e.length <= data.size);
                    prop_assert!(e.length > 0);
                    file = e.file + e.length;
                }
            }
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = all(&bytes);
    }
}

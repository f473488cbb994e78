//! What this crate's tests share: archives, conversions in process, and the
//! oracles (fsck.erofs, and the kernel where loop devices may be mounted).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::Limits;
use crate::convert;
use crate::digest::Digest;

/// An archive in the making.
pub(crate) struct Archive(pub(crate) tar::Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Archive {
        Archive(tar::Builder::new(Vec::new()))
    }

    /// Adds an entry of any type; the path goes into the header as it is, or
    /// into a PAX record if it is long.
    pub(crate) fn add(
        mut self,
        kind: u8,
        path: &str,
        link: &str,
        data: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Archive {
        let mut pax: Vec<(&str, &[u8])> = Vec::new();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        {
            let old = header.as_old_mut();
            match path.len() <= 100 {
                true => old.name[..path.len()].copy_from_slice(path.as_bytes()),
                false => pax.push(("path", path.as_bytes())),
            }
            match link.len() <= 100 {
                true => old.linkname[..link.len()].copy_from_slice(link.as_bytes()),
                false => pax.push(("linkpath", link.as_bytes())),
            }
        }
        change(&mut header);
        header.set_cksum();
        if !pax.is_empty() {
            self.0.append_pax_extensions(pax).unwrap();
        }
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Archive {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Archive {
        self.add(b'0', path, "", data, |_| {})
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Archive {
        self.add(b'5', path, "", b"", |h| h.set_mode(mode))
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Archive {
        self.add(b'2', path, target, b"", |_| {})
    }

    pub(crate) fn hard(self, path: &str, target: &str) -> Archive {
        self.add(b'1', path, target, b"", |_| {})
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Converts plain or compressed layers in this process.
pub(crate) fn convert(layers: &[Vec<u8>]) -> Result<tempfile::NamedTempFile, String> {
    let diff_ids = layers.iter().map(|l| Digest::of(l)).collect();
    convert_with(layers, diff_ids, Limits::default())
}

pub(crate) fn convert_with(
    layers: &[Vec<u8>],
    diff_ids: Vec<Digest>,
    limits: Limits,
) -> Result<tempfile::NamedTempFile, String> {
    let files: Vec<File> = layers
        .iter()
        .map(|bytes| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file
        })
        .collect();
    let output = tempfile::NamedTempFile::new().unwrap();
    convert::convert_here(diff_ids, limits, &files, output.as_file()).map(|()| output)
}

/// False, and a loud line, if a program isn't installed.
pub(crate) fn have(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists());
    if !found {
        eprintln!("SKIPPED: {program} isn't installed, so a part of this test did not run");
    }
    found
}

/// Panics with fsck's words if it finds anything.
pub(crate) fn fsck(image: &Path) {
    if !have("fsck.erofs") {
        return;
    }
    let out = Command::new("fsck.erofs")
        .arg("-d3")
        .arg(image)
        .output()
        .unwrap();
    let words = [out.stdout, out.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    let clean = out.status.success() && !words.contains("<E>") && words.contains("No errors found");
    assert!(clean, "fsck.erofs: {words}");
}

/// One file as somebody sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `f`, `d`, `l`, `c`, `b`, `p`.
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) rdev: u64,
    /// Of files, and the targets of symlinks.
    pub(crate) content: Vec<u8>,
    pub(crate) links: u64,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

pub(crate) type View = BTreeMap<PathBuf, Seen>;

/// Everything below a directory, itself as the empty path.
pub(crate) fn view(root: &Path) -> View {
    let mut all = View::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let full = match path.as_os_str().is_empty() {
            true => root.to_owned(),
            false => root.join(&path),
        };
        let m = fs::symlink_metadata(&full).unwrap();
        let t = m.file_type();
        let (kind, content) = match () {
            () if t.is_dir() => ('d', Vec::new()),
            () if t.is_file() => ('f', fs::read(&full).unwrap()),
            () if t.is_symlink() => {
                let target = fs::read_link(&full).unwrap();
                ('l', target.as_os_str().as_bytes().to_vec())
            }
            () if t.is_char_device() => ('c', Vec::new()),
            () if t.is_block_device() => ('b', Vec::new()),
            () => ('p', Vec::new()),
        };
        if kind == 'd' {
            for entry in fs::read_dir(&full).unwrap() {
                todo.push(path.join(entry.unwrap().file_name()));
            }
        }
        let seen = Seen {
            kind,
            mode: m.mode() & 0o7777,
            uid: m.uid(),
            gid: m.gid(),
            mtime: (m.mtime(), m.mtime_nsec()),
            rdev: m.rdev(),
            content,
            links: m.nlink(),
            xattrs: xattrs(&full),
        };
        all.insert(path, seen);
    }
    all
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let Ok(n) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return BTreeMap::new();
    };
    let names = names[..n].split(|b| *b == 0).filter(|n| !n.is_empty());
    names
        .map(|name| {
            let name = String::from_utf8(name.to_vec()).unwrap();
            let mut value = vec![0; 1 << 16];
            let n = rustix::fs::lgetxattr(path, &*name, &mut value[..]).unwrap();
            (name, value[..n].to_vec())
        })
        .collect()
}

/// An image mounted by the kernel, for as long as this lives.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`, and a loud line, where that isn't possible.
    pub(crate) fn new(image: &Path) -> Option<Mounted> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "erofs", "-o", "ro,loop"])
            .arg(image)
            .arg(dir.path());
        let out = mount.output().unwrap();
        if !out.status.success() {
            let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            assert!(
                !why.contains("wrong fs type"),
                "the kernel refuses the image: {why}"
            );
            eprintln!("SKIPPED: the kernel's own check of an image did not run: {why}");
            return None;
        }
        Some(Mounted(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process that another test is just starting may have a
        // descriptor of it for a moment.
        let mut umount = Command::new("umount");
        let _ = umount.arg("-l").arg(self.0.path()).status();
    }
}

/// What an image holds: by the kernel if possible, else by fsck's
/// extraction, which loses xattrs and link counts. The flag says which.
pub(crate) fn contents(image: &Path) -> Option<(View, bool)> {
    fsck(image);
    if let Some(mounted) = Mounted::new(image) {
        return Some((view(mounted.path()), true));
    }
    extracted(image).map(|view| (view, false))
}

/// By fsck.erofs, which must be root to give files their owners.
pub(crate) fn extracted(image: &Path) -> Option<View> {
    if !have("fsck.erofs") || !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: extraction by fsck.erofs did not run");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("x");
    let out = Command::new("fsck.erofs")
        .arg(format!("--extract={}", root.display()))
        .arg(image)
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "fsck.erofs --extract: {words}");
    Some(view(&root))
}

//! Where something is mounted in a container's root: found, or made.
//!
//! A link in the path is followed inside of the root only, one name after the
//! other, and one that leads nowhere is followed as well: what is missing is
//! made where it points. No step goes through a link of `/proc`, whose text
//! isn't where it leads; and a running container that changes a volume on the
//! way at worst misplaces the mount in the root that is being made.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// What is made if nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

impl Kind {
    /// Whatever isn't a directory is mounted like a file.
    pub(crate) fn of(fd: &OwnedFd) -> io::Result<Self> {
        let status = rustix::fs::fstat(fd)?;
        Ok(match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Self::Directory,
            _ => Self::File,
        })
    }
}

/// Opens an absolute path in the root that is `/` now.
///
/// # Errors
/// What the kernel says.
pub(crate) fn find(path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    let root = open(
        &CWD,
        Path::new("/"),
        OFlags::DIRECTORY,
        ResolveFlags::empty(),
    )?;
    find_in(&root, path, kind)
}

fn find_in(root: &OwnedFd, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
    // Without links on the way, relative to the root.
    let mut at = PathBuf::new();
    let mut links = 0;
    let mut rest = Vec::new();
    push(&mut rest, path);
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = match open_plain(root, &next, OFlags::NOFOLLOW) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let kind = if rest.is_empty() {
                    kind
                } else {
                    Kind::Directory
                };
                make(&open_plain(root, &at, OFlags::DIRECTORY)?, &name, kind)?;
                open_plain(root, &next, OFlags::NOFOLLOW)?
            }
            other => other?,
        };
        let status = rustix::fs::fstat(&found)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        let text = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
        let text = PathBuf::from(OsString::from_vec(text));
        if text.is_absolute() {
            at.clear();
        }
        push(&mut rest, &text);
    }
    open_plain(root, &at, OFlags::empty())
}

/// Puts the names of a path on a stack, the first on top.
fn push(rest: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    rest.extend(names);
}

fn open_plain(root: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    open(root, path, flags, resolve)
}

fn open(
    base: &impl std::os::fd::AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::openat2(
        base,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

/// Somebody else may have made it meanwhile.
fn make(parent: &OwnedFd, name: &OsString, kind: Kind) -> io::Result<()> {
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// Attaches a tree there.
///
/// # Errors
/// "Not a directory" for a file over a directory and the reverse, as mount(2)
/// says it, among others.
pub(crate) fn mount(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    if Kind::of(tree)? != Kind::of(target)? {
        return Err(Errno::NOTDIR.into());
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A root with links of every kind, and a directory beside it.
    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::create_dir_all(at("root/dir/below")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("root/file"), "").unwrap();
        for (link, text) in [
            ("absolute", "/dir"),
            ("up", "../../../outside"),
            ("dangling", "/run/made"),
            ("dir/back", "../dir/./below"),
            ("loop", "loop"),
            ("chain", "absolute/back"),
        ] {
            symlink(text, at("root").join(link)).unwrap();
        }
        let root = fs::File::open(at("root")).unwrap().into();
        (directory, root)
    }

    #[test]
    fn links_lead_nowhere_but_into_the_root() {
        for (path, kind, expected) in [
            ("/dir", Kind::Directory, Ok("dir")),
            ("/file", Kind::File, Ok("file")),
            ("/absolute/new", Kind::Directory, Ok("dir/new")),
            ("/up", Kind::Directory, Ok("outside")),
            ("/up/deep/er", Kind::File, Ok("outside/deep/er")),
            ("/dangling/x", Kind::Directory, Ok("run/made/x")),
            ("/dangling", Kind::File, Ok("run/made")),
            ("/chain/y", Kind::File, Ok("dir/below/y")),
            ("//dir/./below/", Kind::Directory, Ok("dir/below")),
            ("/loop", Kind::Directory, Err(Errno::LOOP)),
            ("/file/x", Kind::Directory, Err(Errno::NOTDIR)),
        ] {
            let (directory, root) = root();
            let found = find_in(&root, Path::new(path), kind);
            let found = found.map(|fd| rustix::fs::fstat(fd).unwrap());
            let found = found.map(|status| (status.st_ino, status.st_mode & 0o170_000));
            let expected = expected.map(|path| {
                let path = directory.path().join("root").join(path);
                let status = rustix::fs::stat(&path).unwrap();
                (status.st_ino, status.st_mode & 0o170_000)
            });
            let found = found.map_err(|error| error.raw_os_error());
            let expected = expected.map_err(|error| Some(error.raw_os_error()));
            assert_eq!(found, expected, "{path}");
            let outside = fs::read_dir(directory.path().join("outside")).unwrap();
            assert_eq!(outside.count(), 0, "{path}");
        }
    }
}

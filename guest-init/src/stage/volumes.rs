//! Volumes, or parts of them, as trees that a container mounts.
//!
//! A part is found as kubelet finds it (`pkg/volume/util/subpath`): links are
//! followed as long as they stay in the volume, and what is missing is made with
//! the volume's own mode. Who shares the volume may change it meanwhile; the
//! kernel holds each step inside (`RESOLVE_BENEATH`). In an image nothing can be
//! made.

use super::target::{self, Kind};
use crate::errors::{failed, invalid};
use crate::order::{Root, Start};
use guest_protocol::{Mount, Refusal, Volume, VolumeKind};
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How often a step is tried whose answer somebody's rename spoils (openat2(2),
/// `EAGAIN`).
const ATTEMPTS: usize = 64;

/// Not yet attached.
pub(super) struct Tree {
    tree: OwnedFd,
    kind: Kind,
}

/// The trees of all mounts of a container, in their order.
pub(super) fn trees(order: &Start) -> Result<Vec<Tree>, Refusal> {
    let mounts = order.container.mounts.iter().enumerate();
    let trees = mounts.map(|(index, mount)| {
        let unknown = || invalid(format!("mounts[{index}].volume: no such volume"));
        if let Some(serial) = &mount.disk {
            let image = order.images.get(serial).ok_or_else(unknown)?;
            return image_tree(index, mount, (serial, image), &order.scratch);
        }
        let mut volumes = order.pod.volumes.iter();
        let volume = volumes.find(|volume| volume.name == mount.volume);
        tree(index, mount, volume.ok_or_else(unknown)?, &order.volumes)
    });
    trees.collect()
}

fn tree(index: usize, mount: &Mount, volume: &Volume, base: &Path) -> Result<Tree, Refusal> {
    let tree = cut(index, mount, &base.join(&volume.name), part)?;
    // Nobody but the host changes a volume of files.
    if mount.read_only || volume.kind == VolumeKind::Files {
        let restricted = crate::sys::set_read_only(&tree.tree);
        restricted.map_err(failed(field(index, "volume", &mount.volume)))?;
    }
    Ok(tree)
}

/// `at` is an empty directory.
fn image_tree(
    index: usize,
    mount: &Mount,
    (serial, image): (&str, &Root),
    at: &Path,
) -> Result<Tree, Refusal> {
    super::root::mount_image(serial, image, at)?;
    let tree = cut(index, mount, at, |root, path| match path.is_empty() {
        true => Ok(root),
        false => open(&root, path),
    })?;
    let field = field(index, "volume", &mount.volume);
    unmount(at, UnmountFlags::DETACH).map_err(failed(&field))?;
    crate::sys::set_data_only(&tree.tree).map_err(failed(&field))?;
    Ok(tree)
}

fn field(index: usize, name: &str, value: &str) -> String {
    format!("mounts[{index}].{name} {value:?}")
}

/// What of the volume at `base` is mounted, found by `part`.
fn cut(
    index: usize,
    mount: &Mount,
    base: &Path,
    part: impl FnOnce(OwnedFd, &str) -> Result<OwnedFd, Errno>,
) -> Result<Tree, Refusal> {
    let volume_field = || field(index, "volume", &mount.volume);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, base, flags, Mode::empty());
    let root = root.map_err(failed(volume_field()))?;
    let part = part(root, &mount.sub_path).map_err(|error| {
        let field = field(index, "sub_path", &mount.sub_path);
        match error {
            Errno::XDEV | Errno::LOOP => invalid(format!("{field}: leads out of the volume")),
            other => failed(field)(other),
        }
    })?;
    let kind = Kind::of(&part).map_err(failed(volume_field()))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&part, "", flags).map_err(failed(volume_field()))?;
    Ok(Tree { tree, kind })
}

/// A path in the volume, made if it is missing.
fn part(root: OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let names = path.split('/');
    let names: Vec<_> = names.filter(|name| !matches!(*name, "" | ".")).collect();
    if names.is_empty() {
        return Ok(root);
    }
    match open(&root, &names.join("/")) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let status = rustix::fs::fstat(&root)?;
    let mode = Mode::from_raw_mode(status.st_mode);
    let mut parent = root.try_clone().map_err(|_| Errno::MFILE)?;
    for (index, name) in names.iter().enumerate() {
        let so_far = names.get(..=index).unwrap_or_default().join("/");
        parent = match open(&root, &so_far) {
            Err(Errno::NOENT) => make(&parent, name, mode)?,
            other => other?,
        };
    }
    Ok(parent)
}

fn open(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN)) {
            break;
        }
    }
    result
}

/// A link that leads nowhere is in the way, as upstream.
fn make(parent: impl AsFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(&parent, name, mode)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    // The umask took bits away.
    rustix::fs::fchmod(&made, mode)?;
    Ok(made)
}

/// Attaches a mount in the root that is `/` now.
pub(super) fn attach(index: usize, mount: &Mount, tree: &Tree) -> Result<(), Refusal> {
    let field = || format!("mounts[{index}].path {:?}", mount.path);
    let target = target::find(Path::new(&mount.path), tree.kind).map_err(failed(field()))?;
    let system = rustix::fs::fstatfs(&target).map_err(failed(field()))?;
    if system.f_type == PROC_SUPER_MAGIC {
        return Err(invalid(format!("{}: inside of /proc", field())));
    }
    target::mount(&tree.tree, &target).map_err(failed(field()))
}

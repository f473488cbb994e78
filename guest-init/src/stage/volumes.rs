//! Volumes, or parts of them, as trees that a container mounts.
//!
//! A part is found as kubelet finds it (`pkg/volume/util/subpath`): links are
//! followed as long as they stay in the volume, and what is missing is made with
//! the volume's own mode. Who shares the volume may change it meanwhile; the
//! kernel holds each step inside (`RESOLVE_BENEATH`).

use super::target::{self, Kind};
use crate::errors::{failed, invalid};
use crate::order::Start;
use guest_protocol::{Mount, Refusal, Volume, VolumeKind};
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
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
        let mut volumes = order.pod.volumes.iter();
        let volume = volumes.find(|volume| volume.name == mount.volume);
        let unknown = || invalid(format!("mounts[{index}].volume: no such volume"));
        tree(index, mount, volume.ok_or_else(unknown)?, &order.volumes)
    });
    trees.collect()
}

fn tree(index: usize, mount: &Mount, volume: &Volume, base: &Path) -> Result<Tree, Refusal> {
    let field = |name: &str, value: &str| format!("mounts[{index}].{name} {value:?}");
    let volume_field = || field("volume", &mount.volume);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, base.join(&volume.name), flags, Mode::empty());
    let root = root.map_err(failed(volume_field()))?;
    let part = part(root, &mount.sub_path).map_err(|error| {
        let field = field("sub_path", &mount.sub_path);
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
    // Nobody but the host changes a volume of files.
    if mount.read_only || volume.kind == VolumeKind::Files {
        crate::sys::set_read_only(&tree).map_err(failed(volume_field()))?;
    }
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

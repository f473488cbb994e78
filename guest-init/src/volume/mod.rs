//! The volumes of a pod: made when it is set up, and there until the power goes
//! off, whatever containers come and go.
//!
//! ```text
//!   RUN/volumes/NAME    a file system each; a container binds it, or a part of it
//!     Memory            a tmpfs, the containers' own
//!     Disk              ext4 on a slice of the scratch disk, the containers' own
//!     Files             a tmpfs, the host's: `projection` says what may come,
//!                       `writer` puts it there; containers only read
//! ```
//!
//! Modes and owners are kubelet's (`pkg/volume/emptydir`, `volume_linux.go`): a
//! root of 0777, and with a group for files that group's, set-group-ID, so that
//! what is made inside inherits it. Programs run from a volume, set-user-ID ones
//! too, as they do upstream. Device files don't work there: upstream's device
//! cgroup refuses nearly all of them.
//!
//! A volume that is an image is none of these: each container mounts its disk
//! anew, read-only, and it needs no other place.
//!
//! Bounds: `VOLUMES_MAX` volumes, [`MOUNTS_MAX`] mounts of a container. A volume
//! in memory without a size may grow to half of it, the kernel's own limit; one
//! on the disk ends where its slice does.

mod projection;
mod slice;
mod writer;

pub(crate) use projection::Plan;
pub(crate) use slice::layer;
pub(crate) use writer::Files;

use crate::errors::{failed, invalid};
use crate::guest::Place;
use guest_protocol::{Container, Pod, Refusal, VOLUMES_MAX, Volume, VolumeKind};
use nix::mount::{MsFlags, mount};
use rustix::mount::{UnmountFlags, unmount};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A stage holds a descriptor for each mount until it has a root.
const MOUNTS_MAX: usize = 512;
/// Linux' `PATH_MAX` and `NAME_MAX`, also upstream's bounds of a file's path.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
/// How many names a path may have: what removes a tree goes down into it.
const DEPTH_MAX: usize = 64;

/// Where the volumes of a pod are.
pub(crate) fn base(place: &Place) -> PathBuf {
    place.run.join("volumes")
}

/// What the pod says of its volumes, before anything is made.
///
/// # Errors
/// Names the field.
pub(crate) fn check(pod: &Pod) -> Result<(), Refusal> {
    let count = pod.volumes.len();
    if count > VOLUMES_MAX {
        let message = format!("volumes: {count} of them, at most {VOLUMES_MAX} are allowed");
        return Err(invalid(message));
    }
    let mut seen = BTreeMap::new();
    for (index, volume) in pod.volumes.iter().enumerate() {
        let field = format!("volumes[{index}].name {:?}", cut(&volume.name));
        if !is_label(&volume.name) {
            return Err(invalid(format!("{field}: not a DNS label")));
        }
        match seen.entry(volume.name.as_str()) {
            Entry::Vacant(place) => drop(place.insert(index)),
            Entry::Occupied(first) => {
                let message = format!("{field}: also that of volumes[{}]", first.get());
                return Err(invalid(message));
            }
        }
    }
    slice::check(pod)?;
    if pod.fs_group == Some(u32::MAX) {
        return Err(invalid(format!("fs_group {}: not a group", u32::MAX)));
    }
    Ok(())
}

/// Makes all volumes, or none.
///
/// # Errors
/// What the kernel says.
pub(crate) fn make(place: &Place, pod: &Pod) -> Result<(), Refusal> {
    if pod.volumes.is_empty() && pod.layers.is_empty() {
        return Ok(());
    }
    let base = base(place);
    fs::create_dir_all(&base).map_err(failed("volumes"))?;
    let mut volumes = pod.volumes.iter();
    let made = volumes
        .try_for_each(|volume| make_one(place, &base, volume, pod.fs_group))
        .and_then(|()| slice::make_layers(place, pod));
    made.inspect_err(|_| remove(place))
}

fn make_one(
    place: &Place,
    base: &Path,
    volume: &Volume,
    group: Option<u32>,
) -> Result<(), Refusal> {
    let what = || format!("volume {}", volume.name);
    let path = base.join(&volume.name);
    fs::create_dir(&path).map_err(failed(what()))?;
    let mut options = match group {
        Some(group) => format!("mode=2777,gid={group}"),
        None => "mode=0777".to_owned(),
    };
    let flags = match volume.kind {
        VolumeKind::Memory { size } => {
            if size > 0 {
                // To the kernel 0 is no limit, and so is what overflows.
                options += &format!(",size={}", size.min(1 << 50));
            }
            MsFlags::MS_NODEV
        }
        VolumeKind::Disk(slice) => {
            slice::make_volume(place, slice, &path).map_err(failed(what()))?;
            let mode = match group {
                Some(group) => {
                    std::os::unix::fs::chown(&path, None, Some(group)).map_err(failed(what()))?;
                    0o2777
                }
                None => 0o777,
            };
            let mode = fs::Permissions::from_mode(mode);
            return fs::set_permissions(&path, mode).map_err(failed(what()));
        }
        VolumeKind::Files => MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
    };
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &path, tmpfs, flags, Some(options.as_str())).map_err(failed(what()))
}

/// Takes all volumes away; there may be none.
pub(crate) fn remove(place: &Place) {
    for base in [base(place), slice::layers(place)] {
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let _ = unmount(entry.path(), UnmountFlags::DETACH);
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&base);
    }
}

/// The pod's volumes of files, by name.
pub(crate) fn files(place: &Place, pod: &Pod) -> BTreeMap<String, Arc<Files>> {
    let base = base(place);
    let files = pod.volumes.iter().filter(|volume| match volume.kind {
        VolumeKind::Files => true,
        VolumeKind::Memory { .. } | VolumeKind::Disk(_) => false,
    });
    let entry = |volume: &Volume| {
        let files = Files::new(base.join(&volume.name), pod.fs_group);
        (volume.name.clone(), Arc::new(files))
    };
    files.map(entry).collect()
}

/// What a container says of its mounts, before a process is made for it.
///
/// # Errors
/// Names the field.
pub(crate) fn check_mounts(pod: &Pod, container: &Container) -> Result<(), Refusal> {
    let count = container.mounts.len();
    if count > MOUNTS_MAX {
        let message = format!("mounts: {count} of them, at most {MOUNTS_MAX} are allowed");
        return Err(invalid(message));
    }
    for (index, mount) in container.mounts.iter().enumerate() {
        let field = format!("mounts[{index}]");
        let known = pod.volumes.iter().any(|volume| volume.name == mount.volume);
        if !known && mount.disk.is_none() {
            let name = cut(&mount.volume);
            return Err(invalid(format!("{field}.volume {name:?}: no such volume")));
        }
        let wrong = |name: &str, path: &str, what: &str| {
            invalid(format!("{field}.{name} {:?}: {what}", cut(path)))
        };
        let path = mount.path.as_str();
        if !path.starts_with('/') {
            return Err(wrong("path", path, "not absolute"));
        }
        check_path(path).map_err(|what| wrong("path", path, what))?;
        if Path::new(path) == Path::new("/") {
            return Err(wrong("path", path, "the root itself"));
        }
        let part = mount.sub_path.as_str();
        if part.starts_with('/') {
            return Err(wrong("sub_path", part, "not relative"));
        }
        check_path(part).map_err(|what| wrong("sub_path", part, what))?;
    }
    Ok(())
}

/// What holds for every path that the host names.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() >= PATH_MAX {
        return Err("more than 4095 bytes");
    }
    if path.contains('\0') {
        return Err("contains a zero byte");
    }
    for part in path.split('/') {
        if part == ".." {
            return Err("contains \"..\"");
        }
        if part.len() > NAME_MAX {
            return Err("a name in it has more than 255 bytes");
        }
    }
    if path.split('/').filter(|part| !part.is_empty()).count() > DEPTH_MAX {
        return Err("more than 64 names deep");
    }
    Ok(())
}

/// RFC 1123, as upstream has it.
fn is_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().next_back()];
    name.len() <= 63
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
        && ends.into_iter().all(|byte| byte.is_some_and(plain))
}

/// The start of a text that may be megabytes long, for a message.
fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(128);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Slices of the scratch disk: a partition each, mounted when the pod is set up.
//!
//! A file system of its own holds a volume or a layer to its limit whatever a
//! privileged container does, and `df` tells it. The disk has no table of
//! partitions: the host says where each slice is.

use crate::errors::{failed, invalid};
use crate::guest::Place;
use crate::order::Root;
use guest_protocol::{Pod, Refusal, SCRATCH_DISK, SLICES_MAX, Slice, VolumeKind};
use nix::mount::{MsFlags, mount};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const SECTOR: u64 = 512;
/// What is deleted in a volume is given back to the host at once; a layer is
/// deleted as a whole when its container starts anew, and used again.
const GIVE_BACK: &str = "discard";
const KEEP: &str = "nodiscard";

/// Where the containers find their layers' slices.
pub(super) fn layers(place: &Place) -> PathBuf {
    place.run.join("layers")
}

/// What a container's writable layers are made in, if that is on the disk.
pub(crate) fn layer(place: &Place, pod: &Pod, container: &str) -> Option<PathBuf> {
    let known = pod.layers.contains_key(container);
    known.then(|| layers(place).join(container))
}

/// What the pod says of slices.
///
/// # Errors
/// Names the field.
pub(super) fn check(pod: &Pod) -> Result<(), Refusal> {
    let volumes = pod.volumes.iter().filter_map(|volume| match volume.kind {
        VolumeKind::Disk(slice) => Some((format!("volume {}", volume.name), slice)),
        VolumeKind::Memory { .. } | VolumeKind::Files => None,
    });
    let layers = pod.layers.iter();
    let layers = layers.map(|(name, slice)| (format!("layer {name:?}"), *slice));
    let mut seen = BTreeSet::new();
    for (what, slice) in volumes.chain(layers) {
        let Slice {
            number,
            start,
            length,
        } = slice;
        if number == 0 || number > SLICES_MAX || !seen.insert(number) {
            return Err(invalid(format!("{what}: slice {number}")));
        }
        let whole = start % SECTOR == 0 && length % SECTOR == 0 && length > 0;
        let end = start.checked_add(length).map(i64::try_from);
        if !whole || !matches!(end, Some(Ok(_))) {
            return Err(invalid(format!("{what}: {length} bytes from {start} on")));
        }
    }
    let mut names = pod.layers.keys();
    match names.find(|name| !super::is_label(name)) {
        Some(name) => Err(invalid(format!(
            "layer {:?}: not a DNS label",
            super::cut(name)
        ))),
        None => Ok(()),
    }
}

pub(super) fn make_layers(place: &Place, pod: &Pod) -> Result<(), Refusal> {
    for (name, slice) in &pod.layers {
        let what = || format!("layer {name}");
        let path = layers(place).join(name);
        fs::create_dir_all(&path).map_err(failed(what()))?;
        mount_at(place, *slice, &path, KEEP).map_err(failed(what()))?;
    }
    Ok(())
}

/// Mounts a volume's slice.
pub(super) fn make_volume(place: &Place, slice: Slice, path: &Path) -> io::Result<()> {
    mount_at(place, slice, path, GIVE_BACK)
}

fn mount_at(place: &Place, slice: Slice, path: &Path, options: &str) -> io::Result<()> {
    let Some(Root::Disk(disk)) = place.find_disk(SCRATCH_DISK) else {
        let error = format!("disk {SCRATCH_DISK:?}: not found");
        return Err(io::Error::new(io::ErrorKind::NotFound, error));
    };
    let disk = fs::canonicalize(disk)?;
    let signed = |bytes| i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    let (start, length) = (signed(slice.start)?, signed(slice.length)?);
    match crate::sys::add_partition(File::open(&disk)?, slice.number, start, length) {
        // A set-up that failed half-way made it.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(error.into()),
    }
    let device = partition(&disk, slice.number);
    let ext4 = Some("ext4");
    let flags = MsFlags::MS_NODEV;
    Ok(mount(Some(&device), path, ext4, flags, Some(options))?)
}

/// As Linux names them: `vda1`, and `loop0p1` where a digit is last.
fn partition(disk: &Path, number: u16) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    let last = name.as_encoded_bytes().last();
    if last.is_some_and(u8::is_ascii_digit) {
        name.push("p");
    }
    name.push(number.to_string());
    PathBuf::from(name)
}

//! Scratch disks: sparse files without a name, so that one ends with the last
//! process that has it open, the vmm, whatever becomes of `node` or of the power.

use super::Shared;
use crate::pod::resources::{Size, size};
use crate::pod::scratch::{Scratch, Space};
use crate::pod::view::View;
use jiff::Timestamp;
use machine_spec::MachineId;
use rustix::fs::{Mode, OFlags, fstatfs, ftruncate, open};
use std::fs::File;
use std::io;
use std::path::Path;

/// What a volume without a limit may hold at most; the node's disk may be smaller.
const UNLIMITED: u64 = 16 << 30;
/// File systems that are memory (`TMPFS_MAGIC`, `RAMFS_MAGIC`).
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What something without a limit may hold on this node's disk, if it has one.
///
/// # Errors
/// As opening the directory.
pub(crate) fn unlimited(data: &Path) -> io::Result<Option<u64>> {
    let system = fstatfs(File::open(data)?)?;
    if MEMORY.contains(&system.f_type) {
        return Ok(None);
    }
    let block = u64::try_from(system.f_bsize).unwrap_or(0);
    Ok(Some(system.f_blocks.saturating_mul(block).min(UNLIMITED)))
}

impl Shared {
    /// What of a pod is on its scratch disk, of a machine of that size or of the
    /// next.
    pub(crate) fn scratch(&self, view: View<'_>, machine: Option<Size>) -> Scratch {
        let machine = machine.unwrap_or_else(|| size(view, self.defaults));
        let memory = u64::from(machine.memory_mib) << 20;
        let space = Space {
            unlimited: self.scratch,
            layer: memory / 2,
        };
        Scratch::plan(view, space)
    }
}

/// The file of a new disk, with an empty file system in each slice; none if the
/// pod needs none.
pub(super) fn make(data: &Path, scratch: &Scratch, id: MachineId) -> io::Result<Option<File>> {
    if scratch.length == 0 {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = open(data, flags, Mode::RUSR | Mode::WUSR)?;
    ftruncate(&file, scratch.length)?;
    let now = Timestamp::now().as_second();
    for slice in scratch.slices() {
        let mut identity = id.0;
        let [low, high] = slice.number.to_le_bytes();
        identity[14] ^= high;
        identity[15] ^= low;
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        volume::ext4::write(&file, slice.start, slice.length, identity, now)?;
    }
    Ok(Some(file.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_protocol::Slice;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn disks_have_no_name_and_take_no_space() {
        let directory = tempfile::tempdir().expect("a directory");
        let id = MachineId([7; 16]);
        let none = make(directory.path(), &Scratch::default(), id).expect("none");
        assert!(none.is_none());
        let slice = Slice {
            number: 1,
            start: 1 << 20,
            length: volume::ext4::size(1 << 30),
        };
        let scratch = Scratch {
            length: slice.start + slice.length,
            volumes: [("v".to_owned(), slice)].into(),
            ..Scratch::default()
        };
        let file = make(directory.path(), &scratch, id).expect("made");
        let metadata = file.expect("a disk").metadata().expect("metadata");
        assert_eq!(metadata.len(), scratch.length);
        assert!(metadata.blocks() * 512 < 1 << 20);
        assert_eq!(metadata.nlink(), 0);
        let mut left = std::fs::read_dir(directory.path()).expect("reads");
        assert!(left.next().is_none());
    }
}

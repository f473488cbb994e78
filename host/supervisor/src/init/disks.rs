//! Which block devices there are, and what is on them by their signatures.
//!
//! Labels are compared at the fixed offsets of each format; nothing of a disk is
//! followed or decoded here.

use super::descriptor::Locator;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What is needed to see a signature: of ISO 9660 the descriptor at 32 KiB.
const HEAD: usize = 40 << 10;
/// How much at both ends must be zero for a disk to be empty.
const EMPTY_ENDS: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockDevice {
    /// As in `/dev`.
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    Xfs,
    Ext4,
    Vfat,
    Iso9660,
}

impl FileSystem {
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Iso9660 => "iso9660",
        }
    }
}

/// All disks and partitions, in the order of their names.
pub(super) fn scan() -> Vec<BlockDevice> {
    let entries = std::fs::read_dir("/sys/class/block").into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    let virtual_ones = ["loop", "ram", "zram", "dm-", "md", "nbd", "fd"];
    names.retain(|name| !virtual_ones.iter().any(|prefix| name.starts_with(prefix)));
    names.sort();
    names.into_iter().map(|name| BlockDevice { name }).collect()
}

impl BlockDevice {
    pub(super) fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// Whether the locator means this one.
    pub(super) fn is(&self, locator: &Locator) -> bool {
        match locator {
            Locator::Memory => false,
            Locator::Device(name) => *name == self.name,
            Locator::Serial(serial) => self.serial().is_some_and(|own| own == *serial),
            Locator::Label(label) => {
                self.partition_name().is_some_and(|own| own == *label)
                    || self.file_system(label).is_some()
            }
        }
    }

    /// The file system, if it carries the label.
    pub(super) fn file_system(&self, label: &str) -> Option<FileSystem> {
        let head = self.head().ok()?;
        [
            FileSystem::Xfs,
            FileSystem::Ext4,
            FileSystem::Vfat,
            FileSystem::Iso9660,
        ]
        .into_iter()
        .find(|kind| carries(&head, *kind, Some(label)))
    }

    /// The file system, whatever its label.
    pub(super) fn any_file_system(&self) -> Option<FileSystem> {
        let head = self.head().ok()?;
        [
            FileSystem::Xfs,
            FileSystem::Ext4,
            FileSystem::Vfat,
            FileSystem::Iso9660,
        ]
        .into_iter()
        .find(|kind| carries(&head, *kind, None))
    }

    /// Whether nothing is at its beginning and its end.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        let file = File::open(self.path())?;
        let size = self.size()?;
        let tail = size.saturating_sub(EMPTY_ENDS);
        Ok(size > 0 && zeros(&file, 0, size)? && zeros(&file, tail, size)?)
    }

    fn size(&self) -> io::Result<u64> {
        let text = std::fs::read_to_string(self.sysfs().join("size"))?;
        let sectors: u64 = text.trim_end().parse().map_err(io::Error::other)?;
        Ok(sectors * 512)
    }

    fn head(&self) -> io::Result<Vec<u8>> {
        let file = File::open(self.path())?;
        let mut head = vec![0; HEAD];
        let length = file.read_at(&mut head, 0)?;
        head.truncate(length);
        Ok(head)
    }

    fn sysfs(&self) -> PathBuf {
        PathBuf::from("/sys/class/block").join(&self.name)
    }

    fn serial(&self) -> Option<String> {
        let read = |file: &str| std::fs::read_to_string(self.sysfs().join(file)).ok();
        let text = read("serial").or_else(|| read("device/serial"))?;
        Some(text.trim().to_owned())
    }

    fn partition_name(&self) -> Option<String> {
        let uevent = std::fs::read_to_string(self.sysfs().join("uevent")).ok()?;
        let name = uevent
            .lines()
            .find_map(|line| line.strip_prefix("PARTNAME="))?;
        Some(name.to_owned())
    }
}

fn zeros(file: &File, from: u64, size: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 64 << 10];
    let mut at = from;
    while at < size.min(from + EMPTY_ENDS) {
        let length = file.read_at(&mut buffer, at)?;
        if length == 0 {
            break;
        }
        if buffer.iter().take(length).any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += length as u64;
    }
    Ok(true)
}

/// Where each format keeps its magic and its label.
fn carries(head: &[u8], kind: FileSystem, label: Option<&str>) -> bool {
    let is = |at: usize, wanted: &[u8]| head.get(at..at + wanted.len()) == Some(wanted);
    let named = |at: usize, length: usize, fill: u8| {
        let Some(label) = label else { return true };
        let Some(field) = head.get(at..at + length) else {
            return false;
        };
        let mut wanted = label.as_bytes().to_vec();
        if wanted.len() > length {
            return false;
        }
        wanted.resize(length, fill);
        field == wanted
    };
    match kind {
        FileSystem::Xfs => is(0, b"XFSB") && named(108, 12, 0),
        FileSystem::Ext4 => is(1080, &[0x53, 0xef]) && named(1144, 16, 0),
        FileSystem::Vfat => {
            (is(54, b"FAT1") && named(43, 11, b' ')) || (is(82, b"FAT32") && named(71, 11, b' '))
        }
        FileSystem::Iso9660 => is(32_769, b"CD001") && named(32_808, 32, b' '),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (at, bytes) in parts {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn labels_are_found_where_each_format_keeps_them() {
        let xfs = head(&[(0, b"XFSB"), (108, b"ATOLL-STATE\0")]);
        let ext4 = head(&[(1080, &[0x53, 0xef]), (1144, b"ATOLL-CONFIG\0")]);
        let fat16 = head(&[(54, b"FAT16"), (43, b"ATOLLCONFIG")]);
        let fat32 = head(&[(82, b"FAT32"), (71, b"ATOLLCONFIG")]);
        let mut volume = b"ATOLL-CONFIG".to_vec();
        volume.resize(32, b' ');
        let iso = head(&[(32_769, b"CD001"), (32_808, &volume)]);
        for (head, kind, label, wanted) in [
            (&xfs, FileSystem::Xfs, Some("ATOLL-STATE"), true),
            (&xfs, FileSystem::Xfs, Some("ATOLL-STAT"), false),
            (&xfs, FileSystem::Xfs, None, true),
            (&xfs, FileSystem::Ext4, None, false),
            (&ext4, FileSystem::Ext4, Some("ATOLL-CONFIG"), true),
            (&fat16, FileSystem::Vfat, Some("ATOLLCONFIG"), true),
            (&fat16, FileSystem::Vfat, Some("ATOLL-CONFIG"), false),
            (&fat32, FileSystem::Vfat, Some("ATOLLCONFIG"), true),
            (&iso, FileSystem::Iso9660, Some("ATOLL-CONFIG"), true),
            (&Vec::new(), FileSystem::Xfs, None, false),
        ] {
            assert_eq!(carries(head, kind, label), wanted, "{kind:?} {label:?}");
        }
    }
}

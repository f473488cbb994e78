//! Makes an empty ext4 file system in a sparse file, for scratch space.
//!
//! Nothing but what differs from zeroes is written, three writes whatever the
//! size: the file behind it reads as zeroes, and each group between the first
//! and the last is marked as not begun yet, which is what makes it cheap enough
//! for a pod's start. The kernel's documentation of ext4 has the structures (`ext4/globals`);
//! `e2fsck` is the oracle.
//!
//! ```text
//!   group 0:   superblock | descriptors | bitmaps | inodes | root's block | ...
//!   others:    bitmaps | inodes | ...
//! ```
//!
//! It has no journal: scratch space ends with the machine that uses it. No
//! backup of the superblock, no `lost+found` (an empty volume is empty), no block
//! kept for root. The size is what the descriptors of group 0 leave room for and
//! 32 bits of block numbers can tell; [`USABLE_MAX`] keeps far below.

use rustix::fd::AsFd;
use std::io;

const BLOCK: u64 = 4096;
const GROUP_BLOCKS: u64 = 32768;
const GROUP_INODES: u64 = 8192;
const INODE: u64 = 256;
const TABLE_BLOCKS: u64 = GROUP_INODES * INODE / BLOCK;
const DESCRIPTOR: u64 = 32;
/// A last group that is smaller has no use beside its own tables.
const GROUP_MIN: u64 = TABLE_BLOCKS + 8;
const ROOT: usize = 2;
/// The inodes below are the file system's own.
const FIRST_INODE: u64 = 11;

/// What keeps a guest's memory for the descriptors of groups below 2 MiB.
pub const USABLE_MAX: u64 = 1 << 40;

/// Extended attributes, indexed directories, backups as listed (nowhere).
const COMPATIBLE: u32 = 0x8 | 0x20 | 0x200;
/// File types in directories, extents.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// Large and huge files, checksums of descriptors, many subdirectories, inodes
/// with more than 128 bytes.
const READ_ONLY_COMPATIBLE: u32 = 0x2 | 0x8 | 0x10 | 0x20 | 0x40;

/// Flags of a group: its inodes, its blocks not begun; its inodes zeroed.
const NO_INODES: u16 = 0x1;
const NO_BLOCKS: u16 = 0x2;
const ZEROED: u16 = 0x4;

/// Sizes of one file system, all in blocks unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    total: u64,
    groups: u64,
    descriptors: u64,
}

/// The bytes of the file system in which files of `usable` bytes fit, and no
/// more than a group's rounding beyond; `usable` counts up to [`USABLE_MAX`].
#[must_use]
pub fn size(usable: u64) -> u64 {
    let wanted = usable.clamp(BLOCK, USABLE_MAX).div_ceil(BLOCK);
    let mut total = wanted + GROUP_MIN;
    loop {
        let plan = Plan::new(total);
        let free = plan.total.saturating_sub(plan.used() + plan.kept());
        if free >= wanted {
            return plan.total * BLOCK;
        }
        total = plan.total + (wanted - free);
    }
}

/// Writes an empty file system of `bytes` bytes, as [`size`] gave them, at
/// `offset` of a file that reads as zeroes there. `identity` becomes its UUID and
/// the seed of its directories' hashes; `now` is in seconds since the epoch.
///
/// # Errors
/// As writing to a file.
pub fn write(
    file: impl AsFd,
    offset: u64,
    bytes: u64,
    identity: [u8; 16],
    now: u32,
) -> io::Result<()> {
    let plan = Plan::new(bytes / BLOCK);
    let head = plan.head(identity, now);
    write_at(&file, offset, &head)?;
    write_at(&file, offset + plan.root_block() * BLOCK, &root_directory())?;
    match plan.groups - 1 {
        0 => Ok(()),
        last => {
            let at = offset + last * GROUP_BLOCKS * BLOCK;
            write_at(&file, at, &plan.last_bitmap())
        }
    }
}

fn write_at(file: impl AsFd, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(&file, bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or_default();
        offset += written as u64;
    }
    Ok(())
}

impl Plan {
    fn new(total: u64) -> Self {
        let rest = total % GROUP_BLOCKS;
        let total = if rest > 0 && rest < GROUP_MIN {
            total + GROUP_MIN - rest
        } else {
            total
        };
        let groups = total.div_ceil(GROUP_BLOCKS);
        Self {
            total,
            groups,
            descriptors: (groups * DESCRIPTOR).div_ceil(BLOCK),
        }
    }

    fn used(self) -> u64 {
        let own = 2 + TABLE_BLOCKS;
        1 + self.descriptors + self.groups * own + 1
    }

    /// What Linux keeps for itself (`ext4_set_resv_clusters`).
    fn kept(self) -> u64 {
        (self.total / 50).min(4096)
    }

    fn root_block(self) -> u64 {
        1 + self.descriptors + 2 + TABLE_BLOCKS
    }

    /// Everything but the root's block: up to the first inodes.
    fn head(self, identity: [u8; 16], now: u32) -> Vec<u8> {
        let mut head = Image(vec![0; block(1 + self.descriptors + 3)]);
        self.superblock(&mut head, identity, now);
        for group in 0..self.groups {
            self.descriptor(&mut head, group, identity);
        }
        let bitmap = block(1 + self.descriptors);
        let first = self.total.min(GROUP_BLOCKS);
        head.bits(bitmap, 0, self.root_block() + 1);
        head.bits(bitmap, first, BLOCK * 8);
        head.bits(bitmap + block(1), 0, FIRST_INODE - 1);
        head.bits(bitmap + block(1), GROUP_INODES, BLOCK * 8);
        let root = bitmap + block(2) + (ROOT - 1) * 256;
        self.root_inode(&mut head, root, now);
        head.0
    }

    fn last_bitmap(self) -> Vec<u8> {
        let mut bitmap = Image(vec![0; block(1)]);
        bitmap.bits(0, 0, 2 + TABLE_BLOCKS);
        let start = (self.groups - 1) * GROUP_BLOCKS;
        bitmap.bits(0, self.total - start, BLOCK * 8);
        bitmap.0
    }

    fn superblock(self, head: &mut Image, identity: [u8; 16], now: u32) {
        let at = |field: usize| 1024 + field;
        let inodes = self.groups * GROUP_INODES;
        head.u32(at(0x00), inodes);
        head.u32(at(0x04), self.total);
        head.u32(at(0x0C), self.total - self.used());
        head.u32(at(0x10), inodes - (FIRST_INODE - 1));
        // The logarithms of block and cluster, less ten.
        head.u32(at(0x18), 2);
        head.u32(at(0x1C), 2);
        head.u32(at(0x20), GROUP_BLOCKS);
        head.u32(at(0x24), GROUP_BLOCKS);
        head.u32(at(0x28), GROUP_INODES);
        head.u32(at(0x30), u64::from(now));
        head.u16(at(0x36), u16::MAX);
        head.u16(at(0x38), 0xEF53);
        // Clean; go on after errors.
        head.u16(at(0x3A), 1);
        head.u16(at(0x3C), 1);
        head.u32(at(0x40), u64::from(now));
        // The revision with features.
        head.u32(at(0x4C), 1);
        head.u32(at(0x54), FIRST_INODE);
        head.u16(at(0x58), 256);
        head.u32(at(0x5C), u64::from(COMPATIBLE));
        head.u32(at(0x60), u64::from(INCOMPATIBLE));
        head.u32(at(0x64), u64::from(READ_ONLY_COMPATIBLE));
        head.put(at(0x68), &identity);
        head.put(at(0xEC), &identity);
        // Half MD4, of signed characters (below).
        head.put(at(0xFC), &[1]);
        // Mounted with user attributes and access lists.
        head.u32(at(0x100), 0xC);
        head.u32(at(0x108), u64::from(now));
        head.u16(at(0x15C), 32);
        head.u16(at(0x15E), 32);
        head.u32(at(0x160), 1);
    }

    fn descriptor(self, head: &mut Image, group: u64, identity: [u8; 16]) {
        let start = group * GROUP_BLOCKS;
        let (tables, used) = match group {
            0 => (1 + self.descriptors, self.root_block() + 1),
            _ => (start, 2 + TABLE_BLOCKS),
        };
        let blocks = (self.total - start).min(GROUP_BLOCKS);
        let (own_inodes, flags) = match group {
            0 => (FIRST_INODE - 1, ZEROED),
            // Its bitmap has to tell where it ends.
            last if last == self.groups - 1 => (0, ZEROED | NO_INODES),
            _ => (0, ZEROED | NO_INODES | NO_BLOCKS),
        };
        let at = block(1) + usize::try_from(group * DESCRIPTOR).unwrap_or(0);
        head.u32(at, tables);
        head.u32(at + 4, tables + 1);
        head.u32(at + 8, tables + 2);
        head.u16(at + 12, narrow(blocks - used));
        head.u16(at + 14, narrow(GROUP_INODES - own_inodes));
        head.u16(at + 16, u16::from(group == 0));
        head.u16(at + 18, flags);
        head.u16(at + 28, narrow(GROUP_INODES - own_inodes));
        let crc = crc16(u16::MAX, &identity);
        let crc = crc16(crc, &low(group).to_le_bytes());
        let crc = crc16(crc, head.0.get(at..at + 30).unwrap_or_default());
        head.u16(at + 30, crc);
    }

    fn root_inode(self, head: &mut Image, at: usize, now: u32) {
        // A directory that everybody may use; whoever mounts it says more.
        head.u16(at, 0o040_777);
        head.u32(at + 0x04, BLOCK);
        for time in [0x08, 0x0C, 0x10, 0x90] {
            head.u32(at + time, u64::from(now));
        }
        head.u16(at + 0x1A, 2);
        // In sectors.
        head.u32(at + 0x1C, BLOCK / 512);
        // By extents: a header for at most four, of which there is one.
        head.u32(at + 0x20, 0x8_0000);
        head.u16(at + 0x28, 0xF30A);
        head.u16(at + 0x2A, 1);
        head.u16(at + 0x2C, 4);
        head.u16(at + 0x38, 1);
        head.u32(at + 0x3C, self.root_block());
        head.u16(at + 0x80, 32);
    }
}

/// `.` and `..`, which are the same.
fn root_directory() -> Vec<u8> {
    let mut bytes = Image(vec![0; block(1)]);
    for (at, length, name) in [(0, 12_u16, "."), (12, 4084, "..")] {
        bytes.u32(at, ROOT as u64);
        bytes.u16(at + 4, length);
        bytes.put(at + 6, &[name.len() as u8, 2]);
        bytes.put(at + 8, name.as_bytes());
    }
    bytes.0
}

/// Bytes with fields in them; little-endian.
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        // Each offset is this module's own.
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u64) {
        self.put(at, &low(value).to_le_bytes());
    }

    /// Sets bits of a bitmap that begins at `at`.
    fn bits(&mut self, at: usize, from: u64, to: u64) {
        for bit in from..to {
            let index = usize::try_from(bit / 8).unwrap_or(usize::MAX);
            if let Some(byte) = self.0.get_mut(at.saturating_add(index)) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
}

/// Of a number that [`USABLE_MAX`] keeps within 32 bits.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Of a count within one group.
fn narrow(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// So many blocks in bytes.
fn block(count: u64) -> usize {
    usize::try_from(count * BLOCK).unwrap_or(usize::MAX)
}

/// CRC-16 with the polynomial 0x8005, reflected, as descriptors have it.
fn crc16(mut crc: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xA001;
            }
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::process::Command;

    const MIB: u64 = 1 << 20;

    /// Debian keeps it where users don't look.
    fn tool(name: &str) -> Option<String> {
        let places = ["/usr/sbin", "/sbin", "/usr/bin"];
        let mut paths = places.iter().map(|place| format!("{place}/{name}"));
        paths.find(|path| std::path::Path::new(path).exists())
    }

    #[test]
    fn a_known_checksum() {
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }

    #[test]
    fn what_is_asked_for_fits() {
        for usable in [
            0,
            1,
            MIB,
            100 * MIB,
            128 * MIB,
            129 * MIB,
            5 << 30,
            u64::MAX,
        ] {
            let bytes = size(usable);
            let plan = Plan::new(bytes / BLOCK);
            assert_eq!(plan.total * BLOCK, bytes, "{usable}");
            let free = (plan.total - plan.used() - plan.kept()) * BLOCK;
            let wanted = usable.min(USABLE_MAX);
            assert!(free >= wanted, "{usable}: {free}");
            assert!(free - wanted < GROUP_MIN * BLOCK, "{usable}: {free}");
        }
    }

    #[test]
    fn the_oracle_finds_no_fault() {
        let Some(fsck) = tool("e2fsck") else {
            eprintln!("SKIPPED, NOTHING WAS TESTED: e2fsck is missing");
            return;
        };
        for usable in [1, MIB, 124 * MIB, 127 * MIB, 128 * MIB, 1 << 30, 200 << 30] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let bytes = size(usable);
            file.as_file().set_len(bytes).unwrap();
            write(file.as_file(), 0, bytes, [7; 16], 1_700_000_000).unwrap();
            let output = Command::new(&fsck)
                .args(["-f", "-n"])
                .arg(file.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{usable}: {said}");
            use std::os::unix::fs::MetadataExt;
            let taken = file.as_file().metadata().unwrap().blocks() * 512;
            assert!(taken < MIB, "{usable}: {taken}");
        }
    }
}

//! The superblock and its checksum.

use super::BLOCK;

pub(super) const OFFSET: u64 = 1024;
const MAGIC: u32 = 0xE0F5_E1E2;
/// `SB_CHKSUM`, `MTIME`.
const COMPATIBLE: u32 = 1 | 2;
/// `CHUNKED_FILE`.
const CHUNKED: u32 = 4;

/// What differs between images.
pub(super) struct Superblock {
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
    pub(super) has_chunks: bool,
}

impl Superblock {
    /// From `OFFSET` to the end of its block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(128);
        b.extend_from_slice(&MAGIC.to_le_bytes());
        b.extend_from_slice(&[0; 4]);
        b.extend_from_slice(&COMPATIBLE.to_le_bytes());
        // The block size's exponent; no extension slots.
        b.extend_from_slice(&[12, 0]);
        b.extend_from_slice(&self.root_nid.to_le_bytes());
        b.extend_from_slice(&self.inodes.to_le_bytes());
        // Times of compact inodes: none are written.
        b.extend_from_slice(&[0; 12]);
        b.extend_from_slice(&self.blocks.to_le_bytes());
        // Inodes count from block 0; there are no shared xattrs.
        b.extend_from_slice(&[0; 8]);
        b.extend_from_slice(&self.uuid);
        // The volume's name.
        b.extend_from_slice(&[0; 16]);
        let incompatible = if self.has_chunks { CHUNKED } else { 0 };
        b.extend_from_slice(&incompatible.to_le_bytes());
        b.resize((BLOCK - OFFSET) as usize, 0);
        let checksum = crc32c(&b);
        b[4..8].copy_from_slice(&checksum.to_le_bytes());
        b
    }
}

/// Castagnoli, as the kernel computes it: from all ones, not inverted after.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720, B.4, before the final inversion.
        assert_eq!(!crc32c(&[0; 32]), 0x8A91_36AA);
    }
}

//! A disk (virtio 1.3, 5.2): one queue, one request at a time.
//!
//! A request of the guest becomes a checked `Request`, then a status; a chain
//! that was taken can't get lost, because `Ring::serve` wants its answer.

mod request;
mod worker;

pub use request::{Refusal, Request};
pub use worker::{Group, Join};

use crate::{Kind, Model, feature};
use volume::{Access, Volume};

const QUEUE_SIZE: u16 = 128;
/// Segments of data in one request: the queue, less header and status.
const SEGMENTS: u32 = 126;
/// The most sectors of one discard or one writing of zeroes: 1 GiB.
pub(crate) const ZERO_SECTORS_MAX: u32 = 1 << 21;

const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const BLOCK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

#[must_use]
pub fn model(volume: &Volume) -> Model {
    let writable = match volume.access() {
        Access::ReadOnly => READ_ONLY,
        Access::ReadWrite => FLUSH | DISCARD | WRITE_ZEROES,
        // Without FLUSH a driver takes each write as done, and never waits.
        Access::Volatile => DISCARD | WRITE_ZEROES,
    };
    Model {
        kind: Kind::Block,
        features: feature::COMMON | SEG_MAX | BLOCK_SIZE | writable,
        queue_sizes: vec![QUEUE_SIZE],
        config: config(volume),
    }
}

/// `struct virtio_blk_config` (5.2.4).
fn config(volume: &Volume) -> Vec<u8> {
    let mut config = vec![0; 60];
    let mut put = |offset: usize, bytes: &[u8]| {
        config[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &volume.sectors().to_le_bytes());
    put(12, &SEGMENTS.to_le_bytes());
    put(20, &512_u32.to_le_bytes());
    if volume.access() != Access::ReadOnly {
        put(36, &ZERO_SECTORS_MAX.to_le_bytes());
        put(40, &1_u32.to_le_bytes());
        // Discards in blocks of 4 KiB, those of the file systems below.
        put(44, &8_u32.to_le_bytes());
        put(48, &ZERO_SECTORS_MAX.to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        put(56, &[1]);
    }
    config
}

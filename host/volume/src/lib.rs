//! Disks as files: reads, writes, flush and discard of whole sectors.
//!
//! Owns the arithmetic between sectors and the file and refuses whatever lies
//! outside of the disk or writes to one that is read-only. Synchronous; nothing
//! here knows virtio. `ext4` makes the file systems of scratch disks.

pub mod ext4;
#[cfg(test)]
mod tests;

use rustix::fd::OwnedFd;
use rustix::fs::FallocateFlags;
use std::io;
use sys::vectored;
use vm_memory::VolatileSlice;

/// The unit of addresses and lengths.
pub const SECTOR: u64 = 512;

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("sectors {first}+{count}: the disk has {sectors}")]
    OutOfRange {
        first: u64,
        count: u64,
        sectors: u64,
    },
    #[error("{0} bytes are no whole sectors")]
    Fraction(u64),
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("{operation}")]
    Io {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// Written, and never made durable: it ends with its machine.
    Volatile,
}

/// An open disk. Its size is the file's at the time of `new`.
#[derive(Debug)]
pub struct Volume {
    file: OwnedFd,
    sectors: u64,
    access: Access,
}

impl Volume {
    /// Takes a regular file or a block device; a last fraction of a sector is
    /// not part of the disk.
    ///
    /// # Errors
    /// `Io` if the size can't be told.
    pub fn new(file: OwnedFd, access: Access) -> Result<Self, VolumeError> {
        let bytes = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))
            .map_err(|errno| failed("seek to the end", errno.into()))?;
        Ok(Self {
            file,
            sectors: bytes / SECTOR,
            access,
        })
    }

    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Fills the slices from sector `first` on.
    ///
    /// # Errors
    /// Any of `VolumeError`; the slices are undefined then.
    pub fn read(&self, first: u64, slices: &[VolatileSlice<'_>]) -> Result<(), VolumeError> {
        let offset = self.extent(first, bytes_of(slices))?;
        transfer("read", offset, slices, |offset, slices| {
            vectored::read_at(&self.file, offset, slices)
        })
    }

    /// Writes the slices from sector `first` on; durable after `flush`.
    ///
    /// # Errors
    /// Any of `VolumeError`; the sectors are undefined after `Io`.
    pub fn write(&self, first: u64, slices: &[VolatileSlice<'_>]) -> Result<(), VolumeError> {
        self.writable()?;
        let offset = self.extent(first, bytes_of(slices))?;
        transfer("write", offset, slices, |offset, slices| {
            vectored::write_at(&self.file, offset, slices)
        })
    }

    /// Makes every finished write durable.
    ///
    /// # Errors
    /// `Io`.
    pub fn flush(&self) -> Result<(), VolumeError> {
        match self.access {
            Access::ReadOnly | Access::Volatile => Ok(()),
            Access::ReadWrite => {
                rustix::fs::fdatasync(&self.file).map_err(|errno| failed("flush", errno.into()))
            }
        }
    }

    /// Gives the space of the sectors back; they read as zeroes afterwards.
    ///
    /// # Errors
    /// Any of `VolumeError`.
    pub fn discard(&self, first: u64, count: u64) -> Result<(), VolumeError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        self.allocate("discard", first, count, flags)
    }

    /// Zeroes the sectors and keeps their space.
    ///
    /// # Errors
    /// Any of `VolumeError`.
    pub fn write_zeroes(&self, first: u64, count: u64) -> Result<(), VolumeError> {
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        self.allocate("write zeroes", first, count, flags)
    }

    fn allocate(
        &self,
        operation: &'static str,
        first: u64,
        count: u64,
        flags: FallocateFlags,
    ) -> Result<(), VolumeError> {
        self.writable()?;
        let length = count.saturating_mul(SECTOR);
        let offset = self.extent(first, length)?;
        if length == 0 {
            return Ok(());
        }
        rustix::fs::fallocate(&self.file, flags, offset, length)
            .map_err(|errno| failed(operation, errno.into()))
    }

    fn writable(&self) -> Result<(), VolumeError> {
        match self.access {
            Access::ReadOnly => Err(VolumeError::ReadOnly),
            Access::ReadWrite | Access::Volatile => Ok(()),
        }
    }

    /// The byte offset of an extent that lies within the disk.
    fn extent(&self, first: u64, bytes: u64) -> Result<u64, VolumeError> {
        if !bytes.is_multiple_of(SECTOR) {
            return Err(VolumeError::Fraction(bytes));
        }
        let count = bytes / SECTOR;
        let end = first.checked_add(count);
        if end.is_some_and(|end| end <= self.sectors) {
            // No overflow: `sectors` came from a size in bytes.
            return Ok(first * SECTOR);
        }
        Err(VolumeError::OutOfRange {
            first,
            count,
            sectors: self.sectors,
        })
    }
}

fn bytes_of(slices: &[VolatileSlice<'_>]) -> u64 {
    slices
        .iter()
        .fold(0_u64, |sum, slice| sum.saturating_add(slice.len() as u64))
}

/// Calls `step` until every byte is moved; a step may move some of them only.
fn transfer(
    operation: &'static str,
    mut offset: u64,
    slices: &[VolatileSlice<'_>],
    step: impl Fn(u64, &[VolatileSlice<'_>]) -> io::Result<usize>,
) -> Result<(), VolumeError> {
    let mut rest: Vec<VolatileSlice<'_>> = slices.to_vec();
    while !rest.is_empty() {
        let window = rest.get(..vectored::SLICES_MAX).unwrap_or(&rest);
        let mut moved = step(offset, window).map_err(|source| failed(operation, source))?;
        if moved == 0 && window.iter().any(|slice| !slice.is_empty()) {
            return Err(failed(operation, io::ErrorKind::UnexpectedEof.into()));
        }
        offset = offset.saturating_add(moved as u64);
        while let Some(first) = rest.first().copied() {
            if first.len() > moved {
                if moved > 0 {
                    let tail = first.offset(moved);
                    rest[0] = tail.map_err(|error| failed(operation, io::Error::other(error)))?;
                }
                break;
            }
            moved -= first.len();
            rest.remove(0);
        }
    }
    Ok(())
}

const fn failed(operation: &'static str, source: io::Error) -> VolumeError {
    VolumeError::Io { operation, source }
}

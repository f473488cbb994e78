//! Reads and writes between descriptors and guest memory, without a copy.
//!
//! The kernel checks addresses itself and gives EFAULT; slices keep the mapping
//! alive, so memory of this process that is not the guest's is never touched.

use nix::libc::{c_int, iovec, off64_t};
use rustix::fd::{AsFd, AsRawFd};
use std::io;
use vm_memory::VolatileSlice;

/// The most slices of one call (IOV_MAX).
pub const SLICES_MAX: usize = 1024;

/// Reads at `offset` into the slices, in order; gives the bytes read.
///
/// # Errors
/// As `preadv2(2)`, except EINTR; EINVAL for more than `SLICES_MAX` slices.
pub fn read_at(file: impl AsFd, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let (vector, count, offset) = prepare(slices, Some(offset))?;
    let fd = file.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: `vector` has `count` entries, each a part of a live mapping.
        unsafe { nix::libc::preadv2(fd, vector.as_ptr(), count, offset, 0) }
    })
}

/// Writes the slices, in order, at `offset`; gives the bytes written.
///
/// # Errors
/// As `pwritev2(2)`, except EINTR; EINVAL for more than `SLICES_MAX` slices.
pub fn write_at(file: impl AsFd, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let (vector, count, offset) = prepare(slices, Some(offset))?;
    let fd = file.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: `vector` has `count` entries, each a part of a live mapping.
        unsafe { nix::libc::pwritev2(fd, vector.as_ptr(), count, offset, 0) }
    })
}

/// Reads from a stream into the slices; gives the bytes read.
///
/// # Errors
/// As `readv(2)`, except EINTR.
pub fn read(stream: impl AsFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let (vector, count, _) = prepare(slices, None)?;
    let fd = stream.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: `vector` has `count` entries, each a part of a live mapping.
        unsafe { nix::libc::readv(fd, vector.as_ptr(), count) }
    })
}

/// Writes the slices to a stream; gives the bytes written.
///
/// # Errors
/// As `writev(2)`, except EINTR.
pub fn write(stream: impl AsFd, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let (vector, count, _) = prepare(slices, None)?;
    let fd = stream.as_fd().as_raw_fd();
    retry(|| {
        // SAFETY: `vector` has `count` entries, each a part of a live mapping.
        unsafe { nix::libc::writev(fd, vector.as_ptr(), count) }
    })
}

fn prepare(
    slices: &[VolatileSlice<'_>],
    offset: Option<u64>,
) -> io::Result<(Vec<iovec>, c_int, off64_t)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    if slices.len() > SLICES_MAX {
        return Err(invalid());
    }
    let vector: Vec<iovec> = slices
        .iter()
        .map(|slice| iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        })
        .collect();
    let count = c_int::try_from(vector.len()).map_err(|_| invalid())?;
    let offset = off64_t::try_from(offset.unwrap_or(0)).map_err(|_| invalid())?;
    Ok((vector, count, offset))
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(bytes) = usize::try_from(call()) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

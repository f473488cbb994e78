//! Guest memory: anonymous for a cold start, a private mapping for a clone.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestRegionMmap, MmapRegion, VolatileMemory,
};

/// The memory of one guest. Clones share the mappings.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// One range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub length: usize,
}

/// Where the pages come from.
#[derive(Debug)]
pub enum Source {
    /// Zeroed pages; large ones where the range allows, if `huge`.
    Anonymous { huge: bool },
    /// The ranges one after the other in a file, copied when written to.
    PrivateFile(File),
}

/// Maps the ranges, in ascending order, not overlapping.
///
/// # Errors
/// As `mmap(2)`; EINVAL for ranges that overlap or a file that is too short.
pub fn map(ranges: &[Range], source: Source) -> io::Result<GuestMemory> {
    let (file, huge) = match source {
        Source::Anonymous { huge } => (None, huge),
        Source::PrivateFile(file) => (Some(Arc::new(file)), false),
    };
    let mut regions = Vec::with_capacity(ranges.len());
    let mut offset = 0_u64;
    for range in ranges {
        let flags = nix::libc::MAP_PRIVATE | nix::libc::MAP_NORESERVE;
        let mut builder = MmapRegionBuilder::new(range.length)
            .with_mmap_prot(nix::libc::PROT_READ | nix::libc::PROT_WRITE);
        builder = match &file {
            None => builder.with_mmap_flags(flags | nix::libc::MAP_ANONYMOUS),
            Some(file) => builder
                .with_mmap_flags(flags)
                .with_file_offset(FileOffset::from_arc(Arc::clone(file), offset)),
        };
        let region = builder.build().map_err(io::Error::other)?;
        if huge {
            advise_huge(&region, range.start)?;
        }
        offset = offset.saturating_add(range.length as u64);
        let region = GuestRegionMmap::new(region, GuestAddress(range.start))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        regions.push(region);
    }
    GuestMemory::from_regions(regions).map_err(io::Error::other)
}

/// Advises huge pages from the second 2 MiB of guest memory on: the first ones
/// are written piecemeal before the guest runs, and zeroing a huge page for that
/// would double the time of a start. A host without huge pages gives small ones.
fn advise_huge(region: &MmapRegion<()>, start: u64) -> io::Result<()> {
    const HUGE: usize = 2 << 20;
    let skip = if start == 0 { HUGE } else { 0 };
    let Some(length) = region.size().checked_sub(skip) else {
        return Ok(());
    };
    let rest = region
        .get_slice(skip, length)
        .map_err(io::Error::other)?
        .ptr_guard_mut()
        .as_ptr();
    // SAFETY: the range is a part of one live mapping, and the advice changes
    // no content.
    let _ = unsafe { nix::libc::madvise(rest.cast(), length, nix::libc::MADV_HUGEPAGE) };
    Ok(())
}

/// Puts a part of a file into guest memory without reading it: its pages come
/// with the first touch, shared with whoever else has them, and are copied when
/// written to. Whoever gives the file must never truncate it: a page that is
/// gone ends the process (SIGBUS).
///
/// # Errors
/// EINVAL unless everything is whole pages, within one range of memory and
/// within the file; else as `mmap(2)`.
pub fn overlay(
    memory: &GuestMemory,
    start: GuestAddress,
    file: &File,
    offset: u64,
    length: usize,
) -> io::Result<()> {
    const PAGE: u64 = 4096;
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let bytes = length as u64;
    let whole = [start.0, offset, bytes]
        .iter()
        .all(|value| value.is_multiple_of(PAGE));
    // The last page may be cut by the end of the file: it is zero from there.
    let end = offset.checked_add(bytes).ok_or_else(invalid)?;
    let within = end <= file.metadata()?.len().next_multiple_of(PAGE);
    let slice = memory.get_slice(start, length).map_err(io::Error::other)?;
    if !whole || !within || length == 0 {
        return Err(invalid());
    }
    let position = i64::try_from(offset).map_err(|_| invalid())?;
    // SAFETY: the slice was checked to be a part of one live mapping of guest
    // memory, which nothing but volatile accesses refer to; it stays mapped
    // readable and writable, and is unmapped with the rest of it.
    let mapped = unsafe {
        nix::libc::mmap(
            slice.ptr_guard_mut().as_ptr().cast(),
            length,
            nix::libc::PROT_READ | nix::libc::PROT_WRITE,
            nix::libc::MAP_PRIVATE | nix::libc::MAP_FIXED | nix::libc::MAP_NORESERVE,
            file.as_raw_fd(),
            position,
        )
    };
    if mapped == nix::libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

//! Guest memory: anonymous for a cold start, a private mapping for a clone.

use std::fs::File;
use std::io;
use std::sync::Arc;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap};

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
            advise_huge(region.as_ptr(), region.size());
        }
        offset = offset.saturating_add(range.length as u64);
        let region = GuestRegionMmap::new(region, GuestAddress(range.start))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        regions.push(region);
    }
    GuestMemory::from_regions(regions).map_err(io::Error::other)
}

/// A host without huge pages gives small ones: nothing fails for that.
fn advise_huge(start: *mut u8, length: usize) {
    // SAFETY: the range is one live mapping, and the advice changes no content.
    let _ = unsafe { nix::libc::madvise(start.cast(), length, nix::libc::MADV_HUGEPAGE) };
}

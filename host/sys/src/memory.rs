//! Guest memory: anonymous for a cold start, a private mapping for a clone.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestRegionMmap};

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
    /// Zeroed pages.
    Anonymous,
    /// The ranges one after the other in a file, copied when written to.
    PrivateFile(File),
}

/// Maps the ranges, in ascending order, not overlapping.
///
/// # Errors
/// As `mmap(2)`; EINVAL for ranges that overlap or a file that is too short.
pub fn map(ranges: &[Range], source: Source) -> io::Result<GuestMemory> {
    let file = match source {
        Source::Anonymous => None,
        Source::PrivateFile(file) => Some(Arc::new(file)),
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
        offset = offset.saturating_add(range.length as u64);
        let region = GuestRegionMmap::new(region, GuestAddress(range.start))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        regions.push(region);
    }
    GuestMemory::from_regions(regions).map_err(io::Error::other)
}

/// Asks for huge pages in a part of anonymous memory, which must lie within one
/// range and start at a multiple of the host's pages. A host without huge pages
/// gives small ones.
///
/// # Errors
/// EINVAL if it lies elsewhere.
pub fn advise_huge(memory: &GuestMemory, start: GuestAddress, length: usize) -> io::Result<()> {
    let part = memory.get_slice(start, length).map_err(io::Error::other)?;
    let first = part.ptr_guard_mut().as_ptr();
    // SAFETY: the part lies in one live mapping, and the advice changes no
    // content.
    let _ = unsafe { nix::libc::madvise(first.cast(), length, nix::libc::MADV_HUGEPAGE) };
    Ok(())
}

/// Copies a part of a file into guest memory that is zero so far; pages of
/// zeroes are left alone. Copied, not mapped: a kernel patches nearly each page
/// of its text, so that mapped ones cost three faults each and are copied all
/// the same, while the anonymous memory beneath has huge pages.
///
/// The file is read through a mapping: whoever gives it must not truncate it
/// meanwhile, or the process ends (SIGBUS).
///
/// # Errors
/// EINVAL unless the part lies within the file and within one range of memory;
/// else as `mmap(2)`.
pub fn copy_file(
    memory: &GuestMemory,
    start: GuestAddress,
    file: &File,
    offset: u64,
    length: usize,
) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let view = FileView::map(file, offset, length)?;
    let target = memory.get_slice(start, length).map_err(io::Error::other)?;
    for (start, page) in (0..).step_by(PAGE).zip(view.bytes().chunks(PAGE)) {
        if ZEROES.get(..page.len()) == Some(page) {
            continue;
        }
        for (position, piece) in (start..).step_by(PIECE).zip(page.chunks(PIECE)) {
            target
                .write_slice(piece, position)
                .map_err(io::Error::other)?;
        }
    }
    Ok(())
}

const PAGE: usize = 4096;
/// libc copies what is longer by a string instruction, which is slow to start
/// and not faster, and which an instruction count counts by the byte.
const PIECE: usize = 1024;
static ZEROES: [u8; PAGE] = [0; PAGE];

/// A read-only mapping of whole pages, of which a part was asked for.
struct FileView {
    mapping: NonNull<nix::libc::c_void>,
    mapped: usize,
    skip: usize,
}

impl FileView {
    fn map(file: &File, offset: u64, length: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let end = offset.checked_add(length as u64).ok_or_else(invalid)?;
        if length == 0 || end > file.metadata()?.len() {
            return Err(invalid());
        }
        // Less than a page, so it fits.
        let skip = (offset % PAGE as u64) as usize;
        let mapped = length.checked_add(skip).ok_or_else(invalid)?;
        let first = i64::try_from(offset - skip as u64).map_err(|_| invalid())?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapping = unsafe {
            nix::libc::mmap(
                std::ptr::null_mut(),
                mapped,
                nix::libc::PROT_READ,
                nix::libc::MAP_PRIVATE,
                file.as_raw_fd(),
                first,
            )
        };
        if mapping == nix::libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(mapping).ok_or_else(invalid)?;
        Ok(Self {
            mapping,
            mapped,
            skip,
        })
    }

    const fn bytes(&self) -> &[u8] {
        // SAFETY: `map` made the mapping this long, `skip` lies within it.
        let first = unsafe { self.mapping.as_ptr().cast::<u8>().add(self.skip) };
        // SAFETY: mapped readable for as long as `self`, which the slice
        // borrows. The file is the host's own and is only ever replaced.
        unsafe { std::slice::from_raw_parts(first, self.mapped - self.skip) }
    }
}

impl Drop for FileView {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and `bytes` borrows it.
        unsafe { nix::libc::munmap(self.mapping.as_ptr(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::{Range, Source, copy_file, map};
    use std::fs::File;
    use std::io::Write;
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn any_part_of_a_file_is_copied_and_no_other() {
        let mut content: Vec<u8> = (0..20_000_u32).map(|at| (at % 251) as u8 + 1).collect();
        content[4096..12_288].fill(0);
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("content", flags).unwrap());
        file.write_all(&content).unwrap();
        let range = Range {
            start: 0,
            length: 64 << 10,
        };
        for (start, offset, length, fits) in [
            (0, 0, 20_000, true),
            (4096, 4096, 8192, true),
            (100, 1, 1, true),
            (5000, 4095, 12_000, true),
            (0, 19_999, 1, true),
            (0, 20_000, 0, true),
            (0, 19_999, 2, false),
            (0, u64::MAX, 1, false),
            (60_000, 0, 10_000, false),
        ] {
            let memory = map(&[range], Source::Anonymous).unwrap();
            let copied = copy_file(&memory, GuestAddress(start), &file, offset, length);
            assert_eq!(copied.is_ok(), fits, "{start} {offset} {length}");
            if fits {
                let mut expected = vec![0; range.length];
                let (to, from) = (start as usize, offset as usize);
                expected[to..to + length].copy_from_slice(&content[from..from + length]);
                let mut seen = vec![0; range.length];
                memory.read_slice(&mut seen, GuestAddress(0)).unwrap();
                assert!(seen == expected, "{start} {offset} {length}");
            }
        }
    }
}

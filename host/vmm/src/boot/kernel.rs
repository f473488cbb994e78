//! The kernel file: ELF for x86-64 with a PVH entry point in a note.
//!
//! Segments are copied into huge pages; mapping them cost a boot 70 ms of faults
//! (see `sys::memory::copy_file`). The file is the host's, yet it is not
//! believed: each number is checked before use.

use super::{BootError, huge};
use linux_loader::elf::{Elf64_Ehdr, Elf64_Nhdr, Elf64_Phdr};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use sys::memory::{GuestMemory, advise_huge, copy_file};
use vm_memory::{Address, ByteValued, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

const MAGIC: [u8; 6] = [0x7F, b'E', b'L', b'F', 2, 1];
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_NOTE: u32 = 4;
/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const NOTE_ENTRY: u32 = 18;
const SEGMENTS_MAX: u16 = 64;
const SEGMENT_SIZE: u64 = size_of::<Elf64_Phdr>() as u64;
const NOTES_MAX: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("not an ELF file for x86-64")]
    Format,
    #[error("{0} program headers")]
    Headers(u16),
    #[error("no PVH entry point")]
    NoEntry,
    #[error("segment at {0:#x} lies outside of memory")]
    Outside(u64),
}

/// Where a loaded kernel begins to run, and the end of what it occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) entry: GuestAddress,
    pub(super) end: u64,
}

/// Loads the kernel, with huge pages for what it fills and for all memory that
/// it doesn't occupy.
pub(super) fn load(memory: &GuestMemory, file: &File, lowest: u64) -> Result<Loaded, BootError> {
    let (mut entry, mut segments) = (None, Vec::new());
    for header in headers(file)? {
        match header.p_type {
            SEGMENT_LOAD => segments.push(Segment::check(&header, lowest)?),
            SEGMENT_NOTE if entry.is_none() => entry = find_entry(file, &header)?,
            _ => {}
        }
    }
    let extents: Vec<Range<u64>> = segments.iter().map(|one| one.start..one.end).collect();
    for region in memory.iter() {
        let region = region.start_addr().raw_value()..region.last_addr().raw_value() + 1;
        for part in huge::parts(region, &extents) {
            // A part lies within memory, whose size is a usize.
            let length = (part.end - part.start) as usize;
            advise_huge(memory, GuestAddress(part.start), length).map_err(io("huge pages"))?;
        }
    }
    let mut end = lowest;
    for segment in &segments {
        let start = GuestAddress(segment.start);
        copy_file(memory, start, file, segment.offset, segment.length).map_err(io("segment"))?;
        end = end.max(segment.end);
    }
    let entry = entry.ok_or(KernelError::NoEntry)?;
    Ok(Loaded { entry, end })
}

fn headers(file: &File) -> Result<Vec<Elf64_Phdr>, BootError> {
    let header: Elf64_Ehdr = object(file, 0, "ELF header")?;
    let fits = header.e_ident.starts_with(&MAGIC)
        && header.e_machine == MACHINE_X86_64
        && usize::from(header.e_phentsize) == size_of::<Elf64_Phdr>();
    if !fits {
        return Err(KernelError::Format.into());
    }
    if header.e_phnum > SEGMENTS_MAX {
        return Err(KernelError::Headers(header.e_phnum).into());
    }
    let at = |index: u64| {
        let offset = header.e_phoff.checked_add(index * SEGMENT_SIZE);
        object(file, offset.ok_or(KernelError::Format)?, "program header")
    };
    (0..u64::from(header.e_phnum)).map(at).collect()
}

/// What is put into memory from `start` on; more than the file has is zero.
struct Segment {
    start: u64,
    end: u64,
    offset: u64,
    length: usize,
}

impl Segment {
    fn check(header: &Elf64_Phdr, lowest: u64) -> Result<Self, KernelError> {
        let start = header.p_paddr;
        let outside = || KernelError::Outside(start);
        let end = start
            .checked_add(header.p_filesz.max(header.p_memsz))
            .filter(|_| start >= lowest)
            .ok_or_else(outside)?;
        let length = usize::try_from(header.p_filesz).map_err(|_| outside())?;
        Ok(Self {
            start,
            end,
            offset: header.p_offset,
            length,
        })
    }
}

/// Looks for the note by which Xen's and Linux' kernels say where PVH begins.
fn find_entry(file: &File, segment: &Elf64_Phdr) -> Result<Option<GuestAddress>, BootError> {
    let header = size_of::<Elf64_Nhdr>() as u64;
    let length = segment.p_filesz.min(NOTES_MAX);
    let mut at = 0_u64;
    while at + header <= length {
        let position = segment
            .p_offset
            .checked_add(at)
            .ok_or(KernelError::Format)?;
        let note: Elf64_Nhdr = object(file, position, "note")?;
        let name = u64::from(note.n_namesz).next_multiple_of(4);
        let content = position.checked_add(header + name);
        let content = content.ok_or(KernelError::Format)?;
        if note.n_type == NOTE_ENTRY && note.n_namesz == 4 && note.n_descsz >= 4 {
            let owner: [u8; 4] = bytes(file, position + header, "note")?;
            if owner == *b"Xen\0" {
                let entry: [u8; 4] = bytes(file, content, "note")?;
                return Ok(Some(GuestAddress(u64::from(u32::from_le_bytes(entry)))));
            }
        }
        at += header + name + u64::from(note.n_descsz).next_multiple_of(4);
    }
    Ok(None)
}

fn object<T: ByteValued + Default>(
    file: &File,
    offset: u64,
    what: &'static str,
) -> Result<T, BootError> {
    let mut object = T::default();
    file.read_exact_at(object.as_mut_slice(), offset)
        .map_err(io(what))?;
    Ok(object)
}

fn bytes<const N: usize>(
    file: &File,
    offset: u64,
    what: &'static str,
) -> Result<[u8; N], BootError> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset).map_err(io(what))?;
    Ok(bytes)
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> BootError {
    move |source| KernelError::Io { what, source }.into()
}

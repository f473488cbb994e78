//! Puts a kernel, its initramfs and its command line into the guest's memory
//! and says where its first instruction is (PVH, as Xen defines it).
//!
//! The kernel file is the host's, so what is wrong with it is a host fault; no
//! guest has run yet.

mod huge;
mod kernel;
mod mp_table;

#[cfg(test)]
mod tests;

use crate::layout;
pub use kernel::KernelError;
use std::fs::File;
use std::num::NonZeroU8;
use sys::memory::{GuestMemory, copy_file};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

const START_INFO_MAGIC: u32 = 0x336E_C578;
const PAGE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("kernel: {0}")]
    Kernel(#[from] KernelError),
    #[error("initramfs of {size} bytes does not fit between the kernel and {end:#x}")]
    InitramfsSize { size: u64, end: u64 },
    #[error("initramfs: {0}")]
    Initramfs(#[source] std::io::Error),
    #[error("a command line of {0} bytes is too long")]
    Cmdline(usize),
    #[error("guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// What goes into memory before the first instruction.
pub struct Boot {
    pub kernel: File,
    pub initramfs: Option<File>,
    pub cmdline: String,
    pub vcpus: NonZeroU8,
}

impl Boot {
    /// Loads everything; gives the address of the first instruction.
    ///
    /// # Errors
    /// Any of `BootError`.
    pub fn load(mut self, memory: &GuestMemory) -> Result<GuestAddress, BootError> {
        let kernel = kernel::load(memory, &self.kernel, layout::HIGH_MEMORY)?;
        let module = match self.initramfs.take() {
            Some(file) => Some(initramfs(memory, &file, kernel.end)?),
            None => None,
        };
        let mut cmdline = self.cmdline.into_bytes();
        cmdline.push(0);
        if cmdline.len() > layout::CMDLINE_MAX {
            return Err(BootError::Cmdline(cmdline.len()));
        }
        memory.write_slice(&cmdline, GuestAddress(layout::CMDLINE))?;
        let map = memory_map(memory);
        memory.write_slice(&map, GuestAddress(layout::MEMORY_MAP))?;
        if let Some((start, size)) = module {
            let entry = words(&[start, size, 0, 0]);
            memory.write_slice(&entry, GuestAddress(layout::MODULES))?;
        }
        let info = start_info(module.is_some(), map.len() / MAP_ENTRY);
        memory.write_slice(&info, GuestAddress(layout::START_INFO))?;
        let table = mp_table::build(self.vcpus);
        memory.write_slice(&table, GuestAddress(layout::MP_TABLE))?;
        Ok(kernel.entry)
    }
}

/// Copies the initramfs as high as low memory allows; gives start and size.
fn initramfs(memory: &GuestMemory, file: &File, kernel_end: u64) -> Result<(u64, u64), BootError> {
    let size = file.metadata().map_err(BootError::Initramfs)?.len();
    let end = memory.iter().next().map_or(0, GuestMemoryRegion::len);
    let too_large = || BootError::InitramfsSize { size, end };
    let pages = size.checked_next_multiple_of(PAGE).ok_or_else(too_large)?;
    let start = end
        .checked_sub(pages)
        .filter(|start| *start >= kernel_end && size > 0)
        .ok_or_else(too_large)?;
    let length = usize::try_from(size).map_err(|_| too_large())?;
    copy_file(memory, GuestAddress(start), file, 0, length).map_err(BootError::Initramfs)?;
    Ok((start, size))
}

/// `struct hvm_start_info`, version 1.
fn start_info(module: bool, map_entries: usize) -> Vec<u8> {
    let mut info = Vec::with_capacity(56);
    for word in [START_INFO_MAGIC, 1, 0, u32::from(module)] {
        info.extend(word.to_le_bytes());
    }
    let modules = if module { layout::MODULES } else { 0 };
    info.extend(words(&[modules, layout::CMDLINE, 0, layout::MEMORY_MAP]));
    // Two or three entries.
    info.extend((map_entries as u32).to_le_bytes());
    info.extend(0_u32.to_le_bytes());
    info
}

const MAP_ENTRY: usize = 24;

/// `struct hvm_memmap_table_entry` for each range, types as ACPI's E820.
fn memory_map(memory: &GuestMemory) -> Vec<u8> {
    let mut map = Vec::new();
    let mut add = |start: u64, end: u64, kind: u64| {
        map.extend(words(&[start, end - start, kind]));
    };
    add(0, layout::CONVENTIONAL_END, 1);
    add(layout::MP_TABLE, layout::HIGH_MEMORY, 2);
    for region in memory.iter() {
        let start = region.start_addr().raw_value().max(layout::HIGH_MEMORY);
        add(start, region.last_addr().raw_value() + 1, 1);
    }
    map
}

fn words(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

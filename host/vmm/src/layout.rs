//! Where things are in the guest's physical address space. Fixed for good: the
//! state format and every template depend on it.
//!
//! ```text
//!   0x0000_6000  PVH start info, modules, memory map   (Xen: docs/misc/pvh.pandoc)
//!   0x0002_0000  kernel command line
//!   0x000F_0000  MP table                               (MP 1.4, 4)
//!   0x0010_0000  kernel; initramfs at the end of low memory
//!   0xC000_0000  hole: 0xD000_0000 virtio-mmio slots, 0xD100_0000 PCI windows,
//!                0xFEC0_0000 I/O APIC, 0xFEE0_0000 local APIC, KVM's own pages
//!   4 GiB        the rest of memory
//! ```

use machine_spec::MemorySize;
use sys::memory::Range;

pub const START_INFO: u64 = 0x6000;
pub const MODULES: u64 = 0x6100;
pub const MEMORY_MAP: u64 = 0x7000;
pub const CMDLINE: u64 = 0x2_0000;
pub const CMDLINE_MAX: usize = 4096;
/// The end of what a PC calls conventional memory.
pub const CONVENTIONAL_END: u64 = 0xA_0000;
pub const MP_TABLE: u64 = 0xF_0000;
pub const HIGH_MEMORY: u64 = 0x10_0000;

const LOW_MEMORY_END: u64 = 0xC000_0000;
const FOUR_GIB: u64 = 1 << 32;

pub const MMIO_SLOTS: u64 = 0xD000_0000;
/// Slots that every guest has, with or without a device.
pub const MMIO_SLOT_COUNT: u8 = 16;
/// The interrupt line of the first slot; the I/O APIC has lines 0 to 23.
pub const MMIO_FIRST_LINE: u32 = 5;

/// The windows of PCI endpoints, one after the other.
pub const PCI_WINDOWS: u32 = 0xD100_0000;
/// Lines of the I/O APIC; message-signalled interrupts are counted from here on.
pub const LINES: u32 = 24;

pub const SERIAL_LINE: u32 = 4;
pub const IO_APIC: u32 = 0xFEC0_0000;
pub const LOCAL_APIC: u32 = 0xFEE0_0000;
/// Three pages that KVM needs on Intel processors, and the page before them.
pub const KVM_TSS: usize = 0xFFFB_D000;
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;

/// The word in which a BIOS, and so a kernel, keeps the kind of restart.
pub const RESET_FLAG: u64 = 0x472;

/// The ranges of guest memory, ascending.
#[must_use]
pub fn memory(size: MemorySize) -> Vec<Range> {
    let low = size.bytes().min(LOW_MEMORY_END);
    let high = size.bytes() - low;
    // usize is 64 bits wide on the only architecture that this runs on.
    let range = |start, length: u64| Range {
        start,
        length: length as usize,
    };
    let mut ranges = vec![range(0, low)];
    if high > 0 {
        ranges.push(range(FOUR_GIB, high));
    }
    ranges
}

/// The address of a slot.
#[must_use]
pub const fn mmio_slot(index: u8) -> u64 {
    MMIO_SLOTS + index as u64 * virtio::transport::mmio::SLOT
}

/// The interrupt line of a slot.
#[must_use]
pub const fn mmio_line(index: u8) -> u32 {
    MMIO_FIRST_LINE + index as u32
}

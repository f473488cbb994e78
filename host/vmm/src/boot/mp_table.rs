//! The MultiProcessor table, which tells a kernel without ACPI of its
//! processors, the I/O APIC and its lines (MP 1.4, chapter 4).
//!
//! Every line is an ISA interrupt of the same number, edge-triggered, also
//! those that no ISA bus had: virtio-mmio slots use lines 5 to 20.

use crate::layout;
use std::num::NonZeroU8;

const LINES: u8 = 24;
const APIC_VERSION: u8 = 0x14;
const ENABLED: u8 = 1;
const BOOTSTRAP: u8 = 2;

const PROCESSOR: u8 = 0;

const IO_APIC: u8 = 2;
const INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;

const POINTER: usize = 16;
const HEADER: usize = 44;

/// The floating pointer, and the table right behind it.
pub(super) fn build(vcpus: NonZeroU8) -> Vec<u8> {
    let io_apic = vcpus.get();
    let mut entries = Vec::new();
    let mut count = 0_u16;
    let mut add = |entry: &[u8]| {
        entries.extend_from_slice(entry);
        count += 1;
    };
    for id in 0..vcpus.get() {
        let boot = if id == 0 { BOOTSTRAP } else { 0 };
        let mut entry = [0; 20];
        entry[..4].copy_from_slice(&[PROCESSOR, id, APIC_VERSION, ENABLED | boot]);
        // Family, model and stepping, and features: APIC and FPU.
        entry[4..8].copy_from_slice(&0x600_u32.to_le_bytes());
        entry[8..12].copy_from_slice(&0x201_u32.to_le_bytes());
        add(&entry);
    }
    // A bus entry: type 1, id 0.
    add(b"\x01\x00ISA   ");
    let mut entry = [IO_APIC, io_apic, APIC_VERSION, ENABLED, 0, 0, 0, 0];
    entry[4..].copy_from_slice(&layout::IO_APIC.to_le_bytes());
    add(&entry);
    for line in 0..LINES {
        add(&[INTERRUPT, INT, 0, 0, 0, line, io_apic, line]);
    }
    add(&[LOCAL_INTERRUPT, EXT_INT, 0, 0, 0, 0, 0xFF, 0]);
    add(&[LOCAL_INTERRUPT, NMI, 0, 0, 0, 0, 0xFF, 1]);

    let mut table = pointer();
    table.extend(header(&entries, count));
    table.extend(entries);
    table
}

fn pointer() -> Vec<u8> {
    let mut pointer = vec![0; POINTER];
    pointer[..4].copy_from_slice(b"_MP_");
    let table = layout::MP_TABLE + POINTER as u64;
    pointer[4..8].copy_from_slice(&(table as u32).to_le_bytes());
    pointer[8] = 1;
    pointer[9] = 4;
    pointer[10] = checksum(&pointer);
    pointer
}

fn header(entries: &[u8], count: u16) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header[..4].copy_from_slice(b"PCMP");
    // At most 64 processors: far below 64 KiB.
    let length = (HEADER + entries.len()) as u16;
    header[4..6].copy_from_slice(&length.to_le_bytes());
    header[6] = 4;
    header[8..16].copy_from_slice(b"ATOLL   ");
    header[16..28].copy_from_slice(b"MICROVM     ");
    header[34..36].copy_from_slice(&count.to_le_bytes());
    header[36..40].copy_from_slice(&layout::LOCAL_APIC.to_le_bytes());
    header[7] = checksum(&[&header, entries].concat());
    header
}

/// The byte that makes all of them add up to zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

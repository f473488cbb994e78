//! The registers of a vCPU before its first instruction.

pub mod cpuid;
pub mod state;

use crate::layout;
use kvm_bindings::{Msrs, kvm_msr_entry, kvm_segment};
use std::io;
use sys::kvm::{Vcpu, error};
use vm_memory::{Address, GuestAddress};

const MSR_MISC_ENABLE: u32 = 0x1A0;
const MSR_MTRR_DEFAULT: u32 = 0x2FF;
/// Fast string operations (SDM vol. 4, `IA32_MISC_ENABLE`).
const FAST_STRINGS: u64 = 1;
/// MTRRs on, everything write-back (SDM vol. 3, 12.11.2.1).
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION: u64 = 1 << 4;

/// Model-specific registers that a firmware would set.
///
/// # Errors
/// As `KVM_SET_MSRS`.
pub fn set_msrs(vcpu: &Vcpu) -> io::Result<()> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let entries = [
        entry(MSR_MISC_ENABLE, FAST_STRINGS),
        entry(MSR_MTRR_DEFAULT, MTRR_WRITE_BACK),
    ];
    let msrs =
        Msrs::from_entries(&entries).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    // One that a processor lacks stays as it is.
    vcpu.fd().set_msrs(&msrs).map_err(error)?;
    Ok(())
}

/// 32-bit protected mode without paging, `ebx` at the start info (PVH).
///
/// # Errors
/// As `KVM_SET_SREGS` and `KVM_SET_REGS`.
pub fn set_entry(vcpu: &Vcpu, entry: GuestAddress) -> io::Result<()> {
    let mut sregs = vcpu.fd().get_sregs().map_err(error)?;
    let segment = |selector, type_| kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let data = segment(0x10, 3);
    sregs.cs = segment(0x8, 11);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        limit: 0x67,
        selector: 0x18,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION;
    sregs.cr4 = 0;
    sregs.efer = 0;
    vcpu.fd().set_sregs(&sregs).map_err(error)?;
    let regs = kvm_bindings::kvm_regs {
        rip: entry.raw_value(),
        rbx: layout::START_INFO,
        rflags: 2,
        ..Default::default()
    };
    vcpu.fd().set_regs(&regs).map_err(error)
}

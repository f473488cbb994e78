//! What a vCPU says of itself: what KVM supports, with this guest's topology of
//! one socket with a core for each vCPU.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use std::num::NonZeroU8;

const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const HYPERTHREADING: u32 = 1 << 28;

const SMT: u32 = 1;
const CORE: u32 = 2;

/// The leaves of vCPU `index`; none if they don't fit.
#[must_use]
pub fn leaves(supported: &CpuId, index: u8, vcpus: NonZeroU8, deadline: bool) -> Option<CpuId> {
    let id = u32::from(index);
    let count = u32::from(vcpus.get());
    let shift = count.next_power_of_two().trailing_zeros();
    let mut entries = Vec::with_capacity(supported.as_slice().len() + 2);
    for entry in supported.as_slice() {
        let mut leaf = *entry;
        match leaf.function {
            0x1 => basic(&mut leaf, id, count, deadline),
            // Cores that share each cache: as many as there are for the last,
            // one for the others (SDM vol. 2, CPUID).
            0x4 if leaf.eax & 0x1F != 0 => {
                let level = leaf.eax >> 5 & 7;
                let sharing = if level >= 3 { count - 1 } else { 0 };
                leaf.eax = leaf.eax & 0x3FFF | (count - 1) << 26 | sharing << 14;
            }
            0xB | 0x1F => continue,
            // Of AMD: cores less one, and bits of the id (APM vol. 3, E.4.7).
            0x8000_0008 => leaf.ecx = leaf.ecx & !0xF0FF | shift << 12 | (count - 1),
            0x8000_001E => {
                leaf.eax = id;
                leaf.ebx = id;
                leaf.ecx = 0;
            }
            _ => {}
        }
        entries.push(leaf);
    }
    let basic_max = entries.iter().find(|leaf| leaf.function == 0);
    if basic_max.is_some_and(|leaf| leaf.eax >= 0xB) {
        entries.push(topology(0, SMT, 0, 1, id));
        entries.push(topology(1, CORE, shift, count, id));
    }
    CpuId::from_entries(&entries).ok()
}

fn basic(leaf: &mut kvm_cpuid_entry2, id: u32, count: u32, deadline: bool) {
    leaf.ebx = leaf.ebx & 0xFFFF | count << 16 | id << 24;
    leaf.ecx |= HYPERVISOR;
    leaf.ecx = if deadline {
        leaf.ecx | TSC_DEADLINE
    } else {
        leaf.ecx & !TSC_DEADLINE
    };
    leaf.edx = if count > 1 {
        leaf.edx | HYPERTHREADING
    } else {
        leaf.edx & !HYPERTHREADING
    };
}

fn topology(index: u32, level: u32, shift: u32, count: u32, id: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: 0xB,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: level << 8 | index,
        edx: id,
        ..Default::default()
    }
}

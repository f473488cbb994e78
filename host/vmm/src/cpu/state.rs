//! All of a vCPU's state, in the order in which KVM wants it back.
//!
//! CPUID comes before what depends on it, events and MP state last; the TSC
//! deadline is set after the local APIC, which interprets it.

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use serde::{Deserialize, Serialize};
use std::io;
use sys::kvm::{Vcpu, error};

#[derive(Debug, Serialize, Deserialize)]
pub struct VcpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: kvm_xsave,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

const TSC: u32 = 0x10;
const TSC_DEADLINE: u32 = 0x6E0;

/// Registers that a guest sets and that nothing else carries (SDM vol. 4,
/// AMD APM vol. 2; KVM's own as in Documentation/virt/kvm/x86/msr.rst). One that
/// a processor lacks is left out.
const SAVED: &[u32] = &[
    TSC,
    0x3B,        // TSC_ADJUST
    0x48,        // SPEC_CTRL
    0x8B,        // microcode revision
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0x1A0,       // MISC_ENABLE
    0x277,       // PAT
    0x2FF,       // MTRR_DEF_TYPE
    0x140,       // MISC_FEATURES_ENABLES
    0xDA0,       // XSS
    0xC000_0081, // STAR
    0xC000_0082, // LSTAR
    0xC000_0083, // CSTAR
    0xC000_0084, // SYSCALL_MASK
    0xC000_0102, // KERNEL_GS_BASE
    0xC000_0103, // TSC_AUX
    0x4B56_4D00, // KVM wall clock
    0x4B56_4D01, // KVM system time
    0x4B56_4D02, // KVM async page faults
    0x4B56_4D03, // KVM steal time
    0x4B56_4D04, // KVM EOI
    0x4B56_4D05, // KVM poll control
    0x4B56_4D06, // KVM async page fault interrupt
    TSC_DEADLINE,
];

impl VcpuState {
    /// # Errors
    /// As the ioctls.
    pub fn save(vcpu: &Vcpu) -> io::Result<Self> {
        let fd = vcpu.fd();
        // First, because it lets KVM settle what is pending.
        let mp_state = fd.get_mp_state().map_err(error)?;
        Ok(Self {
            mp_state,
            cpuid: fd
                .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
                .map_err(error)?
                .as_slice()
                .to_vec(),
            regs: fd.get_regs().map_err(error)?,
            sregs: fd.get_sregs().map_err(error)?,
            xsave: vcpu.xsave()?,
            xcrs: fd.get_xcrs().map_err(error)?,
            debug: fd.get_debug_regs().map_err(error)?,
            lapic: fd.get_lapic().map_err(error)?,
            msrs: save_msrs(vcpu)?,
            events: fd.get_vcpu_events().map_err(error)?,
        })
    }

    /// # Errors
    /// As the ioctls; EINVAL for a state that does not fit this processor.
    pub fn restore(&self, vcpu: &Vcpu) -> io::Result<()> {
        let fd = vcpu.fd();
        let cpuid = CpuId::from_entries(&self.cpuid).map_err(|_| invalid())?;
        fd.set_cpuid2(&cpuid).map_err(error)?;
        fd.set_mp_state(self.mp_state).map_err(error)?;
        fd.set_regs(&self.regs).map_err(error)?;
        fd.set_sregs(&self.sregs).map_err(error)?;
        vcpu.set_xsave(&self.xsave)?;
        fd.set_xcrs(&self.xcrs).map_err(error)?;
        fd.set_debug_regs(&self.debug).map_err(error)?;
        fd.set_lapic(&self.lapic).map_err(error)?;
        for entry in &self.msrs {
            let one = Msrs::from_entries(&[*entry]).map_err(|_| invalid())?;
            // KVM may tell of one, as zero, that it doesn't take.
            if fd.set_msrs(&one).map_err(error)? != 1 && entry.data != 0 {
                log::warn!("MSR {:#x} could not be restored", entry.index);
            }
        }
        fd.set_vcpu_events(&self.events).map_err(error)
    }
}

/// KVM stops at the first register that it doesn't know, hence one by one from
/// there on.
fn save_msrs(vcpu: &Vcpu) -> io::Result<Vec<kvm_msr_entry>> {
    let mut saved = Vec::with_capacity(SAVED.len());
    let mut rest = SAVED;
    while !rest.is_empty() {
        let wanted: Vec<kvm_msr_entry> = rest
            .iter()
            .map(|index| kvm_msr_entry {
                index: *index,
                ..Default::default()
            })
            .collect();
        let mut msrs = Msrs::from_entries(&wanted).map_err(|_| invalid())?;
        let count = vcpu.fd().get_msrs(&mut msrs).map_err(error)?;
        saved.extend(msrs.as_slice().iter().take(count));
        rest = rest.get(count + 1..).unwrap_or_default();
    }
    Ok(saved)
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

//! From a paused machine to its two files.

use super::Frozen;
use crate::assemble::Parts;
use crate::bus::locked;
use crate::control::host;
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip,
};
use machine_spec::control::Failure;
use machine_spec::{MachineSpec, MemorySize};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::os::unix::fs::FileExt;
use sys::kvm::error;
use sys::memory::GuestMemory;
use virtio::ring::Progress;
use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

const PAGE: usize = 4096;
const CHUNK: usize = 64 << 10;

/// The positions of each slot's rings, in the order of the slots.
pub type Positions = Vec<Option<Vec<Option<Progress>>>>;

/// # Errors
/// Of the host's family.
pub fn write(
    parts: &Parts,
    spec: &MachineSpec,
    positions: Positions,
    state: OwnedFd,
    memory: OwnedFd,
) -> Result<(), Failure> {
    let frozen = collect(parts, spec.memory, spec.cid, positions)?;
    let bytes = frozen.encode().map_err(host)?;
    let state = File::from(state);
    state
        .set_len(0)
        .and_then(|()| state.write_all_at(&bytes, 0))
        .map_err(|e| host(format!("state file: {e}")))?;
    write_memory(parts.vm.memory(), &File::from(memory))
        .map_err(|e| host(format!("memory file: {e}")))
}

fn collect(
    parts: &Parts,
    memory: MemorySize,
    cid: u32,
    positions: Positions,
) -> Result<Frozen, Failure> {
    let vcpus = parts
        .vcpus
        .iter()
        .map(|vcpu| vcpu.save())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| host(format!("vCPU state: {e}")))?;
    let clock = parts
        .vm
        .fd()
        .get_clock()
        .map_err(|e| host(format!("KVM_GET_CLOCK: {}", error(e))))?;
    let mut irqchips = Vec::new();
    for chip_id in [
        KVM_IRQCHIP_PIC_MASTER,
        KVM_IRQCHIP_PIC_SLAVE,
        KVM_IRQCHIP_IOAPIC,
    ] {
        let mut chip = kvm_irqchip {
            chip_id,
            ..Default::default()
        };
        parts
            .vm
            .fd()
            .get_irqchip(&mut chip)
            .map_err(|e| host(format!("KVM_GET_IRQCHIP: {}", error(e))))?;
        irqchips.push(chip);
    }
    let slots = parts
        .bus
        .slots()
        .iter()
        .zip(&parts.occupants)
        .zip(positions);
    let slots = slots.map(|((slot, occupant), positions)| {
        let slot = locked(slot);
        let function = slot.function()?;
        Some((occupant.clone()?, function.freeze(positions?)))
    });
    Ok(Frozen {
        memory,
        cid,
        vcpus,
        clock,
        irqchips,
        ports: parts.bus.freeze_ports(),
        slots: slots.collect(),
    })
}

/// Writes memory with holes for pages of zeroes.
fn write_memory(memory: &GuestMemory, file: &File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.set_len(memory.iter().map(GuestMemoryRegion::len).sum())?;
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    for region in memory.iter() {
        for start in (0..region.len()).step_by(CHUNK) {
            let rest = usize::try_from(region.len() - start).unwrap_or(CHUNK);
            let part = &mut chunk[..rest.min(CHUNK)];
            region
                .read_slice(part, MemoryRegionAddress(start))
                .map_err(std::io::Error::other)?;
            for (at, page) in (offset + start..).step_by(PAGE).zip(part.chunks(PAGE)) {
                if page.iter().any(|byte| *byte != 0) {
                    file.write_all_at(page, at)?;
                }
            }
        }
        offset += region.len();
    }
    Ok(())
}

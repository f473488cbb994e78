//! From a frozen state to parts that continue it.

use super::Frozen;
use crate::bus::{Bus, locked};
use crate::control::{host, user};
use crate::devices::Occupant;
use machine_spec::control::Failure;
use sys::kvm::{Vcpu, Vm, error};

/// vCPUs with all of their state.
///
/// # Errors
/// Of the host's family.
pub fn vcpus(vm: &Vm, frozen: &Frozen) -> Result<Vec<Vcpu>, Failure> {
    for chip in &frozen.irqchips {
        vm.fd()
            .set_irqchip(chip)
            .map_err(|e| host(format!("KVM_SET_IRQCHIP: {}", error(e))))?;
    }
    let mut clock = frozen.clock;
    // Flags that are given, but not taken (KVM_SET_CLOCK).
    clock.flags = 0;
    vm.fd()
        .set_clock(&clock)
        .map_err(|e| host(format!("KVM_SET_CLOCK: {}", error(e))))?;
    let mut vcpus = Vec::with_capacity(frozen.vcpus.len());
    for (index, state) in (0..).zip(&frozen.vcpus) {
        let vcpu = vm
            .vcpu(index)
            .map_err(|e| host(format!("KVM_CREATE_VCPU: {e}")))?;
        state
            .restore(&vcpu)
            .map_err(|e| host(format!("vCPU {index}: {e}")))?;
        vcpus.push(vcpu);
    }
    Ok(vcpus)
}

/// Devices where they were. A slot that was empty may have one now: the guest
/// finds it when it probes the slot anew.
///
/// # Errors
/// Of the user's family if a device is missing or another one.
pub fn machine(
    _vm: &Vm,
    bus: &Bus,
    occupants: &[Option<Occupant>],
    frozen: &Frozen,
) -> Result<(), Failure> {
    if frozen.slots.len() != bus.slots().len() {
        return Err(user("state has another number of slots"));
    }
    for ((slot, occupant), state) in bus.slots().iter().zip(occupants).zip(&frozen.slots) {
        let Some((frozen_occupant, state)) = state else {
            continue;
        };
        if occupant.as_ref() != Some(frozen_occupant) {
            return Err(user(format!(
                "state has {frozen_occupant:?} where the machine has {occupant:?}"
            )));
        }
        locked(slot)
            .thaw(state)
            .map_err(|e| user(format!("{frozen_occupant:?}: {e}")))?;
    }
    bus.thaw_ports(&frozen.ports).map_err(host)
}

//! The PCI bus: a host bridge, endpoints behind ports 0xCF8 and 0xCFC (PCI 3.0,
//! 3.2.2.3.2), and the table by which KVM turns their eventfds into messages.
//!
//! ```text
//!   00:00.0 host bridge | 00:01.0... endpoints, in the order of the devices
//! ```

use crate::bus::locked;
use crate::layout;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use std::sync::{Arc, Mutex, PoisonError};
use sys::kvm::{Vm, error};
use virtio::transport::pci::{Endpoint, Message, Router};

pub const ADDRESS: u16 = 0xCF8;
pub const DATA: u16 = 0xCFC;
pub const DATA_END: u16 = 0xCFF;
const ENABLED: u32 = 1 << 31;

/// Vendor, device, status, class: a bridge that nothing drives.
const BRIDGE: [u32; 3] = [0x0008_1B36, 0, 0x0600_0000];

/// The configuration mechanism's address, and what it leads to.
pub struct Pci {
    address: Mutex<u32>,
    endpoints: Vec<Mutex<Endpoint>>,
}

impl Pci {
    #[must_use]
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            address: Mutex::new(0),
            endpoints: endpoints.into_iter().map(Mutex::new).collect(),
        }
    }

    /// Reads one of the ports.
    pub fn read_port(&self, port: u16, data: &mut [u8]) {
        let address = *locked(&self.address);
        data.fill(0xFF);
        if port < DATA {
            if port == ADDRESS && data.len() == 4 {
                data.copy_from_slice(&address.to_le_bytes());
            }
            return;
        }
        let Some((device, offset)) = place(address, port) else {
            return;
        };
        match device.checked_sub(1) {
            None => bridge(offset, data),
            Some(index) => {
                if let Some(endpoint) = self.endpoints.get(index) {
                    locked(endpoint).read_space(offset, data);
                }
            }
        }
    }

    /// Writes one of the ports.
    pub fn write_port(&self, port: u16, data: &[u8]) {
        if port < DATA {
            if let (ADDRESS, Ok(bytes)) = (port, data.try_into()) {
                *locked(&self.address) = u32::from_le_bytes(bytes);
            }
            return;
        }
        let address = *locked(&self.address);
        if let Some((device, offset)) = place(address, port)
            && let Some(index) = device.checked_sub(1)
            && let Some(endpoint) = self.endpoints.get(index)
        {
            locked(endpoint).write_space(offset, data);
        }
    }

    /// Gives the endpoint that decodes an address to `access`; false if none.
    pub fn access(&self, address: u64, access: impl FnOnce(&mut Endpoint, u64)) -> bool {
        for endpoint in &self.endpoints {
            let mut endpoint = locked(endpoint);
            if let Some(offset) = endpoint.offset(address) {
                access(&mut endpoint, offset);
                return true;
            }
        }
        false
    }
}

/// Device on bus 0 and offset in its configuration space; it has no functions
/// but 0.
fn place(address: u32, port: u16) -> Option<(usize, usize)> {
    let device = (address >> 11 & 0x1F) as usize;
    let elsewhere = address & ENABLED == 0 || address & 0xFF_0700 != 0;
    let offset = (address & 0xFC) as usize + usize::from(port - DATA);
    (!elsewhere).then_some((device, offset))
}

fn bridge(offset: usize, data: &mut [u8]) {
    let bytes = BRIDGE.iter().flat_map(|word| word.to_le_bytes());
    data.fill(0);
    for (to, from) in data.iter_mut().zip(bytes.skip(offset)) {
        *to = from;
    }
}

/// KVM's routing table: the lines as they are without one, then the messages.
#[derive(Debug)]
pub struct Routes {
    entries: Mutex<Vec<kvm_irq_routing_entry>>,
}

impl Routes {
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut entries = Vec::new();
        for line in 0..layout::LINES {
            let mut add = |chip, pin| {
                let mut entry = kvm_irq_routing_entry {
                    gsi: line,
                    type_: KVM_IRQ_ROUTING_IRQCHIP,
                    ..Default::default()
                };
                entry.u.irqchip.irqchip = chip;
                entry.u.irqchip.pin = pin;
                entries.push(entry);
            };
            match line {
                0..8 => add(KVM_IRQCHIP_PIC_MASTER, line),
                8..16 => add(KVM_IRQCHIP_PIC_SLAVE, line - 8),
                _ => {}
            }
            add(KVM_IRQCHIP_IOAPIC, line);
        }
        Arc::new(Self {
            entries: Mutex::new(entries),
        })
    }

    fn set(&self, vm: &Vm, gsi: u32, message: Message) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.gsi != gsi);
        let mut entry = kvm_irq_routing_entry {
            gsi,
            type_: KVM_IRQ_ROUTING_MSI,
            ..Default::default()
        };
        entry.u.msi.address_lo = message.address as u32;
        entry.u.msi.address_hi = (message.address >> 32) as u32;
        entry.u.msi.data = message.data;
        entries.push(entry);
        // A message that KVM refuses is the guest's own loss.
        let set = KvmIrqRouting::from_entries(&entries)
            .map_err(|e| format!("{e:?}"))
            .and_then(|table| {
                let set = vm.fd().set_gsi_routing(&table);
                set.map_err(|e| error(e).to_string())
            });
        if let Err(reason) = set {
            entries.pop();
            log::debug!("KVM_SET_GSI_ROUTING: {reason}");
        }
    }
}

/// The routes of one endpoint's vectors.
pub struct Vectors {
    pub vm: Arc<Vm>,
    pub routes: Arc<Routes>,
    pub first: u32,
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vectors from line {}", self.first)
    }
}

impl Router for Vectors {
    fn route(&self, vector: usize, message: Message) {
        self.routes
            .set(&self.vm, self.first + vector as u32, message);
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS, DATA, Pci};

    #[test]
    fn ports_lead_to_the_bridge_or_nowhere() {
        for (address, port, width, expected) in [
            (0x8000_0000_u32, DATA, 4, 0x0008_1B36_u32),
            (0x8000_0000, DATA + 2, 2, 0x0008),
            (0x8000_0008, DATA, 4, 0x0600_0000),
            (0x8000_000B, DATA + 3, 1, 0x06),
            (0x8000_00FC, DATA + 3, 4, 0),
            // Off, another bus, another function, no such device.
            (0, DATA, 4, u32::MAX),
            (0x8001_0000, DATA, 4, u32::MAX),
            (0x8000_0100, DATA, 4, u32::MAX),
            (0x8000_0800, DATA, 4, u32::MAX),
            // The address itself, whole alone.
            (0x8000_1234, ADDRESS, 4, 0x8000_1234),
            (0x8000_1234, ADDRESS, 1, 0xFF),
            (0x8000_1234, ADDRESS + 3, 1, 0xFF),
        ] {
            let pci = Pci::new(Vec::new());
            pci.write_port(ADDRESS, &address.to_le_bytes());
            // Parts of the address, and what is read-only, stay.
            pci.write_port(ADDRESS + 3, &[1]);
            pci.write_port(DATA, &[0x55; 4]);
            let mut bytes = [0; 4];
            pci.read_port(port, &mut bytes[..width]);
            assert_eq!(
                u32::from_le_bytes(bytes),
                expected,
                "{address:#x} {port:#x}"
            );
        }
    }
}

//! Where an exit's address leads: ports, virtio slots, or nowhere.
//!
//! Shared by the vCPU threads. Each part has a lock of its own that is held for
//! one register access and no I/O; only a device reset waits under it, for that
//! device's thread, which never takes a lock of the bus.

use crate::layout;
use crate::pci::{self, Pci};
use crate::ports::{Ports, PortsState, Utc};
use machine_spec::exit::Exit;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use virtio::transport::mmio::{SLOT, Slot};

const CONFIGURATION: std::ops::RangeInclusive<u16> = pci::ADDRESS..=pci::DATA_END;

pub struct Bus {
    ports: Mutex<Ports>,
    slots: Vec<Mutex<Slot>>,
    pci: Option<Pci>,
}

impl Bus {
    #[must_use]
    pub fn new(ports: Ports, slots: Vec<Slot>, pci: Option<Pci>) -> Self {
        Self {
            ports: Mutex::new(ports),
            slots: slots.into_iter().map(Mutex::new).collect(),
            pci,
        }
    }

    pub fn read_port(&self, port: u16, data: &mut [u8]) {
        match &self.pci {
            Some(pci) if CONFIGURATION.contains(&port) => pci.read_port(port, data),
            _ => locked(&self.ports).read(port, data, now),
        }
    }

    /// Gives an exit if the guest ends itself by it.
    #[must_use]
    pub fn write_port(&self, port: u16, data: &[u8]) -> Option<Exit> {
        match &self.pci {
            Some(pci) if CONFIGURATION.contains(&port) => {
                pci.write_port(port, data);
                None
            }
            _ => locked(&self.ports).write(port, data),
        }
    }

    /// What is not there reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.slot(address) {
            Some((slot, offset)) => slot.read(offset, data),
            None => {
                let found = self.pci.as_ref().is_some_and(|pci| {
                    pci.access(address, |endpoint, offset| endpoint.read(offset, data))
                });
                if !found {
                    data.fill(0xFF);
                }
            }
        }
    }

    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((mut slot, offset)) = self.slot(address) {
            slot.write(offset, data);
        } else if let Some(pci) = &self.pci {
            pci.access(address, |endpoint, offset| endpoint.write(offset, data));
        }
    }

    fn slot(&self, address: u64) -> Option<(MutexGuard<'_, Slot>, u64)> {
        let offset = address.checked_sub(layout::MMIO_SLOTS)?;
        let index = usize::try_from(offset / SLOT).ok()?;
        Some((locked(self.slots.get(index)?), offset % SLOT))
    }

    /// All slots, for freezing and thawing.
    #[must_use]
    pub fn slots(&self) -> &[Mutex<Slot>] {
        &self.slots
    }

    #[must_use]
    pub fn freeze_ports(&self) -> PortsState {
        locked(&self.ports).freeze()
    }

    /// # Errors
    /// As `Ports::thaw`.
    pub fn thaw_ports(&self, state: &PortsState) -> std::io::Result<()> {
        locked(&self.ports).thaw(state)
    }
}

/// A thread that panicked ends the process, so what it held is as it was.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Utc {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Utc::from_unix(since.map_or(0, |since| since.as_secs()))
}

//! virtio over MMIO (virtio 1.3, 4.2): one page of registers for each slot.
//!
//! A slot without a device answers with device id 0, at which a driver stops
//! probing; so the slots, and the kernel command line that names them, are the
//! same for every guest.

use super::function::{Function, FunctionState, RestoreError, set_half};
use crate::signals::Wiring;
use std::sync::Arc;
use sys::event::EventFd;

/// The length of a slot in bytes.
pub const SLOT: u64 = 0x1000;
/// The offset of the register that rings a queue.
pub const QUEUE_NOTIFY: u64 = 0x50;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const CONFIG: u64 = 0x100;

/// Empty, until something is plugged in.
#[derive(Default)]
pub struct Slot {
    plugged: Option<(Function, Arc<EventFd>)>,
}

impl Slot {
    /// `line` is the slot's interrupt, wired to KVM.
    pub fn plug(&mut self, function: Function, line: Arc<EventFd>) {
        self.plugged = Some((function, line));
    }

    #[must_use]
    pub fn function(&self) -> Option<&Function> {
        self.plugged.as_ref().map(|(function, _)| function)
    }

    /// Continues what was frozen in this slot.
    ///
    /// # Errors
    /// As `Function::thaw`; `Mismatch` for an empty slot.
    pub fn thaw(&mut self, state: &FunctionState) -> Result<(), RestoreError> {
        let (function, line) = self.plugged.as_mut().ok_or(RestoreError::Mismatch)?;
        function.thaw(state, |_| Wiring::Line(Arc::clone(line)))
    }

    /// Reads `data.len()` bytes at an offset in the slot.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset >= CONFIG {
            if let Some(function) = self.function() {
                function.read_config(offset - CONFIG, data);
            }
        } else if data.len() == 4 {
            data.copy_from_slice(&self.register(offset).to_le_bytes());
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let Some(function) = self.function() else {
            return match offset {
                0x00 => MAGIC,
                0x04 => VERSION,
                _ => 0,
            };
        };
        match offset {
            0x00 => MAGIC,
            0x04 => VERSION,
            0x08 => u32::from(function.model().kind.id()),
            0x0C => u32::from_le_bytes(*b"ATOL"),
            0x10 => function.features_offered(),
            0x34 => u32::from(function.queue_size_max()),
            0x44 => function.queue().map_or(0, |queue| u32::from(queue.ready)),
            0x60 => function.flags().isr(),
            0x70 => u32::from(function.status()),
            // No shared memory: a length of all ones (4.2.2).
            0xB0 | 0xB4 | 0xB8 | 0xBC => u32::MAX,
            _ => 0,
        }
    }

    /// Writes at an offset in the slot. Configuration spaces of these devices
    /// are read-only.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(bytes) = <[u8; 4]>::try_from(data) else {
            return;
        };
        let value = u32::from_le_bytes(bytes);
        let Some((function, line)) = &mut self.plugged else {
            return;
        };
        match offset {
            0x14 => *function.features_pages().0 = value,
            0x20 => function.accept_features(value),
            0x24 => *function.features_pages().1 = value,
            // A number that no queue has selects none.
            0x30 => function.select(u16::try_from(value).unwrap_or(u16::MAX)),
            0x38 => function.set_queue_size(value),
            0x44 => {
                if let Some(queue) = function.queue_mut() {
                    queue.ready = value & 1 != 0;
                }
            }
            QUEUE_NOTIFY => function.link().notify(),
            0x64 => function.flags().acknowledge(value),
            0x70 => function.set_status((value & 0xFF) as u8, |_| Wiring::Line(Arc::clone(line))),
            0x80..=0xA4 => place(function, offset, value),
            _ => {}
        }
    }
}

fn place(function: &mut Function, offset: u64, value: u32) {
    let Some(queue) = function.queue_mut() else {
        return;
    };
    let place = &mut queue.place;
    match offset {
        0x80 | 0x84 => set_half(&mut place.descriptors, offset == 0x84, value),
        0x90 | 0x94 => set_half(&mut place.available, offset == 0x94, value),
        0xA0 | 0xA4 => set_half(&mut place.used, offset == 0xA4, value),
        _ => {}
    }
}

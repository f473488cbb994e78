//! virtio over PCI (virtio 1.3, 4.1): one endpoint, modern registers, MSI-X and
//! no interrupt line.
//!
//! ```text
//!   BAR 0:  0x0000 common | 0x1000 ISR | 0x1800 device | 0x2000 MSI-X table
//!           0x2800 pending bits | 0x3000 notification of every queue
//! ```
//!
//! What is not a register reads as zero and ignores writes, and so does an
//! access of another width than its register's (virtio 1.3, 4.1.3.1).

use super::function::{Function, NO_VECTOR, set_half};
use crate::signals::{Vector, Wiring};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use sys::event::EventFd;

/// The length of BAR 0.
pub const WINDOW: u32 = 0x4000;
/// Where in it a driver rings, whichever queue.
pub const NOTIFY: u64 = 0x3000;

const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x1800;
const TABLE: u64 = 0x2000;
const PENDING: u64 = 0x2800;
const COMMON_LENGTH: u32 = 56;
const ENTRY: u64 = 16;

const COMMAND: usize = 0x04;
const COMMAND_MEMORY: u8 = 2;
const BAR: usize = 0x10;
const CAPABILITIES: usize = 0x40;
const MSIX_ENABLED: u8 = 0x80;
const MSIX_MASKED: u8 = 0x40;
const ACCESS_LENGTH: usize = 12;
const ACCESS_DATA: usize = 16;

/// What a message-signalled interrupt writes, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

/// Wires interrupts: whatever lies between an eventfd and the guest.
pub trait Router: Send + Debug {
    /// Makes the vector's eventfd send this message from now on.
    fn route(&self, vector: usize, message: Message);
}

#[derive(Debug)]
struct Entry {
    message: Message,
    masked: bool,
    routed: Option<Message>,
    vector: Arc<Vector>,
}

#[derive(Debug)]
pub struct Endpoint {
    function: Function,
    /// Configuration space, and which of its bits can be written.
    space: [u8; 256],
    writable: [u8; 256],
    /// Offsets of the capabilities that have registers of their own.
    msix: usize,
    access: usize,
    entries: Vec<Entry>,
    router: Box<dyn Router>,
}

impl Endpoint {
    /// An endpoint whose BAR lies at `address` until the guest moves it.
    /// `wires` are its vectors': one for the configuration, one for each queue.
    #[must_use]
    pub fn new(
        function: Function,
        address: u32,
        wires: Vec<EventFd>,
        router: Box<dyn Router>,
    ) -> Self {
        let entry = |wire| Entry {
            message: Message::default(),
            masked: true,
            routed: None,
            vector: Arc::new(Vector::new(wire)),
        };
        let mut endpoint = Self {
            function,
            space: [0; 256],
            writable: [0; 256],
            msix: 0,
            access: 0,
            entries: wires.into_iter().map(entry).collect(),
            router,
        };
        endpoint.describe(address);
        endpoint
    }

    /// Fills configuration space (PCI 3.0, 6.1; virtio 1.3, 4.1.2 and 4.1.4).
    fn describe(&mut self, address: u32) {
        let device = 0x1040 + self.function.model().kind.id();
        self.put(0x00, &0x1AF4_u16.to_le_bytes());
        self.put(0x02, &device.to_le_bytes());
        self.put(0x06, &[0x10]); // a list of capabilities
        self.put(0x08, &[1, 0, 0, 0xFF]); // revision 1, no class
        self.put(BAR, &address.to_le_bytes());
        self.put(0x2C, &0x1AF4_u16.to_le_bytes());
        self.put(0x2E, &device.to_le_bytes());
        self.put(0x34, &[CAPABILITIES as u8]);
        self.allow(COMMAND, &[0x06, 0x04]);
        self.allow(BAR, &(!(WINDOW - 1)).to_le_bytes());
        self.allow(0x3C, &[0xFF]);
        let config = self.function.model().config.len() as u32;
        let mut at = CAPABILITIES;
        for (kind, offset, length) in [
            (1, 0, COMMON_LENGTH),
            (3, ISR as u32, 1),
            (4, DEVICE as u32, config),
        ] {
            // A device without configuration has no capability for it (4.1.4.6).
            if length > 0 {
                at = self.capability(at, 16, kind, offset, length);
            }
        }
        // The multiplier, 0: every queue is rung at the same place.
        at = self.capability(at, 20, 2, NOTIFY as u32, 4);
        self.access = at;
        at = self.capability(at, 20, 5, 0, 0);
        self.allow(self.access + 4, &[0xFF]);
        self.allow(self.access + 8, &[0xFF; 12]);
        self.msix = at;
        let last = self.entries.len().saturating_sub(1) as u16;
        self.put(at, &[0x11, 0]);
        self.put(at + 2, &last.to_le_bytes());
        self.put(at + 4, &(TABLE as u32).to_le_bytes());
        self.put(at + 8, &(PENDING as u32).to_le_bytes());
        self.allow(at + 3, &[MSIX_ENABLED | MSIX_MASKED]);
    }

    /// One of virtio's own capabilities; gives where the next one begins.
    fn capability(&mut self, at: usize, size: u8, kind: u8, offset: u32, length: u32) -> usize {
        let next = at + usize::from(size);
        self.put(at, &[0x09, next as u8, size, kind]);
        self.put(at + 8, &offset.to_le_bytes());
        self.put(at + 12, &length.to_le_bytes());
        next
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.space.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn allow(&mut self, at: usize, bits: &[u8]) {
        for (to, from) in self.writable.iter_mut().skip(at).zip(bits) {
            *to = *from;
        }
    }

    #[must_use]
    pub const fn function(&self) -> &Function {
        &self.function
    }

    /// Reads configuration space; beyond it there is nothing.
    pub fn read_space(&mut self, offset: usize, data: &mut [u8]) {
        let window = self.access + ACCESS_DATA;
        if offset < window + 4
            && offset.saturating_add(data.len()) > window
            && let Some((at, length)) = self.access_window()
        {
            let mut bytes = [0; 4];
            let (part, _) = bytes.split_at_mut(length);
            self.read(at, part);
            self.put(window, &bytes);
        }
        data.fill(0);
        for (to, from) in data.iter_mut().zip(self.space.iter().skip(offset)) {
            *to = *from;
        }
    }

    pub fn write_space(&mut self, offset: usize, data: &[u8]) {
        let bytes = self.space.iter_mut().zip(&self.writable).skip(offset);
        for ((byte, mask), new) in bytes.zip(data) {
            *byte = *byte & !mask | new & mask;
        }
        let end = offset.saturating_add(data.len());
        let touches = |at: usize, length: usize| offset < at + length && end > at;
        if touches(self.msix + 3, 1) {
            self.settle();
        }
        let window = self.access + ACCESS_DATA;
        if touches(window, 4)
            && let Some((at, length)) = self.access_window()
        {
            let bytes = self.word(window).to_le_bytes();
            let (part, _) = bytes.split_at(length);
            self.write(at, part);
        }
    }

    /// What the window in configuration space leads to (virtio 1.3, 4.1.4.9).
    fn access_window(&self) -> Option<(u64, usize)> {
        let offset = self.word(self.access + 8);
        let length = self.word(self.access + ACCESS_LENGTH);
        let bar = self.space.get(self.access + 4).copied()?;
        let aligned = matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length);
        (bar == 0 && aligned && offset < WINDOW).then_some((u64::from(offset), length as usize))
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.space.get(at..at + 4);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// The offset in BAR 0 of an address, if that decodes it.
    #[must_use]
    pub fn offset(&self, address: u64) -> Option<u64> {
        let decodes = self.space.get(COMMAND)? & COMMAND_MEMORY != 0;
        let offset = address.checked_sub(u64::from(self.word(BAR) & !(WINDOW - 1)))?;
        (decodes && offset < u64::from(WINDOW)).then_some(offset)
    }

    /// Reads at an offset in BAR 0.
    pub fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match offset {
            DEVICE..TABLE => return self.function.read_config(offset - DEVICE, data),
            TABLE.. if data.len() == 8 && offset.is_multiple_of(8) => {
                let (low, high) = data.split_at_mut(4);
                self.read(offset, low);
                return self.read(offset + 4, high);
            }
            _ => {}
        }
        let value = match (offset, data.len()) {
            (..ISR, width) => self.common(offset, width),
            (ISR, 1) => self.function.flags().take_isr(),
            (TABLE..PENDING, 4) => self.table(offset - TABLE),
            (PENDING..NOTIFY, 4) => self.pending((offset - PENDING) * 8),
            _ => 0,
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    /// Writes at an offset in BAR 0.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if (TABLE..PENDING).contains(&offset) && data.len() == 8 && offset.is_multiple_of(8) {
            let (low, high) = data.split_at(4);
            self.write(offset, low);
            return self.write(offset + 4, high);
        }
        let mut bytes = [0; 4];
        let Some(room) = bytes.get_mut(..data.len()) else {
            return;
        };
        room.copy_from_slice(data);
        let value = u32::from_le_bytes(bytes);
        match (offset, data.len()) {
            (..ISR, 4) => self.set_common_word(offset, value),
            (..ISR, 2) => self.set_common_half(offset, (value & 0xFFFF) as u16),
            (0x14, 1) => self.set_status((value & 0xFF) as u8),
            (TABLE..PENDING, 4) => self.set_table(offset - TABLE, value),
            (NOTIFY.., _) => self.function.link().notify(),
            _ => {}
        }
    }

    /// virtio 1.3, 4.1.4.3.
    fn common(&mut self, offset: u64, width: usize) -> u32 {
        let function = &mut self.function;
        let queue = function.queue().cloned().unwrap_or_default();
        let place = &queue.place;
        match (offset, width) {
            (0x00, 4) => *function.features_pages().0,
            (0x04, 4) => function.features_offered(),
            (0x08, 4) => *function.features_pages().1,
            (0x0C, 4) => function.features_accepted(),
            (0x10, 2) => u32::from(function.config_vector()),
            (0x12, 2) => function.queues().len() as u32,
            (0x14, 1) => u32::from(function.status()),
            (0x16, 2) => u32::from(function.selected()),
            (0x18, 2) => u32::from(place.size),
            (0x1A, 2) => function
                .queue()
                .map_or(u32::from(NO_VECTOR), |queue| u32::from(queue.vector)),
            (0x1C, 2) => u32::from(queue.ready),
            (0x20, 4) => place.descriptors as u32,
            (0x24, 4) => (place.descriptors >> 32) as u32,
            (0x28, 4) => place.available as u32,
            (0x2C, 4) => (place.available >> 32) as u32,
            (0x30, 4) => place.used as u32,
            (0x34, 4) => (place.used >> 32) as u32,
            _ => 0,
        }
    }

    fn set_common_word(&mut self, offset: u64, value: u32) {
        let function = &mut self.function;
        match offset {
            0x00 => *function.features_pages().0 = value,
            0x08 => *function.features_pages().1 = value,
            0x0C => function.accept_features(value),
            0x20..0x38 => {
                if let Some(queue) = function.queue_mut() {
                    let (place, high) = (&mut queue.place, offset & 4 != 0);
                    match offset & !4 {
                        0x20 => set_half(&mut place.descriptors, high, value),
                        0x28 => set_half(&mut place.available, high, value),
                        0x30 => set_half(&mut place.used, high, value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn set_common_half(&mut self, offset: u64, value: u16) {
        // What is not a vector reads back as none (virtio 1.3, 4.1.5.1.2.1).
        let known = usize::from(value) < self.entries.len();
        let vector = if known { value } else { NO_VECTOR };
        let function = &mut self.function;
        match offset {
            0x10 => function.set_config_vector(vector),
            0x16 => function.select(value),
            0x18 => function.set_queue_size(u32::from(value)),
            0x1A => {
                if let Some(queue) = function.queue_mut() {
                    queue.vector = vector;
                }
            }
            // A driver must not write 0 (4.1.4.3.2).
            0x1C if value == 1 => {
                if let Some(queue) = function.queue_mut() {
                    queue.ready = true;
                }
            }
            _ => {}
        }
    }

    fn set_status(&mut self, value: u8) {
        let entries = &self.entries;
        let vector = |number: u16| {
            let entry = entries.get(usize::from(number))?;
            Some(Arc::clone(&entry.vector))
        };
        self.function.set_status(value, |function| {
            let queues = function.queues().iter();
            Wiring::Vectors {
                queues: queues.map(|queue| vector(queue.vector)).collect(),
                config: vector(function.config_vector()),
            }
        });
    }

    /// PCI 3.0, 6.8.2: address, upper address, data, control.
    fn table(&self, offset: u64) -> u32 {
        let Some(entry) = self.entries.get((offset / ENTRY) as usize) else {
            return 0;
        };
        match offset % ENTRY {
            0 => entry.message.address as u32,
            4 => (entry.message.address >> 32) as u32,
            8 => entry.message.data,
            12 => u32::from(entry.masked),
            _ => 0,
        }
    }

    fn set_table(&mut self, offset: u64, value: u32) {
        let Some(entry) = self.entries.get_mut((offset / ENTRY) as usize) else {
            return;
        };
        match offset % ENTRY {
            0 => set_half(&mut entry.message.address, false, value),
            4 => set_half(&mut entry.message.address, true, value),
            8 => entry.message.data = value,
            12 => entry.masked = value & 1 != 0,
            _ => {}
        }
        self.settle();
    }

    fn pending(&self, first: u64) -> u32 {
        let entries = self.entries.iter().skip(first as usize).take(32);
        (0..).zip(entries).fold(0, |bits, (bit, entry)| {
            bits | u32::from(entry.vector.pending.load(Ordering::SeqCst)) << bit
        })
    }

    /// Makes each vector as the table and MSI-X control say: first the way of a
    /// message, then the message.
    fn settle(&mut self) {
        let control = self.space.get(self.msix + 3).copied().unwrap_or(0);
        let open = control & (MSIX_ENABLED | MSIX_MASKED) == MSIX_ENABLED;
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let masked = entry.masked || !open;
            if !masked && entry.routed != Some(entry.message) {
                self.router.route(index, entry.message);
                entry.routed = Some(entry.message);
            }
            entry.vector.masked.store(masked, Ordering::SeqCst);
            if !masked {
                entry.vector.deliver();
            }
        }
    }
}

//! One device's registers, apart from where a transport puts them.
//!
//! ```text
//!   0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK      (virtio 1.3, 3.1)
//!   ^                                                |
//!   +--------------- write of 0 ---------------------+
//! ```
//!
//! Features change only before FEATURES_OK, queues only before DRIVER_OK, bits
//! of the status never go back but to 0. What a driver does against that has no
//! effect.

use crate::link::{Activation, Gone, Link, Order};
use crate::ring::{Place, Progress, Ring};
use crate::signals::{Flags, Signals, Wiring};
use crate::{Kind, Model, feature};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sys::memory::GuestMemory;

const FEATURES_OK: u8 = 8;
const DRIVER_OK: u8 = 4;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;
/// The bits that a driver may set: not NEEDS_RESET, nor reserved ones.
const DRIVER_BITS: u8 = 1 | 2 | DRIVER_OK | FEATURES_OK | FAILED;

/// A queue as the driver describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRegisters {
    pub place: Place,
    pub ready: bool,
    /// MSI-X vector, for PCI alone.
    pub vector: u16,
}

/// No vector (virtio 1.3, 4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xFFFF;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Registers {
    status: u8,
    features: u64,
    features_offered_page: u32,
    features_accepted_page: u32,
    queue: u16,
    queues: Vec<QueueRegisters>,
    config_vector: u16,
}

/// What a frozen function is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionState {
    pub kind: Kind,
    features_offered: u64,
    registers: Registers,
    isr: u32,
    broken: bool,
    progress: Vec<Option<Progress>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("the state is of another kind of device, or has other features or queues")]
    Mismatch,
    #[error("the state's rings are not in the guest's memory")]
    Rings,
    #[error(transparent)]
    Gone(#[from] Gone),
}

#[derive(Debug)]
pub struct Function {
    model: Model,
    link: Link,
    memory: GuestMemory,
    flags: Arc<Flags>,
    registers: Registers,
    active: bool,
}

impl Registers {
    fn new(model: &Model) -> Self {
        let queues = model.queue_sizes.iter().map(|size| QueueRegisters {
            place: Place {
                size: *size,
                ..Place::default()
            },
            ready: false,
            vector: NO_VECTOR,
        });
        Self {
            status: 0,
            features: 0,
            features_offered_page: 0,
            features_accepted_page: 0,
            queue: 0,
            queues: queues.collect(),
            config_vector: NO_VECTOR,
        }
    }
}

impl Function {
    #[must_use]
    pub fn new(model: Model, link: Link, memory: GuestMemory) -> Self {
        Self {
            registers: Registers::new(&model),
            model,
            link,
            memory,
            flags: Arc::default(),
            active: false,
        }
    }

    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    #[must_use]
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    #[must_use]
    pub fn status(&self) -> u8 {
        let broken = if self.flags.broken() { NEEDS_RESET } else { 0 };
        self.registers.status | broken
    }

    /// Writes the status. `wiring` says where interrupts of an activated device
    /// go; it is asked at most once.
    pub fn set_status(&mut self, value: u8, wiring: impl FnOnce(&Self) -> Wiring) {
        if value == 0 {
            self.reset();
            return;
        }
        let new = value & DRIVER_BITS & !self.registers.status;
        let mut accepted = new & !(FEATURES_OK | DRIVER_OK);
        if new & FEATURES_OK != 0 && self.features_acceptable() {
            accepted |= FEATURES_OK;
        }
        self.registers.status |= accepted;
        if new & DRIVER_OK != 0 && self.registers.status & FEATURES_OK != 0 {
            self.registers.status |= DRIVER_OK;
            let signals = Signals::new(Arc::clone(&self.flags), wiring(self));
            self.activate(signals, &[], false);
        }
    }

    fn features_acceptable(&self) -> bool {
        let accepted = self.registers.features;
        accepted & !self.model.features == 0 && accepted & feature::VERSION_1 != 0
    }

    fn activate(&mut self, signals: Signals, progress: &[Option<Progress>], thawed: bool) {
        let event_idx = self.registers.features & feature::EVENT_IDX != 0;
        let ring = |(index, queue): (usize, &QueueRegisters)| {
            let progress = progress.get(index).copied().flatten().unwrap_or_default();
            queue
                .ready
                .then(|| Ring::new(index, &queue.place, progress, event_idx, &self.memory))
                .transpose()
        };
        let rings: Result<Vec<_>, _> = self.registers.queues.iter().enumerate().map(ring).collect();
        let order = rings.map(|rings| {
            Order::Activate(Activation {
                features: self.registers.features,
                rings,
                signals: signals.clone(),
                thawed,
            })
        });
        match order {
            Ok(order) => match self.link.order(order) {
                Ok(()) => self.active = true,
                Err(Gone) => signals.broken(),
            },
            Err(error) => {
                log::warn!("{:?}: {error}", self.model.kind);
                signals.broken();
            }
        }
    }

    fn reset(&mut self) {
        if self.active && self.link.reset().is_err() {
            log::error!("{:?}: {Gone}", self.model.kind);
        }
        self.active = false;
        self.registers = Registers::new(&self.model);
        self.flags.reset();
    }

    /// Reads the configuration space; bytes that are not there are zero.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (position, byte) in (offset..).zip(data) {
            let position = usize::try_from(position).ok();
            *byte = position
                .and_then(|position| self.model.config.get(position).copied())
                .unwrap_or(0);
        }
    }

    #[must_use]
    pub fn features_offered(&self) -> u32 {
        page(self.model.features, self.registers.features_offered_page)
    }

    #[must_use]
    pub fn features_accepted(&self) -> u32 {
        page(
            self.registers.features,
            self.registers.features_accepted_page,
        )
    }

    pub fn accept_features(&mut self, bits: u32) {
        if self.registers.status & FEATURES_OK != 0 {
            return;
        }
        let features = &mut self.registers.features;
        match self.registers.features_accepted_page {
            0 => *features = *features & !0xFFFF_FFFF | u64::from(bits),
            1 => *features = *features & 0xFFFF_FFFF | u64::from(bits) << 32,
            _ => {}
        }
    }

    pub const fn features_pages(&mut self) -> (&mut u32, &mut u32) {
        let registers = &mut self.registers;
        (
            &mut registers.features_offered_page,
            &mut registers.features_accepted_page,
        )
    }

    #[must_use]
    pub const fn selected(&self) -> u16 {
        self.registers.queue
    }

    pub const fn select(&mut self, queue: u16) {
        self.registers.queue = queue;
    }

    /// The selected queue.
    #[must_use]
    pub fn queue(&self) -> Option<&QueueRegisters> {
        self.registers.queues.get(usize::from(self.registers.queue))
    }

    /// The largest size of the selected queue, 0 if there is none.
    #[must_use]
    pub fn queue_size_max(&self) -> u16 {
        let sizes = &self.model.queue_sizes;
        let size = sizes.get(usize::from(self.registers.queue));
        size.copied().unwrap_or(0)
    }

    #[must_use]
    pub fn queues(&self) -> &[QueueRegisters] {
        &self.registers.queues
    }

    /// The selected queue, as long as its place may change.
    pub fn queue_mut(&mut self) -> Option<&mut QueueRegisters> {
        if self.registers.status & DRIVER_OK != 0 {
            return None;
        }
        let index = usize::from(self.registers.queue);
        self.registers.queues.get_mut(index)
    }

    #[must_use]
    pub const fn config_vector(&self) -> u16 {
        self.registers.config_vector
    }

    pub const fn set_config_vector(&mut self, vector: u16) {
        self.registers.config_vector = vector;
    }

    /// Sets the size of the selected queue; a size that can't be has no effect.
    pub fn set_queue_size(&mut self, size: u32) {
        let max = self.queue_size_max();
        let Ok(size) = u16::try_from(size) else {
            return;
        };
        if size.is_power_of_two()
            && size <= max
            && let Some(queue) = self.queue_mut()
        {
            queue.place.size = size;
        }
    }

    /// The state of a function whose device is paused, at these positions.
    #[must_use]
    pub fn freeze(&self, progress: Vec<Option<Progress>>) -> FunctionState {
        FunctionState {
            kind: self.model.kind,
            features_offered: self.model.features,
            registers: self.registers.clone(),
            isr: self.flags.isr(),
            broken: self.flags.broken(),
            progress,
        }
    }

    /// Makes a new function continue a frozen one.
    ///
    /// # Errors
    /// `Mismatch` if the device is not the same, `Rings` if the state lies.
    pub fn thaw(
        &mut self,
        state: &FunctionState,
        wiring: impl FnOnce(&Self) -> Wiring,
    ) -> Result<(), RestoreError> {
        let fits = state.kind == self.model.kind
            && state.features_offered == self.model.features
            && state.registers.queues.len() == self.model.queue_sizes.len();
        if !fits {
            return Err(RestoreError::Mismatch);
        }
        self.registers = state.registers.clone();
        self.flags.restore(state.isr, state.broken);
        if self.registers.status & DRIVER_OK == 0 || state.broken {
            return Ok(());
        }
        let signals = Signals::new(Arc::clone(&self.flags), wiring(self));
        self.activate(signals, &state.progress, true);
        if self.active {
            Ok(())
        } else {
            Err(RestoreError::Rings)
        }
    }
}

fn page(features: u64, page: u32) -> u32 {
    match page {
        0 => (features & 0xFFFF_FFFF) as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

/// Replaces the low or high half of an address.
pub fn set_half(address: &mut u64, high: bool, value: u32) {
    *address = if high {
        *address & 0xFFFF_FFFF | u64::from(value) << 32
    } else {
        *address & !0xFFFF_FFFF | u64::from(value)
    };
}

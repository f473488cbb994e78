//! How a device reaches its driver: interrupts, and the wish to be reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sys::event::EventFd;

/// Bits of the interrupt status (virtio 1.3, 4.2.2).
const QUEUE: u32 = 1;
const CONFIG: u32 = 2;

/// What device and transport share.
#[derive(Debug, Default)]
pub struct Flags {
    isr: AtomicU32,
    broken: AtomicBool,
}

impl Flags {
    #[must_use]
    pub fn isr(&self) -> u32 {
        self.isr.load(Ordering::Acquire)
    }

    pub fn acknowledge(&self, bits: u32) {
        self.isr.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Reads and clears, as PCI does (virtio 1.3, 4.1.4.5).
    #[must_use]
    pub fn take_isr(&self) -> u32 {
        self.isr.swap(0, Ordering::AcqRel)
    }

    /// Whether the device asks for a reset.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub fn reset(&self) {
        self.isr.store(0, Ordering::Release);
        self.broken.store(false, Ordering::Release);
    }

    pub(crate) fn set_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub(crate) fn restore(&self, isr: u32, broken: bool) {
        self.isr.store(isr, Ordering::Release);
        self.broken.store(broken, Ordering::Release);
    }
}

/// One message-signalled interrupt; its owner masks it, devices raise it.
#[derive(Debug)]
pub struct Vector {
    pub(crate) wire: EventFd,
    pub(crate) masked: AtomicBool,
    pub(crate) pending: AtomicBool,
}

impl Vector {
    /// A vector that is masked until the driver unmasks it.
    #[must_use]
    pub const fn new(wire: EventFd) -> Self {
        Self {
            wire,
            masked: AtomicBool::new(true),
            pending: AtomicBool::new(false),
        }
    }

    fn raise(&self) {
        self.pending.store(true, Ordering::SeqCst);
        if !self.masked.load(Ordering::SeqCst) {
            self.deliver();
        }
    }

    pub(crate) fn deliver(&self) {
        if self.pending.swap(false, Ordering::SeqCst) {
            pulse(&self.wire);
        }
    }
}

/// Where interrupts go.
#[derive(Clone, Debug)]
pub enum Wiring {
    /// One edge-triggered line for everything.
    Line(Arc<EventFd>),
    /// A vector for each queue, and one for configuration changes.
    Vectors {
        queues: Vec<Option<Arc<Vector>>>,
        config: Option<Arc<Vector>>,
    },
}

#[derive(Clone, Debug)]
pub struct Signals {
    pub(crate) flags: Arc<Flags>,
    pub(crate) wiring: Wiring,
}

impl Signals {
    #[must_use]
    pub const fn new(flags: Arc<Flags>, wiring: Wiring) -> Self {
        Self { flags, wiring }
    }

    /// The used ring of a queue has something new.
    pub fn queue(&self, index: usize) {
        match &self.wiring {
            Wiring::Line(wire) => {
                self.flags.isr.fetch_or(QUEUE, Ordering::AcqRel);
                pulse(wire);
            }
            Wiring::Vectors { queues, .. } => {
                if let Some(Some(vector)) = queues.get(index) {
                    vector.raise();
                }
            }
        }
    }

    /// The device can't go on until the driver resets it (virtio 1.3, 2.1.2).
    pub fn broken(&self) {
        self.flags.set_broken();
        match &self.wiring {
            Wiring::Line(wire) => {
                self.flags.isr.fetch_or(CONFIG, Ordering::AcqRel);
                pulse(wire);
            }
            Wiring::Vectors { config, .. } => {
                if let Some(vector) = config {
                    vector.raise();
                }
            }
        }
    }
}

/// An eventfd fails a write only when its counter is full: it is pending then.
fn pulse(wire: &EventFd) {
    let _ = wire.write(1);
}

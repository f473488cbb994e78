//! A split ring in use by a device: takes chains, gives them back.
//!
//! Bounded by the ring itself: no more chains are outstanding than it has
//! entries, and `serve` returns after that many, so that one busy ring can't
//! keep its thread from anything else.

use crate::chain::{Chain, ChainError, Used};
use serde::{Deserialize, Serialize};
use sys::memory::GuestMemory;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;

#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("queue {0}: not in memory, not aligned, or of a wrong size")]
    Layout(usize),
    #[error(transparent)]
    Ring(#[from] virtio_queue::Error),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Where a ring is, as the driver wrote it, and how far it was served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// Positions in a ring, as 16-bit counters that wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub next_available: u16,
    pub next_used: u16,
}

#[derive(Debug)]
pub struct Ring {
    queue: Queue,
}

/// What `Ring::serve` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The driver wants to be told.
    pub interrupt: bool,
    /// There is more to do.
    pub more: bool,
}

impl Ring {
    /// # Errors
    /// `Layout`, naming queue `index`, unless all three parts lie in memory.
    pub fn new(
        index: usize,
        place: &Place,
        progress: Progress,
        event_idx: bool,
        memory: &GuestMemory,
    ) -> Result<Self, RingError> {
        let wrong = |_| RingError::Layout(index);
        let mut queue = Queue::new(place.size).map_err(wrong)?;
        queue.try_set_size(place.size).map_err(wrong)?;
        queue
            .try_set_desc_table_address(GuestAddress(place.descriptors))
            .map_err(wrong)?;
        queue
            .try_set_avail_ring_address(GuestAddress(place.available))
            .map_err(wrong)?;
        queue
            .try_set_used_ring_address(GuestAddress(place.used))
            .map_err(wrong)?;
        queue.set_event_idx(event_idx);
        queue.set_next_avail(progress.next_available);
        queue.set_next_used(progress.next_used);
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            return Err(RingError::Layout(index));
        }
        Ok(Self { queue })
    }

    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            next_available: self.queue.next_avail(),
            next_used: self.queue.next_used(),
        }
    }

    /// The next chain, if there is one. Ask `must_interrupt` after pushing.
    ///
    /// # Errors
    /// Any: the driver broke the ring, which is of no use any more.
    pub fn pop(&mut self, memory: &GuestMemory) -> Result<Option<Chain>, RingError> {
        match self.queue.iter(memory)?.next() {
            None => Ok(None),
            Some(raw) => Ok(Some(Chain::parse(raw, memory)?)),
        }
    }

    /// Puts back the chain that was popped last, untouched.
    pub fn unpop(&mut self, chain: Chain) {
        drop(chain);
        self.queue.go_to_previous_position();
    }

    /// # Errors
    /// `Ring` if the used ring can't be written.
    pub fn push(&mut self, memory: &GuestMemory, used: Used) -> Result<(), RingError> {
        Ok(self.queue.add_used(memory, used.head, used.written)?)
    }

    /// Whether the driver wants to be told of what was pushed since the last
    /// call (virtio 1.3, 2.7.7).
    ///
    /// # Errors
    /// `Ring` if the ring can't be read.
    pub fn must_interrupt(&mut self, memory: &GuestMemory) -> Result<bool, RingError> {
        Ok(self.queue.needs_notification(memory)?)
    }

    /// Asks for a notification of the next chain; true if one is there already.
    ///
    /// # Errors
    /// `Ring` if the ring can't be written.
    pub fn rearm(&mut self, memory: &GuestMemory) -> Result<bool, RingError> {
        Ok(self.queue.enable_notification(memory)?)
    }

    /// Answers at most a ring full of chains.
    ///
    /// # Errors
    /// Any: the device must ask for a reset.
    pub fn serve(
        &mut self,
        memory: &GuestMemory,
        mut answer: impl FnMut(Chain) -> Used,
    ) -> Result<Served, RingError> {
        let mut budget = self.queue.size();
        let mut pushed = false;
        self.queue.disable_notification(memory)?;
        loop {
            while let Some(chain) = self.pop(memory)? {
                let used = answer(chain);
                self.push(memory, used)?;
                pushed = true;
                budget = budget.saturating_sub(1);
                if budget == 0 {
                    break;
                }
            }
            if budget == 0 || !self.rearm(memory)? {
                break;
            }
        }
        Ok(Served {
            interrupt: pushed && self.must_interrupt(memory)?,
            more: budget == 0,
        })
    }
}

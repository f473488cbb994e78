//! A descriptor chain, checked once and then only addresses and lengths.
//!
//! Refuses what no driver may offer (virtio 1.3, 2.7.5): loops, addresses
//! outside of memory, tables in tables, writable before readable, and more
//! segments than any device here asks for.

use sys::memory::GuestMemory;
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

/// The most segments of a chain, both directions together.
pub const SEGMENTS_MAX: usize = 130;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("descriptor chain at {0} is cut, looped or points outside of its table")]
    Broken(u16),
    #[error("descriptor chain at {0} has more than {SEGMENTS_MAX} segments")]
    TooLong(u16),
    #[error("descriptor chain at {head}: {start:#x}+{length:#x} is no memory")]
    NoMemory { head: u16, start: u64, length: u32 },
    #[error("descriptor chain at {0}: readable after writable")]
    Order(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: GuestAddress,
    length: u32,
}

/// A chain that the driver offered, and that must be given back: `Ring::serve`
/// wants a `Used`, and only `Chain::used` makes one.
#[must_use]
#[derive(Debug)]
pub struct Chain {
    head: u16,
    readable: Vec<Span>,
    writable: Vec<Span>,
}

/// The answer to a chain: how many bytes the device wrote.
#[must_use]
#[derive(Debug)]
pub struct Used {
    pub(crate) head: u16,
    pub(crate) written: u32,
}

/// One direction of a chain as a run of bytes.
#[derive(Clone, Copy)]
pub struct View<'a> {
    memory: &'a GuestMemory,
    spans: &'a [Span],
}

impl Chain {
    pub(crate) fn parse(
        raw: DescriptorChain<&GuestMemory>,
        memory: &GuestMemory,
    ) -> Result<Self, ChainError> {
        let head = raw.head_index();
        let mut chain = Self {
            head,
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let mut complete = false;
        let mut spans = Vec::new();
        for descriptor in raw {
            complete = !descriptor.has_next();
            if spans.len() == SEGMENTS_MAX {
                return Err(ChainError::TooLong(head));
            }
            let span = Span {
                start: descriptor.addr(),
                length: descriptor.len(),
            };
            spans.push((span, descriptor.is_write_only()));
        }
        // The iterator ends silently where a chain is wrong, and only a last
        // descriptor says that nothing follows.
        if !complete {
            return Err(ChainError::Broken(head));
        }
        for (span, writable) in spans {
            chain.add(memory, span, writable)?;
        }
        Ok(chain)
    }

    fn add(&mut self, memory: &GuestMemory, span: Span, writable: bool) -> Result<(), ChainError> {
        if span.length == 0 {
            return Ok(());
        }
        if !GuestMemoryBackend::check_range(memory, span.start, span.length as usize) {
            return Err(ChainError::NoMemory {
                head: self.head,
                start: span.start.0,
                length: span.length,
            });
        }
        match (writable, self.writable.is_empty()) {
            (true, _) => self.writable.push(span),
            (false, true) => self.readable.push(span),
            (false, false) => return Err(ChainError::Order(self.head)),
        }
        Ok(())
    }

    /// What the driver wrote for the device.
    #[must_use]
    pub fn readable<'a>(&'a self, memory: &'a GuestMemory) -> View<'a> {
        View {
            memory,
            spans: &self.readable,
        }
    }

    /// Where the device may write.
    #[must_use]
    pub fn writable<'a>(&'a self, memory: &'a GuestMemory) -> View<'a> {
        View {
            memory,
            spans: &self.writable,
        }
    }

    /// Ends the work on this chain; `written` bytes of it were filled.
    pub fn used(self, written: u32) -> Used {
        Used {
            head: self.head,
            written,
        }
    }
}

impl<'a> View<'a> {
    /// In bytes; below 4 GiB (virtio 1.3, 2.7.5.2).
    #[must_use]
    pub fn length(&self) -> u64 {
        self.spans.iter().map(|span| u64::from(span.length)).sum()
    }

    /// The memory of `length` bytes from `offset` on; none if that is not there.
    #[must_use]
    pub fn slices(&self, offset: u64, length: u64) -> Option<Vec<VolatileSlice<'a>>> {
        let mut skip = offset;
        let mut rest = length;
        let mut slices = Vec::new();
        for span in self.spans {
            let all = u64::from(span.length);
            if skip >= all {
                skip -= all;
                continue;
            }
            let take = (all - skip).min(rest);
            if take == 0 {
                break;
            }
            let start = GuestAddress(span.start.0.checked_add(skip)?);
            let take_bytes = usize::try_from(take).ok()?;
            slices.push(GuestMemoryBackend::get_slice(self.memory, start, take_bytes).ok()?);
            rest -= take;
            skip = 0;
        }
        (rest == 0).then_some(slices)
    }

    /// Copies out of the guest; none if there are fewer bytes.
    #[must_use]
    pub fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let mut done = 0;
        for slice in self.slices(offset, N as u64)? {
            done += slice.copy_to(bytes.get_mut(done..)?);
        }
        Some(bytes)
    }

    /// Copies into the guest; false, and nothing promised, if it doesn't fit.
    #[must_use]
    pub fn put(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(slices) = self.slices(offset, bytes.len() as u64) else {
            return false;
        };
        let mut rest = bytes;
        for slice in slices {
            let (now, later) = rest.split_at(slice.len().min(rest.len()));
            if slice.write_slice(now, 0).is_err() {
                return false;
            }
            rest = later;
        }
        true
    }
}

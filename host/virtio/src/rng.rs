//! Entropy (virtio 1.3, 5.4), from the host kernel's generator.
//!
//! One chain gets at most `GIVE_MAX` bytes: more would only keep the thread.

use crate::chain::{Chain, Used};
use crate::link::Order;
use crate::ring::Ring;
use crate::signals::Signals;
use crate::{Kind, Model, feature};
use sys::memory::GuestMemory;

const GIVE_MAX: usize = 256;
const QUEUE_SIZE: u16 = 8;

#[must_use]
pub fn model() -> Model {
    Model {
        kind: Kind::Rng,
        features: feature::COMMON,
        queue_sizes: vec![QUEUE_SIZE],
        config: Vec::new(),
    }
}

/// The device, as a poll loop drives it.
pub struct Rng {
    memory: GuestMemory,
    active: Option<(Ring, Signals)>,
    paused: bool,
}

impl Rng {
    #[must_use]
    pub const fn new(memory: GuestMemory) -> Self {
        Self {
            memory,
            active: None,
            paused: false,
        }
    }

    pub fn order(&mut self, order: Order) {
        match order {
            Order::Activate(mut activation) => {
                let ring = activation.rings.first_mut().and_then(Option::take);
                self.active = ring.map(|ring| (ring, activation.signals));
                if let Some((_, signals)) = &self.active
                    && activation.thawed
                {
                    signals.queue(0);
                }
            }
            Order::Reset(done) => {
                self.active = None;
                let _ = done.send(());
            }
            Order::Pause(done) => {
                self.paused = true;
                let progress = self.active.as_ref().map(|(ring, _)| ring.progress());
                let _ = done.send(vec![progress]);
            }
            Order::Resume => self.paused = false,
        }
    }

    /// Serves the ring; true if there is more to do.
    #[must_use]
    pub fn serve(&mut self) -> bool {
        let Some((ring, signals)) = &mut self.active else {
            return false;
        };
        if self.paused {
            return false;
        }
        match ring.serve(&self.memory, |chain| answer(&self.memory, chain)) {
            Ok(served) => {
                if served.interrupt {
                    signals.queue(0);
                }
                served.more
            }
            Err(error) => {
                log::warn!("rng: {error}");
                signals.broken();
                self.active = None;
                false
            }
        }
    }
}

fn answer(memory: &GuestMemory, chain: Chain) -> Used {
    let view = chain.writable(memory);
    let mut bytes = [0; GIVE_MAX];
    let length = usize::try_from(view.length()).map_or(GIVE_MAX, |length| length.min(GIVE_MAX));
    let wanted = &mut bytes[..length];
    let given = rustix::rand::getrandom(&mut *wanted, rustix::rand::GetRandomFlags::empty());
    let given = given.map_or(0, |given| given.min(length));
    let written = if view.put(0, &bytes[..given]) {
        given
    } else {
        0
    };
    // At most GIVE_MAX.
    chain.used(u32::try_from(written).unwrap_or(0))
}

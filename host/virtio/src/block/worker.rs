//! A thread of disks: the one that it was started for, and those that joined it
//! while the guest ran.

use super::request::{Refusal, Request, Serial, Status};
use crate::chain::{Chain, Used};
use crate::link::{Gone, Inbox, Link, Order, link_on};
use crate::ring::Ring;
use crate::signals::Signals;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use sys::event::EventFd;
use sys::memory::GuestMemory;
use volume::Volume;

/// What the thread runs.
pub struct Group {
    first: Worker,
    others: Vec<Worker>,
    joining: Receiver<Worker>,
}

/// By which disks join a group: the caller says how many.
pub struct Join {
    workers: Sender<Worker>,
    wake: Arc<EventFd>,
}

struct Worker {
    inbox: Inbox,
    memory: GuestMemory,
    volume: Volume,
    serial: Serial,
    active: Option<(Ring, Signals)>,
    paused: bool,
}

impl Group {
    /// `id` is what the driver reads as serial; more than 20 bytes are cut.
    #[must_use]
    pub fn new(inbox: Inbox, memory: GuestMemory, volume: Volume, id: &str) -> (Self, Join) {
        let (workers, joining) = channel();
        let wake = inbox.shared_wake();
        let group = Self {
            first: Worker::new(inbox, memory, volume, id),
            others: Vec::new(),
            joining,
        };
        (group, Join { workers, wake })
    }

    /// Serves until the transport of the first is gone: all end together.
    pub fn run(mut self) {
        while self.first.turn().is_ok() {
            self.others.extend(self.joining.try_iter());
            self.others.retain_mut(|worker| worker.turn().is_ok());
            self.first.inbox.wait();
        }
    }
}

impl Join {
    /// The thread serves this disk, too; `id` as for `Group::new`.
    #[must_use]
    pub fn join(&self, memory: GuestMemory, volume: Volume, id: &str) -> Link {
        let (link, inbox) = link_on(Arc::clone(&self.wake));
        // Nobody is left to take it at the end of the machine alone.
        let _ = self.workers.send(Worker::new(inbox, memory, volume, id));
        link
    }
}

impl Worker {
    fn new(inbox: Inbox, memory: GuestMemory, volume: Volume, id: &str) -> Self {
        let mut serial = [0; 20];
        for (to, from) in serial.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self {
            inbox,
            memory,
            volume,
            serial,
            active: None,
            paused: false,
        }
    }

    /// Does what there is to do.
    fn turn(&mut self) -> Result<(), Gone> {
        while let Some(order) = self.inbox.take()? {
            self.order(order);
        }
        if !self.paused {
            self.serve();
        }
        Ok(())
    }

    fn order(&mut self, order: Order) {
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
            // The asker may have given up waiting: nothing is owed then.
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

    fn serve(&mut self) {
        let Some((ring, signals)) = &mut self.active else {
            return;
        };
        let (memory, volume, serial) = (&self.memory, &self.volume, &self.serial);
        match ring.serve(memory, |chain| answer(chain, memory, volume, serial)) {
            Ok(served) => {
                if served.interrupt {
                    signals.queue(0);
                }
                if served.more {
                    self.inbox.again();
                }
            }
            Err(error) => {
                log::warn!("disk: {error}");
                signals.broken();
                self.active = None;
            }
        }
    }
}

/// Answers one chain; a chain without room for a status gets none.
pub(super) fn answer(chain: Chain, memory: &GuestMemory, volume: &Volume, serial: &Serial) -> Used {
    let Some(status_at) = chain.writable(memory).length().checked_sub(1) else {
        return chain.used(0);
    };
    let (status, written) = match Request::parse(&chain, memory) {
        Ok(request) => request.execute(&chain, memory, volume, serial),
        Err(Refusal::Unsupported(_)) => (Status::Unsupported, 0),
        Err(refusal) => {
            log::debug!("disk: {refusal}");
            (Status::Error, 0)
        }
    };
    // The room was measured above.
    let _ = chain.writable(memory).put(status_at, &[status as u8]);
    chain.used(written.saturating_add(1))
}

//! The queues of one priority level, and who is served next. Pure: time and
//! hashes are arguments, requests are numbers (KEP-1040, "Fair Queuing for
//! Server Requests").
//!
//! ```text
//! flow --hash--> a hand of queues --> the one with the least work --> served
//!                                       full: refused                 by time
//! ```
//! Each queue has a virtual time at which its next request would start, were
//! the seats divided equally among the queues that are active. The earliest
//! one is served. A service is charged with `GUESS` when it begins and with
//! what it took when it has ended.

use std::collections::VecDeque;

/// Seconds that a service is taken to last until it has ended.
const GUESS: f64 = 60.0;

/// As a priority level has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) queues: usize,
    pub(super) hand: usize,
    /// Most requests in one queue.
    pub(super) length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) seats: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Seats of what waits here.
    wanted: u64,
    /// Seats of what is served.
    used: u64,
    /// Virtual time at which the next one starts.
    next: f64,
}

impl Queue {
    fn is_active(&self) -> bool {
        self.used > 0 || !self.waiting.is_empty()
    }

    fn work(&self) -> u64 {
        self.wanted + self.used
    }
}

#[derive(Debug)]
pub(super) struct Queues {
    shape: Shape,
    queues: Vec<Queue>,
    /// How many wait.
    waiting: usize,
    /// Virtual time: seat-seconds that each active queue got since the start.
    virtual_now: f64,
    /// Seconds, of the last call.
    seen: f64,
    /// From where queues of the same virtual time are tried.
    turn: usize,
}

/// What is served, and from which queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Served {
    pub(super) queue: usize,
    pub(super) waiting: Waiting,
    /// Seconds.
    pub(super) since: f64,
}

impl Queues {
    pub(super) fn new(shape: Shape) -> Queues {
        let mut made = Queues {
            shape,
            queues: Vec::new(),
            waiting: 0,
            virtual_now: 0.0,
            seen: 0.0,
            turn: 0,
        };
        made.reshape(shape);
        made
    }

    /// Queues beyond a smaller number get nothing new and empty in time.
    pub(super) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        while self.queues.len() < shape.queues.max(1) {
            self.queues.push(Queue::default());
        }
    }

    /// Nothing new comes in.
    pub(super) fn close(&mut self) {
        self.shape.length = 0;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shape.length == 0
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Puts it in the queue of the hand of `hash` with the least work; its
    /// number, or `None` if that one is full.
    pub(super) fn push(
        &mut self,
        waiting: Waiting,
        hash: u64,
        seats: u32,
        now: f64,
    ) -> Option<usize> {
        self.advance(seats, now);
        let work = |at: &usize| self.queues[*at].work();
        let best = deal(hash, self.shape).into_iter().min_by_key(work)?;
        let virtual_now = self.virtual_now;
        let queue = &mut self.queues[best];
        if queue.waiting.len() >= self.shape.length {
            return None;
        }
        if !queue.is_active() {
            queue.next = virtual_now;
        }
        queue.waiting.push_back(waiting);
        self.waiting += 1;
        queue.wanted += u64::from(waiting.seats);
        Some(best)
    }

    /// Takes out who no longer waits; `false`: it is served already.
    pub(super) fn remove(&mut self, queue: usize, id: u64) -> bool {
        let Some(queue) = self.queues.get_mut(queue) else {
            return false;
        };
        let Some(at) = queue.waiting.iter().position(|w| w.id == id) else {
            return false;
        };
        let gone = queue.waiting.remove(at);
        self.waiting -= usize::from(gone.is_some());
        queue.wanted -= gone.map_or(0, |w| u64::from(w.seats));
        true
    }

    /// The next one, if `fits` says that its seats are free. Nobody overtakes
    /// it meanwhile, so that wide requests come to be served.
    pub(super) fn pop(
        &mut self,
        seats: u32,
        now: f64,
        fits: impl Fn(u32) -> bool,
    ) -> Option<Served> {
        self.advance(seats, now);
        let count = self.queues.len();
        let mut best: Option<(f64, usize)> = None;
        for step in 1..=count {
            let at = (self.turn + step) % count;
            if let Some(first) = self.queues[at].waiting.front() {
                let ends = self.queues[at].next + f64::from(first.seats) * GUESS;
                if best.is_none_or(|(found, _)| ends < found) {
                    best = Some((ends, at));
                }
            }
        }
        let (_, at) = best?;
        let queue = &mut self.queues[at];
        if !queue.waiting.front().is_some_and(|w| fits(w.seats)) {
            return None;
        }
        let waiting = queue.waiting.pop_front()?;
        self.waiting -= 1;
        queue.wanted -= u64::from(waiting.seats);
        queue.used += u64::from(waiting.seats);
        queue.next += f64::from(waiting.seats) * GUESS;
        self.turn = at;
        Some(Served {
            queue: at,
            waiting,
            since: now,
        })
    }

    /// The service has ended: it is charged with what it took.
    pub(super) fn end(&mut self, served: &Served, seats: u32, now: f64) {
        self.advance(seats, now);
        let virtual_now = self.virtual_now;
        let queue = &mut self.queues[served.queue];
        queue.used = queue.used.saturating_sub(u64::from(served.waiting.seats));
        let took = (now - served.since).max(0.0);
        queue.next += f64::from(served.waiting.seats) * (took - GUESS);
        if !queue.is_active() {
            queue.next = queue.next.max(virtual_now);
        }
    }

    /// Virtual time goes on as fast as each active queue could be served.
    fn advance(&mut self, seats: u32, now: f64) {
        let elapsed = (now - self.seen).max(0.0);
        self.seen = self.seen.max(now);
        let active = self.queues.iter().filter(|q| q.is_active());
        let (count, work) = active.fold((0_u32, 0_u64), |(n, work), q| (n + 1, work + q.work()));
        if count > 0 {
            let busy = u32::try_from(work).unwrap_or(u32::MAX).min(seats);
            self.virtual_now += elapsed * f64::from(busy) / f64::from(count);
        }
    }
}

/// Shuffle sharding: different queues, as many as the hand holds.
fn deal(mut hash: u64, shape: Shape) -> Vec<usize> {
    let mut hand: Vec<usize> = Vec::with_capacity(shape.hand);
    for dealt in 0..shape.hand.min(shape.queues).max(1) {
        let left = (shape.queues.max(1) - dealt) as u64;
        // Less than the number of queues.
        let mut card = usize::try_from(hash % left).unwrap_or(0);
        hash /= left;
        let at = hand.iter().position(|taken| {
            let before = *taken <= card;
            card += usize::from(before);
            !before
        });
        hand.insert(at.unwrap_or(hand.len()), card);
    }
    hand
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;

//! One connection, as a state machine without I/O.
//!
//! ```text
//!   Waiting --request sent--> Requested --RESPONSE--> Open --> gone
//!      ^                          |                     |
//!      +---- RST, no guest yet ---+         RST, or both ends shut and drained
//! ```
//!
//! Bounded: what the guest sent and the stream has not taken yet is at most
//! `BUFFER` bytes, which is the credit that the guest has (5.10.6.3); a guest
//! that sends more is reset. Nothing from the stream is held here at all.

use super::packet::{DATA_MAX, Header, Operation, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use std::collections::VecDeque;

/// The credit of a guest for one connection, in bytes.
pub const BUFFER: u32 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The guest is to be asked.
    Waiting,
    /// The guest was asked.
    Requested,
    Open,
}

/// What a packet of the guest means for the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// The guest refused the connection.
    Refused,
    /// It is over: drop it.
    Gone,
    /// The guest broke the rules: reset and drop it.
    Violation,
}

#[derive(Debug)]
pub struct Connection {
    pub host_port: u32,
    pub guest_port: u32,
    phase: Phase,
    /// Bytes sent to the guest, and what it told of its side; all wrap.
    sent: u32,
    peer_buffer: u32,
    peer_forwarded: u32,
    /// Bytes received from the guest, passed on, and passed on as last told.
    received: u32,
    forwarded: u32,
    told: u32,
    backlog: VecDeque<u8>,
    /// What the guest shut, and what of the stream's ends is shut.
    guest_shut: u32,
    host_shut: u32,
    /// Control packets to send, at most one of each kind.
    owes_credit: bool,
    owes_shutdown: bool,
}

impl Connection {
    #[must_use]
    pub const fn new(host_port: u32, guest_port: u32) -> Self {
        Self {
            host_port,
            guest_port,
            phase: Phase::Waiting,
            sent: 0,
            peer_buffer: 0,
            peer_forwarded: 0,
            received: 0,
            forwarded: 0,
            told: 0,
            backlog: VecDeque::new(),
            guest_shut: 0,
            host_shut: 0,
            owes_credit: false,
            owes_shutdown: false,
        }
    }

    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Asks again, after a refusal that may only mean "not yet".
    pub const fn retry(&mut self) {
        self.phase = Phase::Waiting;
    }

    /// The bytes that the guest would take now.
    #[must_use]
    pub fn credit(&self) -> u32 {
        let open = self.phase == Phase::Open
            && self.host_shut & SHUTDOWN_SEND == 0
            && self.guest_shut & SHUTDOWN_RECEIVE == 0;
        if !open {
            return 0;
        }
        let flying = self.sent.wrapping_sub(self.peer_forwarded);
        self.peer_buffer.saturating_sub(flying).min(DATA_MAX)
    }

    #[must_use]
    pub const fn backlog(&self) -> &VecDeque<u8> {
        &self.backlog
    }

    /// Takes a packet; data of it is taken with `buffered` or `passed` after a
    /// `Continue`.
    pub fn packet(&mut self, header: &Header) -> Verdict {
        self.peer_buffer = header.buffer;
        self.peer_forwarded = header.forwarded;
        match (self.phase, header.operation) {
            (Phase::Requested, Operation::Reset) => Verdict::Refused,
            (_, Operation::Reset) => Verdict::Gone,
            (Phase::Requested, Operation::Response) => {
                self.phase = Phase::Open;
                Verdict::Continue
            }
            (Phase::Open, Operation::Data) => {
                let room = BUFFER - self.received.wrapping_sub(self.forwarded).min(BUFFER);
                let shut = self.guest_shut & SHUTDOWN_SEND != 0;
                if header.length > room || shut {
                    return Verdict::Violation;
                }
                self.received = self.received.wrapping_add(header.length);
                Verdict::Continue
            }
            (Phase::Open, Operation::Shutdown) => {
                self.guest_shut |= header.flags & SHUTDOWN_BOTH;
                Verdict::Continue
            }
            (Phase::Open, Operation::CreditRequest) => {
                self.owes_credit = true;
                Verdict::Continue
            }
            (Phase::Open, Operation::CreditUpdate) => Verdict::Continue,
            (
                Phase::Waiting | Phase::Requested,
                Operation::Data
                | Operation::Shutdown
                | Operation::CreditRequest
                | Operation::CreditUpdate,
            )
            | (Phase::Waiting | Phase::Open, Operation::Response)
            | (_, Operation::Request) => Verdict::Violation,
        }
    }

    /// Data that the stream did not take yet.
    pub fn buffered(&mut self, bytes: &[u8]) {
        self.backlog.extend(bytes);
    }

    /// The stream took this many bytes; those of the backlog are removed.
    pub fn passed(&mut self, bytes: usize, from_backlog: bool) {
        if from_backlog {
            self.backlog.drain(..bytes.min(self.backlog.len()));
            if self.backlog.is_empty() {
                self.backlog.shrink_to(4096);
            }
        }
        // Bounded by `received`, which `packet` bounds by BUFFER.
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.forwarded = self.forwarded.wrapping_add(count);
        // The guest needs to know before it runs dry, not of each byte.
        if self.forwarded.wrapping_sub(self.told) >= BUFFER / 4 {
            self.owes_credit = true;
        }
    }

    /// The stream's other end will send nothing more; `both`: nor take more.
    pub const fn stream_ended(&mut self, both: bool) {
        let shut = if both { SHUTDOWN_BOTH } else { SHUTDOWN_SEND };
        if self.host_shut | shut != self.host_shut {
            self.host_shut |= shut;
            self.owes_shutdown = true;
        }
    }

    /// Whether the guest sends no more and everything went on to the stream.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.guest_shut & SHUTDOWN_SEND != 0 && self.backlog.is_empty()
    }

    /// Whether nothing can flow any more.
    #[must_use]
    pub fn finished(&self) -> bool {
        let guest_done = self.guest_shut == SHUTDOWN_BOTH && self.backlog.is_empty();
        let host_sends = self.host_shut & SHUTDOWN_SEND == 0;
        guest_done || (self.drained() && !host_sends && !self.owes_shutdown)
    }

    /// Whether the stream's other end is gone for good.
    #[must_use]
    pub const fn abandoned(&self) -> bool {
        self.host_shut == SHUTDOWN_BOTH
    }

    /// Whether `control` has something, without taking it.
    #[must_use]
    pub fn owes(&self) -> bool {
        match self.phase {
            Phase::Waiting => true,
            Phase::Requested => false,
            Phase::Open => self.owes_credit || self.owes_shutdown,
        }
    }

    /// The next packet without data that has to go to the guest.
    pub fn control(&mut self) -> Option<Header> {
        match self.phase {
            Phase::Waiting => {
                self.phase = Phase::Requested;
                Some(self.header(Operation::Request, 0, 0))
            }
            Phase::Requested => None,
            Phase::Open if self.owes_credit => Some(self.header(Operation::CreditUpdate, 0, 0)),
            Phase::Open if self.owes_shutdown => {
                self.owes_shutdown = false;
                Some(self.header(Operation::Shutdown, 0, self.host_shut))
            }
            Phase::Open => None,
        }
    }

    /// The header of data that is sent to the guest, at most `credit` bytes.
    pub fn data(&mut self, length: u32) -> Header {
        self.sent = self.sent.wrapping_add(length);
        self.header(Operation::Data, length, 0)
    }

    /// Ends it for the guest.
    #[must_use]
    pub fn reset(&mut self) -> Header {
        self.header(Operation::Reset, 0, 0)
    }

    fn header(&mut self, operation: Operation, length: u32, flags: u32) -> Header {
        // Each packet carries the credit (5.10.6.3).
        self.owes_credit = false;
        self.told = self.forwarded;
        Header {
            guest_port: self.guest_port,
            host_port: self.host_port,
            length,
            operation,
            flags,
            buffer: BUFFER,
            forwarded: self.forwarded,
        }
    }
}

//! The vsock device, as a poll loop drives it.
//!
//! A connection that the guest refuses before any was ever accepted is asked
//! for again every `RETRY`: whoever started the guest may connect at once, and
//! is answered as soon as somebody listens. Afterwards a refusal is final, and
//! closes the stream.

use super::connection::{Connection, Phase, Verdict};
use super::packet::{DATA_MAX, HEADER, Header, Operation};
use super::stream::{Filled, Stream};
use super::{CONNECTIONS_MAX, RESETS_MAX};
use crate::chain::Chain;
use crate::link::Order;
use crate::ring::{Ring, RingError};
use crate::signals::Signals;
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use sys::event::{Interest, Poll, Ready, monotonic_ns};
use sys::memory::GuestMemory;

const RETRY: u64 = 4_000_000;
/// How long a connection waits for the guest to listen.
const ACCEPT_LIMIT: u64 = 60_000_000_000;
/// How long a guest may take to end a connection whose stream is gone.
const CLOSE_LIMIT: u64 = 10_000_000_000;
/// Host ports of our connections; below are those with a meaning elsewhere.
const FIRST_PORT: u32 = 0x4000_0000;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENT: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("there are {CONNECTIONS_MAX} connections already")]
    Full,
    #[error("the descriptor is no stream that can be polled")]
    Stream(#[source] io::Error),
}

struct Active {
    receive: Ring,
    transmit: Ring,
    event: Option<Ring>,
    signals: Signals,
}

pub struct Vsock {
    memory: GuestMemory,
    cid: u64,
    /// Tokens of streams in the poll are `token_base` plus their host port.
    token_base: u64,
    active: Option<Active>,
    paused: bool,
    streams: BTreeMap<u32, Stream>,
    /// Host ports of streams with something for the guest, each once.
    ready: VecDeque<u32>,
    resets: VecDeque<Header>,
    next_port: u32,
    /// Some connection was accepted: a refusal means refusal from now on.
    accepted: bool,
}

impl Vsock {
    #[must_use]
    pub const fn new(memory: GuestMemory, cid: u32, token_base: u64) -> Self {
        Self {
            memory,
            cid: cid as u64,
            token_base,
            active: None,
            paused: false,
            streams: BTreeMap::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            next_port: FIRST_PORT,
            accepted: false,
        }
    }

    /// Connects a stream to a port of the guest, as soon as that listens.
    ///
    /// # Errors
    /// Any; the stream is closed then.
    pub fn connect(
        &mut self,
        poll: &Poll,
        socket: OwnedFd,
        guest_port: u32,
    ) -> Result<(), ConnectError> {
        if self.streams.len() >= CONNECTIONS_MAX {
            return Err(ConnectError::Full);
        }
        let mut host_port = self.next_port;
        while self.streams.contains_key(&host_port) || host_port < FIRST_PORT {
            host_port = host_port.wrapping_add(1).max(FIRST_PORT);
        }
        self.next_port = host_port.wrapping_add(1);
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| ConnectError::Stream(errno.into()))?;
        poll.add(
            &socket,
            self.token_base + u64::from(host_port),
            Interest::Edges,
        )
        .map_err(ConnectError::Stream)?;
        let connection = Connection::new(host_port, guest_port);
        let stream = Stream::new(socket, connection, monotonic_ns() + ACCEPT_LIMIT);
        self.streams.insert(host_port, stream);
        self.list(host_port);
        Ok(())
    }

    pub fn order(&mut self, order: Order) {
        match order {
            Order::Activate(mut activation) => {
                let mut take = |index: usize| activation.rings.get_mut(index)?.take();
                let (receive, transmit, event) = (take(RECEIVE), take(TRANSMIT), take(EVENT));
                if let (Some(receive), Some(transmit)) = (receive, transmit) {
                    self.active = Some(Active {
                        receive,
                        transmit,
                        event,
                        signals: activation.signals,
                    });
                }
                if activation.thawed {
                    self.announce_reset();
                }
            }
            Order::Reset(done) => {
                self.active = None;
                self.resets.clear();
                // Those that wait go on waiting for the next driver.
                self.streams
                    .retain(|_, stream| stream.connection.phase() == Phase::Waiting);
                let _ = done.send(());
            }
            Order::Pause(done) => {
                self.paused = true;
                let _ = done.send(match &self.active {
                    None => vec![None; 3],
                    Some(active) => vec![
                        Some(active.receive.progress()),
                        Some(active.transmit.progress()),
                        active.event.as_ref().map(Ring::progress),
                    ],
                });
            }
            Order::Resume => self.paused = false,
        }
    }

    /// What epoll said of a stream of ours.
    pub fn stream_ready(&mut self, event: Ready) {
        let port = u32::try_from(event.token.wrapping_sub(self.token_base)).ok();
        let Some((port, stream)) = port.and_then(|port| Some((port, self.streams.get_mut(&port)?)))
        else {
            return;
        };
        stream.readable |= event.readable || event.closed;
        stream.writable |= event.writable;
        stream.hung_up |= event.closed;
        if event.closed && stream.connection.phase() != Phase::Open {
            self.drop_stream(port);
            return;
        }
        if !stream.flush() {
            self.reset_stream(port);
            return;
        }
        self.list(port);
    }

    /// Moves what can be moved; true if it has to be called again soon.
    #[must_use]
    pub fn serve(&mut self) -> bool {
        if self.paused {
            return false;
        }
        let Some(mut active) = self.active.take() else {
            return false;
        };
        let result = self.turn(&mut active);
        match result {
            Ok(more) => {
                self.active = Some(active);
                more
            }
            Err(error) => {
                log::warn!("vsock: {error}");
                active.signals.broken();
                self.streams.clear();
                false
            }
        }
    }

    fn turn(&mut self, active: &mut Active) -> Result<bool, RingError> {
        let more = self.transmit(active)?;
        self.receive(active)?;
        // Resets that made room let the guest's packets be read again.
        Ok(more && self.resets.len() < RESETS_MAX)
    }

    /// Takes packets of the guest.
    fn transmit(&mut self, active: &mut Active) -> Result<bool, RingError> {
        let memory = self.memory.clone();
        let mut budget = super::QUEUE_SIZE;
        let mut pushed = false;
        while budget > 0 && self.resets.len() < RESETS_MAX {
            let Some(chain) = active.transmit.pop(&memory)? else {
                if active.transmit.rearm(&memory)? {
                    continue;
                }
                break;
            };
            self.packet(&chain);
            active.transmit.push(&memory, chain.used(0))?;
            pushed = true;
            budget -= 1;
        }
        if pushed && active.transmit.must_interrupt(&memory)? {
            active.signals.queue(TRANSMIT);
        }
        Ok(budget == 0 || self.resets.len() >= RESETS_MAX)
    }

    fn packet(&mut self, chain: &Chain) {
        let memory = self.memory.clone();
        let view = chain.readable(&memory);
        let Some(bytes) = view.array(0) else {
            return;
        };
        let header = match Header::parse(&bytes, self.cid) {
            Ok(header) => header,
            Err(error) => {
                log::debug!("vsock: packet dropped: {error}");
                return;
            }
        };
        let port = header.host_port;
        let known = self
            .streams
            .get_mut(&port)
            .filter(|stream| stream.connection.guest_port == header.guest_port);
        let Some(stream) = known else {
            self.stranger(&header);
            return;
        };
        let data = match header.operation {
            Operation::Data => view.slices(HEADER as u64, u64::from(header.length)),
            _ => Some(Vec::new()),
        };
        let Some(data) = data else {
            self.reset_stream(port);
            return;
        };
        match stream.connection.packet(&header) {
            Verdict::Continue => {
                self.accepted |= header.operation == Operation::Response;
                let stream_lives = (data.is_empty() || stream.pass(&data)) && stream.flush();
                if !stream_lives {
                    self.reset_stream(port);
                    return;
                }
                self.settle(port);
            }
            Verdict::Refused if !self.accepted && monotonic_ns() < stream.refuse_at => {
                stream.deadline = Some(monotonic_ns() + RETRY);
            }
            Verdict::Refused | Verdict::Gone => self.drop_stream(port),
            Verdict::Violation => self.reset_stream(port),
        }
    }

    /// A packet of no connection of ours: refused, but a sign of life.
    fn stranger(&mut self, header: &Header) {
        if header.operation == Operation::Reset {
            return;
        }
        if header.operation == Operation::Request {
            self.ask_again(|_| true);
        }
        self.resets.push_back(Header {
            operation: Operation::Reset,
            length: 0,
            flags: 0,
            buffer: 0,
            forwarded: 0,
            ..*header
        });
    }

    /// Ends a connection that has nothing more to move, else lists it.
    fn settle(&mut self, port: u32) {
        let Some(stream) = self.streams.get_mut(&port) else {
            return;
        };
        if stream.connection.finished() {
            self.reset_stream(port);
            return;
        }
        if stream.connection.abandoned() && stream.deadline.is_none() {
            stream.deadline = Some(monotonic_ns() + CLOSE_LIMIT);
        }
        self.list(port);
    }

    /// Gives packets to the guest, one of each stream in turn.
    fn receive(&mut self, active: &mut Active) -> Result<(), RingError> {
        let memory = self.memory.clone();
        let mut pushed = false;
        while !self.resets.is_empty() || !self.ready.is_empty() {
            let Some(chain) = active.receive.pop(&memory)? else {
                if active.receive.rearm(&memory)? {
                    continue;
                }
                break;
            };
            match self.fill(&chain) {
                Some(length) => {
                    active.receive.push(&memory, chain.used(length))?;
                    pushed = true;
                }
                None => active.receive.unpop(chain),
            }
        }
        if pushed && active.receive.must_interrupt(&memory)? {
            active.signals.queue(RECEIVE);
        }
        Ok(())
    }

    /// Fills one chain; none if its turn came to nothing.
    fn fill(&mut self, chain: &Chain) -> Option<u32> {
        let memory = self.memory.clone();
        let view = chain.writable(&memory);
        if let Some(header) = self.resets.pop_front() {
            return view
                .put(0, &header.encode(self.cid))
                .then_some(HEADER as u32);
        }
        let port = self.ready.pop_front()?;
        let stream = self.streams.get_mut(&port)?;
        stream.listed = false;
        let mut length = 0;
        let mut header = stream.connection.control();
        if header.is_none() && stream.readable && stream.connection.credit() > 0 {
            let room = view.length().saturating_sub(HEADER as u64);
            let room = room.min(u64::from(stream.connection.credit().min(DATA_MAX)));
            match stream.fill(&view.slices(HEADER as u64, room)?) {
                Filled::Bytes(bytes) => {
                    length = bytes;
                    header = Some(stream.connection.data(bytes));
                }
                Filled::Nothing => {}
                Filled::Failed => {
                    self.reset_stream(port);
                    return None;
                }
            }
        }
        self.settle(port);
        let bytes = header?.encode(self.cid);
        view.put(0, &bytes).then_some(HEADER as u32 + length)
    }

    /// The earliest deadline, in monotonic nanoseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.streams
            .values()
            .filter_map(|stream| stream.deadline)
            .min()
    }

    /// Does what is due; serve afterwards.
    pub fn tick(&mut self, now: u64) {
        self.ask_again(|deadline| deadline <= now);
        let late: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(port, _)| *port)
            .collect();
        for port in late {
            self.reset_stream(port);
        }
    }

    fn ask_again(&mut self, due: impl Fn(u64) -> bool) {
        let mut ports = Vec::new();
        for (port, stream) in &mut self.streams {
            let waits = stream.connection.phase() == Phase::Requested;
            if waits && stream.deadline.is_some_and(&due) {
                stream.connection.retry();
                stream.deadline = None;
                ports.push(*port);
            }
        }
        for port in ports {
            self.list(port);
        }
    }

    fn list(&mut self, port: u32) {
        if let Some(stream) = self.streams.get_mut(&port)
            && !stream.listed
            && stream.wants_room()
        {
            stream.listed = true;
            self.ready.push_back(port);
        }
    }

    fn reset_stream(&mut self, port: u32) {
        if let Some(mut stream) = self.streams.remove(&port) {
            self.ready.retain(|listed| *listed != port);
            // More resets than RESETS_MAX are possible here, but no more than
            // there are connections.
            self.resets.push_back(stream.connection.reset());
        }
    }

    fn drop_stream(&mut self, port: u32) {
        if self.streams.remove(&port).is_some() {
            self.ready.retain(|listed| *listed != port);
        }
    }

    /// Tells a thawed guest that its connections are gone (5.10.6.8).
    fn announce_reset(&mut self) {
        let Some(active) = &mut self.active else {
            return;
        };
        let memory = self.memory.clone();
        if let Some(ring) = &mut active.event
            && let Ok(Some(chain)) = ring.pop(&memory)
        {
            let written = chain.writable(&memory).put(0, &0_u32.to_le_bytes());
            let used = chain.used(if written { 4 } else { 0 });
            if ring.push(&memory, used).is_ok() {
                active.signals.queue(EVENT);
            }
        }
        active.signals.queue(RECEIVE);
        active.signals.queue(TRANSMIT);
    }
}

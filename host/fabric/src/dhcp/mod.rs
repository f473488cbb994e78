//! The DHCPv4 client (RFC 2131) as a state machine without I/O and clock.
//!
//! ```text
//!   Selecting --offer--> Requesting --ack--> Bound --T1--> Renewing --T2--> Rebinding
//!       ^                    |nak, tries       ^  ack          |                |
//!       +--------------------+-----------------+---------------+--expiry, nak---+
//!   link comes back: Bound.. --> Rebooting --ack--> Bound, else Selecting
//! ```
//!
//! Times are `Duration`s since any fixed point, given by the caller. Addresses
//! that others already use are not probed for (RFC 5227).

mod packet;
#[cfg(test)]
mod tests;

use crate::config::Mac;
use packet::{Answer, AnswerKind, Ask};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The port on which clients listen.
pub(crate) const CLIENT_PORT: u16 = 68;
/// The port on which servers listen.
pub(crate) const SERVER_PORT: u16 = 67;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(64);
const REQUEST_TRIES: u32 = 4;
/// RFC 2131, 4.4.5: renewals are not repeated faster than this.
const RENEW_RETRY: Duration = Duration::from_secs(60);
/// A lease of less is taken as one of that length.
const SHORTEST_LEASE: u32 = 10;
const INFINITE: u32 = u32::MAX;

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    /// Destination, prefix length, gateway; an unspecified gateway is on-link.
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub(crate) nameservers: Vec<Ipv4Addr>,
    pub(crate) time_servers: Vec<Ipv4Addr>,
    pub(crate) domain: Option<String>,
    pub(crate) mtu: Option<u16>,
    pub(crate) server: Ipv4Addr,
    /// Seconds.
    pub(crate) duration: u32,
    pub(crate) renew_after: u32,
    pub(crate) rebind_after: u32,
}

/// What the caller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A whole IPv4 packet for everybody on the link.
    Broadcast(Vec<u8>),
    /// A UDP payload from the leased address to the server's port.
    Unicast {
        to: Ipv4Addr,
        payload: Vec<u8>,
    },
    /// New, or changed.
    Apply(Lease),
    Withdraw(Lease),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Selecting { tries: u32 },
    Requesting { offer: Lease, tries: u32 },
    Rebooting { lease: Held, tries: u32 },
    Bound(Held),
    Renewing(Held),
    Rebinding(Held),
}

/// A lease with its times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    lease: Lease,
    since: Duration,
}

impl Held {
    fn at(&self, seconds: u32) -> Duration {
        if seconds == INFINITE {
            return Duration::MAX;
        }
        self.since + Duration::from_secs(seconds.into())
    }
}

/// One interface's client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    mac: Mac,
    xid: u32,
    random: u64,
    state: State,
    /// When `on_time` has something to do.
    due: Duration,
    /// When the current exchange began, for the `secs` field.
    began: Duration,
}

impl Client {
    /// Asks at the first `on_time`.
    pub(crate) fn new(mac: Mac, seed: u64, now: Duration) -> Self {
        Self {
            mac,
            xid: 0,
            random: seed | 1,
            state: State::Selecting { tries: 0 },
            due: now,
            began: now,
        }
    }

    pub(crate) const fn due(&self) -> Duration {
        self.due
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Selecting { .. } | State::Requesting { .. } => None,
            State::Rebooting { lease: held, .. }
            | State::Bound(held)
            | State::Renewing(held)
            | State::Rebinding(held) => Some(held),
        }
    }

    /// The cable was out: is the lease still good here?
    pub(crate) fn link_came_up(&mut self, now: Duration) {
        self.state = match self.held() {
            Some(held) => State::Rebooting {
                lease: held.clone(),
                tries: 0,
            },
            None => State::Selecting { tries: 0 },
        };
        self.due = now;
        self.began = now;
    }

    /// Something is due.
    pub(crate) fn on_time(&mut self, now: Duration) -> Vec<Action> {
        if now < self.due {
            return Vec::new();
        }
        match self.state.clone() {
            State::Selecting { tries } => {
                self.new_exchange(tries == 0, now);
                self.state = State::Selecting { tries: tries + 1 };
                self.due = now + self.retry(tries);
                vec![self.broadcast(Ask::Discover, now)]
            }
            State::Requesting { tries, .. } if tries >= REQUEST_TRIES => self.restart(now),
            State::Requesting { offer, tries } => {
                let ask = Ask::Request {
                    address: offer.address,
                    server: Some(offer.server),
                };
                self.state = State::Requesting {
                    offer,
                    tries: tries + 1,
                };
                self.due = now + self.retry(tries);
                vec![self.broadcast(ask, now)]
            }
            State::Rebooting { lease, tries } => self.reboot(lease, tries, now),
            State::Bound(held) => {
                self.new_exchange(true, now);
                self.renew(held, now)
            }
            State::Renewing(held) => self.renew(held, now),
            State::Rebinding(held) => self.rebind(held, now),
        }
    }

    /// An IPv4 packet arrived; what isn't for this exchange is ignored.
    pub(crate) fn on_packet(&mut self, bytes: &[u8], now: Duration) -> Vec<Action> {
        let Some(answer) = packet::parse(bytes, self.mac, self.xid) else {
            return Vec::new();
        };
        match (answer.kind, self.state.clone()) {
            (AnswerKind::Offer, State::Selecting { .. }) => self.offered(answer, now),
            (AnswerKind::Ack, State::Requesting { offer, .. }) => {
                match answer.lease.filter(|lease| lease.server == offer.server) {
                    Some(lease) => self.bind(lease, None, now),
                    None => Vec::new(),
                }
            }
            (
                AnswerKind::Ack,
                State::Rebooting { lease: held, .. }
                | State::Renewing(held)
                | State::Rebinding(held),
            ) => match answer.lease {
                Some(lease) => self.bind(lease, Some(held), now),
                None => Vec::new(),
            },
            (AnswerKind::Nak, State::Requesting { .. }) => self.restart(now),
            (
                AnswerKind::Nak,
                State::Rebooting { lease: held, .. }
                | State::Renewing(held)
                | State::Rebinding(held),
            ) => {
                let mut actions = vec![Action::Withdraw(held.lease)];
                actions.extend(self.restart(now));
                actions
            }
            (_, _) => Vec::new(),
        }
    }

    fn offered(&mut self, answer: Answer, now: Duration) -> Vec<Action> {
        let Some(offer) = answer.lease else {
            return Vec::new();
        };
        self.state = State::Requesting { offer, tries: 0 };
        self.due = now;
        self.on_time(now)
    }

    fn bind(&mut self, lease: Lease, before: Option<Held>, now: Duration) -> Vec<Action> {
        let held = Held { lease, since: now };
        self.due = held.at(held.lease.renew_after);
        self.state = State::Bound(held.clone());
        match before {
            Some(before) if before.lease == held.lease => Vec::new(),
            Some(before) if before.lease.address != held.lease.address => {
                vec![Action::Withdraw(before.lease), Action::Apply(held.lease)]
            }
            _ => vec![Action::Apply(held.lease)],
        }
    }

    fn renew(&mut self, held: Held, now: Duration) -> Vec<Action> {
        let end = held.at(held.lease.rebind_after);
        if now >= end {
            return self.rebind(held, now);
        }
        self.due = now + ((end - now) / 2).max(RENEW_RETRY).min(end - now);
        let to = held.lease.server;
        let ask = Ask::Extend(held.lease.address);
        let payload = packet::build(ask, self.mac, self.xid, self.seconds(now));
        self.state = State::Renewing(held);
        vec![Action::Unicast { to, payload }]
    }

    fn rebind(&mut self, held: Held, now: Duration) -> Vec<Action> {
        let end = held.at(held.lease.duration);
        if now >= end {
            let mut actions = vec![Action::Withdraw(held.lease)];
            actions.extend(self.restart(now));
            return actions;
        }
        self.due = now + ((end - now) / 2).max(RENEW_RETRY).min(end - now);
        let ask = Ask::Extend(held.lease.address);
        self.state = State::Rebinding(held);
        vec![self.broadcast(ask, now)]
    }

    fn reboot(&mut self, held: Held, tries: u32, now: Duration) -> Vec<Action> {
        let expired = now >= held.at(held.lease.duration);
        if expired || tries >= REQUEST_TRIES {
            // Nobody answers: keep the address for its time, ask its server later.
            return self.rebind(held, now);
        }
        self.new_exchange(tries == 0, now);
        let ask = Ask::Request {
            address: held.lease.address,
            server: None,
        };
        self.state = State::Rebooting {
            lease: held,
            tries: tries + 1,
        };
        self.due = now + self.retry(tries);
        vec![self.broadcast(ask, now)]
    }

    fn restart(&mut self, now: Duration) -> Vec<Action> {
        self.state = State::Selecting { tries: 0 };
        self.due = now;
        self.on_time(now)
    }

    fn broadcast(&self, ask: Ask, now: Duration) -> Action {
        let payload = packet::build(ask, self.mac, self.xid, self.seconds(now));
        Action::Broadcast(packet::wrap(&payload))
    }

    fn seconds(&self, now: Duration) -> u16 {
        let seconds = now.saturating_sub(self.began).as_secs();
        u16::try_from(seconds).unwrap_or(u16::MAX)
    }

    fn new_exchange(&mut self, first: bool, now: Duration) {
        if first {
            self.began = now;
            self.xid = (self.next_random() >> 16) as u32;
        }
    }

    /// 1, 2, 4 .. 64 seconds, plus or minus half a second (RFC 2131, 4.1).
    fn retry(&mut self, tries: u32) -> Duration {
        let base = FIRST_RETRY * 2_u32.saturating_pow(tries.min(6));
        let jitter = Duration::from_millis(self.next_random() % 1000);
        (base.min(LAST_RETRY) + jitter).saturating_sub(Duration::from_millis(500))
    }

    /// xorshift64: spreads clients, hides nothing.
    const fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

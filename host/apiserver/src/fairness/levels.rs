//! Priority levels: how many seats each has, and what waits for them. Pure.
//!
//! | of a level | is |
//! | --- | --- |
//! | nominal | its part, by shares, of the server's seats, rounded up |
//! | floor | what of it nobody borrows: nominal less what may be lent |
//! | ceiling | what it has at most: nominal and what it may borrow |
//!
//! Seats that a level doesn't use, down to its floor, others use at once, up to
//! their ceiling; upstream has them change hands every ten seconds, by demand.
//! A level without anybody served has one request served, however wide.

use super::queues::{Queues, Served, Shape, Waiting};
use api::meta;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) uid: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Exempt,
    Limited {
        shares: u32,
        /// Percents of the nominal seats.
        lendable: u32,
        /// `None`: as many as there are.
        borrowing: Option<u32>,
        /// `None`: what finds no seat is refused.
        shape: Option<Shape>,
    },
}

impl Spec {
    pub(super) fn parse(object: &Value) -> Spec {
        Spec {
            uid: meta::uid(object).to_owned(),
            kind: Kind::parse(&object["spec"]),
        }
    }

    /// The level of what no other level takes, if somebody removed it.
    pub(super) fn catch_all() -> Spec {
        Spec {
            uid: String::new(),
            kind: Kind::Limited {
                shares: 5,
                lendable: 0,
                borrowing: None,
                shape: None,
            },
        }
    }
}

impl Kind {
    fn parse(spec: &Value) -> Kind {
        if meta::text(spec, &["type"]) == "Exempt" {
            return Kind::Exempt;
        }
        let limited = &spec["limited"];
        let number = |of: &Value, key| meta::int(of, &[key]).and_then(|n| u32::try_from(n).ok());
        let response = &limited["limitResponse"];
        let queuing = &response["queuing"];
        let size = |key, usual| {
            let given = meta::int(queuing, &[key]).and_then(|n| usize::try_from(n).ok());
            given.filter(|n| *n > 0).unwrap_or(usual)
        };
        let shape = Shape {
            queues: size("queues", 64),
            hand: size("handSize", 8),
            length: size("queueLengthLimit", 50),
        };
        Kind::Limited {
            shares: number(limited, "nominalConcurrencyShares").unwrap_or(30),
            lendable: number(limited, "lendablePercent").unwrap_or(0).min(100),
            borrowing: number(limited, "borrowingLimitPercent"),
            shape: (meta::text(response, &["type"]) == "Queue").then_some(shape),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) nominal: u32,
    pub(super) floor: u32,
    pub(super) ceiling: u32,
}

fn percent(of: u32, percent: u32) -> u32 {
    let part = (u64::from(of) * u64::from(percent) + 50) / 100;
    u32::try_from(part).unwrap_or(u32::MAX)
}

/// The limits of one level, of `all` shares.
fn limits(kind: Kind, all: u64, total: u32) -> Option<Limits> {
    let Kind::Limited {
        shares,
        lendable,
        borrowing,
        ..
    } = kind
    else {
        return None;
    };
    let part = (u64::from(total) * u64::from(shares)).div_ceil(all.max(1));
    let nominal = u32::try_from(part).unwrap_or(u32::MAX);
    let more = borrowing.map_or(total, |p| percent(nominal, p));
    Some(Limits {
        nominal,
        floor: nominal - percent(nominal, lendable).min(nominal),
        ceiling: nominal.saturating_add(more),
    })
}

struct Level {
    limits: Limits,
    used: u32,
    queues: Option<Queues>,
}

/// All limited levels by name.
pub(super) struct Levels {
    /// Of the whole server.
    total: u32,
    all: BTreeMap<String, Level>,
}

/// Seats that were given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grant {
    pub(super) seats: u32,
    /// `None`: it passed no queue.
    served: Option<Served>,
}

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    Served(Grant),
    /// In this queue.
    Waits(usize),
    /// Upstream's word for why.
    Refused(&'static str),
}

impl Levels {
    pub(super) fn new(total: u32) -> Levels {
        Levels {
            total,
            all: BTreeMap::new(),
        }
    }

    /// Takes over what is configured. A level that is gone serves what it has.
    pub(super) fn configure(&mut self, specs: &BTreeMap<String, Spec>) {
        let shares = |spec: &Spec| match spec.kind {
            Kind::Exempt => 0,
            Kind::Limited { shares, .. } => u64::from(shares),
        };
        let sum: u64 = specs.values().map(shares).sum();
        for (name, level) in &mut self.all {
            if !specs.contains_key(name) {
                level.limits = Limits {
                    nominal: 0,
                    floor: 0,
                    ceiling: 0,
                };
            }
        }
        self.all.retain(|name, level| {
            let waits = level.queues.as_ref().is_some_and(|q| !q.is_empty());
            specs.contains_key(name) || level.used > 0 || waits
        });
        for (name, spec) in specs {
            let (Some(limits), Kind::Limited { shape, .. }) =
                (limits(spec.kind, sum, self.total), spec.kind)
            else {
                continue;
            };
            let level = self.all.entry(name.clone()).or_insert_with(|| Level {
                limits,
                used: 0,
                queues: None,
            });
            level.limits = limits;
            match (shape, &mut level.queues) {
                (Some(shape), Some(queues)) => queues.reshape(shape),
                (Some(shape), none) => *none = Some(Queues::new(shape)),
                // What waits in queues that are no more is served yet.
                (None, Some(queues)) => queues.close(),
                (None, None) => {}
            }
        }
    }

    /// Upstream's bound for wide requests: 15 of 100 seats.
    pub(super) fn widest(&self, level: &str) -> u32 {
        let nominal = self.all.get(level).map_or(1, |l| l.limits.nominal);
        (nominal * 15 / 100).clamp(1, super::WIDEST)
    }

    pub(super) fn arrive(&mut self, name: &str, waiting: Waiting, hash: u64, now: f64) -> Arrival {
        let free = self.free(name);
        let Some(level) = self.all.get_mut(name) else {
            return Arrival::Refused("concurrency-limit");
        };
        let seats = level.limits.nominal.max(1);
        let Some(queues) = level.queues.as_mut().filter(|q| !q.is_closed()) else {
            if !fits(level.used, free, waiting.seats) {
                return Arrival::Refused("concurrency-limit");
            }
            level.used += waiting.seats;
            return Arrival::Served(Grant {
                seats: waiting.seats,
                served: None,
            });
        };
        match queues.push(waiting, hash, seats, now) {
            None => Arrival::Refused("queue-full"),
            Some(queue) => Arrival::Waits(queue),
        }
    }

    /// Who is served next, and of which level: first those that are within
    /// their nominal seats.
    pub(super) fn dispatch(&mut self, now: f64) -> Vec<(u64, Grant)> {
        let mut out = Vec::new();
        let waits = |l: &Level| l.queues.as_ref().is_some_and(|q| !q.is_empty());
        if !self.all.values().any(waits) {
            return out;
        }
        let names: Vec<String> = self
            .all
            .iter()
            .filter(|(_, level)| waits(level))
            .map(|(name, _)| name.clone())
            .collect();
        for borrows in [false, true] {
            for name in &names {
                while let Some(served) = self.next(name, borrows, now) {
                    out.push(served);
                }
            }
        }
        out
    }

    fn next(&mut self, name: &str, borrows: bool, now: f64) -> Option<(u64, Grant)> {
        let mut free = self.free(name);
        let level = self.all.get_mut(name)?;
        if !borrows {
            free = free.min(level.limits.nominal.saturating_sub(level.used));
        }
        let (used, seats) = (level.used, level.limits.nominal.max(1));
        let served = level
            .queues
            .as_mut()?
            .pop(seats, now, |wanted| fits(used, free, wanted))?;
        level.used += served.waiting.seats;
        let grant = Grant {
            seats: served.waiting.seats,
            served: Some(served),
        };
        Some((served.waiting.id, grant))
    }

    /// Seats that a level may take now.
    fn free(&self, name: &str) -> u32 {
        let Some(level) = self.all.get(name) else {
            return 0;
        };
        let held = |(of, l): (&String, &Level)| match of == name {
            true => u64::from(l.used),
            false => u64::from(l.used.max(l.limits.floor)),
        };
        let held: u64 = self.all.iter().map(held).sum();
        let nominal: u64 = self.all.values().map(|l| u64::from(l.limits.nominal)).sum();
        let left = nominal.max(u64::from(self.total)).saturating_sub(held);
        let own = level.limits.ceiling.saturating_sub(level.used);
        u32::try_from(left).unwrap_or(u32::MAX).min(own)
    }

    pub(super) fn end(&mut self, name: &str, grant: &Grant, now: f64) {
        let Some(level) = self.all.get_mut(name) else {
            return;
        };
        level.used = level.used.saturating_sub(grant.seats);
        let seats = level.limits.nominal.max(1);
        if let (Some(queues), Some(served)) = (&mut level.queues, &grant.served) {
            queues.end(served, seats, now);
        }
    }

    /// Takes out who no longer waits; `false`: it is served already.
    pub(super) fn leave(&mut self, name: &str, queue: usize, id: u64) -> bool {
        let level = self.all.get_mut(name);
        let queues = level.and_then(|l| l.queues.as_mut());
        queues.is_some_and(|q| q.remove(queue, id))
    }
}

fn fits(used: u32, free: u32, wanted: u32) -> bool {
    wanted <= free || used == 0
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;

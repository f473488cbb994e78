//! Priority and fairness (KEP-1040): how much of the server each kind of work
//! gets, and who waits.
//!
//! ```text
//! request -classify-> FlowSchema -> level -queues-> seats -> served
//!                                     |      \-> too long or too many: 429
//!                                     \-> exempt: served at once
//! ```
//! `config` holds what is configured, `classify` finds the schema, `levels`
//! divides the seats, `queues` orders who waits; all of them are pure. Here are
//! the lock, the clock and the waiting. Watches and streams need no seat.
//!
//! A queue holds as many requests as its level says; then the next is refused.
//! Who waits for `LONGEST` is refused too.

mod classify;
mod config;
mod dangling;
pub(crate) mod keep;
mod levels;
mod queues;

use crate::authz::Attributes;
use crate::mirror::Mirror;
use crate::user::User;
use config::{Class, Config, PREFIX};
use http::{HeaderMap, HeaderValue};
use levels::{Arrival, Grant, Levels};
use queues::Waiting;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::oneshot;

/// A quarter of what a request may take, as upstream has it.
const LONGEST: Duration = Duration::from_secs(15);
/// Most seats of one request.
const WIDEST: u32 = 10;
/// Objects that a list brings for each of its seats.
const PER_SEAT: usize = 100;

const SCHEMA_HEADER: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_HEADER: &str = "x-kubernetes-pf-prioritylevel-uid";

pub(crate) struct Fairness {
    config: Mirror<Config>,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    start: Instant,
}

struct State {
    levels: Levels,
    /// Of the configuration that `levels` has.
    round: u64,
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Grant>>,
    /// By schema, level and reason.
    refused: BTreeMap<(String, String, &'static str), u64>,
}

/// The schema and level of a request, for its answer.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    schema_uid: String,
    level_uid: String,
}

impl Flow {
    /// Says them to the client.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (name, uid) in [
            (SCHEMA_HEADER, &self.schema_uid),
            (LEVEL_HEADER, &self.level_uid),
        ] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                headers.insert(name, uid);
            }
        }
    }
}

/// Why a request isn't served: upstream's word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// The right to be served, until it is dropped.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    level: String,
    /// `None`: exempt.
    grant: Option<Grant>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(grant) = &self.grant {
            self.shared.end(&self.level, grant);
        }
    }
}

/// A request in a queue. Dropped when it is served, refused or given up.
struct Wait {
    shared: Arc<Shared>,
    level: String,
    queue: usize,
    id: u64,
    granted: oneshot::Receiver<Grant>,
}

/// What became of a request that arrived.
enum Arrived {
    Served(Grant),
    Waits(Wait),
    Refused(&'static str),
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.waiting.remove(&self.id);
        if state.levels.leave(&self.level, self.queue, self.id) {
            // Others may have waited for it to be served first.
            self.shared.dispatch(&mut state);
            return;
        }
        drop(state);
        // Granted, and nobody took it.
        if let Ok(grant) = self.granted.try_recv() {
            self.shared.end(&self.level, &grant);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn end(&self, level: &str, grant: &Grant) {
        let mut state = self.lock();
        state.levels.end(level, grant, self.now());
        self.dispatch(&mut state);
    }

    fn dispatch(&self, state: &mut State) {
        for (id, grant) in state.levels.dispatch(self.now()) {
            if let Some(sender) = state.waiting.remove(&id) {
                // Whoever is gone by now gives it back when it is dropped.
                let _ = sender.send(grant);
            }
        }
    }
}

impl Fairness {
    /// `seats` of the whole server.
    pub(crate) fn new(store: &Store, seats: u32) -> Fairness {
        Fairness {
            config: Mirror::new(store.clone(), PREFIX),
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    levels: Levels::new(seats),
                    round: 0,
                    next: 0,
                    waiting: HashMap::new(),
                    refused: BTreeMap::new(),
                }),
                start: Instant::now(),
            }),
        }
    }

    /// What was refused since the start, for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        const NAME: &str = "apiserver_flowcontrol_rejected_requests_total";
        let mut out = format!("# TYPE {NAME} counter\n");
        for ((schema, level, reason), count) in &self.shared.lock().refused {
            // Writing to a string doesn't fail.
            let _ = writeln!(
                out,
                "{NAME}{{flow_schema=\"{schema}\",priority_level=\"{level}\",reason=\"{reason}\"}} {count}"
            );
        }
        out
    }

    /// A seat for a request that brings so many `objects`, once there is one.
    pub(crate) async fn seat(
        &self,
        user: &User,
        a: &Attributes<'_>,
        objects: impl FnOnce() -> usize,
    ) -> (Flow, Result<Seat, Refused>) {
        let class = self.classify(user, a);
        let flow = Flow {
            schema_uid: class.schema_uid,
            level_uid: class.level_uid,
        };
        let seat = |grant| Seat {
            shared: self.shared.clone(),
            level: class.level.clone(),
            grant,
        };
        if !class.limited {
            return (flow, Ok(seat(None)));
        }
        let outcome = match self.arrive(&class.level, class.hash, objects()) {
            Arrived::Refused(why) => Err(Refused(why)),
            Arrived::Served(grant) => Ok(grant),
            Arrived::Waits(wait) => waited(wait).await.ok_or(Refused("time-out")),
        };
        if let Err(Refused(why)) = &outcome {
            let key = (class.schema, class.level.clone(), *why);
            *self.shared.lock().refused.entry(key).or_default() += 1;
        }
        (flow, outcome.map(|grant| seat(Some(grant))))
    }

    fn classify(&self, user: &User, a: &Attributes<'_>) -> Class {
        let found = self.config.with(|config| {
            let mut state = self.shared.lock();
            if state.round != config.round {
                state.round = config.round;
                state.levels.configure(&config.levels());
            }
            drop(state);
            config.classify(user, a)
        });
        found.unwrap_or_else(|status| {
            log::error!("flow schemas: {}", status.message);
            Config::default().classify(user, a)
        })
    }

    fn arrive(&self, level: &str, hash: u64, objects: usize) -> Arrived {
        let mut state = self.shared.lock();
        let id = state.next;
        state.next += 1;
        let seats = u32::try_from(objects.div_ceil(PER_SEAT)).unwrap_or(u32::MAX);
        let seats = seats.clamp(1, state.levels.widest(level));
        let waiting = Waiting { id, seats };
        let now = self.shared.now();
        match state.levels.arrive(level, waiting, hash, now) {
            Arrival::Served(grant) => Arrived::Served(grant),
            Arrival::Refused(why) => Arrived::Refused(why),
            Arrival::Waits(queue) => {
                let (sender, mut granted) = oneshot::channel();
                state.waiting.insert(id, sender);
                self.shared.dispatch(&mut state);
                drop(state);
                if let Ok(grant) = granted.try_recv() {
                    return Arrived::Served(grant);
                }
                Arrived::Waits(Wait {
                    shared: self.shared.clone(),
                    level: level.to_owned(),
                    queue,
                    id,
                    granted,
                })
            }
        }
    }
}

/// The grant, if it comes in time.
async fn waited(mut wait: Wait) -> Option<Grant> {
    tokio::time::timeout(LONGEST, &mut wait.granted)
        .await
        .ok()?
        .ok()
}

#[cfg(test)]
mod tests;

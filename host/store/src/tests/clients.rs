//! Several clients at once, watches, crashes and restarts: a history for the
//! checker. Which request is queued, committed, answered, and when the power
//! goes is all decided by a seed; what is under way then may have happened or
//! not, and no client hears of it.

use super::linear::{
    Answer, Call, History, Instant, Past, Request, Watched, check, items_of, seen,
};
use super::schedules;
use super::simdisk::SimDisk;
use crate::engine::{Engine, Options};
use crate::store::{Shared, Watch};
use crate::types::{Compare, Op, Range, Revision, StoreError, Txn, prefix_end};
use bytes::Bytes;
use fuzzing::Random;
use std::sync::Arc;

const CLIENTS: usize = 4;
const KEYS: usize = 5;
const WATCHES: usize = 3;
const STEPS: usize = 160;

fn key(random: &mut Random) -> Bytes {
    Bytes::from(format!("{}/{}", random.below(2), random.below(KEYS)))
}

/// What a client waits for: its call in the history.
struct Waiting {
    call: usize,
    stage: Stage,
}

enum Stage {
    Queued,
    /// In a batch when the power went.
    Sent,
    /// Done, and not yet known to the client.
    Done(Answer),
}

pub(super) struct Clients {
    disk: SimDisk,
    random: Random,
    options: Options,
    now: Instant,
    waiting: Vec<Option<Waiting>>,
    /// For each client, what it believes of the keys: compared in its writes.
    known: Vec<(Bytes, u64)>,
    watches: Vec<(Option<Watch>, Watched)>,
    pub(super) history: History,
    pub(super) cuts: u64,
}

impl Clients {
    pub(super) fn new(seed: u64) -> Clients {
        let mut random = Random(seed);
        let options = Options {
            history_bytes: 2000 << random.below(8),
            log_bytes: 1000 << random.below(6),
            checkpoint_step: 1 + random.below(2000),
        };
        Clients {
            disk: SimDisk::default(),
            random,
            options,
            now: 0,
            waiting: (0..CLIENTS).map(|_| None).collect(),
            known: vec![(Bytes::new(), 0); CLIENTS],
            watches: Vec::new(),
            history: History::default(),
            cuts: 0,
        }
    }

    /// On a disk whose `sync` does nothing.
    pub(super) fn lying(seed: u64) -> Clients {
        let clients = Clients::new(seed);
        clients.disk.lie();
        clients
    }

    pub(super) fn run(&mut self) -> Result<(), StoreError> {
        for _ in 0..2 + self.random.below(3) {
            let mut engine = self.open()?;
            let fuse = 10 + self.random.below(STEPS) as u64;
            self.disk.set_fuse(Some(fuse));
            for _ in 0..STEPS {
                if !self.step(&mut engine)? {
                    break;
                }
            }
            self.end();
            drop(engine);
            self.disk.cut_power(&mut self.random);
            self.cuts += 1;
        }
        let watches = self.watches.drain(..).map(|(_, watched)| watched);
        self.history.watches.extend(watches);
        Ok(())
    }

    fn tick(&mut self) -> Instant {
        self.now += 1;
        self.now
    }

    fn open(&mut self) -> Result<Engine, StoreError> {
        let invoked = self.tick();
        let disk = Box::new(self.disk.clone());
        let engine = Engine::open(disk, self.options, self.random.draw())?;
        let revision = engine.shared().read().revision();
        let returned = self.tick();
        self.history.calls.push(Call {
            invoked,
            returned,
            request: Request::Open,
            answer: Some(Answer::Opened(revision.0)),
        });
        self.resume(&engine.shared());
        Ok(engine)
    }

    /// Every watch goes on where it was, or anew where that is given up.
    fn resume(&mut self, shared: &Arc<Shared>) {
        for index in 0..self.watches.len() {
            let watched = self.watches[index].1.clone();
            let after = Revision(watched.progress);
            let (start, end) = (watched.start.clone(), watched.end.clone());
            match Watch::open(shared, start, end, after) {
                Ok(watch) => self.watches[index].0 = Some(watch),
                Err(StoreError::Compacted { .. }) => self.renew(shared, index),
                Err(error) => panic!("{error} for a watch after {after}"),
            }
        }
    }

    fn renew(&mut self, shared: &Arc<Shared>, index: usize) {
        let old = self.watches.swap_remove(index).1;
        self.history.watches.push(old.clone());
        let now = shared.read().revision();
        self.watch(shared, old.start, old.end, now.0);
        let last = self.watches.len() - 1;
        self.watches.swap(index, last);
    }

    fn watch(&mut self, shared: &Arc<Shared>, start: Bytes, end: Bytes, after: u64) {
        let watch = Watch::open(shared, start.clone(), end.clone(), Revision(after)).unwrap();
        let watched = Watched {
            start,
            end,
            after,
            progress: after,
            events: Vec::new(),
        };
        self.watches.push((Some(watch), watched));
    }

    /// False when the power went.
    fn step(&mut self, engine: &mut Engine) -> Result<bool, StoreError> {
        let done = match self.random.below(20) {
            0..7 => self.invoke(),
            7..10 => self.commit(engine),
            10..14 => self.answer(),
            14..16 => self.poll(&engine.shared()),
            16 => self.past(&engine.shared()),
            17 => self.compact(engine),
            _ => engine.work().map(drop),
        };
        // Reads don't wait for the writer.
        self.read(&engine.shared());
        match done {
            Err(StoreError::Io { .. }) => Ok(false),
            done => done.map(|()| true),
        }
    }

    fn invoke(&mut self) -> Result<(), StoreError> {
        let idle: Vec<usize> = (0..CLIENTS)
            .filter(|c| self.waiting[*c].is_none())
            .collect();
        let Some(client) = idle.get(self.random.below(idle.len())) else {
            return Ok(());
        };
        let request = match self.random.below(3) {
            0 => Request::Range(self.range()),
            _ => Request::Txn(self.txn(*client)),
        };
        let invoked = self.tick();
        self.history.calls.push(Call {
            invoked,
            returned: Instant::MAX,
            request,
            answer: None,
        });
        self.waiting[*client] = Some(Waiting {
            call: self.history.calls.len() - 1,
            stage: Stage::Queued,
        });
        Ok(())
    }

    fn range(&mut self) -> Range {
        match self.random.below(4) {
            0 => Range::key(key(&mut self.random)),
            1 => Range::prefix(""),
            n => Range::prefix(format!("{}/", n - 2)),
        }
    }

    /// Each value is one of its own.
    fn txn(&mut self, client: usize) -> Txn {
        let mut txn = Txn::default();
        let mut keys = vec![key(&mut self.random)];
        if self.random.one_in(2) {
            let (key, revision) = self.known[client].clone();
            if !key.is_empty() {
                let mod_revision = Revision(revision);
                keys[0] = key.clone();
                txn.compare.push(Compare { key, mod_revision });
            }
        }
        if self.random.one_in(4) {
            keys.push(key(&mut self.random));
        }
        keys.sort();
        keys.dedup();
        for key in keys {
            let value = Bytes::from(format!("{client}-{}", self.tick()));
            txn.then.push(match self.random.one_in(4) {
                true => Op::Delete { key },
                false => Op::Put { key, value },
            });
        }
        txn
    }

    fn queued(&self, writes: bool) -> Vec<usize> {
        let waits = |client: &usize| {
            self.waiting[*client].as_ref().is_some_and(|waiting| {
                let request = &self.history.calls[waiting.call].request;
                matches!(waiting.stage, Stage::Queued)
                    && writes == matches!(request, Request::Txn(_))
            })
        };
        (0..CLIENTS).filter(waits).collect()
    }

    fn stage(&mut self, client: usize, stage: Stage) {
        if let Some(waiting) = &mut self.waiting[client] {
            waiting.stage = stage;
        }
    }

    fn commit(&mut self, engine: &mut Engine) -> Result<(), StoreError> {
        let mut clients = self.queued(true);
        clients.retain(|_| !self.random.one_in(4));
        // The queue's order is no client's business.
        if self.random.one_in(2) {
            clients.reverse();
        }
        let txn = |client: &usize| {
            let call = self.waiting[*client].as_ref().map(|w| w.call);
            match call.map(|call| &self.history.calls[call].request) {
                Some(Request::Txn(txn)) => txn.clone(),
                _ => Txn::default(),
            }
        };
        let batch: Vec<Txn> = clients.iter().map(txn).collect();
        match engine.commit(batch) {
            Ok(outcomes) => {
                for (client, outcome) in clients.into_iter().zip(&outcomes) {
                    self.stage(
                        client,
                        Stage::Done(Answer::of_txn(outcome.as_ref().unwrap())),
                    );
                }
                Ok(())
            }
            Err(error) => {
                for client in clients {
                    self.stage(client, Stage::Sent);
                }
                Err(error)
            }
        }
    }

    fn read(&mut self, shared: &Arc<Shared>) {
        let readers = self.queued(false);
        let Some(client) = readers.get(self.random.below(2 * CLIENTS)) else {
            return;
        };
        let call = self.waiting[*client].as_ref().map(|w| w.call);
        if let Some(Request::Range(range)) = call.map(|c| &self.history.calls[c].request) {
            let found = shared.read().range(range).unwrap();
            self.stage(*client, Stage::Done(Answer::of_range(&found)));
        }
    }

    fn answer(&mut self) -> Result<(), StoreError> {
        let client = self.random.below(CLIENTS);
        let taken = self.waiting[client].take();
        match taken {
            Some(Waiting {
                call,
                stage: Stage::Done(answer),
            }) => {
                self.learn(client, call, &answer);
                let returned = self.tick();
                let call = &mut self.history.calls[call];
                call.returned = returned;
                call.answer = Some(answer);
            }
            other => self.waiting[client] = other,
        }
        Ok(())
    }

    fn learn(&mut self, client: usize, call: usize, answer: &Answer) {
        let request = &self.history.calls[call].request;
        let known = match (answer, request) {
            (Answer::Items(_, items), _) => items.iter().next().map(|(k, i)| (k.clone(), i.2)),
            (Answer::Conflict(_, current), Request::Txn(txn)) => {
                let pair = txn.compare.first().zip(current.first());
                pair.map(|(c, i)| (c.key.clone(), i.as_ref().map_or(0, |i| i.2)))
            }
            _ => None,
        };
        self.known[client] = known.unwrap_or_default();
    }

    fn poll(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        if self.watches.len() < WATCHES {
            let start = Bytes::from(format!("{}/", self.random.below(2)));
            let after = self.random_revision(shared);
            self.watch(shared, start.clone(), prefix_end(&start), after);
        }
        let index = self.random.below(self.watches.len());
        let (watch, watched) = &mut self.watches[index];
        let Some(watch) = watch else {
            return Ok(());
        };
        match watch.poll() {
            Ok(events) => {
                watched.events.extend(events.iter().map(seen));
                watched.progress = watch.progress().0;
            }
            Err(StoreError::SlowWatcher { .. }) => self.renew(shared, index),
            Err(error) => panic!("{error}"),
        }
        Ok(())
    }

    fn random_revision(&mut self, shared: &Arc<Shared>) -> u64 {
        let state = shared.read();
        let (from, to) = (state.compacted().0, state.revision().0);
        to - self.random.below((to - from).min(20) as usize + 1) as u64
    }

    fn past(&mut self, shared: &Arc<Shared>) -> Result<(), StoreError> {
        let revision = self.random_revision(shared);
        let range = Range {
            revision: Some(Revision(revision)),
            ..self.range()
        };
        let found = shared.read().range(&range)?;
        self.history.past.push(Past {
            items: items_of(&found),
            start: range.start,
            end: range.end,
            revision,
        });
        Ok(())
    }

    fn compact(&mut self, engine: &mut Engine) -> Result<(), StoreError> {
        let revision = self.random_revision(&engine.shared());
        engine.compact(Revision(revision))
    }

    /// The end of a life: nobody is answered any more.
    fn end(&mut self) {
        let now = self.tick();
        for client in 0..CLIENTS {
            let Some(waiting) = self.waiting[client].take() else {
                continue;
            };
            let call = &mut self.history.calls[waiting.call];
            (call.returned, call.answer) = match waiting.stage {
                Stage::Queued => (0, None),
                Stage::Sent => (now, None),
                // It counts, even if the client didn't hear of it.
                Stage::Done(answer) => (now, Some(answer)),
            };
        }
        for (watch, _) in &mut self.watches {
            *watch = None;
        }
        // What never began is no part of it.
        self.history.calls.retain(|call| call.returned > 0);
    }
}

#[test]
fn concurrent_histories_with_crashes_are_linearizable() {
    let (mut calls, mut events, mut cuts, mut unknown) = (0, 0, 0, 0);
    schedules(|seed| {
        let mut clients = Clients::new(seed);
        clients.run().unwrap();
        if let Err(why) = check(&clients.history) {
            panic!("{why}");
        }
        let history = &clients.history;
        calls += history.calls.len();
        unknown += history.calls.iter().filter(|c| c.answer.is_none()).count();
        events += history
            .watches
            .iter()
            .map(|w| w.events.len())
            .sum::<usize>();
        cuts += clients.cuts;
    });
    println!("{calls} calls, {unknown} of them unanswered, {events} events, {cuts} power cuts");
    assert!(calls > 20 && events > 0);
}

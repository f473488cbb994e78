//! Whether a history of concurrent calls is that of one store (Wing and Gong,
//! as Porcupine searches), and whether its watches saw it all, once, in order.
//!
//! A call has an instant of invocation and one of return; it must seem to
//! happen at one instant between the two. A call whose client was never
//! answered may have happened or not. The search goes through the orders that
//! this allows and compares each answer with a model. Every write moves the
//! revision by one, and answers carry revisions, so little is left to try.
//! What watches and reads of the past saw are facts about revisions: they are
//! compared where the search passes these.

use bytes::Bytes;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};

// From here or from the crate's outside: tests of both use this.
use super::{Compare, Event, EventKind, KeyValue, Op, Outcome, Range, RangeResult, Txn};

/// An instant; two events never share one.
pub(crate) type Instant = u64;

/// A key as the store shows it: value, created, modified, version.
pub(crate) type Item = (Bytes, u64, u64, u64);
pub(crate) type Items = BTreeMap<Bytes, Item>;

pub(crate) fn item(kv: &KeyValue) -> Item {
    let (created, modified) = (kv.create_revision.0, kv.mod_revision.0);
    (kv.value.clone(), created, modified, kv.version)
}

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Txn(Txn),
    /// Reads now; reads of the past are facts.
    Range(Range),
    /// The store was opened; nothing of before can happen any more.
    Open,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Committed(u64),
    Conflict(u64, Vec<Option<Item>>),
    Items(u64, Items),
    Opened(u64),
}

impl Answer {
    pub(crate) fn of_txn(outcome: &Outcome) -> Answer {
        match outcome {
            Outcome::Committed(revision) => Answer::Committed(revision.0),
            Outcome::Conflict { revision, current } => Answer::Conflict(
                revision.0,
                current.iter().map(|kv| kv.as_ref().map(item)).collect(),
            ),
        }
    }

    pub(crate) fn of_range(found: &RangeResult) -> Answer {
        Answer::Items(found.revision.0, items_of(found))
    }
}

pub(crate) fn items_of(found: &RangeResult) -> Items {
    let pairs = found.items.iter().map(|kv| (kv.key.clone(), item(kv)));
    pairs.collect()
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) invoked: Instant,
    /// Of a call without an answer: when it can't happen any more.
    pub(crate) returned: Instant,
    pub(crate) request: Request,
    pub(crate) answer: Option<Answer>,
}

/// What a watch delivered: revision, kind, key, value.
pub(crate) type Seen = (u64, EventKind, Bytes, Bytes);

pub(crate) fn seen(event: &Event) -> Seen {
    let current = &event.current;
    let (key, value) = (current.key.clone(), current.value.clone());
    (current.mod_revision.0, event.kind, key, value)
}

/// One watch from `after` to `progress`.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    pub(crate) after: u64,
    pub(crate) progress: u64,
    pub(crate) events: Vec<Seen>,
}

/// A read of the past.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    pub(crate) revision: u64,
    pub(crate) items: Items,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    pub(crate) watches: Vec<Watched>,
    pub(crate) past: Vec<Past>,
}

fn inside(start: &Bytes, end: &Bytes, key: &Bytes) -> bool {
    start <= key && (end.is_empty() || key < end)
}

fn between(items: &Items, start: &Bytes, end: &Bytes) -> Items {
    let all = items.iter().filter(|(key, _)| inside(start, end, key));
    all.map(|(key, item)| (key.clone(), item.clone())).collect()
}

#[derive(Clone, Debug, Default)]
struct Model {
    items: Items,
    revision: u64,
}

impl Model {
    /// The answer, and the model afterwards with its events if it changes.
    fn apply(
        &self,
        request: &Request,
        answer: Option<&Answer>,
    ) -> (Answer, Option<(Model, Vec<Seen>)>) {
        match request {
            Request::Range(range) => {
                let found = between(&self.items, &range.start, &range.end);
                (Answer::Items(self.revision, found), None)
            }
            Request::Open => {
                // An opening may skip revisions, and never goes back.
                let told = match answer {
                    Some(Answer::Opened(told)) => *told,
                    _ => self.revision,
                };
                let mut next = self.clone();
                next.revision = self.revision.max(told);
                (Answer::Opened(next.revision), Some((next, Vec::new())))
            }
            Request::Txn(txn) => self.txn(txn),
        }
    }

    fn txn(&self, txn: &Txn) -> (Answer, Option<(Model, Vec<Seen>)>) {
        let modified = |key: &Bytes| self.items.get(key).map_or(0, |item| item.2);
        let holds = |c: &Compare| modified(&c.key) == c.mod_revision.0;
        if !txn.compare.iter().all(holds) {
            let current = txn.compare.iter().map(|c| self.items.get(&c.key).cloned());
            return (Answer::Conflict(self.revision, current.collect()), None);
        }
        let mut next = self.clone();
        next.revision += 1;
        let mut events = Vec::new();
        for op in &txn.then {
            match op {
                Op::Put { key, value } | Op::PutLeased { key, value, .. } => {
                    let old = self.items.get(key);
                    let (created, version) = old.map_or((next.revision, 0), |i| (i.1, i.3));
                    let item = (value.clone(), created, next.revision, version + 1);
                    next.items.insert(key.clone(), item);
                    events.push((next.revision, EventKind::Put, key.clone(), value.clone()));
                }
                Op::Delete { key } => {
                    if next.items.remove(key).is_some() {
                        let event = (next.revision, EventKind::Delete, key.clone(), Bytes::new());
                        events.push(event);
                    }
                }
            }
        }
        match events.is_empty() {
            true => (Answer::Committed(self.revision), None),
            false => (Answer::Committed(next.revision), Some((next, events))),
        }
    }
}

/// Why a history is none of a store's.
pub(crate) fn check(history: &History) -> Result<(), String> {
    for watched in &history.watches {
        in_order(watched)?;
    }
    let mut search = Search {
        history,
        tried: HashSet::new(),
        furthest: (0, String::new()),
    };
    let done = vec![false; history.calls.len()];
    match search.from(&Model::default(), done, 0) {
        true => Ok(()),
        false => Err(search.furthest.1),
    }
}

fn in_order(watched: &Watched) -> Result<(), String> {
    let mut last = watched.after;
    let mut keys: HashSet<(u64, &Bytes)> = HashSet::new();
    for (revision, _, key, _) in &watched.events {
        if *revision < last || *revision <= watched.after || *revision > watched.progress {
            return Err(format!("{key:?} at {revision} after {last} in {watched:?}"));
        }
        if !keys.insert((*revision, key)) {
            return Err(format!("{key:?} at {revision} twice in {watched:?}"));
        }
        last = *revision;
    }
    Ok(())
}

struct Search<'a> {
    history: &'a History,
    tried: HashSet<u64>,
    /// How many calls found their place at best, and what then did not fit.
    furthest: (usize, String),
}

impl Search<'_> {
    /// Whether what is not `done` fits behind `model`. `latest` is the latest
    /// invocation of what is.
    fn from(&mut self, model: &Model, mut done: Vec<bool>, mut latest: Instant) -> bool {
        // What changes nothing is best placed at once.
        while let Some(index) = self.unchanging(model, &done) {
            done[index] = true;
            latest = latest.max(self.history.calls[index].invoked);
        }
        if !self.tried.insert(fingerprint(model, &done)) {
            return false;
        }
        let calls = &self.history.calls;
        if calls
            .iter()
            .zip(&done)
            .all(|(call, done)| *done || call.answer.is_none())
            && self.facts(model, u64::MAX, &[])
        {
            return true;
        }
        for index in self.candidates(&done, latest) {
            let call = &self.history.calls[index];
            let (answer, changed) = model.apply(&call.request, call.answer.as_ref());
            let fits = call.answer.as_ref().is_none_or(|told| *told == answer);
            let Some((next, events)) = changed.filter(|_| fits) else {
                continue;
            };
            if !self.facts(model, next.revision, &events) {
                continue;
            }
            let mut with = done.clone();
            with[index] = true;
            if self.from(&next, with, latest.max(call.invoked)) {
                return true;
            }
        }
        self.stuck(model, &done);
        false
    }

    /// Calls that may come next.
    fn candidates(&self, done: &[bool], latest: Instant) -> Vec<usize> {
        let open = || (0..done.len()).filter(|index| !done[*index]);
        let calls = &self.history.calls;
        let answered = open().filter(|index| calls[*index].answer.is_some());
        let bound = answered.map(|index| calls[index].returned).min();
        let may = |index: &usize| {
            let call = &calls[*index];
            let early = call.invoked < bound.unwrap_or(Instant::MAX);
            early && (call.answer.is_some() || latest < call.returned)
        };
        open().filter(may).collect()
    }

    fn unchanging(&self, model: &Model, done: &[bool]) -> Option<usize> {
        // Calls without an answer that change nothing don't matter.
        let fits = |index: &usize| {
            let call = &self.history.calls[*index];
            call.answer.as_ref().is_some_and(|told| {
                let (answer, changed) = model.apply(&call.request, Some(told));
                changed.is_none() && *told == answer
            })
        };
        self.candidates(done, 0).into_iter().find(fits)
    }

    /// Whether what was seen of the revisions from `model`'s to before `next`,
    /// and of the events at `next`, is so.
    fn facts(&self, model: &Model, next: u64, events: &[Seen]) -> bool {
        if next == model.revision {
            return true;
        }
        let past = self.history.past.iter();
        let mut past = past.filter(|p| (model.revision..next).contains(&p.revision));
        if !past.all(|p| between(&model.items, &p.start, &p.end) == p.items) {
            return false;
        }
        self.history.watches.iter().all(|watched| {
            // Nothing happens between the two.
            let skipped = |seen: &&Seen| seen.0 > model.revision && seen.0 < next;
            if watched.events.iter().any(|seen| skipped(&seen)) {
                return false;
            }
            if !(watched.after < next && next <= watched.progress) {
                return true;
            }
            let theirs = watched.events.iter().filter(|seen| seen.0 == next);
            let concerns = |seen: &&Seen| inside(&watched.start, &watched.end, &seen.2);
            theirs.eq(events.iter().filter(concerns))
        })
    }

    fn stuck(&mut self, model: &Model, done: &[bool]) {
        let count = done.iter().filter(|done| **done).count();
        if count < self.furthest.0 {
            return;
        }
        let next = self.candidates(done, 0);
        let calls: Vec<_> = next.iter().map(|i| &self.history.calls[*i]).collect();
        let text = format!("{count} calls placed; then none fits on {model:?}: {calls:#?}");
        self.furthest = (count, text);
    }
}

fn fingerprint(model: &Model, done: &[bool]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&model.items, model.revision, done).hash(&mut hasher);
    hasher.finish()
}

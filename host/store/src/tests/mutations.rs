//! The checker of histories finds what is wrong: histories that a store gave
//! are changed so that no store could have given them, and a disk that lies
//! about its syncs is found out.

use super::clients::Clients;
use super::linear::{Answer, Call, History, Item, Items, Request, check};
use crate::{Op, Txn};
use bytes::Bytes;
use fuzzing::Random;
use fuzzing::rounds;
use std::collections::HashSet;

/// What changes a history into an impossible one, if it has a place for that.
type Mutation = fn(&mut History, &mut Random) -> Option<()>;

/// A random call that `take` gives something of.
fn pick<'a, T>(
    history: &'a mut History,
    random: &mut Random,
    take: impl Fn(&'a mut Call) -> Option<T>,
) -> Option<T> {
    let mut found: Vec<T> = history.calls.iter_mut().filter_map(take).collect();
    let index = random.below(found.len());
    (index < found.len()).then(|| found.swap_remove(index))
}

/// The revisions of writes that were acknowledged. What a call without an answer
/// did may as well not have happened, so what was seen of it may be missing.
fn acknowledged(history: &mut History) -> HashSet<u64> {
    let calls = history.calls.iter_mut();
    calls
        .filter_map(written)
        .map(|revision| *revision)
        .collect()
}

/// Takes an item out that has to be there; none if there is none.
fn lose(items: &mut Items, acknowledged: &HashSet<u64>) -> Option<()> {
    let mut keys = items
        .iter()
        .filter(|(_, item)| acknowledged.contains(&item.2));
    let key = keys.next()?.0.clone();
    items.remove(&key).map(drop)
}

fn read_item<'a>(history: &'a mut History, random: &mut Random) -> Option<&'a mut Item> {
    pick(history, random, |call| match &mut call.answer {
        Some(Answer::Items(_, items)) => items.values_mut().next(),
        _ => None,
    })
}

/// The revision of a call that wrote: what only deletes may have found nothing,
/// and then it tells the revision of another.
fn written(call: &mut Call) -> Option<&mut u64> {
    let puts = |txn: &Txn| !txn.then.iter().all(|op| matches!(op, Op::Delete { .. }));
    match (&call.request, &mut call.answer) {
        (Request::Txn(txn), Some(Answer::Committed(revision))) if puts(txn) => Some(revision),
        _ => None,
    }
}

/// Of two calls of which one ended before the other began, both writes at
/// revisions of their own.
fn swap_writes(history: &mut History, random: &mut Random) -> Option<()> {
    let calls = &history.calls;
    let write = |call: &Call| match &call.answer {
        Some(Answer::Committed(revision)) => Some(*revision),
        _ => None,
    };
    let mut pairs = Vec::new();
    for (i, first) in calls.iter().enumerate() {
        for (j, second) in calls.iter().enumerate() {
            if let (Some(a), Some(b)) = (write(first), write(second))
                && first.returned < second.invoked
                && a < b
            {
                pairs.push((i, j, a, b));
            }
        }
    }
    let (i, j, a, b) = *pairs.get(random.below(pairs.len()))?;
    history.calls[i].answer = Some(Answer::Committed(b));
    history.calls[j].answer = Some(Answer::Committed(a));
    Some(())
}

/// A read tells what an earlier read of the same range told, at whose revision
/// a write was acknowledged in between.
fn stale_read(history: &mut History, random: &mut Random) -> Option<()> {
    let calls = &history.calls;
    let read = |call: &Call| match (&call.answer, &call.request) {
        (Some(Answer::Items(at, _)), Request::Range(range)) => {
            Some((*at, range.start.clone(), range.end.clone()))
        }
        _ => None,
    };
    let mut pairs = Vec::new();
    for (i, first) in calls.iter().enumerate() {
        for (j, second) in calls.iter().enumerate() {
            let newer = |call: &Call| matches!(call.answer, Some(Answer::Committed(at)) if read(first).is_some_and(|r| at > r.0));
            let between = |call: &Call| newer(call) && call.returned < second.invoked;
            if let (Some(a), Some(b)) = (read(first), read(second))
                && (&a.1, &a.2) == (&b.1, &b.2)
                && a.0 < b.0
                && calls.iter().any(between)
            {
                pairs.push((i, j));
            }
        }
    }
    let (i, j) = *pairs.get(random.below(pairs.len()))?;
    history.calls[j].answer = history.calls[i].answer.clone();
    Some(())
}

/// A watch with events of at least two revisions.
fn watch_of_two<'a>(
    history: &'a mut History,
    random: &mut Random,
) -> Option<&'a mut Vec<super::linear::Seen>> {
    let two = |events: &&mut Vec<super::linear::Seen>| {
        events.first().map(|e| e.0) != events.last().map(|e| e.0)
    };
    let watches = history.watches.iter_mut();
    let mut found: Vec<_> = watches.map(|w| &mut w.events).filter(two).collect();
    let index = random.below(found.len());
    (index < found.len()).then(|| found.swap_remove(index))
}

// Table: one row for each kind of fault.
const MUTATIONS: &[(&str, Mutation)] = &[
    ("a value that nobody wrote", |history, random| {
        read_item(history, random)?.0 = Bytes::from_static(b"nobody's");
        Some(())
    }),
    ("an old value's revision", |history, random| {
        read_item(history, random)?.2 -= 1;
        Some(())
    }),
    ("a count of versions", |history, random| {
        read_item(history, random)?.3 += 1;
        Some(())
    }),
    ("a key lost", |history, random| {
        let known = acknowledged(history);
        let items = pick(history, random, |call| match &mut call.answer {
            Some(Answer::Items(_, items)) if !items.is_empty() => Some(items),
            _ => None,
        });
        lose(items?, &known)
    }),
    ("a revision given twice", |history, random| {
        let mut given: Vec<u64> = history
            .calls
            .iter_mut()
            .filter_map(written)
            .map(|r| *r)
            .collect();
        given.dedup();
        let other = *given.get(random.below(given.len()))?;
        let differs = |call| written(call).filter(|revision| **revision < other);
        *pick(history, random, differs)? = other;
        Some(())
    }),
    ("writes against time", swap_writes),
    ("a stale read", stale_read),
    ("a conflict that was none", |history, random| {
        let conflict = |call: &mut Call| match call.answer {
            Some(Answer::Conflict(at, _)) => {
                call.answer = Some(Answer::Committed(at + 1));
                Some(())
            }
            _ => None,
        };
        let at = random.below(history.calls.len());
        history.calls[at..].iter_mut().find_map(conflict)
    }),
    ("a restart that goes back", |history, _| {
        let open = |call: &&mut Call| matches!(call.answer, Some(Answer::Opened(at)) if at > 0);
        history.calls.iter_mut().find(open)?.answer = Some(Answer::Opened(0));
        Some(())
    }),
    ("an event lost", |history, random| {
        let known = acknowledged(history);
        let events = watch_of_two(history, random)?;
        let at = random.below(events.len());
        known
            .contains(&events[at].0)
            .then(|| drop(events.remove(at)))
    }),
    ("an event doubled", |history, random| {
        let events = watch_of_two(history, random)?;
        let at = random.below(events.len());
        events.insert(at, events[at].clone());
        Some(())
    }),
    ("events out of order", |history, random| {
        let events = watch_of_two(history, random)?;
        let last = events.len() - 1;
        events.swap(0, last);
        Some(())
    }),
    ("an event at another revision", |history, random| {
        let known = acknowledged(history);
        let events = watch_of_two(history, random)?;
        let at = random.below(events.len());
        known.contains(&events[at].0).then(|| events[at].0 += 1)
    }),
    ("a past that was otherwise", |history, random| {
        let known = acknowledged(history);
        let mut past: Vec<_> = history
            .past
            .iter_mut()
            .filter(|p| !p.items.is_empty())
            .collect();
        let index = random.below(past.len());
        lose(&mut past.get_mut(index)?.items, &known)
    }),
];

#[test]
fn every_kind_of_fault_in_a_history_is_found() {
    let mut found = vec![0; MUTATIONS.len()];
    for seed in 0..rounds(60) {
        let mut clients = Clients::new(seed);
        clients.run().unwrap();
        check(&clients.history).unwrap();
        for (index, (what, mutate)) in MUTATIONS.iter().enumerate() {
            let mut history = clients.history.clone();
            if mutate(&mut history, &mut Random(seed)).is_some() {
                assert!(
                    check(&history).is_err(),
                    "seed {seed}: {what} goes unnoticed"
                );
                found[index] += 1;
            }
        }
    }
    for ((what, _), found) in MUTATIONS.iter().zip(found) {
        assert!(found >= 10, "{what}: only {found} times tried");
    }
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let lost = |seed: &u64| {
        let mut clients = Clients::lying(*seed);
        // Either recovery sees it, or the history does.
        clients.run().is_err() || check(&clients.history).is_err()
    };
    let found = (0..100).filter(lost).count();
    assert!(found > 50, "{found} of 100");
}

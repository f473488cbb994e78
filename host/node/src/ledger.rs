//! What pods were given of the node, so that together they never have more of it
//! than there is: roster and workers take from it, whoever comes first.
//!
//! Who asks for more than is left waits, and is told when something comes back.
//! Those that wait are served in upstream's order: priority, then Guaranteed
//! pods, then who has waited longest. One that doesn't fit holds up nobody.

use crate::eviction::priority;
use crate::pod::Pod;
use crate::pod::admission::{Lack, lack};
use crate::pod::resources::{Amount, qos_class, requests};
use crate::pod::view::View;
use jiff::Timestamp;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

pub(crate) struct Ledger {
    allocatable: Amount,
    books: Mutex<Books>,
    freed: watch::Sender<()>,
}

/// All by uid.
#[derive(Default)]
struct Books {
    /// All that pods had before this node began is in it.
    open: bool,
    given: HashMap<String, Amount>,
    waiting: HashMap<String, Wish>,
}

/// What a pod waits for; the least is served first.
type Rank = (Reverse<i32>, Reverse<bool>, Timestamp);

#[derive(Clone, Debug)]
struct Wish {
    rank: Rank,
    wanted: Amount,
}

impl Books {
    fn used(&self) -> Amount {
        let given = self.given.values().copied();
        given.fold(Amount::default(), Amount::plus)
    }

    fn has(&self, uid: &str) -> Amount {
        self.given.get(uid).copied().unwrap_or_default()
    }
}

impl Ledger {
    pub(crate) fn new(allocatable: Amount) -> Self {
        Self {
            allocatable,
            books: Mutex::default(),
            freed: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn allocatable(&self) -> Amount {
        self.allocatable
    }

    /// Changes when something comes back.
    pub(crate) fn freed(&self) -> watch::Receiver<()> {
        self.freed.subscribe()
    }

    /// Gives a new pod what it asks for, unless `check`, which is told what is
    /// used, finds something.
    pub(crate) fn admit<R>(&self, pod: &Pod, check: impl FnOnce(Amount) -> Option<R>) -> Option<R> {
        let mut books = self.lock();
        let found = check(books.used());
        if found.is_none() {
            let uid = View(pod).uid().to_owned();
            books.given.insert(uid, requests(View(pod)));
        }
        found
    }

    /// From now on it is known what pods have already.
    pub(crate) fn open(&self) {
        self.lock().open = true;
        self.freed.send_replace(());
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Books what a pod has already.
    pub(crate) fn enter(&self, pod: &Pod) {
        let uid = View(pod).uid().to_owned();
        self.lock().given.insert(uid, requests(View(pod)));
    }

    /// Gives a pod what it asks for, instead of what it has; it waits if there
    /// isn't enough.
    ///
    /// # Errors
    /// What there isn't enough of.
    pub(crate) fn change(&self, asked: &Pod, since: Timestamp) -> Result<(), Lack> {
        let view = View(asked);
        let uid = view.uid();
        let wanted = requests(view);
        let guaranteed = qos_class(view) == "Guaranteed";
        let rank = (Reverse(priority(view)), Reverse(guaranteed), since);
        let mut books = self.lock();
        let has = books.has(uid);
        let grows = wanted.cpu_milli > has.cpu_milli || wanted.memory > has.memory;
        let lack = self.lack(&books, uid, wanted, rank).filter(|_| grows);
        if let Some(lack) = lack {
            books.waiting.insert(uid.to_owned(), Wish { rank, wanted });
            return Err(lack);
        }
        books.waiting.remove(uid);
        books.given.insert(uid.to_owned(), wanted);
        drop(books);
        // What it had more of, or stands in nobody's way any more.
        self.freed.send_replace(());
        Ok(())
    }

    /// What is missing for a pod when those before it that fit have been served.
    fn lack(&self, books: &Books, uid: &str, wanted: Amount, rank: Rank) -> Option<Lack> {
        let mut used = books.used().minus(books.has(uid));
        let waiting = books.waiting.iter();
        let mut before: Vec<_> = waiting
            .filter(|(other, wish)| *other != uid && wish.rank < rank)
            .collect();
        before.sort_by_key(|(_, wish)| wish.rank);
        for (other, wish) in before {
            let beside = used.minus(books.has(other));
            if lack(wish.wanted, beside, self.allocatable).is_none() {
                used = beside.plus(wish.wanted);
            }
        }
        lack(wanted, used, self.allocatable)
    }

    /// A pod asks for nothing else any more.
    pub(crate) fn withdraw(&self, uid: &str) {
        if self.lock().waiting.remove(uid).is_some() {
            self.freed.send_replace(());
        }
    }

    /// Everything comes back.
    pub(crate) fn release(&self, uid: &str) {
        let mut books = self.lock();
        books.waiting.remove(uid);
        if books.given.remove(uid).is_some() {
            drop(books);
            self.freed.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, cpu: &str, priority: i32) -> Pod {
        let mut pod = crate::pod::samples::pod(json!({"priority": priority, "containers": [
            {"name": "a", "image": "a:1", "resources": {"requests": {"cpu": cpu}}}]}))
        .as_api()
        .clone();
        pod.metadata.uid = Some(uid.to_owned());
        pod.into()
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::new(Amount {
            cpu_milli: 4000,
            memory: 1 << 30,
        });
        for uid in ["a", "b", "c"] {
            ledger.enter(&pod(uid, "1", 0));
        }
        ledger
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn who_waits_is_served_in_order() {
        let ledger = ledger();
        let low = pod("a", "3", 0);
        let high = pod("b", "3", 5);
        let early = pod("a", "3", 5);
        for (first, second) in [(&low, &high), (&high, &early)] {
            // Neither fits; then there is room for one of them.
            assert!(ledger.change(first, at(9)).is_err());
            assert!(ledger.change(second, at(1)).is_err());
            ledger.release("c");
            let other = if std::ptr::eq(first, &low) {
                "low"
            } else {
                "late"
            };
            assert!(ledger.change(first, at(9)).is_err(), "{other} is later");
            assert!(ledger.change(second, at(1)).is_ok());
            ledger.withdraw(View(first).uid());
            for uid in ["a", "b", "c"] {
                ledger.enter(&pod(uid, "1", 0));
            }
        }
    }

    #[test]
    fn what_does_not_fit_holds_up_nobody() {
        let ledger = ledger();
        let mut freed = ledger.freed();
        let lack = ledger.change(&pod("a", "9", 9), at(1)).expect_err("9 of 4");
        assert_eq!(
            lack.message(),
            "Node didn't have enough resource: cpu, requested: 9000, used: 2000, capacity: 4000"
        );
        assert!(ledger.change(&pod("b", "2", 0), at(2)).is_ok());
        // Less is always to be had, and is told to the others.
        freed.mark_unchanged();
        assert!(ledger.change(&pod("b", "500m", 0), at(3)).is_ok());
        assert!(freed.has_changed().expect("the ledger is there"));
        let check = |used: Amount| (used.cpu_milli != 2500).then_some(used);
        assert_eq!(ledger.admit(&pod("d", "1", 0), check), None);
        ledger.release("d");
        assert_eq!(
            ledger.admit(&pod("e", "1", 0), Some),
            Some(ledger.lock().used())
        );
    }
}

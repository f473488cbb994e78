//! Which connections are kept, for whom, and which go: by count, the one that
//! lies longest first, and by age. Pure; connections of any type.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// At one peer: client-go's `idleConnsPerHost`.
pub(super) const PER_PEER: usize = 25;
/// At all of them: each is a descriptor.
pub(super) const IN_ALL: usize = 512;
/// How long one that nobody uses is kept (Go's `IdleConnTimeout`, as upstream
/// sets it).
pub(super) const IDLE: Duration = Duration::from_secs(90);

struct Kept<C> {
    connection: C,
    since: Instant,
}

/// The connections that nobody, or not everybody who could, uses now.
pub(super) struct Shelf<K, C> {
    peers: HashMap<K, Vec<Kept<C>>>,
}

impl<K: Eq + Hash + Clone, C> Shelf<K, C> {
    pub(super) fn new() -> Shelf<K, C> {
        Shelf {
            peers: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.peers.values().map(Vec::len).sum()
    }

    /// The one at `peer` that was used last and of which `of` makes something;
    /// what `of` returns beside it stays on the shelf.
    pub(super) fn take<T>(
        &mut self,
        peer: &K,
        now: Instant,
        mut of: impl FnMut(C) -> (Option<T>, Option<C>),
    ) -> Option<T> {
        let kept = self.peers.get_mut(peer)?;
        let mut full = Vec::new();
        let mut found = None;
        while let (None, Some(Kept { connection, since })) = (&found, kept.pop()) {
            let (taken, left) = of(connection);
            let since = if taken.is_some() { now } else { since };
            full.extend(left.map(|connection| Kept { connection, since }));
            found = taken;
        }
        kept.extend(full);
        if kept.is_empty() {
            self.peers.remove(peer);
        }
        found
    }

    /// Keeps a connection; what has to go for it.
    pub(super) fn put(&mut self, peer: K, connection: C, now: Instant) -> Option<C> {
        let all = self.len();
        let kept = self.peers.entry(peer.clone()).or_default();
        let since = now;
        kept.push(Kept { connection, since });
        if kept.len() > PER_PEER {
            return self.drop_oldest(&peer);
        }
        if all < IN_ALL {
            return None;
        }
        let ages = self.peers.iter().filter_map(|(peer, kept)| {
            let oldest = kept.iter().map(|k| k.since).min()?;
            Some((oldest, peer))
        });
        let (_, peer) = ages.min_by_key(|(since, _)| *since)?;
        let peer = peer.clone();
        self.drop_oldest(&peer)
    }

    fn drop_oldest(&mut self, peer: &K) -> Option<C> {
        let kept = self.peers.get_mut(peer)?;
        let (at, _) = kept.iter().enumerate().min_by_key(|(_, k)| k.since)?;
        let gone = kept.remove(at).connection;
        if kept.is_empty() {
            self.peers.remove(peer);
        }
        Some(gone)
    }

    /// A connection that is shared was used until now.
    pub(super) fn touch(&mut self, peer: &K, now: Instant, is_it: impl Fn(&C) -> bool) {
        let kept = self.peers.get_mut(peer).into_iter().flatten();
        for one in kept.filter(|k| is_it(&k.connection)) {
            one.since = now;
        }
    }

    /// Drops what has lain too long, and what `state` calls dead; when to look
    /// again.
    pub(super) fn expire(&mut self, now: Instant, state: impl Fn(&C) -> State) -> Instant {
        let mut next = now + IDLE;
        self.peers.retain(|_, kept| {
            kept.retain_mut(|one| match state(&one.connection) {
                State::Dead => false,
                State::Used => {
                    one.since = now;
                    true
                }
                State::Unused if now >= one.since + IDLE => false,
                State::Unused => {
                    next = next.min(one.since + IDLE);
                    true
                }
            });
            !kept.is_empty()
        });
        next
    }
}

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Dead,
    Used,
    Unused,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(one: u32) -> (Option<u32>, Option<u32>) {
        (Some(one), None)
    }

    fn shelf(n: u32, now: Instant) -> Shelf<u32, u32> {
        let mut shelf = Shelf::new();
        for i in 0..n {
            let at = now + Duration::from_secs(u64::from(i));
            assert_eq!(shelf.put(1, i, at), None);
        }
        shelf
    }

    #[test]
    fn the_last_one_used_is_taken_and_no_others_peer() {
        let now = Instant::now();
        let mut shelf = shelf(3, now);
        assert_eq!(shelf.take(&2, now, all), None);
        assert_eq!(shelf.take(&1, now, all), Some(2));
        // One that is dead, and one that is shared.
        let odd = |one| match one {
            1 => (None, None),
            one => (Some(one), Some(one)),
        };
        assert_eq!(shelf.take(&1, now, odd), Some(0));
        assert_eq!(shelf.take(&1, now, odd), Some(0));
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.take::<u32>(&1, now, |one| (None, Some(one))), None);
        assert_eq!(shelf.take(&1, now, all), Some(0));
        assert_eq!(shelf.len(), 0);
    }

    #[test]
    fn too_many_at_one_peer_or_in_all_push_the_oldest_out() {
        let now = Instant::now();
        let mut one = shelf(u32::try_from(PER_PEER).unwrap_or(0), now);
        assert_eq!(one.put(1, 99, now + IDLE), Some(0));
        let mut many: Shelf<usize, usize> = Shelf::new();
        for i in 0..IN_ALL {
            let at = now + Duration::from_millis(i as u64);
            assert_eq!(many.put(i / 20, i, at), None);
        }
        assert_eq!(many.put(7, 7000, now + IDLE), Some(0));
        assert_eq!(many.put(7, 7001, now + IDLE), Some(1));
        assert_eq!(many.len(), IN_ALL);
    }

    #[test]
    fn what_lies_for_too_long_goes() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut shelf = shelf(3, now);
        let unused = |_: &u32| State::Unused;
        assert_eq!(shelf.expire(now + second, unused), now + IDLE);
        assert_eq!(shelf.len(), 3);
        assert_eq!(shelf.expire(now + IDLE, unused), now + IDLE + second);
        assert_eq!(shelf.len(), 2);
        let one_is = |state| move |one: &u32| if *one == 1 { state } else { State::Unused };
        let later = now + IDLE + 2 * second;
        shelf.touch(&1, now + 2 * second, |one| *one == 1);
        shelf.expire(later - second, unused);
        assert_eq!(shelf.len(), 2);
        shelf.expire(later, one_is(State::Used));
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.expire(later + second, unused), later + IDLE);
        shelf.expire(later + second, one_is(State::Dead));
        assert_eq!(shelf.len(), 0);
    }
}

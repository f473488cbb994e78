//! The store's contents in memory: every key's versions back to the last
//! compaction, and the history of commits that watchers read.
//!
//! Owns what a revision means. Refuses reads of what is compacted or not yet
//! there. It does no I/O: the engine applies a commit here only after the
//! commit is durable, so whoever reads this sees nothing that can be lost.
//!
//! ```text
//! trimmed <= compacted <= revision
//!    |           |           `- newest commit
//!    |           `- reads and watches below are refused
//!    `- versions and history below are freed, in small steps
//! ```

use crate::leases::Leases;
use crate::types::{Event, EventKind, KeyValue, LeaseId, Range, RangeResult, Revision, StoreError};
use crate::waiters::Waiters;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// All changes of one revision, shared by log, history and watchers.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) revision: Revision,
    pub(crate) events: Arc<[Event]>,
    /// Keys of it that hang on leases.
    pub(crate) attached: Vec<(Bytes, LeaseId)>,
}

#[derive(Clone, Debug)]
struct Version {
    create: Revision,
    modified: Revision,
    version: u64,
    /// `None` is a deletion.
    value: Option<Bytes>,
}

#[derive(Debug)]
struct Versions {
    current: Version,
    /// Superseded ones, oldest first.
    older: VecDeque<Version>,
}

impl Versions {
    fn at(&self, revision: Revision) -> Option<&Version> {
        if self.current.modified <= revision {
            return Some(&self.current);
        }
        let after = self.older.partition_point(|v| v.modified <= revision);
        self.older.get(after.checked_sub(1)?)
    }

    /// Forgets what no read at `revision` or later can see; true when nothing
    /// is left.
    fn trim(&mut self, revision: Revision) -> bool {
        if self.current.modified <= revision {
            self.older = VecDeque::new();
            return self.current.value.is_none();
        }
        let visible = self.older.partition_point(|v| v.modified <= revision);
        self.older.drain(..visible.saturating_sub(1));
        if self
            .older
            .front()
            .is_some_and(|v| v.value.is_none() && v.modified <= revision)
        {
            self.older.pop_front();
        }
        false
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    keys: BTreeMap<Bytes, Versions>,
    history: VecDeque<Commit>,
    history_bytes: usize,
    revision: Revision,
    compacted: Revision,
    trimmed: Revision,
    /// Checkpoints and snapshots being taken read at these revisions: nothing
    /// above the oldest is trimmed.
    pins: Vec<Revision>,
    live_bytes: usize,
    pub(crate) leases: Leases,
    pub(crate) waiters: Waiters,
}

/// What an event costs in `history_bytes` beside key and value.
const EVENT_OVERHEAD: usize = 256;

fn event_bytes(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |p| p.value.len());
    EVENT_OVERHEAD + event.current.key.len() + event.current.value.len() + previous
}

fn key_value(key: &Bytes, version: &Version) -> Option<KeyValue> {
    Some(KeyValue {
        key: key.clone(),
        value: version.value.clone()?,
        create_revision: version.create,
        mod_revision: version.modified,
        version: version.version,
    })
}

impl State {
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Keys and values that a checkpoint taken now would hold.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// How many keys there are, deleted ones that are still readable included.
    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        key_value(key, &versions.current)
    }

    /// One key as a checkpoint recorded it.
    pub(crate) fn restore(&mut self, item: KeyValue) {
        self.live_bytes += item.key.len() + item.value.len();
        let current = Version {
            create: item.create_revision,
            modified: item.mod_revision,
            version: item.version,
            value: Some(item.value),
        };
        self.keys.insert(
            item.key,
            Versions {
                current,
                older: VecDeque::new(),
            },
        );
    }

    /// After the last `restore`: there is no history before `revision`.
    pub(crate) fn restored(&mut self, revision: Revision) {
        self.revision = revision;
        self.compacted = revision;
        self.trimmed = revision;
    }

    /// Everything at a later revision, with nothing known of what came between:
    /// who watched before is cut off, and nothing is pinned any more.
    pub(crate) fn replace(&mut self, with: State) {
        let waiters = std::mem::take(&mut self.waiters);
        let before = self.revision;
        *self = State { waiters, ..with };
        self.waiters.cut(before);
    }

    /// Skips to a revision at which nothing happened.
    pub(crate) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    pub(crate) fn apply(&mut self, commit: Commit) {
        for event in commit.events.iter() {
            self.apply_event(event);
            self.history_bytes += event_bytes(event);
        }
        if !self.leases.is_empty() {
            self.leases.apply(&commit);
        }
        self.waiters.mark(self.revision, &commit.events);
        self.revision = commit.revision;
        self.history.push_back(commit);
    }

    fn apply_event(&mut self, event: &Event) {
        let current = &event.current;
        let next = Version {
            create: current.create_revision,
            modified: current.mod_revision,
            version: current.version,
            value: match event.kind {
                EventKind::Put => Some(current.value.clone()),
                EventKind::Delete => None,
            },
        };
        if let Some(previous) = &event.previous {
            self.live_bytes -= previous.key.len() + previous.value.len();
        }
        if next.value.is_some() {
            self.live_bytes += current.key.len() + current.value.len();
        }
        match self.keys.get_mut(&current.key) {
            Some(versions) => {
                let old = std::mem::replace(&mut versions.current, next);
                versions.older.push_back(old);
            }
            None => {
                let versions = Versions {
                    current: next,
                    older: VecDeque::new(),
                };
                self.keys.insert(current.key.clone(), versions);
            }
        }
    }

    pub(crate) fn readable(&self, revision: Revision) -> Result<(), StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Compacted {
                requested: revision,
                compacted: self.compacted,
            });
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision {
                requested: revision,
                newest: self.revision,
            });
        }
        Ok(())
    }

    pub(crate) fn range(&self, range: &Range) -> Result<RangeResult, StoreError> {
        let revision = range.revision.unwrap_or(self.revision);
        self.readable(revision)?;
        let mut items = Vec::new();
        let mut remaining = 0;
        for (key, versions) in self.between(&range.start, &range.end) {
            let Some(version) = versions.at(revision).filter(|v| v.value.is_some()) else {
                continue;
            };
            if range.limit == 0 || items.len() < range.limit {
                items.extend(key_value(key, version));
            } else {
                remaining += 1;
            }
        }
        Ok(RangeResult {
            items,
            revision,
            remaining,
        })
    }

    fn between(&self, start: &Bytes, end: &Bytes) -> impl Iterator<Item = (&Bytes, &Versions)> {
        let start = Bound::Included(start.as_ref());
        let bounds = match end.is_empty() {
            true => (start, Bound::Unbounded),
            // BTreeMap refuses an end before the start.
            false => (start, Bound::Excluded(end.as_ref())),
        };
        let inverted = matches!(bounds, (Bound::Included(a), Bound::Excluded(b)) if a >= b);
        let all = (!inverted).then(|| self.keys.range::<[u8], _>(bounds));
        all.into_iter().flatten()
    }

    /// At most `bytes` of live keys after `after` at a pinned revision, for a
    /// checkpoint or a snapshot; empty at the end.
    pub(crate) fn pinned_page(
        &self,
        revision: Revision,
        after: Option<&Bytes>,
        bytes: usize,
    ) -> Vec<KeyValue> {
        let start = match after {
            Some(key) => Bound::Excluded(key.as_ref()),
            None => Bound::Unbounded,
        };
        let mut page = Vec::new();
        let mut size = 0;
        for (key, versions) in self.keys.range::<[u8], _>((start, Bound::Unbounded)) {
            let found = versions.at(revision).and_then(|v| key_value(key, v));
            size += found.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
            page.extend(found);
            if size >= bytes {
                break;
            }
        }
        page
    }

    pub(crate) fn pin(&mut self, revision: Revision) {
        self.pins.push(revision);
    }

    /// False if it was not pinned all the time.
    pub(crate) fn unpin(&mut self, revision: Revision) -> bool {
        let found = self.pins.iter().position(|pin| *pin == revision);
        found.map(|at| self.pins.swap_remove(at)).is_some()
    }

    /// As etcd: what is already compacted can't be compacted again.
    pub(crate) fn compactable(&self, revision: Revision) -> Result<(), StoreError> {
        self.readable(revision)
    }

    /// Refuses reads below `revision` from now on; `trim` frees the memory.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        self.compactable(revision)?;
        self.compacted = revision;
        Ok(())
    }

    /// The revision to compact at so that at most `bytes` of history stay.
    pub(crate) fn compaction_for(&self, bytes: usize) -> Option<Revision> {
        let mut excess = self.history_bytes.checked_sub(bytes)?;
        for commit in &self.history {
            let size: usize = commit.events.iter().map(event_bytes).sum();
            match excess.checked_sub(size) {
                Some(rest) if rest > 0 => excess = rest,
                _ => return Some(commit.revision.max(self.compacted)),
            }
        }
        None
    }

    /// Frees at most `commits` commits that compaction gave up; true when
    /// there is more to free.
    pub(crate) fn trim(&mut self, commits: usize) -> bool {
        let pins = self.pins.iter().copied();
        let limit = pins.chain([self.compacted]).min().unwrap_or_default();
        for _ in 0..commits {
            let Some(front) = self.history.front() else {
                break;
            };
            if front.revision > limit {
                break;
            }
            let revision = front.revision;
            let Some(commit) = self.history.pop_front() else {
                break;
            };
            self.trimmed = revision;
            for event in commit.events.iter() {
                self.history_bytes -= event_bytes(event);
                let key = &event.current.key;
                if self
                    .keys
                    .get_mut(key)
                    .is_some_and(|versions| versions.trim(limit))
                {
                    self.keys.remove(key);
                }
            }
        }
        self.history
            .front()
            .is_some_and(|front| front.revision <= limit)
    }

    /// Events of whole revisions after `after` in `[start, end)`: at least
    /// `limit` of them if there are so many, and the revision they reach to.
    pub(crate) fn events(
        &self,
        start: &[u8],
        end: &[u8],
        after: Revision,
        limit: usize,
    ) -> Result<(Vec<Event>, Revision), StoreError> {
        self.readable(after)?;
        let first = self
            .history
            .partition_point(|commit| commit.revision <= after);
        let mut found = Vec::new();
        for commit in self.history.range(first..) {
            let inside = |e: &&Event| contains(start, end, &e.current.key);
            found.extend(commit.events.iter().filter(inside).cloned());
            if found.len() >= limit {
                return Ok((found, commit.revision));
            }
        }
        Ok((found, self.revision))
    }
}

/// `start <= key < end`; an empty `end` is no bound.
pub(crate) fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    start <= key && (end.is_empty() || key < end)
}

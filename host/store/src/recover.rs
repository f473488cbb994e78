//! Opening: from files to the state they stand for.
//!
//! Reads the newest checkpoint and every log from it on. A bad frame at the
//! end of the newest log is the tail of a batch that no one was answered for
//! (a batch is one frame and is synced before the next is written): it is cut
//! off. A bad frame with a good one behind it, anything wrong in an older log
//! or in a checkpoint, and a missing file are damage: reported, and nothing in
//! the directory is changed. All changes come last, when everything was read.
//!
//! What can't be told apart: damage of exactly the last batch of a log, and a
//! torn one. The disk's own checksums have to find that.

use crate::checkpoint;
use crate::disk::Disk;
use crate::files::{Found, FrameReader, checkpoint_name, damaged, io_error, log_name, sequence_of};
use crate::format::{FileKind, Head, Record, any_good_frame, parse_log};
use crate::plan;
use crate::state::{Commit, State};
use crate::types::{EventKind, Revision, StoreError};

/// How many replayed frames between two looks at the bound on history.
const TRIM_EVERY: u32 = 64;

/// The log to go on with.
pub(crate) struct Tail {
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    pub(crate) length: u64,
    /// Bytes behind `length` to cut off.
    pub(crate) torn: u64,
}

pub(crate) struct Recovered {
    pub(crate) state: State,
    /// `None`: start a log of this sequence.
    pub(crate) tail: Result<Tail, u64>,
    pub(crate) high_water: Revision,
    /// Files that mean nothing any more.
    pub(crate) leftovers: Vec<String>,
}

struct Replay {
    state: State,
    high_water: Revision,
    closed: bool,
    history_bytes: usize,
    frames: u32,
}

pub(crate) fn recover(disk: &mut dyn Disk, history_bytes: usize) -> Result<Recovered, StoreError> {
    let names = disk.names().map_err(io_error(disk, "list", ""))?;
    let mut logs: Vec<u64> = names.iter().filter_map(|n| sequence_of("log", n)).collect();
    let checkpoints: Vec<u64> = names
        .iter()
        .filter_map(|n| sequence_of("checkpoint", n))
        .collect();
    let newest = checkpoints.iter().copied().max();
    let first = newest.unwrap_or(1);
    logs.sort_unstable();

    let mut leftovers = leftovers(&names, &logs, &checkpoints, first);
    logs.retain(|s| *s >= first);
    check_sequence(disk, &logs, first, newest.is_some())?;

    let mut replay = Replay {
        state: State::default(),
        high_water: Revision(0),
        closed: false,
        history_bytes,
        frames: 0,
    };
    if let Some(sequence) = newest {
        let (name, what) = (checkpoint_name(sequence), (FileKind::Checkpoint, sequence));
        replay.high_water = checkpoint::load(disk, name, what, &mut replay.state)?.high_water;
    }
    let mut tail = Err(first);
    for (index, sequence) in logs.iter().enumerate() {
        let last = index + 1 == logs.len();
        // Only a log that never took a frame may lack its head.
        let may_lack = last && newest != Some(*sequence);
        match replay.log(disk, *sequence, may_lack)? {
            Some(read) if read.torn > 0 && !last => {
                // Fine only if the log after it was never in use.
                let next = log_name(sequence + 1);
                let unused = index + 2 == logs.len() && unused_log(disk, next.clone())?;
                if !unused {
                    let name = log_name(*sequence);
                    return Err(damaged(
                        disk,
                        &name,
                        read.length,
                        "a bad frame in an older log",
                    ));
                }
                tail = Ok(read);
            }
            Some(read) => tail = Ok(read),
            None => leftovers.push(log_name(*sequence)),
        }
    }
    if !replay.closed {
        replay.state.advance(replay.high_water);
    }
    Ok(Recovered {
        state: replay.state,
        tail,
        high_water: replay.high_water,
        leftovers,
    })
}

/// Half-written files, and those that the checkpoint `first` has replaced.
fn leftovers(names: &[String], logs: &[u64], checkpoints: &[u64], first: u64) -> Vec<String> {
    let drafts = names.iter().filter(|n| n.ends_with(".tmp")).cloned();
    let logs = logs.iter().filter(|s| **s < first);
    let checkpoints = checkpoints.iter().filter(|s| **s < first);
    drafts
        .chain(logs.map(|s| log_name(*s)))
        .chain(checkpoints.map(|s| checkpoint_name(*s)))
        .collect()
}

fn check_sequence(
    disk: &dyn Disk,
    logs: &[u64],
    first: u64,
    checkpointed: bool,
) -> Result<(), StoreError> {
    if logs.is_empty() && checkpointed {
        return Err(damaged(disk, &log_name(first), 0, "missing"));
    }
    for (expected, found) in (first..).zip(logs) {
        if expected != *found {
            return Err(damaged(disk, &log_name(expected), 0, "missing"));
        }
    }
    Ok(())
}

/// Whether a log without a head never had a frame either.
fn unused_log(disk: &mut dyn Disk, name: String) -> Result<bool, StoreError> {
    let mut reader = FrameReader::open(disk, name)?;
    if reader.head(disk)?.is_ok() {
        return Ok(false);
    }
    let rest = reader.rest(disk)?;
    Ok(!any_good_frame(&rest, reader.offset, None))
}

impl Replay {
    /// `None` for a log that never was in use.
    fn log(
        &mut self,
        disk: &mut dyn Disk,
        sequence: u64,
        may_lack: bool,
    ) -> Result<Option<Tail>, StoreError> {
        let mut reader = FrameReader::open(disk, log_name(sequence))?;
        let name = reader.name.clone();
        match reader.head(disk)? {
            Ok(head) => self.check_head(disk, &name, sequence, &head)?,
            Err(_) if may_lack && unused_log(disk, name.clone())? => return Ok(None),
            Err(what) => return Err(damaged(disk, &name, 0, what)),
        }
        loop {
            match reader.next(disk)? {
                Found::Frame(offset, payload) => {
                    self.frame(&payload)
                        .map_err(|what| damaged(disk, &name, offset, what))?;
                }
                Found::End => break,
                Found::Bad(what) => {
                    let rest = reader.rest(disk)?;
                    if any_good_frame(&rest, reader.offset, reader.salt) {
                        return Err(damaged(disk, &name, reader.offset, what));
                    }
                    break;
                }
            }
        }
        let salt = reader.salt.unwrap_or_default();
        let length = reader.offset;
        Ok(Some(Tail {
            sequence,
            salt,
            length,
            torn: reader.length - length,
        }))
    }

    fn check_head(
        &mut self,
        disk: &dyn Disk,
        name: &str,
        sequence: u64,
        head: &Head,
    ) -> Result<(), StoreError> {
        if head.kind != FileKind::Log || head.sequence != sequence {
            return Err(damaged(disk, name, 0, "the head of another file"));
        }
        if head.revision < self.state.revision() {
            return Err(damaged(disk, name, 0, "older than what comes before it"));
        }
        if head.revision > self.state.revision() {
            return Err(damaged(
                disk,
                name,
                0,
                "the end of the log before it is missing",
            ));
        }
        self.high_water = self.high_water.max(head.high_water);
        Ok(())
    }

    fn frame(&mut self, payload: &[u8]) -> Result<(), &'static str> {
        let (high_water, records) = parse_log(payload).ok_or("malformed batch")?;
        self.closed = false;
        self.high_water = self.high_water.max(high_water);
        for record in records {
            self.record(record)?;
        }
        self.frames += 1;
        if self.frames.is_multiple_of(TRIM_EVERY) {
            if let Some(revision) = self.state.compaction_for(self.history_bytes) {
                self.state
                    .compact(revision)
                    .map_err(|_| "compaction beyond the log")?;
            }
            self.state.trim(usize::MAX);
        }
        Ok(())
    }

    fn record(&mut self, record: Record) -> Result<(), &'static str> {
        match record {
            Record::Commit { revision, ops } => {
                if revision <= self.state.revision() {
                    return Err("a revision twice");
                }
                let mut events = Vec::with_capacity(ops.len());
                for (kind, key, value) in ops {
                    let previous = self.state.get(&key);
                    events.push(match (kind, previous) {
                        (EventKind::Put, previous) => plan::put(previous, key, value, revision),
                        (EventKind::Delete, Some(previous)) => plan::delete(previous, revision),
                        (EventKind::Delete, None) => return Err("an absent key deleted"),
                    });
                }
                self.state.apply(Commit {
                    revision,
                    events: events.into(),
                    attached: Vec::new(),
                });
            }
            Record::Compact(revision) => {
                // What history lacks after a checkpoint is compacted anyhow.
                let revision = revision.max(self.state.compacted());
                self.state
                    .compact(revision)
                    .map_err(|_| "compaction beyond the log")?;
            }
            // After an unclean end revisions were skipped.
            Record::Opened(revision) => self.state.advance(revision),
            Record::Closed => self.closed = true,
            Record::Grant(id, ttl) => self.state.leases.grant(id, ttl),
            Record::Revoke(id) => self.state.leases.revoke(id),
            Record::Attach(key, id) => self.state.leases.attach(key, id),
            Record::Item(_) | Record::End(_) => return Err("a checkpoint's record in a log"),
        }
        Ok(())
    }
}

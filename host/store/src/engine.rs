//! The embedded engine: decides a batch, makes it durable, applies it.
//!
//! ```text
//!            first commit > log_bytes          all pages written
//! log n  ------------------------> log n+1  -------------------> files < n+1
//!                                  checkpoint n+1 .tmp            removed
//! ```
//! Owns the directory. After any failed write or sync it does nothing more
//! (`Stopped`): what is on the disk is then unknown, and only reading it again
//! tells. Revisions are given out only below a high-water mark that is already
//! durable; after an unclean end numbering goes on above the mark, so that a
//! revision is never given twice, whatever the disk has lost.

use crate::checkpoint::CheckpointWriter;
use crate::disk::Disk;
use crate::files::{FrameFile, io_error, log_name, sequence_of};
use crate::format::{FileKind, FrameBuilder, Head};
use crate::plan::Batch;
use crate::recover::recover;
use crate::state::Commit;
use crate::store::Shared;
use crate::types::{Outcome, Revision, StoreError, Txn};
use std::sync::Arc;

/// Revisions that may be given out before the mark must have moved on.
const RESERVE: u64 = 4096;
/// Commits that one step of freeing takes.
const TRIM: usize = 256;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for history and superseded versions; when it is exceeded, the
    /// oldest is compacted. It is also how far a watcher may fall behind.
    pub history_bytes: usize,
    /// A log larger than this, and larger than what is live, is followed by a
    /// checkpoint.
    pub log_bytes: u64,
    /// Bytes of a checkpoint that are written and synced between two batches.
    pub checkpoint_step: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            history_bytes: 32 << 20,
            log_bytes: 64 << 20,
            checkpoint_step: 1 << 20,
        }
    }
}

/// What becomes of one transaction of a batch that was written.
pub(crate) type Decided = Result<Outcome, StoreError>;

pub(crate) struct Engine {
    disk: Box<dyn Disk>,
    pub(crate) shared: Arc<Shared>,
    options: Options,
    /// Random; makes the salts of files.
    pub(crate) entropy: u64,
    log: FrameFile,
    sequence: u64,
    /// Durable.
    pub(crate) high_water: Revision,
    checkpoint: Option<CheckpointWriter>,
    /// More to free.
    trimming: bool,
    failed: bool,
}

impl Engine {
    pub(crate) fn open(
        mut disk: Box<dyn Disk>,
        options: Options,
        entropy: u64,
    ) -> Result<Engine, StoreError> {
        let found = recover(&mut *disk, options.history_bytes)?;
        let disk_ref = &mut *disk;
        for name in &found.leftovers {
            disk_ref
                .remove(name)
                .map_err(io_error(disk_ref, "remove", name))?;
        }
        disk_ref
            .sync_dir()
            .map_err(io_error(disk_ref, "sync the directory", ""))?;
        let revision = found.state.revision();
        let high_water = found.high_water.max(revision);
        let (sequence, log) = match found.tail {
            Ok(tail) => {
                let name = log_name(tail.sequence);
                if tail.torn > 0 {
                    log::warn!("{name}: {} bytes of an unfinished batch cut off", tail.torn);
                    disk_ref
                        .truncate(&name, tail.length)
                        .map_err(io_error(disk_ref, "truncate", &name))?;
                    disk_ref
                        .sync(&name)
                        .map_err(io_error(disk_ref, "sync", &name))?;
                }
                (
                    tail.sequence,
                    FrameFile {
                        name,
                        salt: tail.salt,
                        length: tail.length,
                    },
                )
            }
            Err(sequence) => {
                let log = start_log(disk_ref, sequence, entropy, revision, high_water)?;
                (sequence, log)
            }
        };
        let shared = Arc::new(Shared::new(found.state, high_water));
        let mut engine = Engine {
            disk,
            shared,
            options,
            entropy,
            log,
            sequence,
            high_water,
            checkpoint: None,
            trimming: true,
            failed: false,
        };
        engine.restart_leases();
        engine.append(Revision(revision.0 + RESERVE), |frame| {
            frame.opened(revision)
        })?;
        Ok(engine)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Answers in the order of `batch`, all durable. At most `BATCH`
    /// transactions.
    pub(crate) fn commit(&mut self, batch: Vec<Txn>) -> Result<Vec<Decided>, StoreError> {
        if self.failed {
            return Err(StoreError::Stopped);
        }
        let (outcomes, commits) = self.decide(batch);
        self.write(commits, |_| {})?;
        Ok(outcomes)
    }

    /// Makes commits durable, and what `also` writes behind them in the same
    /// frame, then applies them.
    pub(crate) fn write(
        &mut self,
        commits: Vec<Commit>,
        also: impl FnOnce(&mut FrameBuilder),
    ) -> Result<(), StoreError> {
        let Some(last) = commits.last() else {
            return Ok(());
        };
        let newest = last.revision;
        assert!(
            newest <= self.high_water,
            "a batch is far smaller than the reserve"
        );
        let mark = match newest.0 + RESERVE / 2 > self.high_water.0 {
            true => Revision(newest.0 + RESERVE),
            false => self.high_water,
        };
        self.append(mark, |frame| {
            commits.iter().for_each(|commit| frame.commit(commit));
            also(frame);
        })?;
        let history_bytes = self.options.history_bytes;
        self.trimming |= self.shared.with(|state| {
            for commit in commits {
                state.apply(commit);
            }
            let revision = state.compaction_for(history_bytes);
            revision.is_some_and(|revision| state.compact(revision).is_ok())
        });
        Ok(())
    }

    pub(crate) fn decide(&self, txns: Vec<Txn>) -> (Vec<Decided>, Vec<Commit>) {
        let state = self.shared.read();
        let mut batch = Batch::new(&state);
        let outcomes = txns.into_iter().map(|txn| batch.decide(txn)).collect();
        (outcomes, batch.commits)
    }

    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        self.shared.read().compactable(revision)?;
        self.append(self.high_water, |frame| frame.compact(revision))?;
        self.trimming = true;
        self.shared.with(|state| state.compact(revision))
    }

    /// The last thing: a clean end.
    pub(crate) fn close(&mut self) -> Result<(), StoreError> {
        let closed = self.append(self.high_water, FrameBuilder::closed);
        self.stop();
        closed
    }

    pub(crate) fn stop(&mut self) {
        self.failed = true;
        self.shared.stop();
    }

    /// One step of what can wait; true when there is more.
    pub(crate) fn work(&mut self) -> Result<bool, StoreError> {
        if self.failed {
            return Ok(false);
        }
        if self.trimming {
            self.trimming = self.shared.with(|state| state.trim(TRIM));
        }
        let checkpointing = self.guarded(Engine::checkpoint_step)?;
        Ok(self.trimming || checkpointing)
    }

    fn checkpoint_step(&mut self) -> Result<bool, StoreError> {
        let Some(writer) = &mut self.checkpoint else {
            let live = self.shared.read().live_bytes() as u64;
            if self.log.length > self.options.log_bytes.max(live) {
                self.start_checkpoint()?;
                return Ok(true);
            }
            return Ok(false);
        };
        let (at, step) = (writer.revision, self.options.checkpoint_step);
        let page = self.shared.read().pinned_page(at, writer.after(), step);
        if !writer.step(&mut *self.disk, &page)? {
            return Ok(true);
        }
        self.checkpoint = None;
        let _ = self.shared.with(|state| state.unpin(at));
        self.trimming = true;
        self.remove_older()?;
        Ok(true)
    }

    /// A new log, and a checkpoint of what is before it.
    fn start_checkpoint(&mut self) -> Result<(), StoreError> {
        let revision = self.shared.read().revision();
        let sequence = self.sequence + 1;
        let disk = &mut *self.disk;
        self.log = start_log(disk, sequence, self.entropy, revision, self.high_water)?;
        self.sequence = sequence;
        let high_water = self.high_water;
        let head = Head {
            kind: FileKind::Checkpoint,
            sequence,
            revision,
            high_water,
        };
        self.checkpoint = Some(CheckpointWriter::start(
            disk,
            !salt(self.entropy, sequence),
            &head,
            &self.shared.read().leases,
        )?);
        self.shared.with(|state| state.pin(revision));
        Ok(())
    }

    /// The checkpoint is durable: nothing before it is needed. A removal that
    /// a crash undoes is repeated by the next open.
    fn remove_older(&mut self) -> Result<(), StoreError> {
        let names = self
            .disk
            .names()
            .map_err(io_error(&*self.disk, "list", ""))?;
        let sequence = self.sequence;
        for name in names {
            let found = sequence_of("log", &name).or_else(|| sequence_of("checkpoint", &name));
            if found.is_some_and(|found| found < sequence) {
                self.disk
                    .remove(&name)
                    .map_err(io_error(&*self.disk, "remove", &name))?;
            }
        }
        Ok(())
    }

    /// One frame, durable, with the high-water mark that then holds.
    pub(crate) fn append(
        &mut self,
        mark: Revision,
        fill: impl FnOnce(&mut FrameBuilder),
    ) -> Result<(), StoreError> {
        self.guarded(|engine| {
            let mut frame = FrameBuilder::log(mark);
            fill(&mut frame);
            engine.log.append(&mut *engine.disk, frame)?;
            engine.high_water = engine.high_water.max(mark);
            engine.shared.set_high_water(engine.high_water);
            Ok(())
        })
    }

    /// Stops the engine for good when `act` fails.
    fn guarded<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.failed {
            return Err(StoreError::Stopped);
        }
        let done = act(self);
        if done.is_err() {
            self.stop();
        }
        done
    }
}

/// Differs for each file of a directory and can't be guessed.
pub(crate) fn salt(entropy: u64, sequence: u64) -> u64 {
    let mixed = entropy ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A new log that is durable with its name, so that frames may follow.
pub(crate) fn start_log(
    disk: &mut dyn Disk,
    sequence: u64,
    entropy: u64,
    revision: Revision,
    high_water: Revision,
) -> Result<FrameFile, StoreError> {
    let head = Head {
        kind: FileKind::Log,
        sequence,
        revision,
        high_water,
    };
    let log = FrameFile::create(disk, log_name(sequence), salt(entropy, sequence), &head)?;
    disk.sync_dir()
        .map_err(io_error(disk, "sync the directory of", &log.name))?;
    Ok(log)
}

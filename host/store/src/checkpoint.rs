//! Checkpoints: all keys at one revision in one file, so that older logs can
//! go. Written beside in steps between batches, each step synced, then
//! renamed; a crash before that leaves only a `.tmp` that the next open
//! removes.

use crate::disk::Disk;
use crate::files::{Found, FrameFile, FrameReader, checkpoint_name, damaged, io_error};
use crate::format::{FileKind, FrameBuilder, Head, Record, parse_page};
use crate::state::State;
use crate::types::{KeyValue, Revision, StoreError};
use bytes::Bytes;

pub(crate) struct CheckpointWriter {
    file: FrameFile,
    pub(crate) sequence: u64,
    /// What it holds is pinned there.
    pub(crate) revision: Revision,
    after: Option<Bytes>,
    items: u64,
}

impl CheckpointWriter {
    pub(crate) fn start(disk: &mut dyn Disk, salt: u64, head: &Head) -> Result<Self, StoreError> {
        let name = format!("{}.tmp", checkpoint_name(head.sequence));
        let file = FrameFile::create(disk, name, salt, head)?;
        Ok(CheckpointWriter {
            file,
            sequence: head.sequence,
            revision: head.revision,
            after: None,
            items: 0,
        })
    }

    /// Writes a page of items; an empty one ends it. True when the checkpoint
    /// is durable under its name.
    pub(crate) fn step(
        &mut self,
        disk: &mut dyn Disk,
        page: &[KeyValue],
    ) -> Result<bool, StoreError> {
        let mut frame = FrameBuilder::new();
        for item in page {
            frame.item(item);
        }
        self.items += page.len() as u64;
        if let Some(last) = page.last() {
            self.after = Some(last.key.clone());
            self.file.append(disk, frame)?;
            return Ok(false);
        }
        frame.end(self.items);
        self.file.append(disk, frame)?;
        let (from, to) = (&self.file.name, checkpoint_name(self.sequence));
        disk.rename(from, &to)
            .map_err(io_error(disk, "rename", from))?;
        disk.sync_dir()
            .map_err(io_error(disk, "sync the directory of", &to))?;
        Ok(true)
    }

    pub(crate) fn after(&self) -> Option<&Bytes> {
        self.after.as_ref()
    }
}

/// Fills `state` from a checkpoint or a snapshot. Anything wrong is damage: it
/// was complete before it got its name.
pub(crate) fn load(
    disk: &mut dyn Disk,
    name: String,
    (kind, sequence): (FileKind, u64),
    state: &mut State,
) -> Result<Head, StoreError> {
    let mut reader = FrameReader::open(disk, name)?;
    let name = reader.name.clone();
    let head = reader
        .head(disk)?
        .map_err(|what| damaged(disk, &name, 0, what))?;
    if head.kind != kind || head.sequence != sequence {
        return Err(damaged(disk, &name, 0, "the head of another file"));
    }
    let mut items = 0u64;
    let mut ended = None;
    loop {
        let (offset, payload) = match reader.next(disk)? {
            Found::Frame(offset, payload) => (offset, payload),
            Found::Bad(what) => return Err(damaged(disk, &name, reader.offset, what)),
            Found::End => break,
        };
        let records = parse_page(&payload);
        let records = records.ok_or_else(|| damaged(disk, &name, offset, "malformed page"))?;
        for record in records {
            match (record, ended) {
                (Record::Item(item), None) if item.mod_revision <= head.revision => {
                    items += 1;
                    state.restore(item);
                }
                (Record::End(count), None) => ended = Some(count),
                _ => return Err(damaged(disk, &name, offset, "unexpected record")),
            }
        }
    }
    if ended != Some(items) {
        return Err(damaged(disk, &name, reader.offset, "incomplete"));
    }
    state.restored(head.revision);
    Ok(head)
}

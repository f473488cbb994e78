//! Checkpoints: all keys at one revision in one file, so that older logs can
//! go. Written beside in steps between batches, each step synced, then
//! renamed; a crash before that leaves only a `.tmp` that the next open
//! removes.

use crate::disk::Disk;
use crate::files::{Found, FrameFile, FrameReader, checkpoint_name, damaged, io_error};
use crate::format::{FileKind, FrameBuilder, Head, Record, parse_page};
use crate::leases::Leases;
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
    /// `leases` are few: they are written at once.
    pub(crate) fn start(
        disk: &mut dyn Disk,
        salt: u64,
        head: &Head,
        leases: &Leases,
    ) -> Result<Self, StoreError> {
        let name = format!("{}.tmp", checkpoint_name(head.sequence));
        let mut file = FrameFile::create(disk, name, salt, head)?;
        for frame in lease_frames(leases) {
            file.append(disk, frame)?;
        }
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

/// Leases as the frames of a checkpoint or a snapshot.
pub(crate) fn lease_frames(leases: &Leases) -> Vec<FrameBuilder> {
    /// Bytes that are worth a frame.
    const FULL: usize = 1 << 20;
    let mut frames = Vec::new();
    let mut frame = FrameBuilder::new();
    for (id, ttl) in leases.granted() {
        frame.grant(id, ttl);
    }
    for (key, id) in leases.attached() {
        if frame.size() > FULL {
            frames.push(std::mem::replace(&mut frame, FrameBuilder::new()));
        }
        frame.attach(key, id);
    }
    if !leases.is_empty() {
        frames.push(frame);
    }
    frames
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
                (Record::Grant(id, ttl), None) => state.leases.grant(id, ttl),
                (Record::Attach(key, id), None) => state.leases.attach(key, id),
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

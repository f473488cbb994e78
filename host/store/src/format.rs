//! The bytes of log and checkpoint files. Pure; every byte read is suspect.
//!
//! ```text
//! file    = frame(head) frame*
//! frame   = magic u32 | length u32 | salt u64 | offset u64
//!         | crc32(payload) u32 | crc32(the 28 bytes before) u32
//!         | payload | zeros up to a multiple of 8
//! head    = kind u8 | format u8 | sequence u64 | revision u64
//!         | high water u64
//! log     = high water u64 | records   (one append, so one frame, a batch)
//! page    = records                    (of a checkpoint or a snapshot)
//! ```
//! Numbers are little-endian. A frame is good only at its own offset and with
//! its file's salt (random), so no value that a client stores can pass for a
//! frame when a damaged log is searched for good ones.

use crate::state::Commit;
use crate::types::{EventKind, KeyValue, LeaseId, Revision};
use bytes::Bytes;

const MAGIC: u32 = 0x4c54_4101;
pub(crate) const FRAME_HEAD: usize = 32;
/// Above the largest batch: `BATCH_BYTES`, one more request, overhead.
const MAX_PAYLOAD: usize = 32 << 20;
const FORMAT: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Log = 1,
    Checkpoint = 2,
    /// A checkpoint that has left its directory; its sequence is 0.
    Snapshot = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: FileKind,
    pub(crate) sequence: u64,
    /// A log: the newest before it. A checkpoint: what it holds.
    pub(crate) revision: Revision,
    pub(crate) high_water: Revision,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Commit {
        revision: Revision,
        ops: Vec<(EventKind, Bytes, Bytes)>,
    },
    Compact(Revision),
    /// The store was opened and stood at this revision.
    Opened(Revision),
    /// The store ended in order: nothing was given out beyond this.
    Closed,
    Item(KeyValue),
    /// A checkpoint's last record: how many items it has.
    End(u64),
    /// A lease with its seconds to live.
    Grant(LeaseId, u64),
    /// It is gone; its keys went with the commit before.
    Revoke(LeaseId),
    /// The key hangs on the lease since the commit before.
    Attach(Bytes, LeaseId),
}

const COMMIT: u8 = 1;
const COMPACT: u8 = 2;
const CLOSED: u8 = 3;
const ITEM: u8 = 4;
const END: u8 = 5;
const OPENED: u8 = 6;
const GRANT: u8 = 7;
const REVOKE: u8 = 8;
const ATTACH: u8 = 9;

/// A frame being filled.
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
}

impl FrameBuilder {
    pub(crate) fn new() -> Self {
        FrameBuilder {
            bytes: vec![0; FRAME_HEAD],
        }
    }

    pub(crate) fn log(high_water: Revision) -> Self {
        let mut frame = FrameBuilder::new();
        frame.number(high_water.0);
        frame
    }

    fn number(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Requests are limited to far less than 4 GiB before they get here.
    fn length(&mut self, value: usize) {
        let value = u32::try_from(value).expect("lengths are limited by `Limits`");
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn data(&mut self, data: &[u8]) {
        self.length(data.len());
        self.bytes.extend_from_slice(data);
    }

    pub(crate) fn head(&mut self, head: &Head) {
        self.bytes.extend([head.kind as u8, FORMAT]);
        for number in [head.sequence, head.revision.0, head.high_water.0] {
            self.number(number);
        }
    }

    pub(crate) fn commit(&mut self, commit: &Commit) {
        self.bytes.push(COMMIT);
        self.number(commit.revision.0);
        self.length(commit.events.len());
        for event in commit.events.iter() {
            self.bytes.push(match event.kind {
                EventKind::Put => 1,
                EventKind::Delete => 0,
            });
            self.data(&event.current.key);
            self.data(&event.current.value);
        }
        for (key, id) in &commit.attached {
            self.attach(key, *id);
        }
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl: u64) {
        self.bytes.push(GRANT);
        self.number(id.0);
        self.number(ttl);
    }

    pub(crate) fn revoke(&mut self, id: LeaseId) {
        self.bytes.push(REVOKE);
        self.number(id.0);
    }

    pub(crate) fn attach(&mut self, key: &[u8], id: LeaseId) {
        self.bytes.push(ATTACH);
        self.data(key);
        self.number(id.0);
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn compact(&mut self, revision: Revision) {
        self.bytes.push(COMPACT);
        self.number(revision.0);
    }

    pub(crate) fn opened(&mut self, revision: Revision) {
        self.bytes.push(OPENED);
        self.number(revision.0);
    }

    pub(crate) fn closed(&mut self) {
        self.bytes.push(CLOSED);
    }

    pub(crate) fn item(&mut self, item: &KeyValue) {
        self.bytes.push(ITEM);
        for number in [item.create_revision.0, item.mod_revision.0, item.version] {
            self.number(number);
        }
        self.data(&item.key);
        self.data(&item.value);
    }

    pub(crate) fn end(&mut self, items: u64) {
        self.bytes.push(END);
        self.number(items);
    }

    pub(crate) fn finish(mut self, salt: u64, offset: u64) -> Vec<u8> {
        let payload = self.bytes.len() - FRAME_HEAD;
        let length = u32::try_from(payload).expect("a batch is bounded by the writer");
        let crc = crc32fast::hash(&self.bytes[FRAME_HEAD..]);
        let mut head = Vec::with_capacity(FRAME_HEAD);
        head.extend_from_slice(&MAGIC.to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&salt.to_le_bytes());
        head.extend_from_slice(&offset.to_le_bytes());
        head.extend_from_slice(&crc.to_le_bytes());
        let head_crc = crc32fast::hash(&head);
        head.extend_from_slice(&head_crc.to_le_bytes());
        self.bytes[..FRAME_HEAD].copy_from_slice(&head);
        self.bytes.resize(FRAME_HEAD + padded(payload), 0);
        self.bytes
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// A frame's head that is good by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) salt: u64,
    length: usize,
    crc: u32,
}

impl FrameHead {
    /// `salt` is `None` for the head frame, which tells it.
    pub(crate) fn parse(
        bytes: &[u8],
        offset: u64,
        salt: Option<u64>,
    ) -> Result<FrameHead, &'static str> {
        let mut cursor = Cursor(bytes.get(..FRAME_HEAD).ok_or("cut off")?);
        let mut read = || {
            let magic = cursor.u32()?;
            let length = cursor.u32()?;
            let (salt, offset) = (cursor.u64()?, cursor.u64()?);
            Some((magic, length, salt, offset, cursor.u32()?, cursor.u32()?))
        };
        let (magic, length, found, at, crc, head_crc) = read().ok_or("cut off")?;
        if magic != MAGIC || crc32fast::hash(&bytes[..FRAME_HEAD - 4]) != head_crc {
            return Err("no frame head");
        }
        if at != offset || salt.is_some_and(|salt| salt != found) {
            return Err("a frame of another place");
        }
        let length = length as usize;
        if length > MAX_PAYLOAD {
            return Err("too long");
        }
        Ok(FrameHead {
            salt: found,
            length,
            crc,
        })
    }

    /// Bytes of the whole frame.
    pub(crate) fn size(&self) -> usize {
        FRAME_HEAD + padded(self.length)
    }

    /// The payload of a frame that is there with its padding.
    pub(crate) fn payload<'a>(&self, frame: &'a [u8]) -> Result<&'a [u8], &'static str> {
        if frame.len() < self.size() {
            return Err("cut off");
        }
        let end = FRAME_HEAD + self.length;
        let payload = frame.get(FRAME_HEAD..end).ok_or("cut off")?;
        match crc32fast::hash(payload) == self.crc {
            true => Ok(payload),
            false => Err("wrong checksum"),
        }
    }
}

/// Whether any frame in `bytes`, which begin at `offset` of their file, is good.
pub(crate) fn any_good_frame(bytes: &[u8], offset: u64, salt: Option<u64>) -> bool {
    // Frames begin at multiples of 8.
    (0..bytes.len()).step_by(8).any(|at| {
        let rest = &bytes[at..];
        FrameHead::parse(rest, offset + at as u64, salt)
            .and_then(|head| head.payload(rest))
            .is_ok()
    })
}

pub(crate) fn parse_head(payload: &[u8]) -> Result<Head, &'static str> {
    let mut cursor = Cursor(payload);
    let mut read = || {
        let (kind, format) = (cursor.u8()?, cursor.u8()?);
        Some((kind, format, cursor.u64()?, cursor.u64()?, cursor.u64()?))
    };
    let (kind, format, sequence, revision, high_water) = read().ok_or("short head")?;
    let kind = match kind {
        1 => FileKind::Log,
        2 => FileKind::Checkpoint,
        3 => FileKind::Snapshot,
        _ => return Err("unknown kind of file"),
    };
    if format != FORMAT {
        return Err("unknown format");
    }
    Ok(Head {
        kind,
        sequence,
        revision: Revision(revision),
        high_water: Revision(high_water),
    })
}

pub(crate) fn parse_log(payload: &[u8]) -> Option<(Revision, Vec<Record>)> {
    let mut cursor = Cursor(payload);
    let high_water = Revision(cursor.u64()?);
    Some((high_water, parse_records(cursor)?))
}

pub(crate) fn parse_page(payload: &[u8]) -> Option<Vec<Record>> {
    parse_records(Cursor(payload))
}

fn parse_records(mut cursor: Cursor<'_>) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !cursor.0.is_empty() {
        records.push(cursor.record()?);
    }
    Some(records)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A buffer of its own, so that it doesn't keep the file's alive.
    fn data(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        self.take(length).map(Bytes::copy_from_slice)
    }

    fn record(&mut self) -> Option<Record> {
        Some(match self.u8()? {
            COMMIT => {
                let revision = Revision(self.u64()?);
                let count = self.u32()?;
                let mut ops = Vec::new();
                for _ in 0..count {
                    let kind = match self.u8()? {
                        1 => EventKind::Put,
                        0 => EventKind::Delete,
                        _ => return None,
                    };
                    ops.push((kind, self.data()?, self.data()?));
                }
                Record::Commit { revision, ops }
            }
            COMPACT => Record::Compact(Revision(self.u64()?)),
            OPENED => Record::Opened(Revision(self.u64()?)),
            CLOSED => Record::Closed,
            ITEM => Record::Item(KeyValue {
                create_revision: Revision(self.u64()?),
                mod_revision: Revision(self.u64()?),
                version: self.u64()?,
                key: self.data()?,
                value: self.data()?,
            }),
            END => Record::End(self.u64()?),
            GRANT => Record::Grant(LeaseId(self.u64()?), self.u64()?),
            REVOKE => Record::Revoke(LeaseId(self.u64()?)),
            ATTACH => Record::Attach(self.data()?, LeaseId(self.u64()?)),
            _ => return None,
        })
    }
}

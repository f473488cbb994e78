//! What one attempt of a container wrote, until it is safe with the host.
//!
//! ```text
//!   pump --push, waits for room--> records --cursor--> Logs, Attach
//!                 start ... acknowledged ... end   (offsets count data bytes)
//! ```
//!
//! A record goes when everything in it is acknowledged and every attached
//! reader has passed it. While records fill [`LOG_BUFFER`], the pump waits, so
//! the container's write blocks, as with a full pipe.

use guest_protocol::{Channel, LOG_BUFFER};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a record costs beside its bytes, so that tiny writes are bounded too.
const RECORD_COST: usize = 64;

/// Bytes that were read at once from one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at_ns: u64,
    pub(crate) channel: Channel,
    pub(crate) data: Vec<u8>,
}

/// The pure part: offsets and bounds.
#[derive(Debug, Default)]
struct Buffer {
    records: VecDeque<Record>,
    /// The offset of the first record's first byte.
    start: u64,
    end: u64,
    cost: usize,
    acknowledged: u64,
    ended: bool,
    /// Attached readers by number: the offset that each has reached.
    cursors: BTreeMap<u64, u64>,
    next_cursor: u64,
}

impl Buffer {
    fn has_room(&self) -> bool {
        self.cost < LOG_BUFFER
    }

    fn push(&mut self, record: Record) {
        self.end += record.data.len() as u64;
        self.cost += record.data.len() + RECORD_COST;
        self.records.push_back(record);
    }

    /// The record at an offset, less what lies before the offset.
    fn at(&self, offset: u64) -> Option<Record> {
        let mut first = self.start;
        for record in &self.records {
            let next = first + record.data.len() as u64;
            if offset < next {
                let skip = usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX);
                return Some(Record {
                    data: record.data.get(skip..).unwrap_or_default().to_vec(),
                    ..*record
                });
            }
            first = next;
        }
        None
    }

    fn trim(&mut self) {
        let passed = self.cursors.values().copied().min().unwrap_or(u64::MAX);
        let safe = self.acknowledged.min(passed);
        while let Some(record) = self.records.front() {
            let next = self.start + record.data.len() as u64;
            if next > safe {
                break;
            }
            self.start = next;
            self.cost -= record.data.len() + RECORD_COST;
            self.records.pop_front();
        }
    }
}

/// What a reader finds at its offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Record(Record),
    /// Both streams are at their end, at this offset.
    End(u64),
    /// The reader was told to stop.
    Stopped,
}

/// The buffer, shared by the pump and its readers.
#[derive(Debug, Default)]
pub(crate) struct Output {
    buffer: Mutex<Buffer>,
    changed: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room; data that comes when nobody wants it any more goes.
    pub(crate) fn push(&self, record: Record) {
        let mut buffer = self.lock();
        while !buffer.has_room() && !buffer.ended {
            buffer = self
                .changed
                .wait(buffer)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !buffer.ended {
            buffer.push(record);
            self.changed.notify_all();
        }
    }

    /// No more will come, or nobody wants it.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Where a reader that wants `from` starts.
    pub(crate) fn clamp(&self, from: u64) -> u64 {
        let buffer = self.lock();
        from.clamp(buffer.start, buffer.end)
    }

    /// Waits for what comes at `offset`, or until `stopped` says so; whoever
    /// makes it say so calls [`Output::wake`].
    pub(crate) fn next(&self, offset: u64, stopped: impl Fn() -> bool) -> Next {
        let mut buffer = self.lock();
        loop {
            if stopped() {
                return Next::Stopped;
            }
            if let Some(record) = buffer.at(offset.max(buffer.start)) {
                return Next::Record(record);
            }
            if buffer.ended {
                return Next::End(buffer.end);
            }
            buffer = self
                .changed
                .wait(buffer)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn wake(&self) {
        // The lock, so that no reader is between its look and its wait.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Everything below `offset` is safe with the host.
    pub(crate) fn acknowledge(&self, offset: u64) {
        let mut buffer = self.lock();
        buffer.acknowledged = buffer.acknowledged.max(offset.min(buffer.end));
        buffer.trim();
        self.changed.notify_all();
    }

    /// Begins to hold what comes from now on for one reader.
    pub(crate) fn attach(&self) -> (u64, u64) {
        let mut buffer = self.lock();
        let id = buffer.next_cursor;
        buffer.next_cursor += 1;
        let end = buffer.end;
        buffer.cursors.insert(id, end);
        (id, end)
    }

    pub(crate) fn pass(&self, cursor: u64, offset: u64) {
        let mut buffer = self.lock();
        // A reader that was detached meanwhile holds nothing any more.
        if let Some(reached) = buffer.cursors.get_mut(&cursor) {
            *reached = offset;
        }
        buffer.trim();
        self.changed.notify_all();
    }

    pub(crate) fn detach(&self, cursor: u64) {
        let mut buffer = self.lock();
        buffer.cursors.remove(&cursor);
        buffer.trim();
        self.changed.notify_all();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record {
            at_ns: 1,
            channel: Channel::Stdout,
            data: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_reader_resumes_inside_a_record() {
        let output = Output::default();
        output.push(record("hello "));
        output.push(record("world"));
        output.end();
        for (offset, expected) in [(0, "hello "), (2, "llo "), (6, "world"), (10, "d")] {
            assert_eq!(
                output.next(offset, || false),
                Next::Record(record(expected))
            );
        }
        assert_eq!(output.next(11, || false), Next::End(11));
    }

    #[test]
    fn what_is_acknowledged_goes_and_what_an_attached_reader_lacks_stays() {
        let output = Output::default();
        output.push(record("one"));
        let (cursor, at) = output.attach();
        assert_eq!(at, 3);
        output.push(record("two"));
        output.acknowledge(6);
        assert_eq!(output.clamp(0), 3, "the cursor holds the second record");
        output.pass(cursor, 6);
        assert_eq!(output.clamp(0), 6);
        output.detach(cursor);
        output.acknowledge(1 << 60);
        assert_eq!(output.clamp(u64::MAX), 6, "no offset beyond the end");
    }

    #[test]
    fn a_full_buffer_blocks_the_pump_until_something_is_acknowledged() {
        let output = std::sync::Arc::new(Output::default());
        let mut pushed = 0_u64;
        while output.lock().has_room() {
            output.push(record("0123456789"));
            pushed += 10;
        }
        let writer = std::sync::Arc::clone(&output);
        let thread = std::thread::spawn(move || writer.push(record("last")));
        output.acknowledge(pushed);
        thread.join().unwrap();
        assert_eq!(output.next(pushed, || false), Next::Record(record("last")));
    }

    #[test]
    fn a_stopped_reader_returns() {
        let output = Output::default();
        assert_eq!(output.next(0, || true), Next::Stopped);
    }
}

//! The log's one writer: a thread of its own behind a bounded queue. A record
//! that finds the queue full, in number or in bytes, is dropped: that is
//! counted and said, and no request waits.

use super::AuditError;
use super::captured::Captured;
use super::event::{Event, drop_managed};
use super::rotate::Rotating;
use jiff::Timestamp;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Records that wait, and their bytes about.
const MOST_RECORDS: usize = 10_000;
const MOST_BYTES: usize = 64 << 20;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// An event, and what is left to do for it off the request's path.
pub(super) struct Record {
    pub(super) event: Event,
    pub(super) body: Option<Captured>,
    pub(super) omit_managed_fields: bool,
    /// Bytes of the request's body.
    pub(super) request_size: usize,
}

impl Record {
    fn weight(&self) -> usize {
        const HEAD: usize = 1024;
        HEAD + self.request_size + self.body.as_ref().map_or(0, |b| b.size)
    }

    fn line(self) -> Vec<u8> {
        let mut event = self.event;
        if let Some(body) = self.body {
            body.fill(&mut event);
        }
        if self.omit_managed_fields {
            event.request_object.as_mut().map(drop_managed);
            event.response_object.as_mut().map(drop_managed);
        }
        // Keys are text and numbers finite: it always serializes.
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

enum Message {
    Record(Box<Record>),
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Counts {
    /// Bytes that wait.
    held: AtomicUsize,
    events: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    /// Says so, ever more rarely.
    fn lose(&self, why: &dyn std::fmt::Display) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        if lost.is_power_of_two() {
            log::warn!("audit: {lost} events are lost so far: {why}");
        }
    }
}

pub(super) struct Sink {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

pub(super) enum Output {
    Standard,
    File(Rotating),
}

impl Output {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Standard => io::stdout().lock().write_all(line),
            Output::File(file) => file.write(line, Timestamp::now()),
        }
    }
}

impl Sink {
    pub(super) fn start(output: Output) -> Result<Sink, AuditError> {
        let (queue, received) = sync_channel(MOST_RECORDS);
        let counts = Arc::new(Counts::default());
        let its = counts.clone();
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || run(&received, output, &its))
            .map_err(AuditError::Writer)?;
        Ok(Sink { queue, counts })
    }

    pub(super) fn send(&self, record: Record) {
        let weight = record.weight();
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        let held = self.counts.held.fetch_add(weight, Ordering::Relaxed);
        let fits = held + weight <= MOST_BYTES;
        let message = Message::Record(Box::new(record));
        if !fits || self.queue.try_send(message).is_err() {
            self.counts.held.fetch_sub(weight, Ordering::Relaxed);
            self.counts.lose(&"the queue is full");
        }
    }

    /// Waits until what was sent is written, for a while. Blocks.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    /// Events so far, and how many of them were lost.
    pub(super) fn counted(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.counts.events), read(&self.counts.lost))
    }
}

fn run(received: &Receiver<Message>, mut output: Output, counts: &Counts) {
    for message in received {
        match message {
            Message::Record(record) => {
                let weight = record.weight();
                if let Err(e) = output.write(&record.line()) {
                    counts.lose(&e);
                }
                counts.held.fetch_sub(weight, Ordering::Relaxed);
            }
            // Nobody waits any more: no matter.
            Message::Flush(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn record(request_size: usize) -> Record {
        Record {
            event: Event::default(),
            body: None,
            omit_managed_fields: false,
            request_size,
        }
    }

    #[test]
    fn a_full_queue_loses_events_and_counts_them() {
        let (queue, received) = sync_channel(2);
        let counts = Arc::new(Counts::default());
        let sink = Sink {
            queue,
            counts: counts.clone(),
        };
        sink.send(record(MOST_BYTES));
        assert_eq!(sink.counted(), (1, 1), "too many bytes");
        for _ in 0..3 {
            sink.send(record(0));
        }
        assert_eq!(sink.counted(), (4, 2), "too many events");
        drop(sink);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let file = Rotating::open(&path, super::super::rotate::Keep::default()).unwrap();
        run(&received, Output::File(file), &counts);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(counts.held.load(Ordering::Relaxed), 0);
    }
}

//! The standard errors of roles and vmms, as lines with the role's name.
//!
//! Each source has a pipe whose ends `init` keeps both, so that it survives its
//! writers. A source that writes too much loses lines, and a line says how many;
//! a writer waits when its pipe is full and `init` is busy.

use super::journal::Journal;
use super::text::printable;
use crate::logging::LINE_MAX;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// Lines of a source in a burst, and each second after.
const BURST: u32 = 400;
const PER_SECOND: u32 = 100;
/// Bytes taken from one source before others get their turn.
const TURN: usize = 64 << 10;

/// One source of lines.
pub(super) struct Pipe {
    name: &'static str,
    reader: PipeReader,
    writer: PipeWriter,
    lines: Lines,
    allowance: Allowance,
}

impl Pipe {
    pub(super) fn new(name: &'static str) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        sys::process::set_nonblocking(&reader)?;
        Ok(Self {
            name,
            reader,
            writer,
            lines: Lines::default(),
            allowance: Allowance::new(),
        })
    }

    pub(super) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The end for a child's standard error.
    pub(super) fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// Moves what is there to the journal.
    pub(super) fn drain(&mut self, journal: &Journal, now: Duration) {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < TURN {
            let Ok(length @ 1..) = self.reader.read(&mut buffer) else {
                return;
            };
            taken += length;
            for line in self.lines.push(buffer.get(..length).unwrap_or_default()) {
                match self.allowance.take(now) {
                    Verdict::Pass => journal.write(self.name, &printable(&line, LINE_MAX)),
                    Verdict::PassAfter(lost) => {
                        journal.write(self.name, &format!("warn {lost} lines left out"));
                        journal.write(self.name, &printable(&line, LINE_MAX));
                    }
                    Verdict::Drop => {}
                }
            }
        }
    }
}

/// Splits bytes into lines; one longer than `LINE_MAX` is cut into several.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.rest.len() >= LINE_MAX {
                lines.push(std::mem::take(&mut self.rest));
            }
            if *byte != b'\n' {
                self.rest.push(*byte);
            }
        }
        lines
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    PassAfter(u64),
    Drop,
}

/// A token bucket.
struct Allowance {
    tokens: f64,
    last: Duration,
    lost: u64,
}

impl Allowance {
    fn new() -> Self {
        Self {
            tokens: BURST.into(),
            last: Duration::ZERO,
            lost: 0,
        }
    }

    fn take(&mut self, now: Duration) -> Verdict {
        let earned = now.saturating_sub(self.last).as_secs_f64() * f64::from(PER_SECOND);
        self.tokens = (self.tokens + earned).min(BURST.into());
        self.last = now;
        if self.tokens < 1.0 {
            self.lost += 1;
            return Verdict::Drop;
        }
        self.tokens -= 1.0;
        match std::mem::take(&mut self.lost) {
            0 => Verdict::Pass,
            lost => Verdict::PassAfter(lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_bounded() {
        let mut lines = Lines::default();
        assert!(lines.push(b"ab").is_empty());
        assert_eq!(lines.push(b"c\n\nd"), [b"abc".to_vec(), Vec::new()]);
        let long = vec![b'x'; 3 * LINE_MAX];
        let cut = lines.push(&long);
        assert!(cut.iter().all(|line| line.len() == LINE_MAX), "{cut:?}");
        assert_eq!(cut.len(), 3);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut allowance = Allowance::new();
        let second = Duration::from_secs(1);
        for _ in 0..BURST {
            assert_eq!(allowance.take(second), Verdict::Pass);
        }
        for _ in 0..5 {
            assert_eq!(allowance.take(second), Verdict::Drop);
        }
        assert_eq!(allowance.take(second * 2), Verdict::PassAfter(5));
        for _ in 1..PER_SECOND {
            assert_eq!(allowance.take(second * 2), Verdict::Pass);
        }
        assert_eq!(allowance.take(second * 2), Verdict::Drop);
    }
}

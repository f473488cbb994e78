//! Writes one attempt's log, and finds where to go on after a restart.
//!
//! A file is rotated when it passes 10 MiB; five are kept, the oldest is
//! removed. A line is written whole with one `write`; a torn last line (a
//! power cut, a full disk) is cut off when the file is opened again.

use super::cri::{encode, parse};
use super::{Progress, ProgressSender, rotated};
use crate::guest::LogPiece;
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const SIZE_MAX: u64 = 10 << 20;
const FILES_MAX: usize = 5;

#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    offset: u64,
    progress: ProgressSender,
}

impl LogWriter {
    /// Opens the log at `path`, made if it isn't there.
    ///
    /// # Errors
    /// As opening, reading and cutting a file.
    pub(crate) fn open(path: &Path, progress: ProgressSender) -> io::Result<Self> {
        Self::with_size(path, progress, SIZE_MAX)
    }

    fn with_size(path: &Path, progress: ProgressSender, size_max: u64) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let start = rotated(path)?.last().map_or(0, |(end, _)| *end);
        let mut file = open_append(path)?;
        let mut bytes = Vec::new();
        // Twice the size is more than a file of ours ever has.
        (&mut file)
            .take(size_max.saturating_mul(2))
            .read_to_end(&mut bytes)?;
        let (size, output) = valid(&bytes);
        file.set_len(size)?;
        let offset = start.saturating_add(output);
        progress.send_replace(Progress {
            offset,
            done: false,
        });
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            size_max,
            offset,
            progress,
        })
    }

    /// The byte of the container's output that comes next.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends a piece of output, whole or not at all.
    ///
    /// # Errors
    /// As writing or renaming a file.
    pub(crate) fn append(&mut self, piece: &LogPiece<'_>, now: Timestamp) -> io::Result<()> {
        let time = Timestamp::from_nanosecond(i128::from(piece.realtime_ns))
            .ok()
            .filter(|_| piece.realtime_ns > 0)
            .unwrap_or(now);
        let mut lines = Vec::with_capacity(piece.bytes.len() + 64);
        encode(&mut lines, time, piece.stderr, piece.bytes);
        if self.size > 0 && self.size.saturating_add(lines.len() as u64) > self.size_max {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&lines) {
            // What was half written would count twice.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size = self.size.saturating_add(lines.len() as u64);
        self.offset = self.offset.saturating_add(piece.bytes.len() as u64);
        let offset = self.offset;
        self.progress
            .send_modify(|progress| progress.offset = offset);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{:020}", self.offset));
        std::fs::rename(&self.path, &name)?;
        self.file = open_append(&self.path)?;
        self.size = 0;
        let parts = rotated(&self.path)?;
        let surplus = (parts.len() + 1).saturating_sub(FILES_MAX);
        for (_, part) in parts.into_iter().take(surplus) {
            std::fs::remove_file(part)?;
        }
        Ok(())
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
}

/// How much of a file is whole lines, and how much output that stands for.
fn valid(bytes: &[u8]) -> (u64, u64) {
    let (mut size, mut output) = (0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(entry) = line.strip_suffix(b"\n").and_then(parse) else {
            break;
        };
        size += line.len() as u64;
        output += entry.output_len();
    }
    (size, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    fn piece(bytes: &[u8]) -> LogPiece<'_> {
        LogPiece {
            stderr: false,
            realtime_ns: 1,
            bytes,
        }
    }

    fn open(path: &Path) -> LogWriter {
        LogWriter::with_size(path, watch::Sender::default(), 256).expect("opens")
    }

    #[test]
    fn a_writer_goes_on_where_the_files_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c/0.log");
        let mut expected = 0;
        for round in 0..40_u64 {
            let mut log = open(&path);
            assert_eq!(log.offset(), expected, "round {round}");
            for bytes in [&b"one\n"[..], b"part", b" of a line\nand", b"\n"] {
                log.append(&piece(bytes), Timestamp::UNIX_EPOCH)
                    .expect("writes");
                expected += bytes.len() as u64;
            }
            drop(log);
            // A torn line, as a power cut leaves it.
            let mut file = open_append(&path).expect("opens");
            file.write_all(b"2026-11-21T08:00:00Z stdout F to")
                .expect("writes");
        }
        let files = rotated(&path).expect("lists").len() + 1;
        assert_eq!(files, FILES_MAX);
    }

    #[test]
    fn garbage_in_a_log_file_is_cut_off() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, [0xff; 300]).expect("writes");
        assert_eq!(open(&path).offset(), 0);
        assert_eq!(std::fs::metadata(&path).expect("is there").len(), 0);
    }
}

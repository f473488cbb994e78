//! Reads a log for a client: the tail, since a time, one stream, followed.
//!
//! The reader hands pieces of at most 64 KiB to a channel of eight; it waits
//! while that is full, and ends when the client is gone.

use super::cri::{LINE_MAX, parse};
use super::{ProgressReceiver, Query, rotated};
use bytes::Bytes;
use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

const BLOCK: usize = 64 << 10;

/// Sends what `query` asks of the log at `path`; `progress` is there while the
/// log is written.
///
/// # Errors
/// As reading files. A log that was never written is empty.
pub(crate) async fn stream(
    path: &Path,
    query: &Query,
    mut progress: Option<ProgressReceiver>,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    // Marked before reading, so that what comes while reading wakes us.
    if let Some(progress) = &mut progress {
        progress.mark_unchanged();
    }
    let mut parts = parts_of(path)?;
    let mut filter = Filter::new(query);
    let mut skip = match query.tail_lines {
        Some(lines) => Some(tail_start(&parts, lines).await?),
        None => None,
    };
    let mut last = None;
    if let Some((index, _)) = skip {
        parts.drain(..index);
    }
    for part in parts {
        let Some(mut file) = open(&part).await? else {
            continue;
        };
        if let Some((_, offset)) = skip.take() {
            file.seek(SeekFrom::Start(offset)).await?;
        }
        let mut lines = Lines::new(file);
        if !pump(&mut lines, &mut filter, out).await? {
            return Ok(());
        }
        last = Some(lines);
    }
    let Some(progress) = progress.filter(|_| query.follow) else {
        return Ok(());
    };
    follow(path, last, &mut filter, progress, out).await
}

/// How much of a log's end is a termination message, as upstream has it.
const TAIL_LINES: u64 = 80;
const TAIL_BYTES: usize = 2048;

/// The end of a log that is whole; none if it can't be read.
pub(crate) async fn tail(path: &Path) -> Option<String> {
    let query = Query {
        tail_lines: Some(TAIL_LINES),
        ..Query::default()
    };
    let (out, mut pieces) = mpsc::channel::<Bytes>(8);
    let mut kept = Vec::new();
    let collecting = async {
        while let Some(piece) = pieces.recv().await {
            kept.extend_from_slice(&piece);
            let surplus = kept.len().saturating_sub(TAIL_BYTES);
            kept.drain(..surplus);
        }
    };
    let reading = async {
        let read = stream(path, &query, None, &out).await;
        drop(out);
        read
    };
    let (read, ()) = tokio::join!(reading, collecting);
    if let Err(error) = read {
        log::warn!("{}: {error}", path.display());
        return None;
    }
    Some(String::from_utf8_lossy(&kept).into_owned())
}

async fn follow(
    path: &Path,
    mut current: Option<Lines>,
    filter: &mut Filter<'_>,
    mut progress: ProgressReceiver,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<()> {
    // The writer may go without a word; then what it left is all there is.
    let mut alone = false;
    loop {
        let done = progress.borrow_and_update().done || alone;
        if let Some(lines) = &mut current
            && !pump(lines, filter, out).await?
        {
            return Ok(());
        }
        while let Some(next) = successor(path, current.as_ref()).await? {
            let mut lines = Lines::new(next);
            if !pump(&mut lines, filter, out).await? {
                return Ok(());
            }
            current = Some(lines);
        }
        if done {
            return Ok(());
        }
        tokio::select! {
            changed = progress.changed() => alone = changed.is_err(),
            () = out.closed() => return Ok(()),
        }
    }
}

/// All parts of a log, oldest first, the current file last.
fn parts_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts: Vec<PathBuf> = match rotated(path) {
        Ok(parts) => parts.into_iter().map(|(_, part)| part).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    parts.push(path.to_owned());
    Ok(parts)
}

/// The part after the one that is open, if it was rotated away.
async fn successor(path: &Path, current: Option<&Lines>) -> io::Result<Option<File>> {
    let Some(current) = current else {
        return open(path).await;
    };
    let inode = current.file.metadata().await?.ino();
    let parts = parts_of(path)?;
    let at = parts
        .iter()
        .position(|part| std::fs::metadata(part).is_ok_and(|metadata| metadata.ino() == inode));
    match at.map_or(parts.first(), |at| parts.get(at + 1)) {
        Some(next) => open(next).await,
        None => Ok(None),
    }
}

async fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `lines` lines of output begin: which part, and the byte in
/// it. Entries count by their newlines, so a line that came in pieces is one.
async fn tail_start(parts: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut tail = Tail {
        lines,
        count: 0,
        fresh: true,
    };
    for (index, part) in parts.iter().enumerate().rev() {
        let Some(mut file) = open(part).await? else {
            continue;
        };
        let size = file.metadata().await?.len();
        // The window doubles, so that a short tail costs one block.
        let mut window = BLOCK as u64;
        loop {
            let start = size.saturating_sub(window);
            file.seek(SeekFrom::Start(start)).await?;
            let mut bytes = Vec::new();
            (&mut file)
                .take(size - start)
                .read_to_end(&mut bytes)
                .await?;
            let mut attempt = tail;
            if let Some(at) = attempt.back(&bytes, start == 0) {
                return Ok((index, start + at as u64));
            }
            if start == 0 {
                tail = attempt;
                break;
            }
            window = window.saturating_mul(2);
        }
    }
    Ok((0, 0))
}

/// Counts lines backwards.
#[derive(Clone, Copy)]
struct Tail {
    lines: u64,
    count: u64,
    /// Nothing was seen yet: an entry without newline is a line that goes on.
    fresh: bool,
}

impl Tail {
    /// Goes back through `bytes`; gives where the tail begins, if in here. The
    /// first line counts only if it is `whole`.
    fn back(&mut self, bytes: &[u8], whole: bool) -> Option<usize> {
        // A line that is being written does not count yet.
        let mut end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        while let Some(text) = bytes.get(..end).and_then(|b| b.strip_suffix(b"\n")) {
            let newline = text.iter().rposition(|byte| *byte == b'\n');
            if newline.is_none() && !whole {
                return None;
            }
            let start = newline.map_or(0, |at| at + 1);
            let full = text.get(start..).and_then(parse).is_some_and(|e| e.full);
            if full || self.fresh {
                if self.count == self.lines {
                    return Some(end);
                }
                self.count += 1;
            }
            self.fresh = false;
            end = start;
        }
        None
    }
}

/// Sends all whole lines that are there; false when there is no more to do.
async fn pump(
    lines: &mut Lines,
    filter: &mut Filter<'_>,
    out: &mpsc::Sender<Bytes>,
) -> io::Result<bool> {
    loop {
        let mut piece = Vec::new();
        let more = lines.fill().await?;
        let mut rest = &lines.buffer[..];
        let mut go_on = true;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, tail) = rest.split_at(at);
            rest = tail.get(1..).unwrap_or_default();
            go_on = filter.take(line, &mut piece);
            if !go_on {
                break;
            }
        }
        let used = lines.buffer.len() - rest.len();
        lines.buffer.drain(..used);
        if lines.buffer.len() > LINE_MAX {
            // No line of ours is this long.
            lines.buffer.clear();
        }
        if !piece.is_empty() && out.send(piece.into()).await.is_err() {
            return Ok(false);
        }
        if !go_on {
            return Ok(false);
        }
        if !more {
            return Ok(true);
        }
    }
}

/// A file, and what was read of it and not yet used.
struct Lines {
    file: File,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(file: File) -> Self {
        Self {
            file,
            buffer: Vec::new(),
        }
    }

    /// Reads a block more; false at the end of the file.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        let count = self.file.read(&mut block).await?;
        self.buffer
            .extend_from_slice(block.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

/// Chooses and formats entries.
struct Filter<'a> {
    query: &'a Query,
    left: Option<u64>,
    /// Whether the next entry of each stream begins a line.
    fresh: [bool; 2],
}

impl<'a> Filter<'a> {
    fn new(query: &'a Query) -> Self {
        Self {
            query,
            left: query.limit_bytes,
            fresh: [true; 2],
        }
    }

    /// Appends one entry's output; false once the limit is reached.
    fn take(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(entry) = parse(line) else {
            return true;
        };
        let fresh = &mut self.fresh[usize::from(entry.stderr)];
        let begins = std::mem::replace(fresh, entry.full);
        if self
            .query
            .stderr
            .is_some_and(|stderr| stderr != entry.stderr)
            || self.query.since.is_some_and(|since| entry.time < since)
        {
            return true;
        }
        let start = out.len();
        if self.query.timestamps && begins {
            out.extend_from_slice(entry.time_text.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.content);
        if entry.full {
            out.push(b'\n');
        }
        let Some(left) = &mut self.left else {
            return true;
        };
        let added = (out.len() - start) as u64;
        if added < *left {
            *left -= added;
            return true;
        }
        let keep = usize::try_from(*left).unwrap_or(usize::MAX);
        out.truncate(start.saturating_add(keep));
        *left = 0;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogWriter;
    use super::*;
    use crate::guest::LogPiece;
    use tokio::sync::watch;

    fn write(log: &mut LogWriter, second: u64, stderr: bool, text: &str) {
        let piece = LogPiece {
            stderr,
            realtime_ns: 1_700_000_000_000_000_000 + second * 1_000_000_000,
            bytes: text.as_bytes(),
        };
        log.append(&piece, jiff::Timestamp::UNIX_EPOCH)
            .expect("writes");
    }

    async fn read(path: &Path, query: &str) -> String {
        let query = Query::parse(query, jiff::Timestamp::UNIX_EPOCH).expect("valid");
        let (sender, mut receiver) = mpsc::channel(8);
        let path = path.to_owned();
        let task = tokio::spawn(async move { stream(&path, &query, None, &sender).await });
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await {
            text.extend_from_slice(&piece);
        }
        task.await.expect("runs").expect("reads");
        String::from_utf8(text).expect("text")
    }

    #[tokio::test]
    async fn queries_choose() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        let mut log = LogWriter::open(&path, watch::Sender::default()).expect("opens");
        write(&mut log, 1, false, "one\n");
        write(&mut log, 2, true, "two\n");
        write(&mut log, 3, false, "th");
        write(&mut log, 4, false, "ree\nfour\n");
        for (query, text) in [
            ("", "one\ntwo\nthree\nfour\n"),
            ("tailLines=1", "four\n"),
            ("tailLines=0", ""),
            ("tailLines=3", "two\nthree\nfour\n"),
            ("tailLines=99", "one\ntwo\nthree\nfour\n"),
            ("limitBytes=5", "one\nt"),
            ("limitBytes=4", "one\n"),
            ("stream=Stderr", "two\n"),
            ("sinceTime=2023-11-14T22:13:22Z", "two\nthree\nfour\n"),
            (
                "timestamps=1&tailLines=2",
                "2023-11-14T22:13:23.000000000Z three\n2023-11-14T22:13:24.000000000Z four\n",
            ),
        ] {
            assert_eq!(read(&path, query).await, text, "{query}");
        }
        assert_eq!(read(&directory.path().join("none/1.log"), "").await, "");
    }

    #[tokio::test]
    async fn a_follower_sees_everything_once_across_rotations() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        let sender = watch::Sender::default();
        let progress = sender.subscribe();
        let mut log = LogWriter::open(&path, sender).expect("opens");
        let query = Query::parse("follow=1", jiff::Timestamp::UNIX_EPOCH).expect("valid");
        let (sender, mut receiver) = mpsc::channel(8);
        let (own, other) = (path.clone(), progress);
        let task = tokio::spawn(async move { stream(&own, &query, Some(other), &sender).await });
        let mut expected = Vec::new();
        let line = "x".repeat(60_000);
        let mut got = Vec::new();
        for number in 0..400 {
            let text = format!("{number} {line}\n");
            write(&mut log, number, false, &text);
            expected.extend_from_slice(text.as_bytes());
            while got.len() < expected.len() {
                got.extend_from_slice(&receiver.recv().await.expect("more"));
            }
        }
        drop(log);
        assert!(receiver.recv().await.is_none());
        task.await.expect("runs").expect("reads");
        assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
        assert!(rotated(&path).expect("lists").len() >= 2);
    }
}

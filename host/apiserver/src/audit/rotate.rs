//! A file that is put aside when it is full, as lumberjack does it:
//! `audit.log` becomes `audit-2026-01-02T03-04-05.678.log`; of those the oldest
//! go, by number and by age. Which ones go is decided in [`doomed`].

use jiff::{SignedDuration, Timestamp};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// When a file is full, and what is kept; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep {
    pub(super) bytes: u64,
    pub(super) backups: usize,
    pub(super) days: u32,
}

#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    keep: Keep,
    file: File,
    size: u64,
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

impl Rotating {
    pub(super) fn open(path: &Path, keep: Keep) -> io::Result<Rotating> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = open(path)?;
        Ok(Rotating {
            size: file.metadata()?.len(),
            path: path.to_owned(),
            keep,
            file,
        })
    }

    pub(super) fn write(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let full = self.keep.bytes > 0 && self.size.saturating_add(size) > self.keep.bytes;
        if full && self.size > 0 {
            self.rotate(now)?;
        }
        self.file.write_all(line)?;
        self.size += size;
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let (prefix, suffix) = around(&self.path);
        let mut at = now;
        let aside = loop {
            let name = format!("{prefix}{}{suffix}", at.strftime(FORMAT));
            let aside = self.path.with_file_name(name);
            if !aside.exists() {
                break aside;
            }
            at += SignedDuration::from_millis(1);
        };
        fs::rename(&self.path, aside)?;
        self.file = open(&self.path)?;
        self.size = 0;
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let entries = fs::read_dir(dir)?.filter_map(Result::ok);
        let names = entries.filter_map(|e| e.file_name().into_string().ok());
        let names: Vec<String> = names.collect();
        for name in doomed(&names, (&prefix, &suffix), self.keep, now) {
            fs::remove_file(dir.join(name))?;
        }
        Ok(())
    }
}

const FORMAT: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// What stands before and after the time in names of files put aside.
fn around(path: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let suffix = path
        .extension()
        .map(|e| format!(".{}", e.to_string_lossy()));
    let prefix = format!("{}-", text(path.file_stem()));
    (prefix, suffix.unwrap_or_default())
}

/// When a file was put aside; `None`: it is none of ours.
fn put_aside(name: &str, (prefix, suffix): (&str, &str)) -> Option<Timestamp> {
    let text = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let (date, time) = text.split_once('T')?;
    api::time::parse(&format!("{date}T{}Z", time.replace('-', ":")))
}

/// Which of `names` go.
fn doomed<'a>(
    names: &'a [String],
    around: (&str, &str),
    keep: Keep,
    now: Timestamp,
) -> Vec<&'a str> {
    let dated = |name: &'a String| Some((put_aside(name, around)?, name.as_str()));
    let mut backups: Vec<(Timestamp, &str)> = names.iter().filter_map(dated).collect();
    backups.sort_unstable();
    backups.reverse();
    let oldest = now - SignedDuration::from_hours(24 * i64::from(keep.days));
    let goes = |(i, (at, _)): &(usize, (Timestamp, &str))| {
        (keep.backups > 0 && *i >= keep.backups) || (keep.days > 0 && *at < oldest)
    };
    let ranked = backups.into_iter().enumerate().filter(goes);
    ranked.map(|(_, (_, name))| name).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_oldest_backups_go() {
        let names: Vec<String> = [
            "audit.log",
            "audit-2026-01-05T00-00-00.000.log",
            "audit-2026-01-02T00-00-00.000.log",
            "audit-2026-01-04T00-00-00.500.log",
            "audit-of-mine.log",
            "other-2026-01-02T00-00-00.000.log",
        ]
        .map(str::to_owned)
        .to_vec();
        let now: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
        for (backups, days, wanted) in [
            (0, 0, &[][..]),
            (2, 0, &["audit-2026-01-02T00-00-00.000.log"]),
            (
                1,
                0,
                &[
                    "audit-2026-01-04T00-00-00.500.log",
                    "audit-2026-01-02T00-00-00.000.log",
                ],
            ),
            (3, 3, &["audit-2026-01-02T00-00-00.000.log"]),
            (3, 4, &[]),
        ] {
            let keep = Keep {
                bytes: 1,
                backups,
                days,
            };
            let found = doomed(&names, ("audit-", ".log"), keep, now);
            assert_eq!(found, wanted, "{keep:?}");
        }
    }

    #[test]
    fn a_full_file_is_put_aside_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/audit.log");
        let keep = Keep {
            bytes: 10,
            ..Keep::default()
        };
        let now: Timestamp = "2026-01-05T12:00:00.25Z".parse().unwrap();
        let mut log = Rotating::open(&path, keep).unwrap();
        for line in ["one...\n", "two...\n", "larger than the limit\n", "4\n"] {
            log.write(line.as_bytes(), now).unwrap();
        }
        let read = |name: &str| fs::read_to_string(path.with_file_name(name)).unwrap();
        assert_eq!(read("audit-2026-01-05T12-00-00.250.log"), "one...\n");
        assert_eq!(read("audit-2026-01-05T12-00-00.251.log"), "two...\n");
        assert_eq!(
            read("audit-2026-01-05T12-00-00.252.log"),
            "larger than the limit\n"
        );
        assert_eq!(read("audit.log"), "4\n");
        // What is there counts.
        drop(log);
        let mut log = Rotating::open(&path, keep).unwrap();
        log.write(b"123456789\n", now).unwrap();
        assert_eq!(read("audit.log"), "123456789\n");
        assert_eq!(read("audit-2026-01-05T12-00-00.253.log"), "4\n");
    }
}

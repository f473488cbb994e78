//! Puts new files in the place of old ones at once, as kubelet does it
//! (`pkg/volume/util/atomic_writer.go`):
//!
//! ```text
//!   ..2026_11_21_22_43_42.123456789/    the files
//!   ..data -> ..2026_11_21_22_43_42.123456789
//!   NAME -> ..data/NAME                 for each first name of a path
//! ```
//!
//! A new directory is filled, a new `..data` renamed over the old one, names
//! that are new get their link, those that are gone lose it, and the old
//! directory goes. Content, modes and owners that are as they should be change
//! nothing. Until the rename an error takes back all that was made.

use super::projection::{Plan, Planned};
use crate::errors::failed;
use guest_protocol::Refusal;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";
/// How many directories of the same instant are tried.
const ATTEMPTS: u32 = 100;

/// A volume of files.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    group: Option<u32>,
    turn: Mutex<()>,
}

/// The right to change a volume: one projection is over before the next begins.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    files: &'a Files,
    _held: MutexGuard<'a, ()>,
}

impl Files {
    pub(crate) fn new(path: PathBuf, group: Option<u32>) -> Self {
        Self {
            path,
            group,
            turn: Mutex::new(()),
        }
    }

    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn {
            files: self,
            _held: self.turn.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Turn<'_> {
    /// Makes the volume what the plan and its bytes say.
    ///
    /// # Errors
    /// What the kernel says; before the rename all stays as it was.
    pub(crate) fn write(
        &self,
        plan: &Plan<'_>,
        bytes: &[u8],
        now: SystemTime,
    ) -> Result<(), Refusal> {
        let name = self.files.path.file_name().unwrap_or_default();
        let what = format!("volume {}", name.display());
        self.replace(plan, bytes, now).map_err(failed(what))
    }

    fn replace(&self, plan: &Plan<'_>, bytes: &[u8], now: SystemTime) -> io::Result<()> {
        let volume = &self.files.path;
        let old = current(volume)?;
        let same = match &old {
            Some(old) => self.is_same(&volume.join(old), plan, bytes)?,
            None => false,
        };
        if !same {
            let new = self.new_directory(now)?;
            let filled = self.fill(&new, plan, bytes).and_then(|()| publish(&new));
            filled.inspect_err(|_| {
                // What stays of it is out of sight.
                let _ = fs::remove_dir_all(&new);
            })?;
        }
        link_names(volume, plan)?;
        match old {
            Some(old) if !same => fs::remove_dir_all(volume.join(old)),
            _ => Ok(()),
        }
    }

    /// Whether a directory holds these files and no others.
    fn is_same(&self, directory: &Path, plan: &Plan<'_>, bytes: &[u8]) -> io::Result<bool> {
        let mut count = 0;
        for (file, content) in plan.files(bytes) {
            let path = directory.join(file.names.join("/"));
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            if !self.is_as_planned(file, content, &metadata) || fs::read(&path)? != content {
                return Ok(false);
            }
            count += 1;
        }
        Ok(count_files(directory)? == count)
    }

    fn is_as_planned(&self, file: &Planned<'_>, content: &[u8], found: &Metadata) -> bool {
        found.is_file()
            && found.len() == content.len() as u64
            && found.mode() & 0o7777 == self.mode(file)
            && found.uid() == file.owner.unwrap_or(0)
            && found.gid() == self.files.group.unwrap_or(0)
    }

    /// With a group for files, that may read (`volume_linux.go`, `roMask`).
    fn mode(&self, file: &Planned<'_>) -> u32 {
        match self.files.group {
            Some(_) => file.mode | 0o440,
            None => file.mode,
        }
    }

    fn new_directory(&self, now: SystemTime) -> io::Result<PathBuf> {
        let passed = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = timestamp(passed.as_secs());
        for attempt in 0..ATTEMPTS {
            let number = u64::from(passed.subsec_nanos()) + u64::from(attempt);
            let path = self.files.path.join(format!("..{second}.{number:09}"));
            match self.make_directory(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|()| path),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Everybody may pass; the group for files is inherited by what is inside.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        let mode = match self.files.group {
            Some(_) => 0o2755,
            None => 0o755,
        };
        std::os::unix::fs::chown(path, None, self.files.group)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
            .inspect_err(|_| {
                let _ = fs::remove_dir(path);
            })
    }

    fn fill(&self, directory: &Path, plan: &Plan<'_>, bytes: &[u8]) -> io::Result<()> {
        for (file, content) in plan.files(bytes) {
            let mut path = directory.to_owned();
            let (name, parents) = file.names.split_last().unwrap_or((&"", &[]));
            for parent in parents {
                path.push(parent);
                match self.make_directory(&path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other?,
                }
            }
            path.push(name);
            self.write_file(&path, file, content)?;
        }
        Ok(())
    }

    fn write_file(&self, path: &Path, file: &Planned<'_>, content: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut made: File = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        made.write_all(content)?;
        fchown(&made, file.owner, self.files.group)?;
        made.set_permissions(Permissions::from_mode(self.mode(file)))
    }
}

/// The directory of the files that are there now.
fn current(volume: &Path) -> io::Result<Option<PathBuf>> {
    match fs::read_link(volume.join(DATA)) {
        Ok(name) => Ok(Some(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path whose parent became a file, or the other way round, is absent too.
fn is_absent(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    kinds.contains(&error.kind())
}

/// No deeper than the paths of a plan, which its check bounds.
fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else {
                count += 1;
            }
        }
    }
    Ok(count)
}

/// The moment at which readers see the new files.
fn publish(new: &Path) -> io::Result<()> {
    let volume = new.parent().unwrap_or(new);
    let name = new.file_name().unwrap_or_default();
    let link = volume.join(DATA_NEW);
    symlink(name, &link)?;
    fs::rename(&link, volume.join(DATA)).inspect_err(|_| {
        let _ = fs::remove_file(&link);
    })
}

/// Each first name of a path is a link into the data; others that are go. What
/// somebody made there by a `subPath` that was missing stays, as upstream.
fn link_names(volume: &Path, plan: &Plan<'_>) -> io::Result<()> {
    let tops = plan.tops();
    for name in &tops {
        match symlink(Path::new(DATA).join(name), volume.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let reserved = name.as_encoded_bytes().starts_with(b"..");
        let wanted = name.to_str().is_some_and(|name| tops.contains(name));
        if !reserved && !wanted && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// `YYYY_MM_DD_HH_MM_SS` in UTC. Years begin in March, so that the leap day is
/// a year's last.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}_{month:02}_{day:02}_{hour:02}_{minute:02}_{second:02}")
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn timestamps_are_date_s() {
        for (seconds, expected) in [
            (0, "1970_01_01_00_00_00"),
            (951_782_399, "2000_02_28_23_59_59"),
            (951_782_400, "2000_02_29_00_00_00"),
            (951_868_800, "2000_03_01_00_00_00"),
            (1_795_300_982, "2026_11_21_22_43_02"),
            (4_107_542_399, "2100_02_28_23_59_59"),
            (4_107_542_400, "2100_03_01_00_00_00"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }
}

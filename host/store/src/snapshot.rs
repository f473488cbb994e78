//! Snapshots: everything at one revision, as one file that stands alone.
//!
//! Owns the way from a store to such a file. Takes handles of all live keys
//! first (the values are shared with the store, a page at a time under its
//! lock) and writes them at leisure, so neither a slow disk nor a slow client
//! makes the store keep history. A file gets its name when it is complete and
//! durable; one that already has the name stays.
//!
//! ```text
//! state --pin, pages--> handles --frames--> FILE.tmp --sync, rename--> FILE
//! ```

use crate::checkpoint::lease_frames;
use crate::disk::{Disk, FileDisk};
use crate::files::io_error;
use crate::format::{FileKind, FrameBuilder, Head};
use crate::recover::recover;
use crate::store::Shared;
use crate::types::{KeyValue, Revision, StoreError};
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

/// Bytes of keys and values that a frame holds.
const PAGE: usize = 1 << 20;
/// How often a directory is read anew whose owner changed it meanwhile.
const ATTEMPTS: u32 = 8;

/// What a snapshot, or a directory, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    pub revision: Revision,
    /// No revision above it was given out when this was taken.
    pub high_water: Revision,
    pub keys: u64,
    /// Of keys and values.
    pub bytes: u64,
}

/// Handles of what is to be written; an iterator of the file's bytes.
pub struct Snapshot {
    contents: Contents,
    leases: std::vec::IntoIter<FrameBuilder>,
    items: std::vec::IntoIter<KeyValue>,
    salt: u64,
    offset: u64,
    next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Head,
    Leases,
    Items,
    Nothing,
}

impl Snapshot {
    pub(crate) fn of(shared: &Shared) -> Snapshot {
        // Once, but for a state that was replaced meanwhile.
        loop {
            if let Some(snapshot) = Snapshot::attempt(shared) {
                return snapshot;
            }
        }
    }

    fn attempt(shared: &Shared) -> Option<Snapshot> {
        let (revision, leases) = shared.with(|state| {
            state.pin(state.revision());
            (state.revision(), lease_frames(&state.leases))
        });
        let mut items: Vec<KeyValue> = Vec::new();
        loop {
            let after = items.last().map(|kv| kv.key.clone());
            let page = shared.read().pinned_page(revision, after.as_ref(), PAGE);
            if page.is_empty() {
                break;
            }
            items.extend(page);
        }
        if !shared.with(|state| state.unpin(revision)) {
            return None;
        }
        let size = |kv: &KeyValue| (kv.key.len() + kv.value.len()) as u64;
        let contents = Contents {
            revision,
            high_water: shared.high_water().max(revision),
            keys: items.len() as u64,
            bytes: items.iter().map(size).sum(),
        };
        Some(Snapshot {
            contents,
            leases: leases.into_iter(),
            items: items.into_iter(),
            salt: RandomState::new().hash_one(revision),
            offset: 0,
            next: Next::Head,
        })
    }

    /// Of a store's directory, also while another process owns it: only files
    /// are read, and nothing is changed. It may hold what was written but not
    /// yet acknowledged.
    pub fn of_directory(dir: &Path) -> Result<Snapshot, StoreError> {
        for _ in 1..ATTEMPTS {
            match read_directory(dir) {
                // Its owner may have replaced a file or been half way.
                Err(StoreError::Io { .. } | StoreError::Damaged { .. })
                    if FileDisk::in_use(dir) => {}
                done => return done,
            }
        }
        read_directory(dir)
    }

    pub fn contents(&self) -> Contents {
        self.contents
    }

    fn head(&self) -> Head {
        Head {
            kind: FileKind::Snapshot,
            sequence: 0,
            revision: self.contents.revision,
            high_water: self.contents.high_water,
        }
    }

    /// Writes it to a file that doesn't exist yet. Blocks.
    pub fn write(self, path: &Path) -> Result<Contents, StoreError> {
        let (dir, name) = split(path)?;
        self.write_to(&mut FileDisk::unowned(dir, true)?, name)
    }

    pub(crate) fn write_to(
        mut self,
        disk: &mut dyn Disk,
        name: &str,
    ) -> Result<Contents, StoreError> {
        let names = disk.names().map_err(io_error(disk, "list", ""))?;
        if names.iter().any(|there| there == name) {
            let path = format!("{}/{name}", disk.label());
            return Err(StoreError::Exists { path });
        }
        let draft = &format!("{name}.tmp");
        disk.create(draft).map_err(io_error(disk, "make", draft))?;
        let mut offset = 0;
        for bytes in self.by_ref() {
            disk.write(draft, offset, &bytes)
                .map_err(io_error(disk, "write", draft))?;
            offset += bytes.len() as u64;
        }
        disk.sync(draft).map_err(io_error(disk, "sync", draft))?;
        disk.rename(draft, name)
            .map_err(io_error(disk, "rename", draft))?;
        disk.sync_dir()
            .map_err(io_error(disk, "sync the directory of", name))?;
        Ok(self.contents)
    }
}

/// The file's bytes, a frame at a time.
impl Iterator for Snapshot {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut frame = FrameBuilder::new();
        match self.next {
            Next::Head => {
                frame.head(&self.head());
                self.next = Next::Leases;
            }
            Next::Leases => match self.leases.next() {
                Some(leases) => frame = leases,
                None => {
                    self.next = Next::Items;
                    return self.next();
                }
            },
            Next::Items => {
                if self.items.len() == 0 {
                    frame.end(self.contents.keys);
                    self.next = Next::Nothing;
                }
                let mut size = 0;
                while size < PAGE
                    && let Some(item) = self.items.next()
                {
                    size += item.key.len() + item.value.len();
                    frame.item(&item);
                }
            }
            Next::Nothing => return None,
        }
        let bytes = frame.finish(self.salt, self.offset);
        self.offset += bytes.len() as u64;
        Some(bytes.into())
    }
}

fn read_directory(dir: &Path) -> Result<Snapshot, StoreError> {
    let mut disk = FileDisk::unowned(dir, false)?;
    let found = recover(&mut disk, 0)?;
    let high_water = found.high_water;
    Ok(Snapshot::of(&Arc::new(Shared::new(
        found.state,
        high_water,
    ))))
}

/// A file's directory and name.
pub(crate) fn split(path: &Path) -> Result<(&Path, &str), StoreError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let name = name.ok_or_else(|| StoreError::Io {
        operation: "write",
        path: path.display().to_string(),
        source: std::io::ErrorKind::InvalidFilename.into(),
    })?;
    Ok((dir.unwrap_or(Path::new(".")), name))
}

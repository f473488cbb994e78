//! From a snapshot back to a store's directory.
//!
//! Reads all of the snapshot before anything is made, and makes the directory
//! beside its place, so that it is there whole or not at all. Refuses a place
//! that is taken, damaged or not: whoever restores moves the old away.
//!
//! The store that the snapshot is of went on after it, and nobody knows how
//! far. So the restored one stands `BUMP` above the snapshot's high-water
//! mark, with nothing before that readable: revisions that clients have seen
//! are not given again, watches from before are `Compacted`, and updates of
//! what had changed after the snapshot conflict.

use crate::checkpoint::{self, CheckpointWriter};
use crate::disk::{Disk, FileDisk};
use crate::engine::{salt, start_log};
use crate::format::{FileKind, Head};
use crate::snapshot::{Contents, split};
use crate::state::State;
use crate::types::{Revision, StoreError};
use bytes::Bytes;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

/// What etcd's manual gives `--bump-revision`: a week at 1,600 writes a second.
pub const BUMP: u64 = 1_000_000_000;
const PAGE: usize = 1 << 20;

/// Reads a snapshot through: what it holds, or what is damaged and where.
pub fn inspect(path: &Path) -> Result<Contents, StoreError> {
    load(path).map(|(_, contents)| contents)
}

/// Makes `dir`, which is absent or empty, a store with the snapshot's keys.
/// The revision at which it stands is `bump` above all that the snapshot
/// knows of.
pub fn restore(path: &Path, dir: &Path, bump: u64) -> Result<Contents, StoreError> {
    let failed = |operation, path: &Path| {
        let path = path.display().to_string();
        move |source| StoreError::Io {
            operation,
            path,
            source,
        }
    };
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        let path = dir.display().to_string();
        return Err(StoreError::Exists { path });
    }
    let (state, mut contents) = load(path)?;
    contents.revision = Revision(contents.high_water.0.saturating_add(bump));
    contents.high_water = contents.revision;
    let (parent, name) = split(dir)?;
    let draft: PathBuf = parent.join(format!("{name}.restoring"));
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(failed("remove", &draft))?;
    }
    fs::create_dir_all(parent).map_err(failed("make", parent))?;
    let entropy = RandomState::new().hash_one(0);
    fill(&mut FileDisk::open(&draft)?, entropy, &state, contents)?;
    fs::rename(&draft, dir).map_err(failed("rename", &draft))?;
    let parent_handle = fs::File::open(parent).map_err(failed("open", parent))?;
    parent_handle.sync_all().map_err(failed("sync", parent))?;
    Ok(contents)
}

pub(crate) fn load(path: &Path) -> Result<(State, Contents), StoreError> {
    let (dir, name) = split(path)?;
    let mut disk = FileDisk::unowned(dir, false)?;
    load_from(&mut disk, name)
}

pub(crate) fn load_from(disk: &mut dyn Disk, name: &str) -> Result<(State, Contents), StoreError> {
    let mut state = State::default();
    let what = (FileKind::Snapshot, 0);
    let head = checkpoint::load(disk, name.to_owned(), what, &mut state)?;
    let contents = Contents {
        revision: head.revision,
        high_water: head.high_water.max(head.revision),
        keys: state.keys() as u64,
        bytes: state.live_bytes() as u64,
    };
    Ok((state, contents))
}

/// The files of a store that has just made a checkpoint of `state`.
pub(crate) fn fill(
    disk: &mut dyn Disk,
    entropy: u64,
    state: &State,
    contents: Contents,
) -> Result<(), StoreError> {
    let head = Head {
        kind: FileKind::Checkpoint,
        sequence: 1,
        revision: contents.revision,
        high_water: contents.high_water,
    };
    start_log(disk, 1, entropy, head.revision, head.high_water)?;
    let mut writer = CheckpointWriter::start(disk, !salt(entropy, 1), &head, &state.leases)?;
    let mut done = false;
    while !done {
        let after: Option<&Bytes> = writer.after();
        let page = state.pinned_page(head.revision, after, PAGE);
        done = writer.step(disk, &page)?;
    }
    Ok(())
}

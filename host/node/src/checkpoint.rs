//! What must survive a restart of `node`, one small JSON file for each pod:
//! `<data>/pods/<uid>.json`, replaced atomically.
//!
//! A file that can't be read is removed: its pod starts anew, from what the
//! API remembers of it.

use crate::pod::Observed;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    version: u32,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) observed: Observed,
}

impl Checkpoint {
    pub(crate) fn new(namespace: &str, name: &str, uid: &str, observed: Observed) -> Self {
        Self {
            version: VERSION,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            observed,
        }
    }

    /// # Errors
    /// As writing, syncing and renaming a file.
    pub(crate) fn save(&self, data: &Path) -> io::Result<()> {
        let path = path(data, &self.uid)?;
        let fresh = path.with_extension("new");
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(&fresh, &path)
    }
}

/// Removes a pod's checkpoint, if there is one.
///
/// # Errors
/// As unlinking a file.
pub(crate) fn remove(data: &Path, uid: &str) -> io::Result<()> {
    match std::fs::remove_file(path(data, uid)?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// All checkpoints that can be read; makes the directory.
///
/// # Errors
/// As reading the directory.
pub(crate) fn load_all(data: &Path) -> io::Result<Vec<Checkpoint>> {
    let directory = data.join("pods");
    std::fs::create_dir_all(&directory)?;
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        match load(&path) {
            Ok(checkpoint) => all.push(checkpoint),
            Err(error) => {
                log::warn!("checkpoint {} is not usable: {error}", path.display());
                std::fs::remove_file(&path)?;
            }
        }
    }
    Ok(all)
}

fn load(path: &Path) -> io::Result<Checkpoint> {
    let checkpoint: Checkpoint = serde_json::from_slice(&std::fs::read(path)?)?;
    if checkpoint.version != VERSION {
        return Err(io::Error::other(format!("version {}", checkpoint.version)));
    }
    Ok(checkpoint)
}

fn path(data: &Path, uid: &str) -> io::Result<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if uid.is_empty() || uid.len() > 64 || !uid.bytes().all(plain) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(data.join("pods").join(format!("{uid}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn checkpoints_survive_and_torn_ones_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path();
        assert!(load_all(data).expect("loads").is_empty());
        let observed = Observed::new(Timestamp::UNIX_EPOCH);
        Checkpoint::new("a", "b", "u-1", observed.clone())
            .save(data)
            .expect("saves");
        std::fs::write(data.join("pods/u-2.json"), b"{\"version\":").expect("writes");
        let all = load_all(data).expect("loads");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].observed, observed);
        assert!(
            Checkpoint::new("a", "b", "../x", observed)
                .save(data)
                .is_err()
        );
        remove(data, "u-1").expect("removes");
        remove(data, "u-1").expect("is gone already");
        assert!(load_all(data).expect("loads").is_empty());
    }
}

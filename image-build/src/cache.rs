//! The cache of build steps, by content.
//!
//! An entry is a directory `KIND/KEY` under `$XDG_CACHE_HOME/atoll`, where KEY
//! is the hash of everything that the step reads. It is made beside its place
//! and renamed into it, so that an entry is whole or absent; whoever deletes
//! the cache loses time only. A kind keeps its `KEEP` youngest entries.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

const KEEP: usize = 6;

/// The hash of a step's inputs, built part by part.
pub struct Key(Sha256);

impl Key {
    /// `recipe` changes when the step's own code does.
    pub fn new(recipe: &str) -> Self {
        Self(Sha256::new()).with(recipe.as_bytes())
    }

    /// Adds an input; its length goes in too, so that borders count.
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())[..32].to_owned()
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where entries are.
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The user's cache.
    pub fn open() -> Result<Self> {
        let var = |name| std::env::var_os(name).filter(|path| !path.is_empty());
        let base = match var("XDG_CACHE_HOME") {
            Some(path) => PathBuf::from(path),
            None => PathBuf::from(var("HOME").context("neither XDG_CACHE_HOME nor HOME")?)
                .join(".cache"),
        };
        Ok(Self {
            root: base.join("atoll"),
        })
    }

    /// A new cache at `root` that shares only the kinds that start with a prefix.
    pub fn sharing(&self, root: PathBuf, prefixes: &[&str]) -> Result<Self> {
        fs::create_dir_all(&root)?;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let shown = name.to_string_lossy();
            if prefixes.iter().any(|prefix| shown.starts_with(prefix)) {
                std::os::unix::fs::symlink(entry.path(), root.join(&name))?;
            }
        }
        Ok(Self { root })
    }

    /// The entry's directory, made by `make` if it is not there.
    pub fn entry(
        &self,
        kind: &str,
        key: Key,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let kinds = self.root.join(kind);
        let place = kinds.join(key.finish());
        if place.is_dir() {
            return Ok(place);
        }
        let draft = kinds.join(format!("draft-{}", std::process::id()));
        remove(&draft)?;
        fs::create_dir_all(&draft).with_context(|| format!("creating {}", draft.display()))?;
        make(&draft)?;
        match fs::rename(&draft, &place) {
            Ok(()) => {}
            // Somebody else was faster with the same content.
            Err(_) if place.is_dir() => remove(&draft)?,
            Err(error) => {
                return Err(error).with_context(|| format!("placing {}", place.display()));
            }
        }
        prune(&kinds, &place)?;
        Ok(place)
    }
}

fn prune(kinds: &Path, keep: &Path) -> Result<()> {
    let mut entries: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(kinds)? {
        let entry = entry?;
        let path = entry.path();
        let draft = entry.file_name().to_string_lossy().starts_with("draft-");
        if path != keep && !draft {
            entries.push((entry.metadata()?.modified()?, path));
        }
    }
    entries.sort();
    for (_, path) in entries.iter().rev().skip(KEEP - 1) {
        remove(path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_entry_is_made_once_and_anew_when_an_input_changes() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache {
            root: root.path().to_owned(),
        };
        let mut made = 0;
        for input in ["a", "a", "b", "a"] {
            let key = Key::new("recipe").with(input.as_bytes());
            let place = cache
                .entry("kind", key, |draft| {
                    made += 1;
                    Ok(fs::write(draft.join("file"), input)?)
                })
                .unwrap();
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), input);
        }
        assert_eq!(made, 2);
    }

    #[test]
    fn a_failed_step_leaves_no_entry() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache {
            root: root.path().to_owned(),
        };
        let failed = cache.entry("kind", Key::new("r"), |_| anyhow::bail!("no"));
        assert!(failed.is_err());
        let mut made = false;
        cache
            .entry("kind", Key::new("r"), |_| {
                made = true;
                Ok(())
            })
            .unwrap();
        assert!(made);
    }

    #[test]
    fn borders_between_inputs_count() {
        let joined = Key::new("r").with(b"ab").with(b"c").finish();
        assert_ne!(joined, Key::new("r").with(b"a").with(b"bc").finish());
    }
}

//! What the engine needs of a directory, so that a test can cut its power.
//!
//! Nothing is durable before `sync` (a file's bytes and length) or `sync_dir`
//! (which names exist). One owner at a time: `FileDisk` holds a lock.

use crate::types::StoreError;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(crate) trait Disk: Send {
    /// What errors call the directory.
    fn label(&self) -> String;
    fn names(&mut self) -> io::Result<Vec<String>>;
    fn length(&mut self, name: &str) -> io::Result<u64>;
    /// All of `buffer` from `offset`; it lies inside the file.
    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// An empty file of that name, whatever was there.
    fn create(&mut self, name: &str) -> io::Result<()>;
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    fn sync(&mut self, name: &str) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&mut self, name: &str) -> io::Result<()>;
    fn sync_dir(&mut self) -> io::Result<()>;
}

const LOCK: &str = "lock";

pub(crate) struct FileDisk {
    dir: PathBuf,
    handle: File,
    files: HashMap<String, File>,
    writable: bool,
    _lock: Option<File>,
}

impl FileDisk {
    pub(crate) fn open(dir: &Path) -> Result<FileDisk, StoreError> {
        let path = dir.display().to_string();
        let io = |operation| {
            let path = path.clone();
            move |source| StoreError::Io {
                operation,
                path,
                source,
            }
        };
        fs::create_dir_all(dir).map_err(io("make"))?;
        let handle = File::open(dir).map_err(io("open"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))
            .map_err(io("make the lock file in"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
        }
        Ok(FileDisk {
            dir: dir.to_owned(),
            handle,
            files: HashMap::new(),
            writable: true,
            _lock: Some(lock),
        })
    }

    /// A directory that belongs to somebody else, or to nobody: for files
    /// that are no store's (`writable`), or to look at a store's.
    pub(crate) fn unowned(dir: &Path, writable: bool) -> Result<FileDisk, StoreError> {
        let handle = File::open(dir).map_err(|source| StoreError::Io {
            operation: "open",
            path: dir.display().to_string(),
            source,
        })?;
        Ok(FileDisk {
            dir: dir.to_owned(),
            handle,
            files: HashMap::new(),
            writable,
            _lock: None,
        })
    }

    /// Whether a process owns the store in `dir` at this moment.
    pub(crate) fn in_use(dir: &Path) -> bool {
        let lock = File::open(dir.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn file(&mut self, name: &str) -> io::Result<&File> {
        if !self.files.contains_key(name) {
            let file = OpenOptions::new()
                .read(true)
                .write(self.writable)
                .open(self.dir.join(name))?;
            self.files.insert(name.to_owned(), file);
        }
        self.files
            .get(name)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for FileDisk {
    fn label(&self) -> String {
        self.dir.display().to_string()
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn length(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_exact_at(buffer, offset)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            // Secrets are in it.
            .mode(0o600)
            .open(path)?;
        self.files.insert(name.to_owned(), file);
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.files.remove(from);
        self.files.remove(to);
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files.remove(name);
        fs::remove_file(self.dir.join(name))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

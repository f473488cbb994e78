//! A disk that forgets: what was not synced before a power cut is there, lost
//! or torn, each write by itself; what was done to the directory likewise.

use crate::disk::Disk;
use fuzzing::Random;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

type Inode = usize;

enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum DirChange {
    Link(String, Inode),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct Platter {
    inodes: Vec<Content>,
    durable: BTreeMap<String, Inode>,
    current: BTreeMap<String, Inode>,
    unsynced: Vec<DirChange>,
    /// Operations until everything fails.
    fuse: Option<u64>,
    /// `sync` does nothing and says that it did.
    lies: bool,
}

#[derive(Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<Platter>>);

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Truncate(length) => to.resize(*length, 0),
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
        }
    }

    /// What a cut leaves of it.
    fn torn(&self, to: &mut Vec<u8>, random: &mut Random) {
        let Change::Write { offset, bytes } = self else {
            if random.one_in(2) {
                self.apply(to);
            }
            return;
        };
        let (offset, cut) = (*offset, random.below(bytes.len() + 1));
        match random.below(6) {
            0 => {}
            1 => self.apply(to),
            2 => Change::Write {
                offset,
                bytes: bytes[..cut].to_vec(),
            }
            .apply(to),
            3 => {
                Change::Write {
                    offset: offset + cut,
                    bytes: bytes[cut..].to_vec(),
                }
                .apply(to);
            }
            // The length was written, the bytes were not.
            4 => Change::Write {
                offset,
                bytes: vec![0; bytes.len()],
            }
            .apply(to),
            _ => {
                let unit = 1 + random.below(64);
                for (index, piece) in bytes.chunks(unit).enumerate() {
                    if random.one_in(2) {
                        let at = offset + index * unit;
                        Change::Write {
                            offset: at,
                            bytes: piece.to_vec(),
                        }
                        .apply(to);
                    }
                }
            }
        }
    }
}

impl DirChange {
    fn apply(self, to: &mut BTreeMap<String, Inode>) {
        match self {
            DirChange::Link(name, inode) => {
                to.insert(name, inode);
            }
            DirChange::Rename(from, name) => {
                if let Some(inode) = to.remove(&from) {
                    to.insert(name, inode);
                }
            }
            DirChange::Remove(name) => {
                to.remove(&name);
            }
        }
    }
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// Everything fails from the `operations`th operation on.
    pub(super) fn set_fuse(&self, operations: Option<u64>) {
        self.lock().fuse = operations;
    }

    pub(super) fn lie(&self) {
        self.lock().lies = true;
    }

    pub(super) fn is_off(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    pub(super) fn cut_power(&self, random: &mut Random) {
        let mut guard = self.lock();
        let platter = &mut *guard;
        for content in &mut platter.inodes {
            let mut left = std::mem::take(&mut content.durable);
            for change in content.unsynced.drain(..) {
                change.torn(&mut left, random);
            }
            content.current = left.clone();
            content.durable = left;
        }
        for change in platter.unsynced.drain(..) {
            if random.one_in(2) {
                change.apply(&mut platter.durable);
            }
        }
        platter.current = platter.durable.clone();
        platter.fuse = None;
    }

    /// All files as they are.
    pub(super) fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let platter = self.lock();
        let content = |inode: &Inode| platter.inodes[*inode].current.clone();
        platter
            .current
            .iter()
            .map(|(name, inode)| (name.clone(), content(inode)))
            .collect()
    }

    pub(super) fn from_image(image: &BTreeMap<String, Vec<u8>>) -> SimDisk {
        let disk = SimDisk::default();
        let mut platter = disk.lock();
        for (name, bytes) in image {
            let inode = platter.inodes.len();
            let unsynced = Vec::new();
            platter.inodes.push(Content {
                durable: bytes.clone(),
                current: bytes.clone(),
                unsynced,
            });
            platter.current.insert(name.clone(), inode);
        }
        platter.durable = platter.current.clone();
        drop(platter);
        disk
    }

    /// The platter, after what burning the fuse leaves of an operation that
    /// `change` records.
    fn change(&self, change: impl FnOnce(&mut Platter) -> io::Result<()>) -> io::Result<()> {
        let mut platter = self.lock();
        match platter.fuse {
            None => change(&mut platter),
            // The operation under way when the power goes may have happened.
            Some(1) => {
                platter.fuse = Some(0);
                change(&mut platter)?;
                Err(io::Error::other("power cut"))
            }
            Some(0) => Err(io::Error::other("power cut")),
            Some(left) => {
                platter.fuse = Some(left - 1);
                change(&mut platter)
            }
        }
    }
}

impl Platter {
    fn inode(&self, name: &str) -> io::Result<Inode> {
        self.current
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        let inode = self.inode(name)?;
        Ok(&mut self.inodes[inode])
    }

    fn change_dir(&mut self, change: DirChange) {
        change.clone().apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn change_content(&mut self, name: &str, change: Change) -> io::Result<()> {
        let content = self.content(name)?;
        change.apply(&mut content.current);
        content.unsynced.push(change);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn label(&self) -> String {
        "sim".into()
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        Ok(self.lock().current.keys().cloned().collect())
    }

    fn length(&mut self, name: &str) -> io::Result<u64> {
        Ok(self.lock().content(name)?.current.len() as u64)
    }

    fn read(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut platter = self.lock();
        let offset = offset as usize;
        let bytes = platter
            .content(name)?
            .current
            .get(offset..offset + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.change(|platter| {
            let inode = platter.inodes.len();
            platter.inodes.push(Content::default());
            platter.change_dir(DirChange::Link(name.into(), inode));
            Ok(())
        })
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let change = Change::Write {
            offset: offset as usize,
            bytes: bytes.to_vec(),
        };
        self.change(|platter| platter.change_content(name, change))
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let change = Change::Truncate(length as usize);
        self.change(|platter| platter.change_content(name, change))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.change(|platter| {
            let lies = platter.lies;
            let content = platter.content(name)?;
            if lies {
                return Ok(());
            }
            content.durable = content.current.clone();
            content.unsynced.clear();
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(|platter| {
            platter.inode(from)?;
            platter.change_dir(DirChange::Rename(from.into(), to.into()));
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(|platter| {
            platter.inode(name)?;
            platter.change_dir(DirChange::Remove(name.into()));
            Ok(())
        })
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.change(|platter| {
            platter.durable = platter.current.clone();
            platter.unsynced.clear();
            Ok(())
        })
    }
}

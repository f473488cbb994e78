//! The image directory, and what is true of it after a power cut.
//!
//! ```text
//! <dir>/images/<hex>.erofs          of the manifest's digest; never rewritten
//! <dir>/images/<hex>.json           the sidecar; its presence commits the image
//! <dir>/images/*.tmp                being written
//! <dir>/blobs/sha256/<hex>          verified
//! <dir>/blobs/sha256/<hex>.partial  a prefix, to be verified
//! <dir>/empty/                      the converter's root
//! ```
//!
//! Commit order: EROFS data, fsync, rename, fsync of the directory, then the
//! sidecar the same way. So a sidecar implies a complete EROFS file; what
//! lacks one is removed at the next open. Removal goes the other way round.
//!
//! When an image was last used is the sidecar's time of modification.
//!
//! A tag belongs to one image. If a cut leaves two sidecars with it, the
//! larger stamp has it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::{Image, ImageConfig, Stored, Usage};
use crate::reference::Reference;

const VERSION: u32 = 1;
/// No sidecar comes near it: configurations are limited to less.
const MAX_SIDECAR: u64 = 16 << 20;

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Layout {
        let dir = dir.to_owned();
        Layout { dir }
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.dir.join("empty")
    }

    pub(crate) fn erofs(&self, manifest: &Digest) -> PathBuf {
        self.images().join(format!("{}.erofs", manifest.hex()))
    }

    pub(crate) fn erofs_tmp(&self, manifest: &Digest) -> PathBuf {
        self.images().join(format!("{}.erofs.tmp", manifest.hex()))
    }

    fn sidecar(&self, manifest: &Digest) -> PathBuf {
        self.images().join(format!("{}.json", manifest.hex()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sidecar {
    version: u32,
    stamp: u64,
    manifest: Digest,
    config_digest: Digest,
    repo_digest: String,
    /// Every name under which it was asked for: `name:tag`, `name@digest`.
    names: Vec<String>,
    size: u64,
    config: ImageConfig,
}

/// What a finished conversion is recorded with.
pub(crate) struct NewImage {
    pub(crate) manifest: Digest,
    pub(crate) config_digest: Digest,
    pub(crate) repo_digest: String,
    pub(crate) size: u64,
    pub(crate) config: ImageConfig,
}

type Records = BTreeMap<Digest, (Sidecar, Arc<Image>)>;

/// The table of images, as the sidecars have it. Looking never waits for
/// the disk: who changes the directory takes `turn` for that, and `records`
/// only to show what is done.
#[derive(Debug)]
pub(crate) struct Store {
    layout: Layout,
    records: Mutex<Records>,
    turn: Mutex<()>,
}

impl Store {
    /// Reads the sidecars; removes what a crash left half-made.
    pub(crate) fn open(layout: Layout) -> io::Result<Store> {
        for dir in [layout.images(), layout.blobs(), layout.empty()] {
            fs::create_dir_all(dir)?;
        }
        let mut records = Records::new();
        let mut stray = Vec::new();
        for entry in fs::read_dir(layout.images())? {
            let path = entry?.path();
            let digest = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| Digest::from_hex(s).ok());
            let is_sidecar = path.extension().is_some_and(|e| e == "json");
            match digest
                .filter(|_| is_sidecar)
                .and_then(|d| read(&layout, &d))
            {
                Some(sidecar) => {
                    let image = sidecar.image(&layout);
                    records.insert(sidecar.manifest, (sidecar, image));
                }
                None => stray.push(path),
            }
        }
        for path in stray {
            if !records.values().any(|(_, image)| image.erofs == path) {
                log::warn!("image: removing the incomplete {}", path.display());
                fs::remove_file(&path)?;
            }
        }
        settle_names(&mut records);
        Ok(Store {
            layout,
            records: Mutex::new(records),
            turn: Mutex::new(()),
        })
    }

    /// Consistent between any two statements, so that a panic elsewhere
    /// doesn't spoil it.
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, reference: &Reference) -> Option<Arc<Image>> {
        let name = key(reference);
        self.records()
            .values()
            .find(|(sidecar, _)| sidecar.names.contains(&name))
            .map(|(_, image)| image.clone())
    }

    pub(crate) fn by_manifest(&self, manifest: &Digest) -> Option<Arc<Image>> {
        self.records().get(manifest).map(|(_, image)| image.clone())
    }

    pub(crate) fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        self.records()
            .values()
            .map(|(sidecar, image)| (image.clone(), sidecar.names.clone()))
            .collect()
    }

    /// Commits an image whose EROFS file is complete and synced under its
    /// final name, and moves the names to it. Blocks on the disk.
    pub(crate) fn record(&self, new: NewImage, names: &[String]) -> io::Result<Arc<Image>> {
        let _turn = self.turn();
        let sidecar = Sidecar {
            version: VERSION,
            stamp: 0,
            manifest: new.manifest,
            config_digest: new.config_digest,
            repo_digest: new.repo_digest,
            names: Vec::new(),
            size: new.size,
            config: new.config,
        };
        self.commit(sidecar, names)
    }

    /// Gives an image further names. Blocks on the disk.
    pub(crate) fn add_names(&self, manifest: &Digest, names: &[String]) -> io::Result<Arc<Image>> {
        let _turn = self.turn();
        let (sidecar, image) = self
            .records()
            .get(manifest)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the image was removed"))?;
        match names.iter().all(|n| sidecar.names.contains(n)) {
            true => Ok(image),
            false => self.commit(sidecar, names),
        }
    }

    /// Writes a sidecar with these names, then takes them from the others.
    /// The caller has the turn.
    fn commit(&self, mut sidecar: Sidecar, names: &[String]) -> io::Result<Arc<Image>> {
        let mut losers = Vec::new();
        {
            let records = self.records();
            sidecar.stamp = 1 + records.values().map(|(s, _)| s.stamp).max().unwrap_or(0);
            if let Some((old, _)) = records.get(&sidecar.manifest) {
                sidecar.names.extend(old.names.iter().cloned());
            }
            for (digest, (other, _)) in &*records {
                let loses = other.names.iter().any(|n| names.contains(n));
                if *digest != sidecar.manifest && loses {
                    let mut other = other.clone();
                    other.names.retain(|n| !names.contains(n));
                    losers.push(other);
                }
            }
        }
        sidecar.names.extend(names.iter().cloned());
        sidecar.names.sort();
        sidecar.names.dedup();
        write(&self.layout, &sidecar)?;
        for loser in &losers {
            write(&self.layout, loser)?;
        }
        let image = sidecar.image(&self.layout);
        let mut records = self.records();
        for sidecar in losers {
            let image = sidecar.image(&self.layout);
            records.insert(sidecar.manifest, (sidecar, image));
        }
        records.insert(sidecar.manifest, (sidecar, image.clone()));
        Ok(image)
    }

    /// Images whose files are there; their times are those of the EROFS file and
    /// of the sidecar. Blocks on the disk.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        use std::os::unix::fs::MetadataExt as _;
        let listed = self.list().into_iter();
        let stored = listed.filter_map(|(image, _)| {
            let erofs = fs::metadata(&image.erofs).ok()?;
            let sidecar = fs::metadata(self.layout.sidecar(&image.manifest)).ok()?;
            Some(Stored {
                disk_bytes: erofs.blocks().saturating_mul(512),
                made: erofs.modified().ok()?,
                used: sidecar.modified().ok()?,
                image,
            })
        });
        stored.collect()
    }

    /// The time of use is that of the sidecar's file. Blocks on the disk.
    pub(crate) fn mark_used(&self, ids: &[String], at: SystemTime) -> io::Result<()> {
        let _turn = self.turn();
        for (image, _) in self.list() {
            if ids.contains(&image.id) {
                File::open(self.layout.sidecar(&image.manifest))?.set_modified(at)?;
            }
        }
        Ok(())
    }

    /// Unlinks every image with this id; micro-VMs that have it open keep
    /// it. False if there is none. Blocks on the disk.
    pub(crate) fn remove(&self, id: &str) -> io::Result<bool> {
        let _turn = self.turn();
        let doomed: Vec<Digest> = self
            .records()
            .iter()
            .filter(|(_, (_, image))| image.id == id)
            .map(|(digest, _)| *digest)
            .collect();
        for digest in &doomed {
            self.records().remove(digest);
            remove_if_there(&self.layout.sidecar(digest))?;
            sync_dir(&self.layout.images())?;
            remove_if_there(&self.layout.erofs(digest))?;
        }
        Ok(!doomed.is_empty())
    }
}

impl Sidecar {
    fn image(&self, layout: &Layout) -> Arc<Image> {
        Arc::new(Image {
            id: self.config_digest.to_string(),
            repo_digest: self.repo_digest.clone(),
            erofs: layout.erofs(&self.manifest),
            size: self.size,
            config: self.config.clone(),
            manifest: self.manifest,
        })
    }
}

/// `None` if the sidecar or its image isn't whole.
fn read(layout: &Layout, manifest: &Digest) -> Option<Sidecar> {
    let path = layout.sidecar(manifest);
    let metadata = fs::metadata(&path).ok()?;
    if metadata.len() > MAX_SIDECAR {
        return None;
    }
    let sidecar: Sidecar = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let erofs = fs::metadata(layout.erofs(manifest)).ok()?;
    let fits = sidecar.version == VERSION
        && sidecar.manifest == *manifest
        && erofs.is_file()
        && erofs.len() == sidecar.size;
    fits.then_some(sidecar)
}

fn write(layout: &Layout, sidecar: &Sidecar) -> io::Result<()> {
    let path = layout.sidecar(&sidecar.manifest);
    let tmp = path.with_extension("json.tmp");
    let mut file = File::create(&tmp)?;
    file.write_all(&serde_json::to_vec(sidecar)?)?;
    file.sync_all()?;
    fs::rename(&tmp, &path)?;
    sync_dir(&layout.images())
}

/// After a crash between two sidecars a name may be in both.
fn settle_names(records: &mut Records) {
    let mut owner: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
    for (digest, (sidecar, _)) in &*records {
        for name in &sidecar.names {
            let claim = (sidecar.stamp, *digest);
            let best = owner.entry(name.clone()).or_insert(claim);
            *best = (*best).max(claim);
        }
    }
    for (digest, (sidecar, _)) in records {
        sidecar
            .names
            .retain(|n| owner.get(n).is_some_and(|(_, d)| d == digest));
    }
}

/// What a reference is found by: the digest, if it has one.
pub(crate) fn key(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{}@{digest}", reference.name()),
        (None, tag) => format!("{}:{}", reference.name(), tag.unwrap_or("latest")),
    }
}

/// Bytes on disk, by walking the two directories.
pub(crate) fn usage(layout: &Layout) -> io::Result<Usage> {
    use std::os::unix::fs::MetadataExt as _;
    let count = |dir: PathBuf| -> io::Result<(u64, u64)> {
        let mut total = (0, 0);
        for entry in fs::read_dir(dir)? {
            match entry?.metadata() {
                Ok(m) => total = (total.0 + 1, total.1 + m.blocks() * 512),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(total)
    };
    let (files, image_bytes) = count(layout.images())?;
    let (blobs, blob_bytes) = count(layout.blobs())?;
    Ok(Usage {
        images: files / 2,
        image_bytes,
        blobs,
        blob_bytes,
    })
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

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
//! A tag belongs to one image. If a cut leaves two sidecars with it, the
//! larger stamp has it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::{Image, ImageConfig, Usage};
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

/// The table of images, as the sidecars have it.
#[derive(Debug)]
pub(crate) struct Store {
    layout: Layout,
    records: BTreeMap<Digest, (Sidecar, Arc<Image>)>,
}

impl Store {
    /// Reads the sidecars; removes what a crash left half-made.
    pub(crate) fn open(layout: Layout) -> io::Result<Store> {
        for dir in [layout.images(), layout.blobs(), layout.empty()] {
            fs::create_dir_all(dir)?;
        }
        let mut store = Store {
            layout,
            records: BTreeMap::new(),
        };
        let mut stray = Vec::new();
        for entry in fs::read_dir(store.layout.images())? {
            let path = entry?.path();
            let digest = path
                .file_stem()
                .and_then(|s| s.to_str())
                .and_then(|s| Digest::from_hex(s).ok());
            let is_sidecar = path.extension().is_some_and(|e| e == "json");
            match digest.filter(|_| is_sidecar).and_then(|d| store.read(&d)) {
                Some(sidecar) => store.keep(sidecar),
                None => stray.push(path),
            }
        }
        for path in stray {
            let belongs = store.records.values().any(|(_, image)| image.erofs == path);
            if !belongs {
                log::warn!("image: removing the incomplete {}", path.display());
                fs::remove_file(&path)?;
            }
        }
        store.settle_names();
        Ok(store)
    }

    fn read(&self, manifest: &Digest) -> Option<Sidecar> {
        let path = self.layout.sidecar(manifest);
        let metadata = fs::metadata(&path).ok()?;
        if metadata.len() > MAX_SIDECAR {
            return None;
        }
        let sidecar: Sidecar = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let erofs = fs::metadata(self.layout.erofs(manifest)).ok()?;
        let fits = sidecar.version == VERSION
            && sidecar.manifest == *manifest
            && erofs.is_file()
            && erofs.len() == sidecar.size;
        fits.then_some(sidecar)
    }

    fn keep(&mut self, sidecar: Sidecar) {
        let image = Arc::new(Image {
            id: sidecar.config_digest.to_string(),
            repo_digest: sidecar.repo_digest.clone(),
            erofs: self.layout.erofs(&sidecar.manifest),
            size: sidecar.size,
            config: sidecar.config.clone(),
            manifest: sidecar.manifest,
        });
        self.records.insert(sidecar.manifest, (sidecar, image));
    }

    /// After a crash between two sidecars a name may be in both.
    fn settle_names(&mut self) {
        let mut owner: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
        for (digest, (sidecar, _)) in &self.records {
            for name in &sidecar.names {
                let claim = (sidecar.stamp, *digest);
                let best = owner.entry(name.clone()).or_insert(claim);
                *best = (*best).max(claim);
            }
        }
        for (digest, (sidecar, _)) in &mut self.records {
            sidecar
                .names
                .retain(|n| owner.get(n).is_some_and(|(_, d)| d == digest));
        }
    }

    pub(crate) fn find(&self, reference: &Reference) -> Option<Arc<Image>> {
        let name = key(reference);
        self.records
            .values()
            .find(|(sidecar, _)| sidecar.names.contains(&name))
            .map(|(_, image)| image.clone())
    }

    pub(crate) fn by_manifest(&self, manifest: &Digest) -> Option<Arc<Image>> {
        self.records.get(manifest).map(|(_, image)| image.clone())
    }

    pub(crate) fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        self.records
            .values()
            .map(|(sidecar, image)| (image.clone(), sidecar.names.clone()))
            .collect()
    }

    /// Commits an image whose EROFS file is complete and synced under its
    /// final name, and moves the names to it. Blocks on the disk.
    pub(crate) fn record(&mut self, new: NewImage, names: &[String]) -> io::Result<Arc<Image>> {
        let stamp = 1 + self
            .records
            .values()
            .map(|(s, _)| s.stamp)
            .max()
            .unwrap_or(0);
        let manifest = new.manifest;
        let mut sidecar = Sidecar {
            version: VERSION,
            stamp,
            manifest,
            config_digest: new.config_digest,
            repo_digest: new.repo_digest,
            names: names.to_vec(),
            size: new.size,
            config: new.config,
        };
        if let Some((old, _)) = self.records.get(&manifest) {
            sidecar.names.extend(old.names.iter().cloned());
            sidecar.names.sort();
            sidecar.names.dedup();
        }
        self.write(&sidecar)?;
        self.keep(sidecar);
        for digest in self.records.keys().copied().collect::<Vec<_>>() {
            self.take_names(&digest, &manifest, names)?;
        }
        self.by_manifest(&manifest)
            .ok_or_else(|| io::Error::other("the image was just recorded"))
    }

    /// Gives an image further names.
    pub(crate) fn add_names(
        &mut self,
        manifest: &Digest,
        names: &[String],
    ) -> io::Result<Arc<Image>> {
        let (sidecar, image) = self
            .records
            .get(manifest)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the image was removed"))?;
        if names.iter().all(|n| sidecar.names.contains(n)) {
            return Ok(image.clone());
        }
        let sidecar = sidecar.clone();
        let new = NewImage {
            manifest: sidecar.manifest,
            config_digest: sidecar.config_digest,
            repo_digest: sidecar.repo_digest,
            size: sidecar.size,
            config: sidecar.config,
        };
        self.record(new, names)
    }

    fn take_names(&mut self, from: &Digest, to: &Digest, names: &[String]) -> io::Result<()> {
        let Some((sidecar, _)) = self.records.get_mut(from) else {
            return Ok(());
        };
        let loses = from != to && sidecar.names.iter().any(|n| names.contains(n));
        if !loses {
            return Ok(());
        }
        sidecar.names.retain(|n| !names.contains(n));
        let sidecar = sidecar.clone();
        self.write(&sidecar)
    }

    fn write(&self, sidecar: &Sidecar) -> io::Result<()> {
        let path = self.layout.sidecar(&sidecar.manifest);
        let tmp = path.with_extension("json.tmp");
        let mut file = File::create(&tmp)?;
        file.write_all(&serde_json::to_vec(sidecar)?)?;
        file.sync_all()?;
        fs::rename(&tmp, &path)?;
        sync_dir(&self.layout.images())
    }

    /// Unlinks every image with this id; micro-VMs that have it open keep
    /// it. False if there is none.
    pub(crate) fn remove(&mut self, id: &str) -> io::Result<bool> {
        let doomed: Vec<Digest> = self
            .records
            .iter()
            .filter(|(_, (_, image))| image.id == id)
            .map(|(digest, _)| *digest)
            .collect();
        for digest in &doomed {
            remove_if_there(&self.layout.sidecar(digest))?;
            sync_dir(&self.layout.images())?;
            self.records.remove(digest);
            remove_if_there(&self.layout.erofs(digest))?;
        }
        Ok(!doomed.is_empty())
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

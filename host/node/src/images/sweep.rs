//! Garbage collection of images, carried out: what pulls left behind goes
//! first, then images that no pod has, until enough is free.
//!
//! An image is in use while a pod that may still run names it, or runs it
//! although its name went to another image. When it was used last is kept on
//! disk, so a restart of `node` forgets nothing.

use super::ImageSource;
use super::policy::{Candidate, Policy};
use crate::pod::observed::{Image as Known, Machine};
use crate::pod::view::{View, is_terminal, statuses};
use crate::worker::Shown;
use guest_protocol::Filesystem;
use image::{Reference, Stored};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) struct Sweeper {
    images: Arc<dyn ImageSource>,
    policy: Policy,
}

/// Why a disk is as full as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error("invalid capacity 0 on image filesystem")]
    NoDisk,
    #[error("images: {0}")]
    Images(#[from] io::Error),
    #[error(
        "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, \
         but only found {freed} bytes eligible to free."
    )]
    TooLittle { wanted: u64, freed: u64 },
}

impl Sweeper {
    pub(crate) fn new(images: Arc<dyn ImageSource>, policy: Policy) -> Self {
        Self { images, policy }
    }

    /// What the policy asks for.
    ///
    /// # Errors
    /// Also that there was not enough to remove.
    pub(crate) async fn sweep(
        &self,
        pods: &[Shown],
        disk: Option<Filesystem>,
        now: SystemTime,
    ) -> Result<(), SweepError> {
        let candidates = self.look(pods, now).await?;
        for one in self.policy.expired(&candidates, now) {
            self.remove(one).await?;
        }
        let disk = disk.filter(|disk| disk.capacity > 0);
        let disk = disk.ok_or(SweepError::NoDisk)?;
        let Some(wanted) = self.policy.excess(disk.capacity, disk.available) else {
            return Ok(());
        };
        log::info!("images: the disk is filling up; {wanted} bytes are to be freed");
        match self.free(pods, wanted, now).await? {
            freed if freed < wanted => Err(SweepError::TooLittle { wanted, freed }),
            _ => Ok(()),
        }
    }

    /// Removes leftovers, then unused images, until so much is free; the bytes
    /// freed.
    ///
    /// # Errors
    /// As removing files.
    pub(crate) async fn free(
        &self,
        pods: &[Shown],
        wanted: u64,
        now: SystemTime,
    ) -> io::Result<u64> {
        let mut freed = self.images.prune().await?;
        let candidates = self.look(pods, now).await?;
        for one in self.policy.order(&candidates, now) {
            if freed >= wanted {
                break;
            }
            freed = freed.saturating_add(self.remove(one).await?);
        }
        Ok(freed)
    }

    async fn remove(&self, one: &Candidate) -> io::Result<u64> {
        log::info!("images: removing {} to free {} bytes", one.id, one.bytes);
        let removed = self.images.remove(&one.id).await?;
        Ok(if removed { one.bytes } else { 0 })
    }

    /// All images as they stand, those in use marked, here and on disk.
    async fn look(&self, pods: &[Shown], now: SystemTime) -> io::Result<Vec<Candidate>> {
        let stored = self.images.stored().await?;
        let used = in_use(pods, self.images.as_ref(), &stored);
        let ids = used.iter().cloned().collect();
        self.images.mark_used(ids, now).await?;
        Ok(candidates(&stored, &used))
    }
}

/// One candidate for each id: an id goes whole.
fn candidates(stored: &[Stored], used: &BTreeSet<String>) -> Vec<Candidate> {
    let mut found: BTreeMap<&str, Candidate> = BTreeMap::new();
    for one in stored {
        let id = one.image.id.as_str();
        let candidate = found.entry(id).or_insert_with(|| Candidate {
            id: id.to_owned(),
            bytes: 0,
            made: one.made,
            used: one.used,
            in_use: used.contains(id),
        });
        candidate.bytes = candidate.bytes.saturating_add(one.disk_bytes);
        candidate.made = candidate.made.max(one.made);
        candidate.used = candidate.used.max(one.used);
    }
    found.into_values().collect()
}

/// The ids of images that pods have or will have.
fn in_use(pods: &[Shown], images: &dyn ImageSource, stored: &[Stored]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for shown in pods.iter().filter(|shown| !is_over(shown)) {
        for (image, _) in View(&shown.pod).images() {
            let reference = Reference::try_from(image.to_owned()).ok();
            let image = reference.and_then(|reference| images.get(&reference));
            ids.extend(image.map(|image| image.id.clone()));
        }
        let shown_ids = statuses(&shown.status).map(|container| &container.image_id);
        // Of volumes no status tells.
        let known = shown
            .observed
            .images
            .values()
            .filter_map(|image| match image {
                Known::Ready(info) => Some(&info.id),
                Known::Ensuring { .. } | Known::Failed { .. } => None,
            });
        for digest in shown_ids.chain(known) {
            let runs = |one: &&Stored| one.image.repo_digest == *digest;
            ids.extend(stored.iter().filter(runs).map(|one| one.image.id.clone()));
        }
    }
    ids
}

/// Nothing of the pod runs, or ever will again.
fn is_over(shown: &Shown) -> bool {
    is_terminal(&shown.status) && shown.observed.machine == Machine::Absent
}

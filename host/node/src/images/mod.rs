//! Where a pod's images come from: the border to the image store, so that the
//! pods' side runs in tests without a registry.

mod policy;
mod sweep;

pub(crate) use policy::Policy;
pub(crate) use sweep::{SweepError, Sweeper};

use image::{Credentials, Image, Images, PullError, PullPolicy, Reference, Stored};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Ensured<'a> = Task<'a, Result<Arc<Image>, PullError>>;

pub(crate) trait ImageSource: Send + Sync {
    /// What is there, without asking anybody.
    fn get(&self, reference: &Reference) -> Option<Arc<Image>>;

    /// Pulls by policy. Dropping the future does not end a pull.
    fn ensure<'a>(
        &'a self,
        reference: &'a Reference,
        policy: PullPolicy,
        auth: &'a [Credentials],
    ) -> Ensured<'a>;

    /// Every image with its names.
    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)>;

    /// Every image with the age and use of its files.
    fn stored(&self) -> Task<'_, io::Result<Vec<Stored>>>;

    /// Remembers that images (by id) are in use, beyond this process.
    fn mark_used(&self, ids: Vec<String>, at: SystemTime) -> Task<'_, io::Result<()>>;

    /// Forgets an image and unlinks its file.
    fn remove<'a>(&'a self, id: &'a str) -> Task<'a, io::Result<bool>>;

    /// Removes what pulls that are over have left; the bytes freed.
    fn prune(&self) -> Task<'_, io::Result<u64>>;
}

impl ImageSource for Images {
    fn get(&self, reference: &Reference) -> Option<Arc<Image>> {
        Images::get(self, reference)
    }

    fn ensure<'a>(
        &'a self,
        reference: &'a Reference,
        policy: PullPolicy,
        auth: &'a [Credentials],
    ) -> Ensured<'a> {
        Box::pin(Images::ensure(self, reference, policy, auth))
    }

    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        Images::list(self)
    }

    fn stored(&self) -> Task<'_, io::Result<Vec<Stored>>> {
        Box::pin(Images::stored(self))
    }

    fn mark_used(&self, ids: Vec<String>, at: SystemTime) -> Task<'_, io::Result<()>> {
        Box::pin(Images::mark_used(self, ids, at))
    }

    fn remove<'a>(&'a self, id: &'a str) -> Task<'a, io::Result<bool>> {
        Box::pin(Images::remove(self, id))
    }

    fn prune(&self) -> Task<'_, io::Result<u64>> {
        Box::pin(self.prune_blobs())
    }
}

//! Where a pod's images come from: the border to the image store, so that the
//! pods' side runs in tests without a registry.

use image::{Credentials, Image, Images, PullError, PullPolicy, Reference};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Ensured<'a> = Pin<Box<dyn Future<Output = Result<Arc<Image>, PullError>> + Send + 'a>>;

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
}

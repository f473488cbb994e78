//! The one door to images: [`Images`].
//!
//! Whoever wants an image that isn't there waits for one pull of it, however
//! many ask: a pull is keyed by what was asked for and with which
//! credentials, so that nobody gets an image by somebody else's.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::config::{Config, ConfigError};
use crate::credentials::Credentials;
use crate::error::{Failure, Kind, PullError, Step};
use crate::image::{Image, PullPolicy, Stored, Usage};
use crate::pull::Puller;
use crate::reference::Reference;
use crate::store::{self, Layout, Store};

/// Why the image directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("image config: {0}")]
    Config(#[from] ConfigError),
    #[error("image directory {0}: {1}")]
    Directory(PathBuf, #[source] io::Error),
    #[error("image config: TLS: {0}")]
    Tls(String),
}

type Answer = Option<Result<Arc<Image>, PullError>>;
type Key = (String, Vec<Credentials>);

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    layout: Layout,
    store: Arc<Store>,
    puller: Puller,
    /// As many as there are different pulls under way; a pull ends by its
    /// own time limits, so the table can't grow without callers that wait.
    pulls: Mutex<HashMap<Key, watch::Receiver<Answer>>>,
}

impl Images {
    /// Opens (and makes, if it is new) the image directory. `converter` is
    /// the executable that is run as `<converter> convert-image`.
    pub async fn open(config: Config, dir: &Path, converter: PathBuf) -> Result<Images, OpenError> {
        config.check()?;
        let layout = Layout::new(dir);
        let opened = layout.clone();
        let store = blocking(move || Store::open(opened))
            .await
            .map_err(|e| OpenError::Directory(dir.to_owned(), e))?;
        let store = Arc::new(store);
        let puller = Puller::new(config, layout.clone(), store.clone(), converter)
            .map_err(OpenError::Tls)?;
        Ok(Images(Arc::new(Inner {
            layout,
            store,
            puller,
            pulls: Mutex::new(HashMap::new()),
        })))
    }

    /// The image, pulled if the policy wants it. `auth` is tried in order
    /// (see [`Keyring::select`](crate::Keyring::select)); without any, the
    /// configured credentials of the host, then anonymously. Dropping the
    /// future doesn't end a pull: the next caller finds its result.
    pub async fn ensure(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        auth: &[Credentials],
    ) -> Result<Arc<Image>, PullError> {
        match (policy, self.get(reference)) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(image)) => return Ok(image),
            (PullPolicy::Never, None) => {
                let failure =
                    Failure::new(Kind::NotPresent, "not present with pull policy of Never");
                return Err(PullError::new(reference, Step::Lookup, failure));
            }
            (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, None) => {}
        }
        let mut pull = self.join(reference, auth);
        let answer = pull.wait_for(Option::is_some).await.map(|a| a.clone());
        match answer {
            Ok(Some(result)) => result,
            _ => {
                let failure = Failure::new(Kind::Host, "the pull was abandoned");
                Err(PullError::new(reference, Step::Fetch, failure))
            }
        }
    }

    /// What is there under this name, without asking anybody.
    pub fn get(&self, reference: &Reference) -> Option<Arc<Image>> {
        self.0.store.find(reference)
    }

    /// Every image with its names (`name:tag`, `name@digest`).
    pub fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        self.0.store.list()
    }

    /// Every image with the age and use of its files.
    pub async fn stored(&self) -> io::Result<Vec<Stored>> {
        let store = self.0.store.clone();
        blocking(move || Ok(store.stored())).await
    }

    /// Remembers that these images (by id) are in use at `at`, on disk, so that
    /// it survives this process.
    pub async fn mark_used(&self, ids: Vec<String>, at: SystemTime) -> io::Result<()> {
        let store = self.0.store.clone();
        blocking(move || store.mark_used(&ids, at)).await
    }

    /// Forgets the images with this id and unlinks their files; who has
    /// them open keeps them. False if there is none.
    pub async fn remove(&self, id: &str) -> io::Result<bool> {
        let (store, id) = (self.0.store.clone(), id.to_owned());
        blocking(move || store.remove(&id)).await
    }

    /// Unlinks the downloaded blobs of pulls that are over; returns the
    /// bytes freed. Converted images don't need them: they only save
    /// downloading a shared layer again.
    pub async fn prune_blobs(&self) -> io::Result<u64> {
        self.0.puller.prune_blobs().await
    }

    pub async fn usage(&self) -> io::Result<Usage> {
        let layout = self.0.layout.clone();
        blocking(move || store::usage(&layout)).await
    }

    /// The pull that is under way for this, or a new one.
    fn join(&self, reference: &Reference, auth: &[Credentials]) -> watch::Receiver<Answer> {
        let key = (reference.to_string(), auth.to_vec());
        let mut pulls = self.0.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = pulls.get(&key) {
            return running.clone();
        }
        let (sender, receiver) = watch::channel(None);
        pulls.insert(key.clone(), receiver.clone());
        let (inner, reference) = (self.0.clone(), reference.clone());
        tokio::spawn(async move {
            let ended = PullEnds { inner, key, sender };
            let result = ended.inner.puller.pull(&reference, &ended.key.1).await;
            if let Err(e) = &result {
                log::warn!("image: {e}");
            }
            ended.sender.send_replace(Some(result));
        });
        receiver
    }
}

/// Takes a pull out of the table however its task ends.
struct PullEnds {
    inner: Arc<Inner>,
    key: Key,
    sender: watch::Sender<Answer>,
}

impl Drop for PullEnds {
    fn drop(&mut self) {
        self.inner
            .pulls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

/// Runs disk work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(io::Error::other(e)))
}

//! One pull, from a reference to a recorded image.
//!
//! ```text
//! resolve (HEAD, else GET) ─► known digest? ──yes──► add the name
//!        │ no
//!        ▼
//! index ─► manifest ─► config ─► layers (parallel) ─► convert ─► record
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use crate::blobs::Blobs;
use crate::config::{Config, Limits, Timeouts};
use crate::convert::{Converter, Job, Layer};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Failure, Kind, PullError, Step};
use crate::image::{Image, ImageConfig};
use crate::images::blocking;
use crate::manifest::{self, Blob, Manifest};
use crate::reference::Reference;
use crate::registry::{Client, Resolved, Session};
use crate::store::{self, Layout, NewImage, Store};

/// Indexes of indexes end somewhere.
const MAX_INDEX_DEPTH: u32 = 3;

pub(crate) struct Puller {
    client: Arc<Client>,
    blobs: Arc<Blobs>,
    limits: Limits,
    timeouts: Timeouts,
    layout: Layout,
    store: Arc<Store>,
    converter: Converter,
    conversions: Semaphore,
}

type StepError = (Step, Failure);

/// A manifest for this platform, checked.
struct Plan {
    manifest: Digest,
    config: Blob,
    layers: Vec<Blob>,
}

impl Puller {
    pub(crate) fn new(
        config: Config,
        layout: Layout,
        store: Arc<Store>,
        converter: PathBuf,
    ) -> Result<Puller, String> {
        let (limits, timeouts) = (config.limits, config.timeouts);
        Ok(Puller {
            client: Client::new(config)?,
            blobs: Arc::new(Blobs::new(layout.clone(), &limits, timeouts)),
            converter: Converter::new(converter, layout.empty(), limits),
            conversions: Semaphore::new(limits.parallel_conversions),
            limits,
            timeouts,
            layout,
            store,
        })
    }

    /// Tries the credentials in order while the registry refuses them.
    pub(crate) async fn pull(
        &self,
        reference: &Reference,
        auth: &[Credentials],
    ) -> Result<Arc<Image>, PullError> {
        let mut choices: Vec<Option<Credentials>> = auth.iter().cloned().map(Some).collect();
        if choices.is_empty() {
            choices.push(None);
        }
        let last = choices.len() - 1;
        for (i, credentials) in choices.into_iter().enumerate() {
            let session = self.client.session(reference, credentials);
            match self.pull_as(&session, reference).await {
                Err((_, f)) if f.kind == Kind::Unauthorized && i < last => {}
                result => {
                    return result.map_err(|(step, f)| PullError::new(reference, step, f));
                }
            }
        }
        let failure = Failure::new(Kind::Unauthorized, "no credentials");
        Err(PullError::new(reference, Step::Resolve, failure))
    }

    async fn pull_as(
        &self,
        session: &Session,
        reference: &Reference,
    ) -> Result<Arc<Image>, StepError> {
        let at = |step: Step| move |f: Failure| (step, f);
        let top = match self
            .resolve(session, reference)
            .await
            .map_err(at(Step::Resolve))?
        {
            Found::Known(image) => return Ok(image),
            Found::Fetched(top) => top,
        };
        let top_digest = top.digest;
        let plan = self.plan(session, top).await.map_err(at(Step::Fetch))?;
        let repo_digest = format!("{}@{top_digest}", reference.name());
        let mut names = vec![store::key(reference), repo_digest.clone()];
        names.push(format!("{}@{}", reference.name(), plan.manifest));
        let known = self.store.by_manifest(&plan.manifest);
        if let Some(image) = known {
            return self
                .add_names(&image, names)
                .await
                .map_err(at(Step::Record));
        }
        let parts = plan.layers.iter().chain([&plan.config]);
        // Until they are converted.
        let _held = self.blobs.hold(parts.map(|blob| blob.digest));
        let (config, diff_ids) = self.config(session, &plan).await.map_err(at(Step::Fetch))?;
        let fetches = plan.layers.iter().map(|l| self.blobs.fetch(session, l));
        let paths = try_join_all(fetches).await.map_err(at(Step::Fetch))?;
        let layers = paths.into_iter().zip(diff_ids);
        let layers = layers
            .map(|(path, diff_id)| Layer { path, diff_id })
            .collect();
        let _permit = self
            .conversions
            .acquire()
            .await
            .map_err(|e| (Step::Unpack, Failure::new(Kind::Host, e)))?;
        let known = self.store.by_manifest(&plan.manifest);
        if let Some(image) = known {
            return self
                .add_names(&image, names)
                .await
                .map_err(at(Step::Record));
        }
        let job = Job {
            layers,
            tmp: self.layout.erofs_tmp(&plan.manifest),
            output: self.layout.erofs(&plan.manifest),
        };
        let size = self.converter.run(job).await.map_err(at(Step::Unpack))?;
        let new = NewImage {
            manifest: plan.manifest,
            config_digest: plan.config.digest,
            repo_digest,
            size,
            config,
        };
        self.record(new, names).await.map_err(at(Step::Record))
    }

    async fn resolve(&self, session: &Session, reference: &Reference) -> Result<Found, Failure> {
        let identifier = reference.identifier();
        let head = match reference.digest() {
            Some(digest) => Some(*digest),
            None => self.patiently(|| session.head(&identifier)).await?,
        };
        if let Some(digest) = head {
            let repo_digest = format!("{}@{digest}", reference.name());
            let exact = repo_digest.parse::<Reference>().ok();
            let known = exact.and_then(|r| self.store.find(&r));
            if let Some(image) = known {
                let names = vec![store::key(reference), repo_digest];
                return self.add_names(&image, names).await.map(Found::Known);
            }
        }
        let identifier = head.map_or(identifier, |d| d.to_string());
        let top = self.patiently(|| session.manifest(&identifier)).await?;
        Ok(Found::Fetched(top))
    }

    /// From what a tag stands for to the manifest of this platform.
    async fn plan(&self, session: &Session, top: Resolved) -> Result<Plan, Failure> {
        let mut resolved = top;
        for _ in 0..=MAX_INDEX_DEPTH {
            let kind = resolved.media_type.as_deref();
            match manifest::parse(&resolved.bytes, kind, &self.limits)? {
                Manifest::Index(digest) => {
                    let identifier = digest.to_string();
                    resolved = self.patiently(|| session.manifest(&identifier)).await?;
                }
                Manifest::Image { config, layers } => {
                    return Ok(Plan {
                        manifest: resolved.digest,
                        config,
                        layers,
                    });
                }
            }
        }
        Err(Failure::invalid("indexes are nested too deeply"))
    }

    async fn config(
        &self,
        session: &Session,
        plan: &Plan,
    ) -> Result<(ImageConfig, Vec<Digest>), Failure> {
        let path = self.blobs.fetch(session, &plan.config).await?;
        let bytes = blocking(move || std::fs::read(path))
            .await
            .map_err(|e| Failure::io("reading the image config", &e))?;
        let (config, diff_ids) = manifest::parse_config(&bytes)?;
        if diff_ids.len() != plan.layers.len() {
            return Err(Failure::invalid(format!(
                "mismatched image rootfs and manifest layers: {} diff ids, {} layers",
                diff_ids.len(),
                plan.layers.len()
            )));
        }
        Ok((config, diff_ids))
    }

    /// Again with back-off while the registry is unavailable.
    async fn patiently<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut backoff = Duration::from_millis(self.timeouts.backoff_millis);
        let mut tries = 0;
        loop {
            let failure = match ask().await {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            tries += 1;
            if failure.kind != Kind::Unavailable || tries >= self.timeouts.attempts {
                return Err(failure);
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(Duration::from_millis(self.timeouts.backoff_max_millis));
        }
    }

    async fn add_names(&self, image: &Image, names: Vec<String>) -> Result<Arc<Image>, Failure> {
        let (store, manifest) = (self.store.clone(), image.manifest);
        blocking(move || store.add_names(&manifest, &names))
            .await
            .map_err(|e| Failure::io("recording the image", &e))
    }

    async fn record(&self, new: NewImage, names: Vec<String>) -> Result<Arc<Image>, Failure> {
        let store = self.store.clone();
        blocking(move || store.record(new, &names))
            .await
            .map_err(|e| Failure::io("recording the image", &e))
    }

    /// See [`Images::prune_blobs`](crate::Images::prune_blobs).
    pub(crate) async fn prune_blobs(&self) -> std::io::Result<u64> {
        let (dir, blobs) = (self.layout.blobs(), self.blobs.clone());
        blocking(move || {
            let mut freed = 0;
            for entry in std::fs::read_dir(dir)? {
                let path = entry?.path();
                let digest = path
                    .file_stem()
                    .and_then(|s| s.to_str())
                    .and_then(|s| Digest::from_hex(s).ok());
                freed += match digest {
                    Some(digest) => blobs.discard(&digest, &path)?,
                    None => {
                        store::remove_if_there(&path)?;
                        0
                    }
                };
            }
            Ok(freed)
        })
        .await
    }
}

enum Found {
    Known(Arc<Image>),
    Fetched(Resolved),
}

//! Images of tests: every name stands for the first, and others lie about.

use crate::images::ImageSource;
use image::{
    Credentials, Failure, Image, ImageConfig, Kind, PullError, PullPolicy, Reference, Step, Stored,
};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(super) struct Shelf {
    stored: Mutex<Vec<Stored>>,
    /// The end of a reference to an image that is still on its way.
    on_the_way: Mutex<Option<&'static str>>,
    /// The end of a reference that no registry knows.
    unknown: Mutex<Option<&'static str>>,
}

impl Shelf {
    pub(super) fn new(erofs: &Path) -> Self {
        let config = ImageConfig {
            cmd: vec!["/bin/a".to_owned()],
            ..ImageConfig::default()
        };
        let image = image("00", erofs, config);
        Self {
            stored: Mutex::new(vec![stored(image, 0)]),
            on_the_way: Mutex::default(),
            unknown: Mutex::default(),
        }
    }

    /// Puts an image there that was last used so many seconds ago.
    pub(super) fn put(&self, id: &str, unused: u64) {
        let image = image(id, Path::new("/none"), ImageConfig::default());
        self.stored.lock().unwrap().push(stored(image, unused));
    }

    /// Pulls of references with such an end take until this is called with none.
    pub(super) fn delay(&self, end: Option<&'static str>) {
        *self.on_the_way.lock().unwrap() = end;
    }

    /// Pulls of references with such an end fail.
    pub(super) fn lack(&self, end: &'static str) {
        *self.unknown.lock().unwrap() = Some(end);
    }

    pub(super) fn ids(&self) -> Vec<String> {
        let stored = self.stored.lock().unwrap();
        stored.iter().map(|one| one.image.id.clone()).collect()
    }

    fn first(&self) -> Arc<Image> {
        self.stored.lock().unwrap()[0].image.clone()
    }
}

fn image(id: &str, erofs: &Path, config: ImageConfig) -> Image {
    Image {
        id: format!("sha256:{id}"),
        repo_digest: format!("registry.test/library/a@sha256:{id}"),
        erofs: erofs.to_owned(),
        size: 4096,
        config,
        manifest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
    }
}

fn stored(image: Image, unused: u64) -> Stored {
    let day_ago = SystemTime::now() - Duration::from_secs(86_400);
    Stored {
        image: Arc::new(image),
        disk_bytes: 4096,
        made: day_ago,
        used: SystemTime::now() - Duration::from_secs(unused),
    }
}

impl ImageSource for Shelf {
    fn get(&self, reference: &Reference) -> Option<Arc<Image>> {
        let is = |end: &Mutex<Option<&str>>| {
            let end = *end.lock().unwrap();
            end.is_some_and(|end| reference.to_string().ends_with(end))
        };
        (!is(&self.on_the_way) && !is(&self.unknown)).then(|| self.first())
    }

    fn ensure<'a>(
        &'a self,
        reference: &'a Reference,
        _: PullPolicy,
        _: &'a [Credentials],
    ) -> Later<'a, Result<Arc<Image>, PullError>> {
        Box::pin(async move {
            let unknown = *self.unknown.lock().unwrap();
            if unknown.is_some_and(|end| reference.to_string().ends_with(end)) {
                let failure = Failure::new(Kind::NotFound, "not found");
                return Err(PullError::new(reference, Step::Resolve, failure));
            }
            loop {
                match self.get(reference) {
                    Some(image) => return Ok(image),
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
    }

    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        let stored = self.stored.lock().unwrap();
        let named = |one: &Stored| (one.image.clone(), vec![one.image.id.clone()]);
        stored.iter().map(named).collect()
    }

    fn stored(&self) -> Later<'_, io::Result<Vec<Stored>>> {
        Box::pin(async { Ok(self.stored.lock().unwrap().clone()) })
    }

    fn mark_used(&self, ids: Vec<String>, at: SystemTime) -> Later<'_, io::Result<()>> {
        let mut stored = self.stored.lock().unwrap();
        for one in stored.iter_mut().filter(|one| ids.contains(&one.image.id)) {
            one.used = at;
        }
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(&'a self, id: &'a str) -> Later<'a, io::Result<bool>> {
        let mut stored = self.stored.lock().unwrap();
        let before = stored.len();
        stored.retain(|one| one.image.id != id);
        let removed = stored.len() < before;
        Box::pin(async move { Ok(removed) })
    }

    fn prune(&self) -> Later<'_, io::Result<u64>> {
        Box::pin(async { Ok(0) })
    }
}

//! Keeps a cache equal to what the API has: list once, then watch.
//!
//! ```text
//!          listed                 ended, broken (back-off)
//!  List ----------> Watch(version) ---.
//!   ^ ^               |   ^-----------'
//!   | '---------------'
//!   '- failed (back-off)   410, or an event that can't be understood
//! ```
//! `Course` decides, `Reflector` acts. Handlers are called in the order of
//! changes, from the reflector's task: they must not block.

use crate::backoff::{Backoff, random};
use crate::cache::{Cache, Change, Seen};
use crate::client::Client;
use crate::error::ClientError;
use crate::resource::{ListOptions, ObjectKey, Resource, WatchOptions};
use crate::watch::WatchEvent;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(30),
};
/// A watch that lives shorter counts as failed when it ends, in order or not.
const SHORT: Duration = Duration::from_secs(1);
/// After how long the server is asked to end a watch: this to twice this.
const WATCH_SECONDS: f64 = 300.0;
const PAGE: u32 = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    List,
    Watch(String),
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    InOrder,
    Broken,
    /// What was missed can't be had any more.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) step: Step,
    failures: u32,
}

impl Course {
    pub(crate) fn new() -> Course {
        Course {
            step: Step::List,
            failures: 0,
        }
    }

    pub(crate) fn listed(&mut self, version: String) {
        self.step = Step::Watch(version);
    }

    pub(crate) fn list_failed(&mut self, random: f64) -> Duration {
        self.step = Step::List;
        self.failures = self.failures.saturating_add(1);
        BACKOFF.delay(self.failures, random)
    }

    /// An event was taken over.
    pub(crate) fn seen(&mut self, version: &str) {
        if let Step::Watch(current) = &mut self.step
            && !version.is_empty()
        {
            version.clone_into(current);
        }
    }

    /// How long to wait before the next step.
    pub(crate) fn ended(&mut self, end: End, lived: Duration, random: f64) -> Duration {
        let failed = end != End::InOrder || lived < SHORT;
        // A watch that worked for a while ends a row of failures.
        let before = if lived < SHORT { self.failures } else { 0 };
        self.failures = if failed { before.saturating_add(1) } else { 0 };
        if end == End::Lost {
            self.step = Step::List;
        }
        BACKOFF.delay(self.failures, random)
    }
}

type Handler<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

pub struct Reflector<T> {
    client: Client,
    resource: Resource,
    namespace: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
    cache: Cache<T>,
    handlers: Vec<Handler<T>>,
}

impl<T: DeserializeOwned + Send + Sync> Reflector<T> {
    pub fn new(client: Client, resource: Resource) -> Reflector<T> {
        Reflector {
            client,
            resource,
            namespace: None,
            labels: None,
            fields: None,
            cache: Cache::default(),
            handlers: Vec::new(),
        }
    }

    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Reflector {
            namespace: Some(namespace.into()),
            ..self
        }
    }

    pub fn label_selector(self, selector: impl Into<String>) -> Self {
        Reflector {
            labels: Some(selector.into()),
            ..self
        }
    }

    pub fn field_selector(self, selector: impl Into<String>) -> Self {
        Reflector {
            fields: Some(selector.into()),
            ..self
        }
    }

    pub fn on_change(mut self, handler: impl Fn(&Change<T>) + Send + Sync + 'static) -> Self {
        self.handlers.push(Box::new(handler));
        self
    }

    pub fn cache(&self) -> Cache<T> {
        self.cache.clone()
    }

    /// For ever; ends by being dropped.
    pub async fn run(self) {
        let mut course = Course::new();
        loop {
            let pause = match course.step.clone() {
                Step::List => match self.list().await {
                    Ok(version) => {
                        course.listed(version);
                        self.cache.set_synced();
                        Duration::ZERO
                    }
                    Err(error) => {
                        log::warn!("{error}");
                        course.list_failed(random())
                    }
                },
                Step::Watch(version) => {
                    let begun = Instant::now();
                    let end = match self.watch(version, &mut course).await {
                        Ok(()) => End::InOrder,
                        Err(error) => {
                            log::debug!("{error}");
                            end_of(&error)
                        }
                    };
                    course.ended(end, begun.elapsed(), random())
                }
            };
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn list(&self) -> Result<String, ClientError> {
        let options = ListOptions {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            ..ListOptions::default()
        };
        let list = self
            .client
            .list_all(&self.resource, self.namespace.as_deref(), &options);
        let list = list.await?;
        let items = list
            .items
            .into_iter()
            .filter_map(|item| self.decode(item))
            .collect();
        for change in self.cache.replace(items) {
            self.tell(&change);
        }
        Ok(list.resource_version)
    }

    async fn watch(&self, version: String, course: &mut Course) -> Result<(), ClientError> {
        let options = WatchOptions {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            resource_version: Some(version),
            bookmarks: true,
            initial_events: false,
            timeout_seconds: Some((WATCH_SECONDS * (1.0 + random())) as u32),
        };
        let watch = self
            .client
            .watch(&self.resource, self.namespace.as_deref(), &options);
        let mut watch = watch.await?;
        while let Some(event) = watch.next().await? {
            match event {
                WatchEvent::Bookmark {
                    resource_version, ..
                } => course.seen(&resource_version),
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    course.seen(version_of(&object));
                    self.store(object);
                }
                WatchEvent::Deleted(object) => {
                    course.seen(version_of(&object));
                    self.drop(&object);
                }
            }
        }
        Ok(())
    }

    fn store(&self, object: Value) {
        let key = ObjectKey::of(&object);
        let change = match (self.decode(object), key) {
            (Some((key, seen)), _) => self.cache.put(key, seen),
            // Better absent than as it once was.
            (None, Some(key)) => self.cache.remove(&key),
            (None, None) => None,
        };
        change.iter().for_each(|change| self.tell(change));
    }

    fn drop(&self, object: &Value) {
        let change = ObjectKey::of(object).and_then(|key| self.cache.remove(&key));
        change.iter().for_each(|change| self.tell(change));
    }

    fn tell(&self, change: &Change<T>) {
        self.handlers.iter().for_each(|handler| handler(change));
    }

    fn decode(&self, object: Value) -> Option<(ObjectKey, Seen<T>)> {
        let key = ObjectKey::of(&object)?;
        let version = version_of(&object).to_owned();
        match serde_json::from_value(object) {
            Ok(object) => Some((
                key,
                Seen {
                    version,
                    object: Arc::new(object),
                },
            )),
            Err(error) => {
                log::warn!("{} {key}: {error}", self.resource);
                None
            }
        }
    }
}

fn version_of(object: &Value) -> &str {
    let metadata = object.get("metadata");
    metadata
        .and_then(|m| m.get("resourceVersion"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn end_of(error: &ClientError) -> End {
    match error {
        _ if error.is_gone() => End::Lost,
        // An event may be missing.
        ClientError::Malformed { .. } => End::Lost,
        ClientError::Api { .. }
        | ClientError::Transport { .. }
        | ClientError::Timeout { .. }
        | ClientError::Incomplete { .. } => End::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_lists_again_only_when_history_is_lost() {
        let long = Duration::from_secs(60);
        let short = Duration::from_millis(1);
        let watch = |version: &str| Step::Watch(version.to_owned());
        for (end, lived, step, pause) in [
            (End::InOrder, long, watch("8"), 0),
            (End::InOrder, short, watch("8"), 200),
            (End::Broken, long, watch("8"), 200),
            (End::Broken, short, watch("8"), 200),
            (End::Lost, long, Step::List, 200),
        ] {
            let mut course = Course::new();
            course.listed("7".into());
            course.seen("8");
            course.seen("");
            assert_eq!(
                course.ended(end, lived, 1.0).as_millis(),
                pause,
                "{end:?} {lived:?}"
            );
            assert_eq!(course.step, step, "{end:?}");
        }
        let mut course = Course::new();
        let delays: Vec<_> = (0..3)
            .map(|_| course.list_failed(1.0).as_millis())
            .collect();
        assert_eq!(delays, [200, 400, 800]);
        course.listed("1".into());
        assert_eq!(
            course.ended(End::Broken, short, 1.0).as_millis(),
            1600,
            "a row goes on"
        );
        assert_eq!(course.ended(End::InOrder, long, 1.0).as_millis(), 0);
    }
}

//! What turns keys into writes: workers on a queue, and the writes themselves.
//!
//! A controller decides in a pure `plan(key, view) -> writes`; this carries
//! them out in order, stops at the first failure, and has the key come again.

use crate::client::{Client, DeleteOptions, Patch};
use crate::error::ClientError;
use crate::queue::{Finish, Queue};
use crate::resource::Resource;
use futures_util::future::join_all;
use serde_json::Value;
use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

/// One object's place.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub resource: Resource,
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create {
        resource: Resource,
        namespace: Option<String>,
        object: Value,
    },
    Update {
        resource: Resource,
        namespace: Option<String>,
        object: Value,
    },
    UpdateStatus {
        resource: Resource,
        namespace: Option<String>,
        object: Value,
    },
    Patch {
        target: Target,
        subresource: Option<&'static str>,
        patch: Patch,
    },
    Delete {
        target: Target,
        options: DeleteOptions,
    },
    CreateSubresource {
        target: Target,
        subresource: &'static str,
        object: Value,
    },
    UpdateSubresource {
        resource: Resource,
        namespace: Option<String>,
        subresource: &'static str,
        object: Value,
    },
}

impl Client {
    pub async fn write(&self, write: &Write) -> Result<Value, ClientError> {
        match write {
            Write::Create {
                resource,
                namespace,
                object,
            } => self.create(resource, namespace.as_deref(), object).await,
            Write::Update {
                resource,
                namespace,
                object,
            } => self.update(resource, namespace.as_deref(), object).await,
            Write::UpdateStatus {
                resource,
                namespace,
                object,
            } => {
                self.update_status(resource, namespace.as_deref(), object)
                    .await
            }
            Write::Patch {
                target: t,
                subresource,
                patch,
            } => {
                self.patch(
                    &t.resource,
                    t.namespace.as_deref(),
                    &t.name,
                    *subresource,
                    patch,
                )
                .await
            }
            Write::Delete { target: t, options } => {
                self.delete(&t.resource, t.namespace.as_deref(), &t.name, options)
                    .await
            }
            Write::CreateSubresource {
                target: t,
                subresource,
                object,
            } => {
                let namespace = t.namespace.as_deref();
                self.create_subresource(&t.resource, namespace, &t.name, subresource, object)
                    .await
            }
            Write::UpdateSubresource {
                resource,
                namespace,
                subresource,
                object,
            } => {
                let namespace = namespace.as_deref();
                self.update_subresource(resource, namespace, subresource, object)
                    .await
            }
        }
    }
}

/// When to look at a key again though nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    Never,
    After(Duration),
}

/// Runs `workers` workers for ever; ends by being dropped. A failed key comes
/// again with the queue's back-off. Conflicts are no news: they are logged
/// where debugging is on.
pub async fn work<K, F, R>(name: &str, queue: &Queue<K>, workers: usize, reconcile: F)
where
    K: Clone + Eq + Hash + Ord + Display,
    F: Fn(K) -> R,
    R: Future<Output = Result<Requeue, ClientError>>,
{
    let worker = || async {
        loop {
            let key = queue.next().await;
            let finish = match reconcile(key.clone()).await {
                Ok(Requeue::Never) => Finish::Done,
                Ok(Requeue::After(delay)) => Finish::After(delay),
                Err(error) => {
                    let level = match error.is_conflict() {
                        true => log::Level::Debug,
                        false => log::Level::Warn,
                    };
                    log::log!(level, "{name}: {key}: {error}");
                    match error.retry_after() {
                        Some(delay) => Finish::After(delay),
                        None => Finish::Failed,
                    }
                }
            };
            queue.finish(&key, finish);
        }
    };
    join_all((0..workers).map(|_| worker())).await;
}

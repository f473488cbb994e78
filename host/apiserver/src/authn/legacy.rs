//! Secrets of type `kubernetes.io/service-account-token`: whoever makes one
//! asks for a token without an end, and gets it filled in; one whose account
//! is gone is removed (upstream's tokens controller).

use super::Authenticator;
use super::account::{Named, legacy_claims};
use crate::lookup;
use crate::registry::{self, Along, Written};
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use store::{EventKind, KeyValue, Range, Store, StoreError};
use tokio::sync::watch;

const PREFIX: &str = "/registry/core/secrets/";
const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const PAUSE: Duration = Duration::from_secs(1);

/// Fills Secrets until `shutdown` turns true.
pub(crate) struct Filler {
    pub(crate) store: Store,
    pub(crate) authenticator: Arc<Authenticator>,
    /// PEM of the CA that vouches for this server.
    pub(crate) ca: String,
}

impl Filler {
    pub(crate) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                outcome = self.follow() => match outcome {
                    Err(StoreError::Stopped) => return,
                    Err(e) => log::warn!("watching for token Secrets: {e}"),
                    Ok(never) => match never {},
                },
                _ = shutdown.wait_for(|down| *down) => return,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self) -> Result<std::convert::Infallible, StoreError> {
        let found = self.store.range(&Range::prefix(PREFIX))?;
        for kv in found.items {
            self.settle(kv).await;
        }
        let start = Bytes::from_static(PREFIX.as_bytes());
        let end = store::prefix_end(&start);
        let mut watch = self.store.watch(start, end, found.revision)?;
        loop {
            for event in watch.next().await? {
                if event.kind == EventKind::Put {
                    self.settle(event.current).await;
                }
            }
        }
    }

    async fn settle(&self, kv: KeyValue) {
        // Few Secrets are of the type: look before decoding.
        let needle = TYPE.as_bytes();
        if !kv.value.windows(needle.len()).any(|w| w == needle) {
            return;
        }
        if let Err(e) = self.fill(&kv).await {
            log::warn!(
                "token Secret {}: {}",
                String::from_utf8_lossy(&kv.key),
                e.message
            );
        }
    }

    async fn fill(&self, kv: &KeyValue) -> Result<(), Status> {
        let kind = kinds::by_resource("", "v1", "secrets").ok_or_else(Status::no_such_path)?;
        let secret = registry::decode(&kind, &kv.value, kv.mod_revision)?;
        if meta::text(&secret, &["type"]) != TYPE || meta::is_deleting(&secret) {
            return Ok(());
        }
        let namespace = meta::namespace(&secret);
        let name = meta::text(&secret, &["metadata", "annotations", NAME]);
        let uid = meta::text(&secret, &["metadata", "annotations", UID]);
        let account = match lookup::object(&self.store, ("", "serviceaccounts"), namespace, name) {
            Ok(account) if uid.is_empty() || uid == meta::uid(&account) => Named::of(&account),
            Ok(_) => return self.remove(kv).await,
            Err(status) if status.code == 404 => return self.remove(kv).await,
            Err(status) => return Err(status),
        };
        match self.filled(&secret, &account)? {
            Some(next) => self.write(&kind, kv, &next).await,
            None => Ok(()),
        }
    }

    /// The Secret with what it lacks; `None` if it lacks nothing.
    fn filled(&self, secret: &Value, account: &Named) -> Result<Option<Value>, Status> {
        let mut next = secret.clone();
        let namespace = meta::namespace(secret);
        let has = |key: &str| !meta::text(secret, &["data", key]).is_empty();
        let mut set = |key: &str, text: &str| {
            meta::ensure(&mut next, "data").insert(key.to_owned(), STANDARD.encode(text).into());
        };
        if !has("token") {
            let claims = legacy_claims(namespace, account, meta::name(secret));
            set("token", &self.authenticator.keys.sign(&claims)?);
        }
        if !has("ca.crt") {
            set("ca.crt", &self.ca);
        }
        if !has("namespace") {
            set("namespace", namespace);
        }
        next["metadata"]["annotations"][UID] = account.uid.clone().into();
        Ok((next != *secret).then_some(next))
    }

    async fn write(&self, kind: &KindRef, kv: &KeyValue, next: &Value) -> Result<(), Status> {
        let value = registry::encode(kind, next)?;
        let written = registry::update(
            &self.store,
            kv.key.clone(),
            value,
            kv.mod_revision,
            Along::default(),
        )
        .await?;
        // Somebody wrote it meanwhile: the watch brings it again.
        match written {
            Written::At(_) | Written::Lost(_) => Ok(()),
        }
    }

    async fn remove(&self, kv: &KeyValue) -> Result<(), Status> {
        registry::remove(
            &self.store,
            kv.key.clone(),
            kv.mod_revision,
            Along::default(),
        )
        .await
        .map(drop)
    }
}

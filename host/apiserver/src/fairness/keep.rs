//! Keeps the objects of flow control that every cluster has
//! (`apiserver/pkg/registry/flowcontrol/ensurer`): what is missing comes back
//! at once; mandatory ones are as they have to be, suggested ones as long as
//! their annotation asks for it. Each schema says whether its level is missing.

use super::config::PREFIX;
use super::dangling;
use crate::listen::ended;
use crate::registry::{self, Along};
use crate::rest::create::ensure;
use api::kinds::{self, KindRef};
use api::meta;
use api::status::Status;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;
use store::Store;
use tokio::sync::watch;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];
const PAUSE: Duration = Duration::from_secs(60);
/// For several changes at once.
const SETTLE: Duration = Duration::from_millis(100);

pub(crate) async fn run(store: Store, mut shutdown: watch::Receiver<bool>) {
    let start = Bytes::from_static(PREFIX.as_bytes());
    loop {
        // From before what is done now: what comes meanwhile isn't missed.
        let (from, end) = (store.revision(), store::prefix_end(&start));
        let watch = store.watch(start.clone(), end, from);
        pass(&store).await;
        let change = async move {
            match watch {
                // Whatever it is, it is looked for anew.
                Ok(mut watch) => drop(watch.next().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(PAUSE, change) => {}
            () = ended(&mut shutdown) => return,
        }
        tokio::time::sleep(SETTLE).await;
    }
}

async fn pass(store: &Store) {
    for (kind, wanted) in kinds::initial_objects() {
        if kind.group() == GROUP
            && let Err(status) = one(store, &kind, wanted).await
        {
            log::warn!("flow control: {}", status.message);
        }
    }
    if let Err(status) = dangling::settle(store, Timestamp::now()).await {
        log::warn!("flow schemas: {}", status.message);
    }
}

async fn one(store: &Store, kind: &KindRef, mut wanted: Value) -> Result<(), Status> {
    kind.default(&mut wanted);
    let name = meta::name(&wanted).to_owned();
    let found = match registry::get(store, kind, "", &name) {
        Err(status) if status.code == 404 => return ensure(store, kind, wanted).await,
        found => found?,
    };
    let Some(next) = kept(&found.object, &wanted) else {
        return Ok(());
    };
    let (key, value) = (
        registry::key(kind, "", &name),
        registry::encode(kind, &next)?,
    );
    // Whoever was faster is looked at again next time.
    let along = Along::default();
    registry::update(store, key, value, found.revision, along).await?;
    Ok(())
}

/// The object as it has to be, if it isn't. Pure.
fn kept(found: &Value, wanted: &Value) -> Option<Value> {
    let generation = meta::int(found, &["metadata", "generation"]).unwrap_or(1);
    let asks = match meta::text(found, &["metadata", "annotations", AUTO_UPDATE]) {
        "true" => true,
        // Nobody has changed it.
        "" => generation == 1,
        _ => false,
    };
    let owned = MANDATORY.contains(&meta::name(wanted)) || asks;
    if !owned || found["spec"] == wanted["spec"] {
        return None;
    }
    let mut next = found.clone();
    next["spec"] = wanted["spec"].clone();
    next["metadata"]["generation"] = generation.saturating_add(1).into();
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // Table: name, annotation, generation; whether its spec is set right.
    #[test]
    fn mandatory_objects_and_those_that_ask_are_kept() {
        for (name, annotation, generation, set) in [
            ("exempt", "false", 3, true),
            ("catch-all", "", 3, true),
            ("system", "true", 3, true),
            ("system", "", 1, true),
            ("system", "", 2, false),
            ("system", "false", 1, false),
        ] {
            let object = |spec: &str| {
                json!({"metadata": {"name": name, "generation": generation,
                    "annotations": {AUTO_UPDATE: annotation}}, "spec": spec})
            };
            let case = (name, annotation, generation);
            let next = kept(&object("changed"), &object("wanted"));
            let spec = next.as_ref().map(|n| &n["spec"]);
            assert_eq!(spec, set.then_some(&json!("wanted")), "{case:?}");
            assert_eq!(kept(&object("wanted"), &object("wanted")), None, "{case:?}");
        }
    }
}

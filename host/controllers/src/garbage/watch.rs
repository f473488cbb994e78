//! One resource's objects, as far as the graph wants to know them.

use super::Seen;
use super::graph::{Class, FOREGROUND, ORPHAN, Object, Owner};
use api::pick::{Paths, pick};
use reconcile::{Backoff, Client, ClientError, ObjectKey, WatchOptions};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(30),
};

/// Watches for ever, each time from what there is.
pub(super) async fn run(client: Client, class: Arc<Class>, sender: mpsc::Sender<Seen>) {
    let mut failures = 0;
    loop {
        match follow(&client, &class, &sender).await {
            Ok(()) => failures = 0,
            Err(error) => {
                log::debug!("garbage collection: {error}");
                failures += 1;
            }
        }
        if sender.is_closed() {
            return;
        }
        tokio::time::sleep(BACKOFF.delay(failures, reconcile::random())).await;
    }
}

async fn follow(
    client: &Client,
    class: &Arc<Class>,
    sender: &mpsc::Sender<Seen>,
) -> Result<(), ClientError> {
    let options = WatchOptions {
        bookmarks: true,
        initial_events: true,
        ..WatchOptions::default()
    };
    let paths = paths();
    let mut stream = client.watch(&class.resource, None, &options).await?;
    let mut there = Some(HashSet::new());
    while let Some(line) = stream.next_line().await? {
        let Some(event) = pick(&line, &paths) else {
            continue;
        };
        let object = &event["object"];
        let seen = match event["type"].as_str() {
            Some("BOOKMARK") => match there.take() {
                Some(there) => Seen::Synced(class.clone(), there),
                None => continue,
            },
            Some("DELETED") => match object["metadata"]["uid"].as_str() {
                Some(uid) => Seen::Gone(uid.into()),
                None => continue,
            },
            // The server gives up on this watch.
            Some("ERROR") | None => return Ok(()),
            Some(_) => match read(class, object) {
                Some(object) => {
                    if let Some(there) = &mut there {
                        there.insert(object.uid.clone());
                    }
                    Seen::Object(object)
                }
                None => continue,
            },
        };
        if sender.send(seen).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn paths() -> Paths {
    let mut paths = Paths::default();
    paths.add(&["type"]);
    for member in [
        "name",
        "namespace",
        "uid",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
    ] {
        paths.add(&["object", "metadata", member]);
    }
    paths
}

/// `None` for what has no name or UID.
pub(super) fn read(class: &Arc<Class>, object: &Value) -> Option<Object> {
    let metadata = &object["metadata"];
    let owners = metadata["ownerReferences"].as_array();
    let owner = |owner: &Value| {
        let text = |key: &str| owner[key].as_str().unwrap_or_default().to_owned();
        Owner {
            uid: text("uid").into(),
            api_version: text("apiVersion"),
            kind: text("kind"),
            name: text("name"),
            blocking: owner["blockOwnerDeletion"] == true,
        }
    };
    let finalizers = metadata["finalizers"].as_array();
    let held = |by: &str| finalizers.into_iter().flatten().any(|f| f == by);
    Some(Object {
        class: class.clone(),
        key: ObjectKey::of(object)?,
        uid: metadata["uid"].as_str()?.into(),
        owners: owners.into_iter().flatten().map(owner).collect(),
        deleting: metadata["deletionTimestamp"].is_string(),
        orphan: held(ORPHAN),
        foreground: held(FOREGROUND),
    })
}

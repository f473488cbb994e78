//! Events about objects, told to the API and counted when they repeat.
//!
//! One task writes them in order. At most 256 wait: what comes then is dropped
//! and logged, for an Event must never hold a pod back. Of what was told, the
//! last 512 are remembered.

use crate::pod::Pod;
use crate::pod::observed::Note;
use crate::pod::view::View;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use reconcile::resource::core::EVENTS;
use reconcile::{Client, Patch};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;

const REMEMBERED: usize = 512;
const COMPONENT: &str = "atoll-node";

/// A handle to the task.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::Sender<Told>,
}

struct Told {
    about: ObjectReference,
    note: Note,
    at: Timestamp,
}

impl Events {
    pub(crate) fn start(client: Client, node: String) -> Self {
        let (sender, receiver) = mpsc::channel(256);
        let recorder = Recorder {
            client,
            node,
            seen: HashMap::new(),
            order: VecDeque::new(),
        };
        tokio::spawn(recorder.run(receiver));
        Self { sender }
    }

    pub(crate) fn about_pod(&self, pod: &Pod, note: Note, at: Timestamp) {
        let view = View(pod);
        let about = ObjectReference {
            kind: Some("Pod".to_owned()),
            api_version: Some("v1".to_owned()),
            namespace: Some(view.namespace().to_owned()),
            name: Some(view.name().to_owned()),
            uid: Some(view.uid().to_owned()),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: note.field_path.clone(),
        };
        self.tell(about, note, at);
    }

    pub(crate) fn about_node(&self, name: &str, note: Note, at: Timestamp) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.tell(about, note, at);
    }

    fn tell(&self, about: ObjectReference, note: Note, at: Timestamp) {
        if let Err(error) = self.sender.try_send(Told { about, note, at }) {
            log::warn!("an event was dropped: {error}");
        }
    }
}

/// What makes two events the same.
type Key = (String, Option<String>, &'static str, String);

struct Recorder {
    client: Client,
    node: String,
    seen: HashMap<Key, (String, i64)>,
    order: VecDeque<Key>,
}

impl Recorder {
    async fn run(mut self, mut receiver: mpsc::Receiver<Told>) {
        while let Some(told) = receiver.recv().await {
            self.write(told).await;
        }
    }

    async fn write(&mut self, told: Told) {
        let uid = told.about.uid.clone().unwrap_or_default();
        let path = told.about.field_path.clone();
        let key = (uid, path, told.note.reason, told.note.message.clone());
        let namespace = told
            .about
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        if let Some((name, count)) = self.seen.get_mut(&key) {
            *count += 1;
            let patch = Patch::Merge(json!({
                "count": *count,
                "lastTimestamp": seconds(told.at),
            }));
            let patched = self
                .client
                .patch(&EVENTS, Some(&namespace), name, None, &patch)
                .await;
            match patched {
                Ok(_) => return,
                // It expired, or its namespace is gone.
                Err(error) if error.is_not_found() => {}
                Err(error) => return log::warn!("event: {error}"),
            }
        }
        let object = event(&told, &self.node, &namespace);
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match self.client.create(&EVENTS, Some(&namespace), &object).await {
            Ok(_) => self.remember(key, name),
            Err(error) => log::warn!("event {} {}: {error}", told.note.reason, told.note.message),
        }
    }

    fn remember(&mut self, key: Key, name: String) {
        if self.seen.insert(key.clone(), (name, 1)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }
}

fn event(told: &Told, node: &str, namespace: &str) -> Value {
    let at = seconds(told.at);
    let about = told.about.name.as_deref().unwrap_or_default();
    // As upstream's recorder names them: unique by the time.
    let nanos = u64::try_from(told.at.as_nanosecond()).unwrap_or_default();
    let unique = uuid::Uuid::new_v4().as_u128() as u16;
    let mut metadata =
        json!({"name": format!("{about}.{nanos:x}{unique:04x}"), "namespace": namespace});
    if !told.note.annotations.is_empty() {
        metadata["annotations"] = json!(told.note.annotations);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": metadata,
        "involvedObject": told.about,
        "type": if told.note.warning { "Warning" } else { "Normal" },
        "reason": told.note.reason,
        "message": told.note.message,
        "count": 1,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    })
}

fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

//! Creates a pod and says when a watcher saw what, by the clock of the machine
//! that it runs on. For measurements; not part of the image.
//!
//! ```text
//! pod_start MANIFEST [keep] < KUBECONFIG
//! ```
//!
//! MANIFEST is a pod as JSON, in namespace `default`. One JSON document goes to
//! standard output: microseconds since the request was sent. Unless told to
//! keep it, the pod is then
//! deleted, and the program ends when it is gone.

use reconcile::resource::core::PODS;
use reconcile::{Client, DeleteOptions, Kubeconfig, TlsTransport, WatchEvent, WatchOptions};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMESPACE: Option<&str> = Some("default");
const PATIENCE: Duration = Duration::from_secs(90);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What has happened to the pod, by what its object says.
fn reached(pod: &Value) -> Vec<&'static str> {
    let status = &pod["status"];
    let waiting = &status["containerStatuses"][0]["state"]["waiting"];
    let facts = [
        ("added", true),
        ("bound", pod["spec"]["nodeName"].is_string()),
        ("creating", waiting.is_object()),
        ("running", status["phase"] == "Running"),
    ];
    let true_ones = facts.into_iter().filter(|(_, is)| *is);
    true_ones.map(|(name, _)| name).collect()
}

async fn start(client: &Client, pod: &Value) -> Result<Map<String, Value>> {
    // Also makes the connection, which all requests share.
    let before = client.list(&PODS, NAMESPACE, &Default::default()).await?;
    let options = WatchOptions {
        resource_version: Some(before.resource_version),
        ..WatchOptions::default()
    };
    let mut watch = client.watch(&PODS, NAMESPACE, &options).await?;
    let name = pod["metadata"]["name"].as_str().ok_or("no name")?;
    let began = Instant::now();
    let mut times = Map::new();
    let mut accepted = std::pin::pin!(async {
        let created = client.create(&PODS, NAMESPACE, pod).await;
        (created, began.elapsed())
    });
    let mut answered = false;
    loop {
        let event = tokio::select! {
            biased;
            (created, elapsed) = &mut accepted, if !answered => {
                created?;
                answered = true;
                times.insert("accepted".to_owned(), micros(elapsed));
                continue;
            }
            event = watch.next() => event?.ok_or("the watch ended")?,
        };
        let seen = micros(began.elapsed());
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
            if object["metadata"]["name"] != name {
                continue;
            }
            for fact in reached(&object) {
                times.entry(fact).or_insert(seen.clone());
            }
        }
        if answered && times.contains_key("running") {
            return Ok(times);
        }
    }
}

fn micros(elapsed: Duration) -> Value {
    json!(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

async fn gone(client: &Client, name: &str) -> Result<()> {
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    client.delete(&PODS, NAMESPACE, name, &now).await?;
    loop {
        match client.get(&PODS, NAMESPACE, name).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn run() -> Result<()> {
    let manifest = std::env::args().nth(1).ok_or("MANIFEST is missing")?;
    let pod: Value = serde_json::from_str(&manifest)?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let config = Kubeconfig::parse(&text, Path::new("/"))?;
    let client = Client::new(Arc::new(TlsTransport::new(&config)?));
    let times = tokio::time::timeout(PATIENCE, start(&client, &pod)).await??;
    println!("{}", Value::Object(times));
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if std::env::args().nth(2).as_deref() != Some("keep") {
        tokio::time::timeout(PATIENCE, gone(&client, name)).await??;
    }
    Ok(())
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(run()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod_start: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Events go an hour after they last occurred. Upstream has etcd forget them;
//! the store knows no kinds, so it is done here, in sweeps.

use crate::Config;
use api::time::parse;
use jiff::Timestamp;
use reconcile::resource::core::EVENTS;
use reconcile::{Cache, Client, DeleteOptions, Target, Write};
use serde::Deserialize;
use std::time::Duration;

const SWEEP: Duration = Duration::from_secs(60);
/// Deletions of one sweep; the rest waits for the next.
const MOST: usize = 1000;

/// Of an Event only when it occurred.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Stamp {
    metadata: Metadata,
    last_timestamp: Option<String>,
    event_time: Option<String>,
    series: Option<Series>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: Option<String>,
    creation_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    last_observed_time: Option<String>,
}

impl Stamp {
    fn last(&self) -> Option<Timestamp> {
        let series = self
            .series
            .as_ref()
            .and_then(|s| s.last_observed_time.as_deref());
        let times = [
            self.metadata.creation_timestamp.as_deref(),
            self.last_timestamp.as_deref(),
            self.event_time.as_deref(),
            series,
        ];
        times.into_iter().flatten().filter_map(parse).max()
    }
}

/// Deletions of what is older than `ttl`. What has no time at all stays.
pub(crate) fn plan<'a>(
    events: impl Iterator<Item = &'a Stamp>,
    ttl: Duration,
    now: Timestamp,
) -> Vec<Write> {
    let old = |event: &&Stamp| {
        let age = event.last().map(|last| now.duration_since(last));
        age.and_then(|age| Duration::try_from(age).ok())
            .is_some_and(|age| age > ttl)
    };
    let delete = |event: &Stamp| Write::Delete {
        target: Target {
            resource: EVENTS,
            namespace: Some(event.metadata.namespace.clone()),
            name: event.metadata.name.clone(),
        },
        options: DeleteOptions {
            uid: event.metadata.uid.clone(),
            ..DeleteOptions::default()
        },
    };
    events.filter(old).take(MOST).map(delete).collect()
}

pub(crate) async fn run(client: &Client, config: &Config, events: &Cache<Stamp>) {
    events.synced().await;
    loop {
        let seen = events.list();
        for write in plan(
            seen.iter().map(|e| &**e),
            config.event_ttl,
            Timestamp::now(),
        ) {
            match client.write(&write).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    log::warn!("event TTL: {error}");
                    break;
                }
            }
        }
        tokio::time::sleep(SWEEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_go_after_their_last_occurrence() {
        let now = parse("2026-01-01T12:00:00Z").expect("a time");
        for (event, deleted) in [
            (
                json!({"metadata": {"creationTimestamp": "2026-01-01T10:59:59Z"}}),
                true,
            ),
            (
                json!({"metadata": {"creationTimestamp": "2026-01-01T11:00:01Z"}}),
                false,
            ),
            (
                json!({"metadata": {"creationTimestamp": "2026-01-01T01:00:00Z"},
                    "lastTimestamp": "2026-01-01T11:30:00Z"}),
                false,
            ),
            (
                json!({"metadata": {"creationTimestamp": "2026-01-01T01:00:00Z"},
                    "eventTime": "2026-01-01T01:00:00.000000Z",
                    "series": {"lastObservedTime": "2026-01-01T11:30:00.000000Z"}}),
                false,
            ),
            (
                json!({"metadata": {"creationTimestamp": "2027-01-01T01:00:00Z"}}),
                false,
            ),
            (json!({}), false),
        ] {
            let stamp: Stamp = serde_json::from_value(event.clone()).expect("a fixture");
            let writes = plan([stamp].iter(), Duration::from_secs(3600), now);
            assert_eq!(writes.len(), usize::from(deleted), "{event}");
        }
    }
}

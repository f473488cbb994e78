//! Keeps the state as etcd is: connects, watches, connects to the next member.
//!
//! ```text
//! connect -> ask how far etcd is -> watch from the next revision -> apply ...
//!    ^                                 | lost     | compacted by others
//!    +---------------------------------+          v
//!    +------------------------------------- read all anew
//! ```
//! Stops the store when this is not the etcd that it was.

use super::Cluster;
use super::calls::{self, Link};
use super::grpc::{Channel, Replies, Status};
use super::load::{self, Loaded, barrier, load};
use super::proto::{self, EventType, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::plan;
use crate::state::{Commit, State};
use crate::store::Shared;
use crate::types::{Event, EventKind, Revision, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// How long a member takes to begin a watch.
const BEGIN: Duration = Duration::from_secs(10);
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// Commits that one step of freeing takes.
const TRIM: usize = 256;

pub(super) struct Feed {
    cluster: Cluster,
    link: Link,
    channel: watch::Sender<Option<Channel>>,
    reached: watch::Sender<u64>,
    /// Which etcd it is.
    id: u64,
    history_bytes: usize,
    /// Of the server to try next.
    next: usize,
    fragments: Vec<proto::Event>,
}

enum Lost {
    /// Connect anew.
    Connection(Status),
    /// Read anew.
    Compacted,
    /// Nothing helps.
    Other(StoreError),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Lost {
        Lost::Connection(status)
    }
}

impl Feed {
    pub(super) async fn start(
        cluster: Cluster,
        history_bytes: usize,
    ) -> Result<(Feed, Link), StoreError> {
        let mut refused = None;
        for (index, server) in cluster.servers.iter().enumerate() {
            let channel = match Channel::connect(server, &cluster.tls).await {
                Ok(channel) => channel,
                Err(status) => {
                    refused = Some(calls::error(status));
                    continue;
                }
            };
            match load(&channel, &cluster.names).await {
                Ok(loaded) => {
                    let feed = Feed::of(cluster.clone(), channel, loaded, history_bytes, index);
                    let link = feed.link.clone();
                    return Ok((feed, link));
                }
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Etcd { .. })) => {
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or(StoreError::Stopped))
    }

    fn of(
        cluster: Cluster,
        channel: Channel,
        loaded: Loaded,
        history_bytes: usize,
        next: usize,
    ) -> Feed {
        let revision = loaded.state.revision();
        let (channel, channels) = watch::channel(Some(channel));
        let (reached, reaches) = watch::channel(revision.0);
        let link = Link {
            channel: channels,
            reached: reaches,
            shared: Arc::new(Shared::new(loaded.state, revision)),
            names: Arc::new(cluster.names.clone()),
            base: loaded.base,
        };
        Feed {
            cluster,
            link,
            channel,
            reached,
            id: loaded.cluster,
            history_bytes,
            next,
            fragments: Vec::new(),
        }
    }

    /// Until the store stops.
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF[0];
        loop {
            let channel = self.channel.borrow().clone();
            let lost = match channel {
                Some(channel) => self.follow(&channel, &mut backoff).await,
                None => self.connect().await,
            };
            match lost {
                Ok(()) => continue,
                Err(Lost::Compacted) => match self.reload().await {
                    Ok(()) => continue,
                    Err(StoreError::Unavailable { what } | StoreError::Etcd { what }) => {
                        log::warn!("etcd: {what}");
                    }
                    Err(error) => return self.stop(&error),
                },
                Err(Lost::Connection(status)) => log::warn!("etcd: {}", status.message),
                Err(Lost::Other(error)) => return self.stop(&error),
            }
            self.channel.send_replace(None);
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF[1]);
        }
    }

    fn stop(&self, error: &StoreError) {
        log::error!("{error}; the store stops");
        self.link.shared.stop();
    }

    async fn connect(&mut self) -> Result<(), Lost> {
        self.next = (self.next + 1) % self.cluster.servers.len();
        let server = &self.cluster.servers[self.next];
        let channel = Channel::connect(server, &self.cluster.tls).await?;
        self.channel.send_replace(Some(channel));
        Ok(())
    }

    /// Never ends well.
    async fn follow(&mut self, channel: &Channel, backoff: &mut Duration) -> Result<(), Lost> {
        let header = barrier(channel, &self.cluster.names).await?;
        let here = self.link.shared.read().revision();
        self.same(header.cluster_id)?;
        if self.link.ours(header.revision) < here {
            return Err(Lost::Other(StoreError::EtcdChanged {
                what: format!("it went back to revision {} from {here}", header.revision),
            }));
        }
        let (_sender, mut replies) = self.begin(channel, here).await?;
        self.fragments.clear();
        while let Some(reply) = replies.next().await? {
            if reply.created {
                *backoff = BACKOFF[0];
            }
            self.take(reply)?;
        }
        Err(Status::unavailable("the watch ended").into())
    }

    async fn begin(
        &self,
        channel: &Channel,
        after: Revision,
    ) -> Result<(mpsc::Sender<Bytes>, Replies<WatchResponse>), Lost> {
        let all = Bytes::from_static(&[0]);
        let create = WatchCreateRequest {
            key: all.clone(),
            range_end: all,
            start_revision: self.link.theirs(after).max(0) + 1,
            fragment: true,
        };
        let request = WatchRequest {
            create: Some(create),
        };
        let begun = timeout(BEGIN, channel.stream(WATCH, &request)).await;
        let late = |_| Status::unavailable(format!("no watch within {BEGIN:?}"));
        Ok(begun.map_err(late)??)
    }

    fn same(&self, cluster: u64) -> Result<(), Lost> {
        if cluster == self.id {
            return Ok(());
        }
        Err(Lost::Other(StoreError::EtcdChanged {
            what: format!("cluster {cluster:x} instead of {:x}", self.id),
        }))
    }

    fn take(&mut self, reply: WatchResponse) -> Result<(), Lost> {
        self.same(reply.header.unwrap_or_default().cluster_id)?;
        if reply.compact_revision > 0 {
            return Err(Lost::Compacted);
        }
        if reply.canceled {
            return Err(Status::unavailable(reply.cancel_reason).into());
        }
        self.fragments.extend(reply.events);
        // Events of one revision may be in several messages.
        if !reply.fragment {
            let events = std::mem::take(&mut self.fragments);
            self.apply(&events)?;
        }
        Ok(())
    }

    fn apply(&self, events: &[proto::Event]) -> Result<(), Lost> {
        let at = |event: &proto::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let base = &self.cluster.names.base;
        let is_base = |event: &proto::Event| event.kv.as_ref().is_some_and(|kv| kv.key == base);
        if events.iter().any(is_base) {
            return Err(Lost::Other(StoreError::EtcdChanged {
                what: "the base of revisions was written".to_owned(),
            }));
        }
        self.link.shared.with(|state| {
            for events in events.chunk_by(|a, b| at(a) == at(b)) {
                let revision = self.link.ours(at(&events[0]));
                // After a reconnection: what is here already.
                if revision > state.revision() {
                    self.apply_revision(state, revision, events);
                }
            }
            self.link.shared.set_high_water(state.revision());
            self.reached.send_replace(state.revision().0);
        });
        Ok(())
    }

    fn apply_revision(&self, state: &mut State, revision: Revision, events: &[proto::Event]) {
        let event = |event: &proto::Event| self.event(state, revision, event);
        let events: Vec<Event> = events.iter().filter_map(event).collect();
        if events.is_empty() {
            return state.advance(revision);
        }
        state.apply(Commit {
            revision,
            events: events.into(),
            attached: Vec::new(),
        });
        if let Some(revision) = state.compaction_for(self.history_bytes) {
            // It is between what is compacted and the newest.
            let _ = state.compact(revision);
        }
        state.trim(TRIM);
    }

    /// `None` for keys of others.
    fn event(&self, state: &State, revision: Revision, event: &proto::Event) -> Option<Event> {
        let kv = event.kv.as_ref()?;
        let key = kv.key.strip_prefix(&self.cluster.names.prefix[..])?;
        let previous = state.get(key);
        if event.kind == EventType::Delete as i32 {
            return Some(plan::delete(previous?, revision));
        }
        // The known key's buffer is shared by all versions.
        let key = match &previous {
            Some(previous) => previous.key.clone(),
            None => Bytes::copy_from_slice(key),
        };
        Some(Event {
            kind: EventKind::Put,
            current: load::ours(self.link.base, key, kv),
            previous,
        })
    }

    /// What came between is lost: whoever watched has to begin anew.
    async fn reload(&mut self) -> Result<(), StoreError> {
        let Ok(channel) = self.link.channel().await else {
            return Ok(());
        };
        let loaded = load(&channel, &self.cluster.names).await?;
        if loaded.cluster != self.id || loaded.base != self.link.base {
            let what = "another cluster or another base of revisions".to_owned();
            return Err(StoreError::EtcdChanged { what });
        }
        log::warn!("etcd has compacted what was not read yet: watches begin anew");
        let revision = self.link.ours(loaded.revision);
        self.link.shared.with(|state| {
            state.replace(loaded.state);
            self.link.shared.set_high_water(revision);
            self.reached.send_replace(revision.0);
        });
        Ok(())
    }
}

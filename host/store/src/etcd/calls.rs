//! Calls to whichever member the feed is connected to, and what etcd's errors
//! mean here. A request that may have been sent is never sent again.

use super::Names;
use super::grpc::{Channel, Status, UNAVAILABLE};
use super::proto::ResponseHeader;
use crate::store::Shared;
use crate::types::{Revision, StoreError};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// etcd gives up a request itself after 5 seconds and two elections.
const REQUEST: Duration = Duration::from_secs(8);

/// The way to etcd, as the feed keeps it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) channel: watch::Receiver<Option<Channel>>,
    /// The newest revision of the state.
    pub(super) reached: watch::Receiver<u64>,
    pub(super) shared: Arc<Shared>,
    pub(super) names: Arc<Names>,
    pub(super) base: u64,
}

impl Link {
    pub(super) async fn call<T>(&self, path: &str, message: &impl Message) -> Result<T, Status>
    where
        T: Message + Default,
    {
        let deadline = Instant::now() + REQUEST;
        loop {
            let channel = self.connected(deadline).await?;
            match timeout_at(deadline, channel.unary(path, message)).await {
                Ok(Err(status)) if status.unsent && Instant::now() < deadline => {
                    // The feed finds out too; then there is another channel.
                    self.disconnected(deadline).await;
                }
                Ok(done) => return done,
                Err(_) => return Err(Status::unavailable(format!("no answer within {REQUEST:?}"))),
            }
        }
    }

    async fn connected(&self, deadline: Instant) -> Result<Channel, Status> {
        let mut channel = self.channel.clone();
        let there = timeout_at(deadline, channel.wait_for(Option::is_some)).await;
        let found = there
            .ok()
            .and_then(Result::ok)
            .and_then(|found| found.clone());
        found.ok_or_else(|| Status::unavailable("not connected to any member"))
    }

    async fn disconnected(&self, deadline: Instant) {
        let mut channel = self.channel.clone();
        let gone = |channel: &Option<Channel>| channel.as_ref().is_none_or(|c| !c.is_closed());
        let _ = timeout_at(deadline, channel.wait_for(gone)).await;
    }

    pub(super) async fn channel(&self) -> Result<Channel, Status> {
        self.connected(Instant::now() + REQUEST).await
    }

    /// A revision of etcd's as one of ours.
    pub(super) fn ours(&self, revision: i64) -> Revision {
        Revision(self.base.saturating_add(revision.unsigned_abs()))
    }

    /// A revision of ours as etcd's; what no key there can have if it is from
    /// before the base.
    pub(super) fn theirs(&self, revision: Revision) -> i64 {
        match (revision.0, revision.0.checked_sub(self.base)) {
            (0, _) => 0,
            (_, Some(theirs)) if theirs > 0 => i64::try_from(theirs).unwrap_or(-1),
            _ => -1,
        }
    }

    /// Waits until the state has what etcd said that it has.
    pub(super) async fn reach(
        &self,
        header: Option<&ResponseHeader>,
    ) -> Result<Revision, StoreError> {
        let wanted = self.ours(header.map_or(0, |header| header.revision));
        let mut reached = self.reached.clone();
        match timeout(REQUEST, reached.wait_for(|reached| *reached >= wanted.0)).await {
            Ok(Ok(_)) => Ok(wanted),
            Ok(Err(_)) => Err(StoreError::Stopped),
            Err(_) => Err(StoreError::Unavailable {
                what: format!("etcd is at revision {wanted}, which its watch has not shown yet"),
            }),
        }
    }
}

/// What etcd calls its errors (`rpctypes/error.go`), but for leases.
pub(super) fn error(status: Status) -> StoreError {
    let is = |words: &str| status.message.contains(words);
    let max = crate::Limits::default();
    if is("request is too large") {
        // Keys and values alone were within the limit.
        let bytes = max.request_bytes;
        return StoreError::TooLarge { bytes, max: bytes };
    }
    if status.message.starts_with("etcdserver: ") {
        let what = status.message;
        return StoreError::Etcd { what };
    }
    let what = match status.code {
        UNAVAILABLE => status.message,
        code => format!("{} (code {code})", status.message),
    };
    StoreError::Unavailable { what }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::state::State;

    #[tokio::test]
    async fn revisions_are_etcds_above_the_base() {
        let (_channel, channel) = watch::channel(None);
        let (_reached, reached) = watch::channel(0);
        let names = super::super::EtcdOptions {
            servers: vec!["http://localhost:1".into()],
            ..Default::default()
        };
        let link = Link {
            channel,
            reached,
            shared: Arc::new(Shared::new(State::default(), Revision(0))),
            names: Arc::new(names.checked().unwrap().names),
            base: 100,
        };
        for (ours, theirs) in [(0, 0), (1, -1), (100, -1), (101, 1), (150, 50)] {
            assert_eq!(link.theirs(Revision(ours)), theirs, "{ours}");
        }
        assert_eq!(link.ours(7), Revision(107));
    }
}

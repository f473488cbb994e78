//! Old history goes: every `INTERVAL`, what was history an interval ago is
//! given up, as upstream's compactor does. How much memory history takes is
//! bounded by the store itself.

use std::time::Duration;
use store::{Store, StoreError};

/// Upstream's `--etcd-compaction-interval`.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// For ever, or until the store stops.
pub(crate) async fn run(store: Store, interval: Duration) {
    let mut seen = store.revision();
    loop {
        tokio::time::sleep(interval).await;
        let now = store.revision();
        if seen > store.compacted() {
            match store.compact(seen).await {
                Ok(()) => log::debug!("history before revision {seen} is given up"),
                // The store's own bound was faster.
                Err(StoreError::Compacted { .. }) => {}
                Err(StoreError::Stopped) => return,
                Err(error) => log::warn!("compaction: {error}"),
            }
        }
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use store::{Op, Options, Txn};

    #[tokio::test]
    async fn history_lives_for_one_to_two_intervals() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let write = || {
            let (key, value) = ("k".into(), "v".into());
            let then = vec![Op::Put { key, value }];
            store.txn(Txn {
                then,
                ..Txn::default()
            })
        };
        write().await.unwrap();
        let first = store.revision();
        let task = tokio::spawn(run(store.clone(), Duration::from_millis(20)));
        write().await.unwrap();
        for _ in 0..3000 {
            if store.compacted() >= first {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(store.compacted() >= first);
        task.abort();
        store.close().await.unwrap();
    }
}

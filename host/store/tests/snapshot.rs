//! Snapshots as an operator takes them: online, from a handle and from the
//! directory of a running store, and back.

#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::{
    Compare, Op, Options, Outcome, Range, Revision, Snapshot, Store, StoreError, Txn, inspect,
    restore,
};

const WRITERS: usize = 3;

fn put(key: String, value: &str) -> Op {
    Op::Put {
        key: key.into(),
        value: Bytes::from(value.to_owned()),
    }
}

async fn write(store: &Store, compare: Vec<Compare>, then: Vec<Op>) -> Outcome {
    store.txn(Txn { compare, then }).await.unwrap()
}

/// Each writer puts the same value to two keys at once, for ever.
fn writers(store: &Store, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
    let writer = |id: usize| {
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let value = format!("{round}/{}", "x".repeat(3000));
                let pair = [0, 1].map(|half| put(format!("{half}/{id}/{}", round % 50), &value));
                write(&store, vec![], pair.to_vec()).await;
            }
        })
    };
    (0..WRITERS).map(writer).collect()
}

/// Both halves of every pair are of the same transaction.
fn check_pairs(store: &Store) -> usize {
    let read = |prefix: &'static str| store.range(&Range::prefix(prefix)).unwrap().items;
    let (left, right) = (read("0/"), read("1/"));
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left.key[1..], right.key[1..]);
        assert_eq!(left.value, right.value);
        assert_eq!(left.mod_revision, right.mod_revision);
    }
    left.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshots_of_a_busy_store_are_of_one_revision() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: String| dir.path().join(name);
    let options = Options {
        // Checkpoints and log changes go on beside.
        log_bytes: 200_000,
        history_bytes: 100_000,
        ..Options::default()
    };
    let store = Store::open(&place("store".into()), options).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let running = writers(&store, &stop);
    while store.revision() < Revision(500) {
        tokio::task::yield_now().await;
    }
    for round in 0..10 {
        let online = store.snapshot().write(&place(format!("online-{round}")));
        let online = online.unwrap();
        let aside = Snapshot::of_directory(&place("store".into())).unwrap();
        let aside = aside.write(&place(format!("aside-{round}"))).unwrap();
        for (name, taken) in [("online", online), ("aside", aside)] {
            let file = place(format!("{name}-{round}"));
            assert_eq!(inspect(&file).unwrap(), taken);
            let target = place(format!("{name}-{round}.store"));
            let made = restore(&file, &target, 10_000).unwrap();
            assert_eq!(made.revision.0, taken.high_water.0 + 10_000);
            let restored = Store::open(&target, Options::default()).unwrap();
            assert_eq!(2 * check_pairs(&restored) as u64, taken.keys);
            restored.close().await.unwrap();
        }
        let before = store.revision();
        while store.revision() < Revision(before.0 + 50) {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in running {
        writer.await.unwrap();
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_restored_store_repeats_no_revision_and_knows_no_old_watch() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, file) = (
        dir.path().join("old"),
        dir.path().join("new"),
        dir.path().join("file"),
    );
    let store = Store::open(&old, Options::default()).unwrap();
    for key in ["kept", "changed"] {
        write(&store, vec![], vec![put(key.into(), "1")]).await;
    }
    let lease = store.grant(600).await.unwrap().id;
    let (key, value) = (Bytes::from("leased"), Bytes::from("1"));
    write(&store, vec![], vec![Op::PutLeased { key, value, lease }]).await;
    store.snapshot().write(&file).unwrap();
    // What the snapshot doesn't know of.
    for _ in 0..100 {
        write(&store, vec![], vec![put("changed".into(), "2")]).await;
    }
    let seen = store.revision();
    store.close().await.unwrap();

    restore(&file, &new, 1000).unwrap();
    let store = Store::open(&new, Options::default()).unwrap();
    let at = |key: &str, revision| Compare {
        key: Bytes::from(key.to_owned()),
        mod_revision: revision,
    };
    let watch = store.watch(Bytes::new(), Bytes::new(), seen);
    assert!(matches!(watch.err(), Some(StoreError::Compacted { .. })));
    let stale = write(
        &store,
        vec![at("changed", seen)],
        vec![put("changed".into(), "3")],
    )
    .await;
    assert!(matches!(stale, Outcome::Conflict { .. }));
    assert_eq!(store.lease(lease).await.unwrap().keys, ["leased"]);
    // Who read what the snapshot holds may go on.
    let fresh = write(
        &store,
        vec![at("kept", Revision(1))],
        vec![put("kept".into(), "3")],
    )
    .await;
    assert!(matches!(fresh, Outcome::Committed(r) if r > seen));
    store.close().await.unwrap();
}

#[tokio::test]
async fn nothing_that_is_there_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (place, file) = (dir.path().join("store"), dir.path().join("file"));
    let store = Store::open(&place, Options::default()).unwrap();
    write(&store, vec![], vec![put("a".into(), "1")]).await;
    store.snapshot().write(&file).unwrap();
    let before = std::fs::read(&file).unwrap();
    let again = store.snapshot().write(&file);
    assert!(matches!(again, Err(StoreError::Exists { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    store.close().await.unwrap();
    let onto = restore(&file, &place, 1);
    assert!(matches!(onto, Err(StoreError::Exists { .. })));
    let store = Store::open(&place, Options::default()).unwrap();
    assert_eq!(store.revision(), Revision(1));
    store.close().await.unwrap();
}

#[test]
fn a_damaged_snapshot_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let (place, file) = (dir.path().join("store"), dir.path().join("file"));
    std::fs::write(&file, b"no snapshot at all").unwrap();
    let refused = restore(&file, &place, 1);
    assert!(matches!(
        refused,
        Err(StoreError::Damaged { offset: 0, .. })
    ));
    assert!(!place.exists());
}

//! The contract as callers see it, on a real directory.

#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use store::{Compare, EventKind, Op, Options, Outcome, Range, Revision, Store, StoreError, Txn};

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
    }
}

fn delete(key: &str) -> Op {
    Op::Delete {
        key: Bytes::from(key.to_owned()),
    }
}

fn at(key: &str, revision: u64) -> Compare {
    Compare {
        key: Bytes::from(key.to_owned()),
        mod_revision: Revision(revision),
    }
}

async fn apply(store: &Store, compare: Vec<Compare>, then: Vec<Op>) -> Result<u64, Vec<u64>> {
    match store.txn(Txn { compare, then }).await.unwrap() {
        Outcome::Committed(revision) => Ok(revision.0),
        Outcome::Conflict { current, .. } => Err(current
            .iter()
            .map(|kv| kv.as_ref().map_or(0, |kv| kv.mod_revision.0))
            .collect()),
    }
}

#[tokio::test]
async fn transactions_compare_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    type Row = (Vec<Compare>, Vec<Op>, Result<u64, Vec<u64>>);
    let table: Vec<Row> = vec![
        (vec![at("a", 0)], vec![put("a", "1")], Ok(1)),
        (vec![at("a", 0)], vec![put("a", "2")], Err(vec![1])),
        (
            vec![at("a", 1), at("b", 0)],
            vec![put("a", "2"), put("b", "1")],
            Ok(2),
        ),
        (
            vec![at("a", 1), at("b", 0)],
            vec![delete("a")],
            Err(vec![2, 2]),
        ),
        (vec![], vec![delete("absent")], Ok(2)),
        (vec![at("a", 2)], vec![delete("a")], Ok(3)),
        (vec![at("a", 0)], vec![put("a", "3")], Ok(4)),
    ];
    for (compare, then, expected) in table {
        let what = format!("{compare:?} {then:?}");
        assert_eq!(apply(&store, compare, then).await, expected, "{what}");
    }
    let found = store.range(&Range::prefix("")).unwrap();
    let seen: Vec<_> = found
        .items
        .iter()
        .map(|kv| {
            (
                &kv.key[..],
                kv.create_revision.0,
                kv.mod_revision.0,
                kv.version,
            )
        })
        .collect();
    assert_eq!(seen, [(&b"a"[..], 4, 4, 1), (&b"b"[..], 2, 2, 1)]);
}

#[tokio::test]
async fn ranges_page_at_old_revisions() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        apply(&store, vec![], vec![put(key, "old")]).await.unwrap();
    }
    apply(&store, vec![], vec![put("a/1", "new"), delete("a/3")])
        .await
        .unwrap();
    let read = |prefix: &'static str, revision, limit| {
        let range = Range {
            revision,
            limit,
            ..Range::prefix(prefix)
        };
        store.range(&range).map(|found| {
            let items = found.items.iter().map(|kv| {
                let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
                format!("{}={}", text(&kv.key), text(&kv.value))
            });
            (items.collect::<Vec<_>>().join(" "), found.remaining)
        })
    };
    let old = Some(Revision(4));
    assert_eq!(read("a/", None, 0).unwrap(), ("a/1=new a/2=old".into(), 0));
    assert_eq!(
        read("a/", old, 0).unwrap(),
        ("a/1=old a/2=old a/3=old".into(), 0)
    );
    assert_eq!(read("a/", old, 1).unwrap(), ("a/1=old".into(), 2));
    assert_eq!(
        read("", Some(Revision(2)), 0).unwrap(),
        ("a/1=old a/2=old".into(), 0)
    );
    assert!(matches!(
        read("", Some(Revision(6)), 0),
        Err(StoreError::FutureRevision { .. })
    ));
    store.compact(Revision(4)).await.unwrap();
    assert_eq!(read("a/", old, 0).unwrap().1, 0);
    assert!(matches!(
        read("", Some(Revision(3)), 0),
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(
        store.compact(Revision(3)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(
        store.compact(Revision(9)).await,
        Err(StoreError::FutureRevision { .. })
    ));
}

#[tokio::test]
async fn a_watch_sees_whole_revisions_of_its_range_from_the_past_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    apply(&store, vec![], vec![put("a/1", "1")]).await.unwrap();
    apply(&store, vec![], vec![put("a/2", "1"), put("b/1", "1")])
        .await
        .unwrap();
    let (start, end) = (Bytes::from("a/"), store::prefix_end(b"a/"));
    let mut watch = store.watch(start, end, Revision(1)).unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].current.key, "a/2");
    apply(&store, vec![], vec![put("b/2", "1")]).await.unwrap();
    assert_eq!(watch.progress(), Revision(3));
    apply(&store, vec![], vec![delete("a/1"), put("a/2", "2")])
        .await
        .unwrap();
    let events = watch.next().await.unwrap();
    let kinds: Vec<_> = events
        .iter()
        .map(|e| (e.kind, e.current.mod_revision.0))
        .collect();
    assert_eq!(kinds, [(EventKind::Delete, 4), (EventKind::Put, 4)]);
    assert_eq!(events[0].previous.as_ref().unwrap().value, "1");
    assert_eq!(watch.progress(), Revision(4));
    let closing = store.clone();
    closing.close().await.unwrap();
    assert!(matches!(watch.next().await, Err(StoreError::Stopped)));
    assert!(matches!(
        store.txn(Txn::default()).await,
        Err(StoreError::Stopped)
    ));
}

#[tokio::test]
async fn what_is_malformed_or_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let txn = |then| {
        store.txn(Txn {
            compare: vec![],
            then,
        })
    };
    let many = (0..129).map(|i| delete(&i.to_string())).collect();
    assert!(matches!(
        txn(many).await,
        Err(StoreError::TooManyOperations { count: 129, .. })
    ));
    let big = Op::Put {
        key: "k".into(),
        value: vec![0; 3 << 19].into(),
    };
    assert!(matches!(
        txn(vec![big]).await,
        Err(StoreError::TooLarge { .. })
    ));
    let twice = vec![put("a", "1"), delete("a")];
    assert!(matches!(
        txn(twice).await,
        Err(StoreError::DuplicateKey { .. })
    ));
    assert_eq!(store.revision(), Revision(0));
}

#[tokio::test]
async fn a_directory_has_one_owner_and_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    for i in 0..10 {
        apply(&store, vec![], vec![put("a", &i.to_string())])
            .await
            .unwrap();
    }
    let second = Store::open(dir.path(), Options::default());
    assert!(matches!(second.err(), Some(StoreError::InUse { .. })));
    store.close().await.unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let found = store.range(&Range::key("a")).unwrap();
    assert_eq!((found.items[0].version, found.revision), (10, Revision(10)));
    assert_eq!(
        apply(&store, vec![at("a", 10)], vec![put("a", "x")]).await,
        Ok(11)
    );
}

#[tokio::test]
async fn who_falls_behind_the_kept_history_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        history_bytes: 16 << 10,
        ..Options::default()
    };
    let store = Store::open(dir.path(), options).unwrap();
    let mut slow = store.watch("a".into(), "b".into(), Revision(0)).unwrap();
    let mut idle = store.watch("x".into(), "y".into(), Revision(0)).unwrap();
    for _ in 0..100 {
        apply(&store, vec![], vec![put("a", &"v".repeat(512))])
            .await
            .unwrap();
    }
    assert!(matches!(
        slow.next().await,
        Err(StoreError::SlowWatcher { .. })
    ));
    assert!(store.compacted() > Revision(50) && store.compacted() < Revision(100));
    apply(&store, vec![], vec![put("x", "1")]).await.unwrap();
    assert_eq!(idle.next().await.unwrap().len(), 1);
}

/// Writers and watchers at once: every watcher sees every event of its range,
/// once, in order, wherever it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_miss_and_repeat_nothing() {
    const WRITERS: usize = 6;
    const PUTS: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let writer = |id: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for index in 0..PUTS {
                let shared = put("shared", &format!("{id}/{index}"));
                let own = put(&format!("own/{id}"), &index.to_string());
                apply(&store, vec![], vec![shared, own]).await.unwrap();
            }
        })
    };
    let watcher = |prefix: String, after: u64| {
        let (start, end) = (
            Bytes::from(prefix.clone()),
            store::prefix_end(prefix.as_bytes()),
        );
        let mut watch = store.watch(start, end, Revision(after)).unwrap();
        tokio::spawn(async move {
            let mut seen: Vec<(u64, Bytes)> = Vec::new();
            let mut last = after;
            while seen.last().is_none_or(|(_, value)| value != "end") {
                let events = watch.next().await.unwrap();
                assert!(!events.is_empty());
                for event in events {
                    let at = event.current.mod_revision.0;
                    assert!(at >= last, "{at} after {last}");
                    last = at;
                    seen.push((at, event.current.value));
                }
                assert!(watch.progress().0 >= last);
            }
            seen
        })
    };
    let mut watchers = vec![watcher("shared".into(), 0), watcher("own/3".into(), 0)];
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    watchers.push(watcher("shared".into(), 0));
    for writer in writers {
        writer.await.unwrap();
    }
    let half = (WRITERS * PUTS / 2) as u64;
    watchers.push(watcher("shared".into(), half));
    let last = vec![put("shared", "end"), put("own/3", "end")];
    let end = apply(&store, vec![], last).await.unwrap();
    assert_eq!(end as usize, WRITERS * PUTS + 1);
    let mut seen = Vec::new();
    for watcher in watchers {
        seen.push(watcher.await.unwrap());
    }
    let revisions = |seen: &[(u64, Bytes)]| seen.iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(revisions(&seen[0]), (1..=end).collect::<Vec<_>>());
    assert_eq!(seen[1].len(), PUTS + 1);
    assert_eq!(seen[2], seen[0]);
    assert_eq!(revisions(&seen[3]), (half + 1..=end).collect::<Vec<_>>());
}

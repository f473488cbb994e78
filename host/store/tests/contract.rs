//! The contract as callers see it, the same for every engine.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "tests of etcd alone use the other half")]
mod engines;

use bytes::Bytes;
use engines::Engine;
use store::{
    Compare, EventKind, LeaseId, Op, Options, Outcome, Range, Revision, Store, StoreError, Txn,
};

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

/// Revisions count from where a test found the store.
struct Tested {
    store: Store,
    zero: u64,
}

impl std::ops::Deref for Tested {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Tested {
    async fn open(engine: &Engine, options: Options) -> Tested {
        let store = engine.open(options).await.unwrap();
        let zero = store.revision().0;
        Tested { store, zero }
    }

    fn at(&self, revision: u64) -> Revision {
        Revision(self.zero + revision)
    }

    fn since(&self, revision: Revision) -> u64 {
        revision.0 - self.zero
    }

    async fn apply(&self, compare: Vec<Compare>, then: Vec<Op>) -> Result<u64, Vec<u64>> {
        let above = |mut c: Compare| {
            if c.mod_revision != Revision(0) {
                c.mod_revision.0 += self.zero;
            }
            c
        };
        let compare = compare.into_iter().map(above).collect();
        let done = apply(&self.store, compare, then).await;
        let below = |revision: u64| revision.saturating_sub(self.zero);
        match done {
            Ok(revision) => Ok(below(revision)),
            Err(current) => Err(current.into_iter().map(below).collect()),
        }
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

async fn transactions_compare_and_number(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
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
        assert_eq!(store.apply(compare, then).await, expected, "{what}");
    }
    let found = store.range(&Range::prefix("")).unwrap();
    let seen: Vec<_> = found
        .items
        .iter()
        .map(|kv| {
            (
                &kv.key[..],
                store.since(kv.create_revision),
                store.since(kv.mod_revision),
                kv.version,
            )
        })
        .collect();
    assert_eq!(seen, [(&b"a"[..], 4, 4, 1), (&b"b"[..], 2, 2, 1)]);
}

async fn ranges_page_at_old_revisions(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        store.apply(vec![], vec![put(key, "old")]).await.unwrap();
    }
    store
        .apply(vec![], vec![put("a/1", "new"), delete("a/3")])
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
    let old = Some(store.at(4));
    assert_eq!(read("a/", None, 0).unwrap(), ("a/1=new a/2=old".into(), 0));
    assert_eq!(
        read("a/", old, 0).unwrap(),
        ("a/1=old a/2=old a/3=old".into(), 0)
    );
    assert_eq!(read("a/", old, 1).unwrap(), ("a/1=old".into(), 2));
    assert_eq!(
        read("", Some(store.at(2)), 0).unwrap(),
        ("a/1=old a/2=old".into(), 0)
    );
    assert!(matches!(
        read("", Some(store.at(6)), 0),
        Err(StoreError::FutureRevision { .. })
    ));
    store.compact(store.at(4)).await.unwrap();
    assert_eq!(read("a/", old, 0).unwrap().1, 0);
    assert!(matches!(
        read("", Some(store.at(3)), 0),
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(
        store.compact(store.at(3)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(
        store.compact(store.at(9)).await,
        Err(StoreError::FutureRevision { .. })
    ));
}

async fn a_watch_sees_whole_revisions_of_its_range_from_the_past_on(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
    store.apply(vec![], vec![put("a/1", "1")]).await.unwrap();
    store
        .apply(vec![], vec![put("a/2", "1"), put("b/1", "1")])
        .await
        .unwrap();
    let (start, end) = (Bytes::from("a/"), store::prefix_end(b"a/"));
    let mut watch = store.watch(start, end, store.at(1)).unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].current.key, "a/2");
    store.apply(vec![], vec![put("b/2", "1")]).await.unwrap();
    assert_eq!(watch.progress(), store.at(3));
    store
        .apply(vec![], vec![delete("a/1"), put("a/2", "2")])
        .await
        .unwrap();
    let events = watch.next().await.unwrap();
    let kinds: Vec<_> = events
        .iter()
        .map(|e| (e.kind, store.since(e.current.mod_revision)))
        .collect();
    assert_eq!(kinds, [(EventKind::Delete, 4), (EventKind::Put, 4)]);
    assert_eq!(events[0].previous.as_ref().unwrap().value, "1");
    assert_eq!(watch.progress(), store.at(4));
    let closing = store.store.clone();
    closing.close().await.unwrap();
    assert!(matches!(watch.next().await, Err(StoreError::Stopped)));
    assert!(matches!(
        store.txn(Txn::default()).await,
        Err(StoreError::Stopped)
    ));
}

async fn what_is_malformed_or_too_much_is_refused(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
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
    assert_eq!(store.revision(), store.at(0));
}

async fn what_is_written_outlives_the_handle(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
    let zero = store.zero;
    for i in 0..10 {
        let then = vec![put("a", &i.to_string())];
        store.apply(vec![], then).await.unwrap();
    }
    store.store.close().await.unwrap();
    let store = engine.open(Options::default()).await.unwrap();
    let store = Tested { store, zero };
    let found = store.range(&Range::key("a")).unwrap();
    assert_eq!((found.items[0].version, found.revision), (10, store.at(10)));
    assert_eq!(
        store.apply(vec![at("a", 10)], vec![put("a", "x")]).await,
        Ok(11)
    );
}

fn leased(key: &str, lease: LeaseId) -> Op {
    Op::PutLeased {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from_static(b"leased"),
        lease,
    }
}

async fn keys_go_with_their_lease(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
    let unknown = Txn {
        compare: vec![],
        then: vec![put("x", "1"), leased("y", LeaseId(77))],
    };
    let refused = store.txn(unknown).await;
    assert!(matches!(
        refused,
        Err(StoreError::LeaseNotFound { id: LeaseId(77) })
    ));
    assert_eq!(store.revision(), store.at(0));

    let (lease, other) = (
        store.grant(600).await.unwrap(),
        store.grant(600).await.unwrap(),
    );
    assert!(lease.id != other.id && lease.ttl >= 600);
    let keys = ["a", "b", "c", "d", "e"].map(|key| leased(key, lease.id));
    store.apply(vec![], keys.to_vec()).await.unwrap();
    // Put without a lease, with another, deleted.
    let then = vec![put("b", "own"), leased("c", other.id), delete("d")];
    assert_eq!(store.apply(vec![], then).await, Ok(2));
    let status = store.lease(lease.id).await.unwrap();
    assert_eq!(status.keys, ["a", "e"]);
    assert!(status.remaining <= lease.ttl && status.remaining > 500);
    assert_eq!(store.keep_alive(lease.id).await.unwrap(), lease.ttl);

    let mut watch = store
        .watch(Bytes::new(), Bytes::new(), store.at(2))
        .unwrap();
    assert_eq!(store.revoke(lease.id).await.unwrap(), store.at(3));
    let events = watch.next().await.unwrap();
    let seen: Vec<_> = events
        .iter()
        .map(|e| {
            (
                e.kind,
                &e.current.key[..],
                store.since(e.current.mod_revision),
            )
        })
        .collect();
    let gone = |key| (EventKind::Delete, key, 3);
    assert_eq!(seen, [gone(&b"a"[..]), gone(b"e")]);
    assert!(matches!(
        store.revoke(lease.id).await,
        Err(StoreError::LeaseNotFound { .. })
    ));
    assert!(matches!(
        store.keep_alive(lease.id).await,
        Err(StoreError::LeaseNotFound { .. })
    ));
    assert!(matches!(
        store.lease(lease.id).await,
        Err(StoreError::LeaseNotFound { .. })
    ));
    let left = store.range(&Range::prefix("")).unwrap().items;
    assert_eq!(
        left.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(),
        [b"b", b"c"]
    );
    for ttl in [0, u64::MAX] {
        assert!(matches!(
            store.grant(ttl).await,
            Err(StoreError::LeaseTtl { .. })
        ));
    }
}

async fn a_lease_runs_out_unless_it_is_kept(engine: Engine) {
    let store = Tested::open(&engine, Options::default()).await;
    let (short, long) = (
        store.grant(1).await.unwrap(),
        store.grant(3600).await.unwrap(),
    );
    let then = vec![leased("a", short.id), leased("b", long.id)];
    store.apply(vec![], then).await.unwrap();
    let mut watch = store
        .watch(Bytes::new(), Bytes::new(), store.at(1))
        .unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!((events.len(), events[0].kind), (1, EventKind::Delete));
    assert_eq!(events[0].current.key, "a");
    assert!(matches!(
        store.keep_alive(short.id).await,
        Err(StoreError::LeaseNotFound { .. })
    ));
    assert_eq!(store.keep_alive(long.id).await.unwrap(), long.ttl);
}

async fn leases_outlive_the_handle(engine: Engine) {
    let options = Options {
        // Checkpoints take them along.
        log_bytes: 1000,
        ..Options::default()
    };
    let store = Tested::open(&engine, options).await;
    let (lease, short) = (
        store.grant(3600).await.unwrap(),
        store.grant(2).await.unwrap(),
    );
    store
        .apply(vec![], vec![leased("a", lease.id), leased("b", short.id)])
        .await
        .unwrap();
    for index in 0..50 {
        let then = vec![put(&format!("fill/{}", index % 3), &"v".repeat(100))];
        store.apply(vec![], then).await.unwrap();
    }
    let zero = store.zero;
    store.store.close().await.unwrap();
    let store = engine.open(options).await.unwrap();
    let status = store.lease(lease.id).await.unwrap();
    assert_eq!(
        (status.ttl, &status.keys[..]),
        (lease.ttl, &[Bytes::from("a")][..])
    );
    assert!(status.remaining > 3500);
    // The other runs out although nobody asks for it.
    let mut watch = store.watch("b".into(), "c".into(), Revision(zero + 51));
    let events = watch.as_mut().unwrap().next().await.unwrap();
    assert_eq!((events.len(), events[0].kind), (1, EventKind::Delete));
    store.revoke(lease.id).await.unwrap();
    assert!(store.range(&Range::key("a")).unwrap().items.is_empty());
}

async fn who_falls_behind_the_kept_history_is_cut_off(engine: Engine) {
    let options = Options {
        history_bytes: 16 << 10,
        ..Options::default()
    };
    let store = Tested::open(&engine, options).await;
    let mut slow = store.watch("a".into(), "b".into(), store.at(0)).unwrap();
    let mut idle = store.watch("x".into(), "y".into(), store.at(0)).unwrap();
    for _ in 0..100 {
        store
            .apply(vec![], vec![put("a", &"v".repeat(512))])
            .await
            .unwrap();
    }
    assert!(matches!(
        slow.next().await,
        Err(StoreError::SlowWatcher { .. })
    ));
    assert!(store.compacted() > store.at(50) && store.compacted() < store.at(100));
    store.apply(vec![], vec![put("x", "1")]).await.unwrap();
    assert_eq!(idle.next().await.unwrap().len(), 1);
}

/// Writers and watchers at once: every watcher sees every event of its range,
/// once, in order, wherever it began.
async fn watchers_miss_and_repeat_nothing(engine: Engine) {
    const WRITERS: usize = 6;
    const PUTS: usize = 150;
    let store = Tested::open(&engine, Options::default()).await;
    let writer = |id: usize| {
        let store = store.store.clone();
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
        let mut watch = store.watch(start, end, store.at(after)).unwrap();
        let zero = store.zero;
        tokio::spawn(async move {
            let mut seen: Vec<(u64, Bytes)> = Vec::new();
            let mut last = after;
            while seen.last().is_none_or(|(_, value)| value != "end") {
                let events = watch.next().await.unwrap();
                assert!(!events.is_empty());
                for event in events {
                    let at = event.current.mod_revision.0 - zero;
                    assert!(at >= last, "{at} after {last}");
                    last = at;
                    seen.push((at, event.current.value));
                }
                assert!(watch.progress().0 - zero >= last);
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
    let end = store.apply(vec![], last).await.unwrap();
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

/// Each test, for each engine.
macro_rules! contract {
    ($($name:ident)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(super::Engine::embedded()).await;
            })*
        }

        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(super::Engine::etcd()).await;
            })*
        }
    };
}

contract! {
    transactions_compare_and_number
    ranges_page_at_old_revisions
    a_watch_sees_whole_revisions_of_its_range_from_the_past_on
    what_is_malformed_or_too_much_is_refused
    what_is_written_outlives_the_handle
    who_falls_behind_the_kept_history_is_cut_off
    watchers_miss_and_repeat_nothing
    keys_go_with_their_lease
    a_lease_runs_out_unless_it_is_kept
    leases_outlive_the_handle
}

#[tokio::test]
async fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let second = Store::open(dir.path(), Options::default());
    assert!(matches!(second.err(), Some(StoreError::InUse { .. })));
    store.close().await.unwrap();
    Store::open(dir.path(), Options::default()).unwrap();
}

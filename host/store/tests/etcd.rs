//! What only an engine shared with others, over a network, can do wrong.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "engines/etcd.rs"]
mod engine;
mod linear;
mod proxy;

use bytes::Bytes;
use engine::Etcd;
use linear::{Answer, Call, History, Instant, Watched, check, seen};
use proxy::Proxy;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{
    Compare, EtcdOptions, Event, EventKind, KeyValue, Op, Options, Outcome, Range, RangeResult,
    Revision, Snapshot, Store, StoreError, Txn, restore, restore_to_etcd,
};

const DEADLINE: Duration = Duration::from_secs(60);

async fn connect(options: &EtcdOptions) -> Store {
    Store::connect(options, Options::default()).await.unwrap()
}

fn put(key: &str, value: &str) -> Txn {
    Txn {
        compare: vec![],
        then: vec![Op::Put {
            key: Bytes::from(key.to_owned()),
            value: Bytes::from(value.to_owned()),
        }],
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_wrote_is_there_after_asking() {
    let etcd = Etcd::start();
    let (a, b) = (
        connect(&etcd.options()).await,
        connect(&etcd.options()).await,
    );
    for round in 0..200 {
        let value = round.to_string();
        a.txn(put("key", &value)).await.unwrap();
        b.fresh(None).await.unwrap();
        let found = b.range(&Range::key("key")).unwrap().items;
        assert_eq!(found[0].value, value);
    }
}

/// Everything a test's clients share.
struct Clients {
    clock: AtomicU64,
    stop: AtomicBool,
    calls: Mutex<Vec<Call>>,
}

impl Clients {
    fn tick(&self) -> Instant {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn call(&self, invoked: Instant, request: linear::Request, answer: Option<Answer>) {
        let returned = match answer {
            Some(_) => self.tick(),
            // It may still be on its way.
            None => Instant::MAX,
        };
        self.calls.lock().unwrap().push(Call {
            invoked,
            returned,
            request,
            answer,
        });
    }

    async fn run(&self, id: usize, store: &Store) {
        let mut known = (Bytes::new(), 0);
        for round in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let key = Bytes::from(format!("k{}", (round * 7 + id) % 4));
            match (round + id) % 3 {
                0 => self.read(store, &mut known).await,
                kind => {
                    self.write(store, key, kind == 1, (id, round), &mut known)
                        .await
                }
            }
        }
    }

    async fn read(&self, store: &Store, known: &mut (Bytes, u64)) {
        let invoked = self.tick();
        if store.fresh(None).await.is_err() {
            return;
        }
        let range = Range::prefix("");
        let found = store.range(&range).unwrap();
        if let Some(kv) = found.items.first() {
            *known = (kv.key.clone(), kv.mod_revision.0);
        }
        let answer = Answer::of_range(&found);
        self.call(invoked, linear::Request::Range(range), Some(answer));
    }

    async fn write(
        &self,
        store: &Store,
        key: Bytes,
        compares: bool,
        (id, round): (usize, usize),
        known: &mut (Bytes, u64),
    ) {
        let value = Bytes::from(format!("{id}-{round}"));
        let mut txn = Txn::default();
        if compares && !known.0.is_empty() {
            let mod_revision = Revision(known.1);
            let key = known.0.clone();
            txn.compare.push(Compare {
                key: key.clone(),
                mod_revision,
            });
            txn.then.push(Op::Put { key, value });
        } else if round % 5 == 4 {
            txn.then.push(Op::Delete { key });
        } else {
            txn.then.push(Op::Put { key, value });
        }
        let invoked = self.tick();
        let answer = match store.txn(txn.clone()).await {
            Ok(outcome) => Some(Answer::of_txn(&outcome)),
            Err(StoreError::Unavailable { .. } | StoreError::Etcd { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        if let Some(Answer::Conflict(_, current)) = &answer {
            known.1 = current[0].as_ref().map_or(0, |item| item.2);
        }
        self.call(invoked, linear::Request::Txn(txn), answer);
    }
}

/// All that a store's watch shows from `after` until the key `end`.
async fn watch(store: Store, after: u64) -> Watched {
    let mut watch = store
        .watch(Bytes::new(), Bytes::new(), Revision(after))
        .unwrap();
    let mut watched = Watched {
        start: Bytes::new(),
        end: Bytes::new(),
        after,
        progress: after,
        events: Vec::new(),
    };
    while watched.events.last().is_none_or(|seen| seen.2 != "end") {
        let events = within("the last event", watch.next()).await.unwrap();
        watched.events.extend(events.iter().map(seen));
        watched.progress = watch.progress().0;
    }
    watched
}

/// Two API servers on one etcd, which is killed and started again: one history.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_histories_over_kills_are_linearizable() {
    let mut etcd = Etcd::start();
    let stores = [
        connect(&etcd.options()).await,
        connect(&etcd.options()).await,
    ];
    let clients = Arc::new(Clients {
        clock: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        calls: Mutex::default(),
    });
    let start = stores[0].revision().0;
    let opened = Some(Answer::Opened(start));
    clients.call(0, linear::Request::Open, opened);
    let watches: Vec<_> = (0..2)
        .map(|index| tokio::spawn(watch(stores[index].clone(), start)))
        .collect();
    let running: Vec<_> = (0..6)
        .map(|id| {
            let (clients, store) = (clients.clone(), stores[id % 2].clone());
            tokio::spawn(async move { clients.run(id, &store).await })
        })
        .collect();
    for kills in 1..=3 {
        let goal = start + 60 * kills;
        within("progress", async {
            while stores[0].revision().0 < goal {
                tokio::task::yield_now().await;
            }
        })
        .await;
        etcd.kill();
        etcd.start_again();
    }
    clients.stop.store(true, Ordering::SeqCst);
    for client in running {
        within("a client's end", client).await.unwrap();
    }
    // One that is certain to come after all.
    let invoked = clients.tick();
    let end = put("end", "end");
    let outcome = stores[0].txn(end.clone()).await.unwrap();
    clients.call(
        invoked,
        linear::Request::Txn(end),
        Some(Answer::of_txn(&outcome)),
    );
    let mut history = History::default();
    for watch in watches {
        history.watches.push(watch.await.unwrap());
    }
    history.calls = std::mem::take(&mut clients.calls.lock().unwrap());
    let unknown = history
        .calls
        .iter()
        .filter(|call| call.answer.is_none())
        .count();
    println!(
        "{} calls, {unknown} of them unanswered",
        history.calls.len()
    );
    check(&history).unwrap_or_else(|why| panic!("{why}"));
}

/// A store, and one whose connection can be cut.
async fn one_behind_a_proxy(etcd: &Etcd) -> (Proxy, Store, Store) {
    let proxy = Proxy::start(etcd.url().trim_start_matches("http://").to_owned()).await;
    let options = EtcdOptions {
        servers: vec![proxy.url()],
        ..EtcdOptions::default()
    };
    let (near, far) = (connect(&etcd.options()).await, connect(&options).await);
    (proxy, near, far)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_loses_no_event() {
    let etcd = Etcd::start();
    let (proxy, near, far) = one_behind_a_proxy(&etcd).await;
    let start = far.revision();
    let mut watch = far.watch(Bytes::new(), Bytes::new(), start).unwrap();
    for round in 1..=5u64 {
        proxy.cut();
        for index in 0..10 {
            near.txn(put("key", &format!("{round}/{index}")))
                .await
                .unwrap();
        }
        assert!(far.revision().0 <= start.0 + 10 * (round - 1));
        proxy.mend();
        let mut seen: Vec<(u64, Bytes)> = Vec::new();
        while seen.len() < 10 {
            let events = within("the events", watch.next()).await.unwrap();
            seen.extend(
                events
                    .into_iter()
                    .map(|e| (e.current.mod_revision.0, e.current.value)),
            );
        }
        let first = start.0 + 10 * (round - 1) + 1;
        let expected: Vec<_> = (0..10u64)
            .map(|index| (first + index, Bytes::from(format!("{round}/{index}"))))
            .collect();
        assert_eq!(seen, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_compacted_away_ends_watches_and_nothing_else() {
    let etcd = Etcd::start();
    let (proxy, near, far) = one_behind_a_proxy(&etcd).await;
    near.txn(put("gone", "1")).await.unwrap();
    far.fresh(None).await.unwrap();
    let start = far.revision();
    let mut watch = far.watch(Bytes::new(), Bytes::new(), start).unwrap();
    proxy.cut();
    let delete = Op::Delete { key: "gone".into() };
    let then = vec![delete];
    near.txn(Txn {
        compare: vec![],
        then,
    })
    .await
    .unwrap();
    for index in 0..10 {
        near.txn(put("key", &index.to_string())).await.unwrap();
    }
    near.compact(near.revision()).await.unwrap();
    proxy.mend();
    let cut = within("the watch's end", watch.next()).await;
    assert!(
        matches!(cut, Err(StoreError::SlowWatcher { at }) if at == start),
        "{cut:?}"
    );
    let found = far.range(&Range::prefix("")).unwrap();
    let values: Vec<_> = found
        .items
        .iter()
        .map(|kv| (&kv.key[..], &kv.value[..]))
        .collect();
    assert_eq!(values, [(&b"key"[..], &b"9"[..])]);
    assert_eq!(far.revision(), near.revision());
    let anew = far.watch(Bytes::new(), Bytes::new(), start);
    assert!(matches!(anew.err(), Some(StoreError::Compacted { .. })));
    // It goes on from there.
    let mut watch = far
        .watch(Bytes::new(), Bytes::new(), far.revision())
        .unwrap();
    far.txn(put("key", "10")).await.unwrap();
    assert_eq!(
        within("an event", watch.next()).await.unwrap()[0]
            .current
            .value,
        "10"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_etcd_in_its_place_stops_the_store() {
    let mut etcd = Etcd::start();
    let store = connect(&etcd.options()).await;
    store.txn(put("key", "1")).await.unwrap();
    etcd.kill();
    let down = within("the refusal", store.txn(put("key", "2"))).await;
    assert!(
        matches!(down, Err(StoreError::Unavailable { .. })),
        "{down:?}"
    );
    let stale = within("the refusal", store.fresh(None)).await;
    assert!(
        matches!(stale, Err(StoreError::Unavailable { .. })),
        "{stale:?}"
    );
    etcd.forget();
    etcd.start_again();
    within("the end", store.stopped()).await;
    assert!(matches!(
        store.txn(put("key", "3")).await,
        Err(StoreError::Stopped)
    ));
}

/// Writes keys of its own until told to stop; those that were acknowledged.
async fn write(
    store: Store,
    writer: usize,
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut done = Vec::new();
    for i in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("{writer}/{i}");
        match store.txn(put(&key, &key)).await {
            Ok(_) => {
                count.fetch_add(1, Ordering::SeqCst);
                done.push(key);
            }
            Err(StoreError::Unavailable { .. } | StoreError::Etcd { .. }) => {}
            Err(e) => panic!("{key}: {e}"),
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_killed_under_load_loses_nothing() {
    let mut members = Etcd::members(3);
    let options = EtcdOptions {
        servers: members.iter().map(Etcd::url).collect(),
        ..EtcdOptions::default()
    };
    let stores = [connect(&options).await, connect(&options).await];
    let (count, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = stores[writer % 2].clone();
        writers.spawn(write(store, writer, count.clone(), stop.clone()));
    }
    let more = async |what: &str| {
        let wanted = count.load(Ordering::SeqCst) + 200;
        within(what, async {
            while count.load(Ordering::SeqCst) < wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    };
    more("the first writes").await;
    // Each in turn: the one that is used and the leader among them.
    for member in &mut members {
        member.kill();
        more("writes to the others").await;
        member.start_again();
    }
    more("writes to all").await;
    stop.store(true, Ordering::SeqCst);
    let written: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    for store in &stores {
        within("what is there", async {
            while store.fresh(None).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        for key in &written {
            let found = store.range(&Range::key(key.clone())).unwrap().items;
            assert_eq!(found.len(), 1, "{key} of {} is lost", written.len());
            assert_eq!(found[0].value, *key);
        }
    }
}

fn compare(key: &str, mod_revision: Revision) -> Compare {
    Compare {
        key: Bytes::from(key.to_owned()),
        mod_revision,
    }
}

/// Embedded, etcd, embedded: the same keys and leases, at revisions that were
/// never given out before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_between_the_engines_go_on_above_the_mark() {
    let etcd = Etcd::start();
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let store = Store::open(&place("old"), Options::default()).unwrap();
    for index in 0..300 {
        let value = "v".repeat(if index % 100 == 7 { 900_000 } else { index });
        store
            .txn(put(&format!("key/{index}"), &value))
            .await
            .unwrap();
    }
    let lease = store.grant(600).await.unwrap().id;
    let leased = Op::PutLeased {
        key: "leased".into(),
        value: "1".into(),
        lease,
    };
    let then = vec![leased];
    store
        .txn(Txn {
            compare: vec![],
            then,
        })
        .await
        .unwrap();
    let items = |store: &Store| {
        let found = store.range(&Range::prefix("")).unwrap().items;
        found
            .into_iter()
            .map(|kv| (kv.key, kv.value))
            .collect::<Vec<_>>()
    };
    let (before, seen) = (items(&store), store.revision());
    store.snapshot().write(&place("there")).unwrap();
    store.close().await.unwrap();

    let copied = restore_to_etcd(&place("there"), &etcd.options(), 1000)
        .await
        .unwrap();
    assert!(copied.revision.0 > seen.0 + 1000);
    let again = restore_to_etcd(&place("there"), &etcd.options(), 1000).await;
    assert!(matches!(again, Err(StoreError::Exists { .. })));
    let store = connect(&etcd.options()).await;
    assert_eq!(items(&store), before);
    assert_eq!(store.lease(lease).await.unwrap().keys, ["leased"]);
    let watch = store.watch(Bytes::new(), Bytes::new(), seen);
    assert!(matches!(watch.err(), Some(StoreError::Compacted { .. })));
    for stale in [Revision(8), seen] {
        let txn = Txn {
            compare: vec![compare("key/7", stale)],
            ..put("key/7", "changed")
        };
        let refused = store.txn(txn).await.unwrap();
        assert!(matches!(refused, Outcome::Conflict { .. }), "{refused:?}");
    }
    let here = store.range(&Range::key("key/7")).unwrap().items[0].mod_revision;
    assert!(here > seen);
    let txn = Txn {
        compare: vec![compare("key/7", here)],
        ..put("key/7", "changed")
    };
    assert!(matches!(store.txn(txn).await.unwrap(), Outcome::Committed(r) if r > here));

    let (before, seen) = (items(&store), store.revision());
    let back = Snapshot::of_etcd(&etcd.options()).await.unwrap();
    assert_eq!(back.contents().revision, seen);
    back.write(&place("back")).unwrap();
    restore(&place("back"), &place("new"), 1000).unwrap();
    let store = Store::open(&place("new"), Options::default()).unwrap();
    assert_eq!(items(&store), before);
    assert_eq!(store.lease(lease).await.unwrap().keys, ["leased"]);
    assert!(store.revision() > seen);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_none_are_refused() {
    for (server, words) in [
        ("localhost", "not http://HOST:PORT"),
        ("unix:///etcd", "unix"),
        ("http://127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let options = EtcdOptions {
            servers: vec![server.to_owned()],
            ..EtcdOptions::default()
        };
        let refused = Store::connect(&options, Options::default())
            .await
            .err()
            .unwrap();
        assert!(refused.to_string().contains(words), "{server}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_certificates_of_both_sides() {
    let etcd = Etcd::start_tls();
    let store = connect(&etcd.options()).await;
    store.txn(put("key", "1")).await.unwrap();
    let without = EtcdOptions {
        identity: None,
        ..etcd.options()
    };
    let of_others = EtcdOptions {
        ca: Etcd::start_tls().options().ca,
        ..etcd.options()
    };
    for options in [without, of_others] {
        let refused = Store::connect(&options, Options::default()).await;
        assert!(matches!(
            refused.err(),
            Some(StoreError::Unavailable { .. })
        ));
    }
}

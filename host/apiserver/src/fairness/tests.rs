use super::{Fairness, LONGEST, Refused, Seat};
use crate::authz::Attributes;
use crate::user::User;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use store::{Op, Options, Store, Txn};

async fn put(store: &Store, plural: &str, object: &Value) {
    let name = object["metadata"]["name"].as_str().expect("a name");
    let key = format!("/registry/flowcontrol.apiserver.k8s.io/{plural}/{name}");
    let put = Op::Put {
        key: key.into(),
        value: object.to_string().into(),
    };
    let txn = Txn {
        then: vec![put],
        ..Txn::default()
    };
    store.txn(txn).await.expect("a write");
}

fn level(queuing: &Value) -> Value {
    json!({"metadata": {"name": "l", "uid": "level-uid"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 100_000, "limitResponse": queuing}}})
}

fn queuing(length: u32) -> Value {
    json!({"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": length}})
}

/// Everything is of one level with one seat.
async fn world(response: &Value) -> (Fairness, Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), Options::default()).expect("a store");
    put(&store, "prioritylevelconfigurations", &level(response)).await;
    let everything = json!({"metadata": {"name": "s", "uid": "schema-uid"}, "spec": {
        "priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 1,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "clusterScope": true, "namespaces": ["*"]}]}]}});
    put(&store, "flowschemas", &everything).await;
    (Fairness::new(&store, 1), store, dir)
}

async fn ask(fairness: &Fairness) -> Result<Seat, Refused> {
    let (user, attributes) = (User::new("u", []), Attributes::default());
    fairness.seat(&user, &attributes, || 0).await.1
}

#[tokio::test]
async fn who_waits_is_served_when_a_seat_is_free() {
    let (fairness, _store, _dir) = world(&queuing(2)).await;
    let first = ask(&fairness).await.expect("a seat");
    let mut second = Box::pin(ask(&fairness));
    assert!(second.as_mut().now_or_never().is_none());
    let mut third = Box::pin(ask(&fairness));
    assert!(third.as_mut().now_or_never().is_none());
    let full = ask(&fairness).await.err();
    assert_eq!(full, Some(Refused("queue-full")));
    // Who gives up leaves the queue.
    drop(second);
    let mut fourth = Box::pin(ask(&fairness));
    assert!(fourth.as_mut().now_or_never().is_none());
    drop(first);
    let seat = third.await.expect("a seat");
    assert!(fourth.as_mut().now_or_never().is_none());
    drop(seat);
    // Served, but gone before it hears of it: the seat is free again.
    drop(fourth);
    drop(ask(&fairness).await.expect("a seat"));
    let refused = "{flow_schema=\"s\",priority_level=\"l\",reason=\"queue-full\"} 1";
    assert!(
        fairness.metrics().contains(refused),
        "{}",
        fairness.metrics()
    );
}

#[tokio::test]
async fn who_waits_too_long_is_refused() {
    let (fairness, _store, _dir) = world(&queuing(2)).await;
    let _seat = ask(&fairness).await.expect("a seat");
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(ask(&fairness).await.err(), Some(Refused("time-out")));
    assert!(start.elapsed() >= LONGEST);
}

#[tokio::test]
async fn what_is_configured_counts_from_the_next_request_on() {
    let (fairness, store, _dir) = world(&json!({"type": "Reject"})).await;
    let user = User::new("u", []);
    let attributes = Attributes::default();
    let (flow, seat) = fairness.seat(&user, &attributes, || 0).await;
    assert_eq!(
        ask(&fairness).await.err(),
        Some(Refused("concurrency-limit"))
    );
    let mut headers = http::HeaderMap::new();
    flow.tell(&mut headers);
    assert_eq!(headers[super::SCHEMA_HEADER], "schema-uid");
    assert_eq!(headers[super::LEVEL_HEADER], "level-uid");
    put(&store, "prioritylevelconfigurations", &level(&queuing(5))).await;
    let mut waits = Box::pin(ask(&fairness));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(seat);
    waits.await.expect("a seat");
}

/// What it costs to pass, beside some hundred microseconds of a request.
#[tokio::test]
async fn passing_is_cheap() {
    const ROUNDS: u32 = 20_000;
    let (fairness, store, _dir) = world(&queuing(50)).await;
    for (kind, object) in api::kinds::initial_objects() {
        if kind.group() == "flowcontrol.apiserver.k8s.io" {
            put(&store, kind.plural(), &object).await;
        }
    }
    drop(ask(&fairness).await.expect("a seat"));
    let start = Instant::now();
    for _ in 0..ROUNDS {
        drop(ask(&fairness).await.expect("a seat"));
    }
    let each = start.elapsed() / ROUNDS;
    println!("a seat in {each:?}");
    assert!(each < Duration::from_micros(100), "{each:?}");
}

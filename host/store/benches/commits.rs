//! Durable commits a second of 32 writers, beside what the disk itself can do
//! in the same run, and how long opening takes. `STORE_BENCH_DIR` says where;
//! `STORE_BENCH_MB` how much there is to open.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use store::{Op, Options, Range, Store, Txn};

const WRITERS: usize = 32;
const VALUE: usize = 1536;
const FOR: Duration = Duration::from_secs(4);

/// Appends of one batch's size and a sync, as fast as the disk takes them.
fn raw(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("raw")).unwrap();
    let batch = vec![7u8; WRITERS * (VALUE + 64)];
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < FOR {
        file.write_all(&batch).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("/registry/configmaps/default/object-{number:08}"))
}

fn put(number: usize) -> Txn {
    let value = Bytes::from(vec![number as u8; VALUE]);
    Txn {
        compare: Vec::new(),
        then: vec![Op::Put {
            key: key(number),
            value,
        }],
    }
}

async fn writer(store: Store, id: usize) -> Vec<Duration> {
    let start = Instant::now();
    let mut latencies = Vec::new();
    let mut number = 0;
    while start.elapsed() < FOR {
        let begun = Instant::now();
        store.txn(put(id * 1000 + number % 1000)).await.unwrap();
        latencies.push(begun.elapsed());
        number += 1;
    }
    latencies
}

async fn commits(dir: &Path) -> (f64, Vec<Duration>) {
    let store = Store::open(&dir.join("commits"), Options::default()).unwrap();
    let start = Instant::now();
    let writers = (0..WRITERS).map(|id| tokio::spawn(writer(store.clone(), id)));
    let mut latencies = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        latencies.extend(writer.await.unwrap());
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    store.close().await.unwrap();
    latencies.sort();
    (rate, latencies)
}

/// Seconds to open `megabytes` of live data, of which half is in a checkpoint.
async fn opening(dir: &Path, megabytes: usize) -> (Duration, usize) {
    let dir = dir.join("opening");
    let store = Store::open(&dir, Options::default()).unwrap();
    let count = (megabytes << 20) / VALUE;
    for first in (0..count).step_by(500) {
        let wave = (first..count.min(first + 500)).map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.txn(put(number)).await.unwrap() })
        });
        for txn in wave.collect::<Vec<_>>() {
            txn.await.unwrap();
        }
    }
    // Not closed: as after a kill.
    let leaked = tempfile::tempdir().unwrap().keep();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), leaked.join(entry.file_name())).unwrap();
    }
    let start = Instant::now();
    let copy = Store::open(&leaked, Options::default()).unwrap();
    let took = start.elapsed();
    let begun = Instant::now();
    let found = copy
        .range(&Range::prefix("/registry/"))
        .unwrap()
        .items
        .len();
    println!("list of all {found} objects: {:?}", begun.elapsed());
    assert_eq!(found, count);
    std::fs::remove_dir_all(&leaked).unwrap();
    (took, count)
}

fn main() {
    let base =
        std::env::var("STORE_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let megabytes = std::env::var("STORE_BENCH_MB")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200);
    let dir = tempfile::tempdir_in(base).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let raw = raw(dir.path());
    let (rate, latencies) = runtime.block_on(commits(dir.path()));
    let at = |part: usize| latencies[(latencies.len() - 1) * part / 100];
    println!(
        "raw: {raw:.0} synced appends a second of {WRITERS} values, so {:.0} values",
        raw * WRITERS as f64
    );
    println!(
        "{WRITERS} writers of {VALUE} bytes: {rate:.0} commits a second, p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    );
    println!("ratio to raw: {:.2}", rate / (raw * WRITERS as f64));
    let (took, count) = runtime.block_on(opening(dir.path(), megabytes));
    println!("opening {megabytes} MiB in {count} objects after a kill: {took:?}");
}

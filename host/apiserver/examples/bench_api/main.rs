//! `make bench-api`: what `atoll control` alone does for its clients, beside
//! etcd and nginx in the same run. For measurements; not part of the image.
//!
//! ```text
//! bench_api ATOLL DIRECTORY [large]
//! ```
//!
//! ATOLL is the program, DIRECTORY is emptied and should be on the disk whose
//! syncs count. All clients come over TLS with the administrator's certificate.
//! `large` measures 25,000 to 100,000 objects instead.

mod atoll;
mod connection;
mod etcd;
mod large;
mod load;
mod nginx;
mod objects;
mod process;
mod table;
mod watches;

use atoll::Atoll;
use connection::Connection;
use load::{Figures, Request, connections, drive};
use objects::COLLECTION;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use table::{Row, table};

pub(crate) type Error = Box<dyn std::error::Error>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

const CONNECTIONS: usize = 32;
const OBJECTS: usize = 5000;
const GETS: usize = 20_000;
/// How often each list is asked for.
const LISTS: usize = 40;
/// The server looks every five seconds for memory to give back.
const SETTLED: Duration = Duration::from_secs(6);
const GZIP: &str = "Accept-Encoding: gzip\r\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match bench().await {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_api: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<String> {
    // More than one crate brings a provider: say which.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (program, place, large) = match arguments.as_slice() {
        [program, place] => (PathBuf::from(program), PathBuf::from(place), false),
        [program, place, word] if word == "large" => (program.into(), place.into(), true),
        _ => return Err("usage: bench_api ATOLL DIRECTORY [large]".into()),
    };
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    std::fs::create_dir_all(&place)?;
    let place = place.canonicalize()?;
    match large {
        true => large::measure(&program, &place).await,
        false => all(&program, &place).await,
    }
}

async fn all(program: &Path, place: &Path) -> Result<String> {
    let mut rows = Vec::new();
    let atoll = atoll::start(program, place).await?;
    atoll.process.quiet().await?;
    let idle = atoll.process.memory("VmRSS")?;
    rows.push(Row::memory("resident, idle", idle, "at most 20"));
    single(&atoll, place, &mut rows).await?;
    let held = atoll.process.memory("VmRSS")?;
    rows.push(Row::memory("resident, with the objects", held, ""));
    lists(&atoll, place, &mut rows).await?;
    let figures = watches::measure(&atoll).await?;
    let row = Row::timed("500 watches, 20,000 events", &figures, "p99 below 10");
    rows.push(row);
    atoll.process.quiet().await?;
    tokio::time::sleep(SETTLED).await;
    let after = atoll.process.memory("VmRSS")?;
    rows.push(Row::memory("resident, after all that", after, "at most 60"));
    rows.push(collection(&atoll).await?);
    let most = atoll.process.memory("VmHWM")?;
    rows.push(Row::memory("resident, at most", most, ""));
    Ok(table("5,000 ConfigMaps of 1 KiB", &rows))
}

/// Creates, reads and updates of single objects, and etcd's puts.
async fn single(atoll: &Atoll, place: &Path, rows: &mut Vec<Row>) -> Result<()> {
    objects::namespace(&atoll.target).await?;
    let etcd = etcd::puts(place, CONNECTIONS, OBJECTS, objects::SIZE).await?;
    rows.push(Row::rated("etcd alone: put", &etcd, ""));
    let mut clients = connections(&atoll.target, CONNECTIONS).await?;
    let mut run = async |count, request: fn(usize) -> Request| {
        drive(&atoll.process, &mut clients, count, request).await
    };
    let created = run(OBJECTS, objects::create).await?;
    rows.push(Row::rated("create", &created, "5,900/s").against("etcd", &etcd));
    let read = run(GETS, |i| Request::get(objects::path(i % OBJECTS))).await?;
    rows.push(Row::rated("get", &read, "11,500/s"));
    let updated = run(OBJECTS, objects::update).await?;
    rows.push(Row::rated("update", &updated, "5,100/s").against("etcd", &etcd));
    Ok(())
}

/// Lists one after the other, and nginx with the same bytes.
async fn lists(atoll: &Atoll, place: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let mut client = Connection::open(&atoll.target).await?;
    client.send("GET", COLLECTION, "", b"").await?;
    let (process, target) = nginx::serve(place, &client.body).await?;
    let size = objects::mebibytes(&client.body);
    let cached = format!("{COLLECTION}?resourceVersion=0");
    let selected = format!("{COLLECTION}?labelSelector=tenth%3D3");
    let list = async |process, target, path: &str, headers| -> Result<Figures> {
        let mut one = connections(target, 1).await?;
        let request = |_| Request {
            headers,
            ..Request::get(path)
        };
        drive(process, &mut one, 2, request).await?;
        drive(process, &mut one, LISTS, request).await
    };
    let plain = list(&process, &target, nginx::FILE, "").await?;
    let packed = list(&process, &target, nginx::FILE, GZIP).await?;
    rows.push(Row::timed(&format!("nginx: {size}"), &plain, ""));
    for (what, path, headers, goal, peer) in [
        ("list, consistent", COLLECTION, "", "1.5 of nginx", &plain),
        ("list, from cache", &cached, "", "1.5 of nginx", &plain),
        ("list, gzip", COLLECTION, GZIP, "38 ms", &packed),
        ("list, label selector, a tenth", &selected, "", "", &plain),
    ] {
        let figures = list(&atoll.process, &atoll.target, path, headers).await?;
        rows.push(Row::timed(what, &figures, goal).against("nginx", peer));
    }
    Ok(())
}

async fn collection(atoll: &Atoll) -> Result<Row> {
    let mut one = connections(&atoll.target, 1).await?;
    let request = |_| Request {
        method: "DELETE",
        ..Request::get(COLLECTION)
    };
    let figures = drive(&atoll.process, &mut one, 1, request).await?;
    let left = objects::count(&mut one[0]).await?;
    if left > 0 {
        return Err(format!("deletecollection left {left} objects").into());
    }
    Ok(Row::timed("deletecollection", &figures, "1,000 ms"))
}

//! Watches of one collection while one of its objects changes: the time from
//! the request that changes it to the event, at each watcher. The next change
//! is made when all have seen the last.

use crate::Result;
use crate::atoll::Atoll;
use crate::connection::Connection;
use crate::load::{Figures, connections};
use crate::objects::{self, COLLECTION};
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

const WATCHES: usize = 500;
const CHANGES: usize = 40;

pub(crate) async fn measure(atoll: &Atoll) -> Result<Figures> {
    let mut watchers = connections(&atoll.target, WATCHES).await?;
    let mut writer = Connection::open(&atoll.target).await?;
    writer
        .send("GET", &format!("{COLLECTION}?limit=1"), "", b"")
        .await?;
    let list: serde_json::Value = serde_json::from_slice(&writer.body)?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
    let path = format!("{COLLECTION}?watch=1&resourceVersion={version}");
    try_join_all(watchers.iter_mut().map(|one| one.watch(&path))).await?;
    // When the change was asked for that is under way.
    let (tell, told) = watch::channel(Instant::now());
    let (report, mut seen) = mpsc::channel(WATCHES);
    let tasks = watchers.into_iter().map(|one| {
        let task = follow(one, told.clone(), report.clone());
        tokio::task::spawn_local(task)
    });
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let tasks: Vec<_> = tasks.collect();
            let cpu = atoll.process.cpu()?;
            let began = Instant::now();
            let mut latencies = Vec::with_capacity(WATCHES * CHANGES);
            for number in 0..CHANGES {
                let request = objects::change(number);
                tell.send_replace(Instant::now());
                let written = writer.send(
                    request.method,
                    &request.path,
                    request.headers,
                    &request.body,
                );
                let (code, ()) = tokio::try_join!(written, async {
                    for _ in 0..WATCHES {
                        latencies.push(seen.recv().await.ok_or("a watch ended")??);
                    }
                    Ok(())
                })?;
                if code != request.expect {
                    return Err(format!("the change: {code}").into());
                }
            }
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
            let elapsed = began.elapsed();
            Ok(Figures::new(latencies, elapsed, atoll.process.cpu()? - cpu))
        })
        .await
}

/// Says of each event how long it took; more than one at a time is an error,
/// because there is one change at a time.
async fn follow(
    mut connection: Connection,
    told: watch::Receiver<Instant>,
    report: mpsc::Sender<Result<Duration, String>>,
) {
    loop {
        let outcome = match connection.events().await {
            Ok(1) => Ok(told.borrow().elapsed()),
            Ok(count) => Err(format!("{count} events at once")),
            Err(error) => Err(error.to_string()),
        };
        let failed = outcome.is_err();
        if report.send(outcome).await.is_err() || failed {
            return;
        }
    }
}

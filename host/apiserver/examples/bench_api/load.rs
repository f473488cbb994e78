//! Many requests over several connections, and what they took.

use crate::Result;
use crate::connection::{Connection, Target};
use crate::process::Process;
use futures_util::future::{join_all, try_join_all};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// What a number of operations took.
pub(crate) struct Figures {
    /// Each, the shortest first.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    /// Of the server.
    pub(crate) cpu: Duration,
}

impl Figures {
    pub(crate) fn new(mut latencies: Vec<Duration>, elapsed: Duration, cpu: Duration) -> Figures {
        latencies.sort_unstable();
        Figures {
            latencies,
            elapsed,
            cpu,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies.len() * percent / 100).min(self.latencies.len() - 1);
        millis(self.latencies[at])
    }

    /// Milliseconds of the server's processor for each operation.
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    pub(crate) fn cpu_each(&self) -> f64 {
        millis(self.cpu) / self.latencies.len() as f64
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One request, and the code that it has to get.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) expect: u16,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Request {
        Request {
            method: "GET",
            path: path.into(),
            headers: "",
            body: Vec::new(),
            expect: 200,
        }
    }
}

pub(crate) async fn connections(target: &Target, count: usize) -> Result<Vec<Connection>> {
    try_join_all((0..count).map(|_| Connection::open(target))).await
}

/// `count` requests, each connection with one under way.
pub(crate) async fn drive(
    server: &Process,
    connections: &mut [Connection],
    count: usize,
    request: impl Fn(usize) -> Request,
) -> Result<Figures> {
    let next = Cell::new(0);
    let cpu = server.cpu()?;
    let began = Instant::now();
    let workers = connections.iter_mut().map(|connection| async {
        let mut latencies = Vec::with_capacity(count);
        loop {
            let number = next.replace(next.get() + 1);
            if number >= count {
                return Ok::<_, crate::Error>(latencies);
            }
            let Request {
                method,
                path,
                headers,
                body,
                expect,
            } = request(number);
            let sent = Instant::now();
            let code = connection.send(method, &path, headers, &body).await?;
            latencies.push(sent.elapsed());
            if code != expect {
                let text = String::from_utf8_lossy(&connection.body);
                return Err(format!("{method} {path}: {code} {text}").into());
            }
        }
    });
    let mut latencies = Vec::with_capacity(count);
    for outcome in join_all(workers).await {
        latencies.extend(outcome?);
    }
    let elapsed = began.elapsed();
    Ok(Figures::new(latencies, elapsed, server.cpu()? - cpu))
}

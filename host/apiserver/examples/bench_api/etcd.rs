//! The reference for the durable write path: etcd alone, each put synced
//! before its answer. Over gRPC without TLS, a connection for each writer;
//! messages are made by hand (`rpc.proto`: key is 1, value is 2).

use crate::Result;
use crate::load::Figures;
use crate::process::{Process, free_port};
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

type Writer = SendRequest<Full<Bytes>>;

/// `count` puts of `size` bytes by `writers` at once.
pub(crate) async fn puts(
    place: &Path,
    writers: usize,
    count: usize,
    size: usize,
) -> Result<Figures> {
    let client = format!("http://127.0.0.1:{}", free_port()?);
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let data = place.join("etcd").display().to_string();
    #[rustfmt::skip]
    let arguments = [
        "--data-dir", &data, "--listen-client-urls", &client, "--advertise-client-urls", &client,
        "--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer,
        "--initial-cluster", &format!("default={peer}"), "--log-level", "error",
    ];
    let log = place.join("etcd.log");
    let process = Process::start(Path::new("/usr/bin/etcd"), &arguments, &log)?;
    let authority = client.trim_start_matches("http://");
    let began = Instant::now();
    while let Err(error) = first(authority, size).await {
        if began.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(log)?;
            return Err(format!("etcd: {error}; {log}").into());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let mut connections = try_join_all((0..writers).map(|_| connect(authority))).await?;
    let next = Cell::new(0);
    let cpu = process.cpu()?;
    let began = Instant::now();
    let work = connections.iter_mut().map(|writer| async {
        let mut latencies = Vec::new();
        loop {
            let number = next.replace(next.get() + 1);
            if number >= count {
                return Ok::<_, crate::Error>(latencies);
            }
            let sent = Instant::now();
            put(writer, authority, number, size).await?;
            latencies.push(sent.elapsed());
        }
    });
    let mut latencies = Vec::new();
    for outcome in join_all(work).await {
        latencies.extend(outcome?);
    }
    let elapsed = began.elapsed();
    Ok(Figures::new(latencies, elapsed, process.cpu()? - cpu))
}

/// Whether it writes already.
async fn first(authority: &str, size: usize) -> Result<()> {
    put(&mut connect(authority).await?, authority, 0, size).await
}

async fn connect(authority: &str) -> Result<Writer> {
    let tcp = TcpStream::connect(authority).await?;
    tcp.set_nodelay(true)?;
    let (writer, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    Ok(writer)
}

async fn put(writer: &mut Writer, authority: &str, number: usize, size: usize) -> Result<()> {
    let request = Request::post(format!("http://{authority}/etcdserverpb.KV/Put"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(message(number, size).into()))?;
    writer.ready().await?;
    let answer = writer.send_request(request).await?.into_body();
    let collected = answer.collect().await?;
    let trailers = collected.trailers();
    let status = trailers.and_then(|trailers| trailers.get("grpc-status"));
    match status.map(http::HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        other => Err(format!("put: {other:?}").into()),
    }
}

/// A put request behind its five bytes of framing.
fn message(number: usize, size: usize) -> Vec<u8> {
    let key = format!("/registry/core/configmaps/bench/object-{number:06}");
    let mut put = Vec::with_capacity(size + 80);
    for (tag, data) in [(0x0a, key.as_bytes()), (0x12, &vec![b'x'; size])] {
        put.push(tag);
        let mut length = data.len();
        while length >= 0x80 {
            put.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        put.push(length as u8);
        put.extend_from_slice(data);
    }
    let length = u32::try_from(put.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length[..], &put[..]].concat()
}

//! The server's side against a client made of bare frames.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::negotiate::{Kind, Negotiated, negotiate};
use crate::{Status, StreamSet, TerminalSize, port_forward, remote_command};
use http::{HeaderMap, HeaderValue};
use tokio::io::DuplexStream;

const FIN: u8 = 1;

fn negotiated(kind: Kind, protocol: &'static str) -> Negotiated {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
    headers.insert(
        "x-stream-protocol-version",
        HeaderValue::from_static(protocol),
    );
    negotiate(&headers, kind).unwrap()
}

struct Client {
    io: DuplexStream,
    headers: Writer,
    replies: Reader,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Data(u32, Vec<u8>, bool),
    Control(u16),
}

impl Client {
    fn new() -> (Self, DuplexStream) {
        let (io, server) = tokio::io::duplex(64 << 10);
        let headers = Writer::new().unwrap();
        let replies = Reader::new();
        let client = Self {
            io,
            headers,
            replies,
        };
        (client, server)
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let block = self.headers.write(&headers.collect()).unwrap();
        let mut payload = stream.to_be_bytes().to_vec();
        payload.extend_from_slice(&[0; 6]);
        payload.extend_from_slice(&block);
        let frame = frame::control(frame::SYN_STREAM, 0, &payload);
        self.io.write_all(&frame).await.unwrap();
    }

    async fn send(&mut self, stream: u32, data: &[u8], flags: u8) {
        let mut bytes = BytesMut::new();
        frame::data(&mut bytes, stream, flags == FIN, data);
        self.io.write_all(&bytes).await.unwrap();
    }

    async fn next(&mut self) -> Option<Seen> {
        let mut head = [0; HEADER_LEN];
        self.io.read_exact(&mut head).await.ok()?;
        Some(match Head::decode(head).unwrap() {
            Head::Data {
                stream,
                fin,
                length,
            } => {
                let mut data = vec![0; length];
                self.io.read_exact(&mut data).await.unwrap();
                Seen::Data(stream, data, fin)
            }
            Head::Control { kind, length, .. } => {
                let mut payload = vec![0; length];
                self.io.read_exact(&mut payload).await.unwrap();
                if kind == 2 {
                    self.replies.read(&payload[4..]).unwrap();
                }
                Seen::Control(kind)
            }
        })
    }

    /// All data of one stream until its end, other streams' frames dropped.
    async fn until_fin(&mut self, wanted: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Seen::Data(stream, data, fin) if stream == wanted => {
                    all.extend(data);
                    if fin {
                        return all;
                    }
                }
                Seen::Data(..) | Seen::Control(_) => {}
            }
        }
    }
}

#[tokio::test]
async fn a_remote_command_has_its_streams_and_a_status() {
    let (mut client, server) = Client::new();
    let wants = StreamSet {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: true,
    };
    let kind = negotiated(Kind::RemoteCommand, "v4.channel.k8s.io");
    let command = tokio::spawn(remote_command(server, kind, wants));
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(stream, &[("streamType", kind)]).await;
        assert_eq!(client.next().await, Some(Seen::Control(2)), "{kind}");
    }
    let mut command = command.await.unwrap().unwrap();
    assert!(command.stderr.is_none(), "a terminal has no stderr");
    client.send(3, b"in", FIN).await;
    client.send(7, b"{\"Width\":80,\"Height\":24}\n", 0).await;
    client.io.write_all(&frame::ping(9)).await.unwrap();
    assert_eq!(client.next().await, Some(Seen::Control(frame::PING)));
    let mut stdin = command.stdin.take().unwrap();
    assert_eq!(stdin.read().await.as_deref(), Some(&b"in"[..]));
    assert_eq!(stdin.read().await, None);
    let size = TerminalSize {
        columns: 80,
        rows: 24,
    };
    assert_eq!(command.resize.as_mut().unwrap().recv().await, Some(size));
    let mut stdout = command.stdout.take().unwrap();
    stdout.write(Bytes::from_static(b"out")).await.unwrap();
    drop(stdout);
    assert_eq!(client.until_fin(5).await, b"out");
    command.status.finish(Status::ExitCode(3)).await.unwrap();
    let status = String::from_utf8(client.until_fin(1).await).unwrap();
    assert!(
        status.contains(r#""reason":"ExitCode","message":"3""#),
        "{status}"
    );
    // Nothing is held any more: the connection ends by itself.
    drop(command.resize);
    while client.next().await.is_some() {}
}

#[tokio::test]
async fn ports_come_as_pairs_and_resets_end_them() {
    let (mut client, server) = Client::new();
    let kind = negotiated(Kind::PortForward, "portforward.k8s.io");
    let mut listener = port_forward(server, kind).await.unwrap();
    let headers = |kind, request| [("streamtype", kind), ("port", "80"), ("requestid", request)];
    client.open(1, &headers("error", "0")).await;
    client.open(3, &headers("error", "1")).await;
    client.open(5, &headers("data", "1")).await;
    let mut forward = listener.accept().await.unwrap();
    assert_eq!(forward.port, 80);
    client.send(5, b"hello", 0).await;
    let mut data = [0; 5];
    forward.data.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"hello");
    forward.error.fail("refused").await.unwrap();
    assert_eq!(client.until_fin(3).await, b"refused");
    let reset = frame::rst_stream(5, 5);
    client.io.write_all(&reset).await.unwrap();
    assert_eq!(forward.data.read(&mut data).await.unwrap(), 0);
    assert!(forward.data.write_all(b"x").await.is_err());
    let mut gone = listener.gone();
    drop(client);
    gone.wait().await;
    assert!(listener.accept().await.is_none());
}

#[tokio::test]
async fn a_slow_reader_stops_the_peer_and_a_gone_one_does_not() {
    let (mut client, server) = Client::new();
    let mut session = serve(server).unwrap();
    client.open(1, &[("streamtype", "data")]).await;
    let opened = session.accepted.recv().await.unwrap();
    assert_eq!(client.next().await, Some(Seen::Control(2)));
    let chunk = vec![0; PIECE];
    let flood = async {
        for _ in 0..64 {
            client.send(1, &chunk, 0).await;
        }
    };
    tokio::pin!(flood);
    let patience = Duration::from_millis(200);
    let stuck = tokio::time::timeout(patience, &mut flood).await;
    assert!(stuck.is_err(), "everything was taken though nobody reads");
    drop(opened);
    flood.await;
}

#[tokio::test]
async fn a_writer_waits_for_the_peer_and_fails_when_it_is_gone() {
    let (mut client, server) = Client::new();
    let mut session = serve(server).unwrap();
    client.open(1, &[("streamtype", "data")]).await;
    let mut opened = session.accepted.recv().await.unwrap();
    let chunk = Bytes::from(vec![0; 4 * crate::OUTPUT_MAX]);
    let writing = opened.output.write(chunk.clone());
    tokio::pin!(writing);
    let patience = Duration::from_millis(200);
    assert!(tokio::time::timeout(patience, &mut writing).await.is_err());
    drop(client);
    assert!(writing.await.is_err());
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let (mut client, server) = Client::new();
    let mut session = serve(server).unwrap();
    let mut kept = Vec::new();
    for number in 0..=u32::try_from(STREAMS_MAX).unwrap() {
        client.open(number * 2 + 1, &[("streamtype", "data")]).await;
        match client.next().await.unwrap() {
            Seen::Control(2) => kept.push(session.accepted.recv().await.unwrap()),
            other => assert_eq!(other, Seen::Control(frame::RST_STREAM)),
        }
    }
    assert_eq!(kept.len(), STREAMS_MAX);
}

/// Frames that are mostly well-formed, with bits flipped.
fn random_frames(seed: &mut u64) -> Vec<u8> {
    let mut random = |below: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 11) % below
    };
    let mut writer = Writer::new().unwrap();
    let mut bytes = BytesMut::new();
    for number in 0..random(8) {
        let stream = u32::try_from(number).unwrap() * 2 + 1;
        match random(5) {
            0 | 1 => {
                let kind = ["data", "error", "resize", "stdin"][random(4) as usize];
                let headers = [("streamtype", kind), ("port", "80"), ("requestid", "1")];
                let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
                let block = writer.write(&headers.to_vec()).unwrap();
                let mut payload = stream.to_be_bytes().to_vec();
                payload.extend_from_slice(&[0; 6]);
                payload.extend_from_slice(&block);
                bytes.extend_from_slice(&frame::control(frame::SYN_STREAM, 0, &payload));
            }
            2 => frame::data(
                &mut bytes,
                stream,
                random(2) == 0,
                b"{\"Width\":1,\"Height\":2}",
            ),
            3 => bytes.extend_from_slice(&frame::rst_stream(stream, 5)),
            _ => bytes.extend_from_slice(&frame::ping(stream)),
        }
    }
    let mut bytes = bytes.to_vec();
    for _ in 0..random(4) {
        if !bytes.is_empty() {
            let at = random(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random(8);
        }
    }
    bytes
}

#[tokio::test]
async fn any_frames_are_served_or_refused() {
    let mut seed = 0x5eed_5eed_5eed_5eed_u64;
    for round in 0..2000 {
        let before = seed;
        let bytes = random_frames(&mut seed);
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let kind = negotiated(Kind::PortForward, "portforward.k8s.io");
        let mut listener = port_forward(server, kind).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let all = async { while listener.accept().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(ended.is_ok(), "round {round}, seed {before:#x}: hangs");
    }
}

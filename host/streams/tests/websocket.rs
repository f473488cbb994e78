//! WebSocket frames as a client of any kind sends them, also broken ones.

#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue};
use std::time::Duration;
use streams::{
    Form, Kind, Negotiated, Status, StreamSet, negotiate, port_forward, remote_command,
    send_messages,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

fn negotiated(kind: Kind, protocol: &'static str) -> Negotiated {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    negotiate(&headers, kind).unwrap()
}

async fn client(io: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

async fn bytes(client: &mut WebSocketStream<DuplexStream>) -> Vec<u8> {
    client.next().await.unwrap().unwrap().into_data().to_vec()
}

#[tokio::test]
async fn v5_closes_stdin_and_resizes() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let wants = StreamSet {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let kind = negotiated(Kind::RemoteCommand, "v5.channel.k8s.io");
    let mut command = remote_command(far, kind, wants).await.unwrap();
    let mut client = client(near).await;
    assert_eq!(bytes(&mut client).await, [1], "an empty message first");
    let send = [
        &b"\x00in"[..],
        b"\x04{\"Width\":5,\"Height\":6}",
        b"\x09no",
        b"\xff\x00",
    ];
    for message in send {
        client
            .send(Message::binary(message.to_vec()))
            .await
            .unwrap();
    }
    let mut stdin = command.stdin.take().unwrap();
    assert_eq!(stdin.read().await.as_deref(), Some(&b"in"[..]));
    assert_eq!(stdin.read().await, None);
    let size = command.resize.as_mut().unwrap().recv().await.unwrap();
    assert_eq!((size.columns, size.rows), (5, 6));
    let mut stdout = command.stdout.take().unwrap();
    stdout.write_all(b"out").await.unwrap();
    assert_eq!(bytes(&mut client).await, b"\x01out");
    drop(stdout);
    command.status.finish(Status::Success).await.unwrap();
    assert!(bytes(&mut client).await.starts_with(b"\x03{"));
    drop(command.resize);
    assert!(matches!(
        client.next().await,
        Some(Ok(Message::Close(Some(_))))
    ));
}

#[tokio::test]
async fn ports_of_the_query_have_two_channels_each() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let kind = negotiated(Kind::PortForward, "v4.base64.channel.k8s.io");
    assert!(kind.wants_ports());
    let mut listener = port_forward(far, kind.with_ports(vec![80])).await.unwrap();
    let mut client = client(near).await;
    // The port, 80 and 0, in base64.
    assert_eq!(bytes(&mut client).await, b"0UAA=");
    assert_eq!(bytes(&mut client).await, b"1UAA=");
    let mut forward = listener.accept().await.unwrap();
    client.send(Message::text("0aGk=")).await.unwrap();
    let mut data = [0; 2];
    forward.data.read_exact(&mut data).await.unwrap();
    assert_eq!(&data, b"hi");
    forward.data.write_all(b"yo").await.unwrap();
    assert_eq!(bytes(&mut client).await, b"0eW8=");
    drop(client);
    assert!(listener.accept().await.is_none());
}

#[tokio::test]
async fn a_vanished_client_is_noticed_while_nobody_reads() {
    let (near, far) = tokio::io::duplex(64);
    let wants = StreamSet {
        stdout: true,
        ..StreamSet::default()
    };
    let kind = negotiated(Kind::RemoteCommand, "v4.channel.k8s.io");
    let mut command = remote_command(far, kind, wants).await.unwrap();
    drop(near);
    command.gone.wait().await;
    let mut stdout = command.stdout.take().unwrap();
    let mut failed = false;
    for _ in 0..100 {
        failed |= stdout.write_all(&[0; 1024]).await.is_err();
    }
    assert!(failed);
}

#[tokio::test]
async fn any_bytes_are_served_or_refused() {
    let mut seed = 0xfeed_beef_0123_4567_u64;
    for round in 0..fuzzing::rounds(2000) {
        let before = seed;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) % below
        };
        // Masked frames with short data, opcodes of all kinds.
        let mut raw = Vec::new();
        for _ in 0..random(6) {
            let length = random(20) as u8;
            raw.push(0x80 | [1, 2, 2, 2, 8, 9, 10, 3][random(8) as usize]);
            raw.push(0x80 | length);
            raw.extend_from_slice(&[0; 4]);
            raw.extend((0..length).map(|_| [0, 1, 4, 255, b'{', b'0'][random(6) as usize]));
        }
        for _ in 0..random(3) {
            if !raw.is_empty() {
                let at = random(raw.len() as u64) as usize;
                raw[at] ^= 1 << random(8);
            }
        }
        let protocols = ["v5.channel.k8s.io", "v4.base64.channel.k8s.io"];
        let kind = negotiated(Kind::RemoteCommand, protocols[random(2) as usize]);
        let wants = StreamSet {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: random(2) == 0,
        };
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut command = remote_command(far, kind, wants).await.unwrap();
        near.write_all(&raw).await.unwrap();
        near.shutdown().await.unwrap();
        drop(command.resize.take());
        let mut stdin = command.stdin.take().unwrap();
        let all = async { while stdin.read().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(ended.is_ok(), "round {round}, seed {before:#x}: hangs");
    }
}

#[tokio::test]
async fn pieces_are_messages_until_the_client_goes() {
    let pieces = || {
        futures_util::stream::iter(["", "a", "bc"].map(|text| Bytes::from_static(text.as_bytes())))
    };
    for (form, wanted) in [
        (Form::Binary, ["", "a", "bc"]),
        (Form::Base64, ["", "YQ==", "YmM="]),
        (Form::Text, ["", "a", "bc"]),
    ] {
        let (near, far) = tokio::io::duplex(64 << 10);
        send_messages(far, form, pieces()).await.unwrap();
        let mut client = client(near).await;
        for text in wanted {
            let message = client.next().await.unwrap().unwrap();
            assert_eq!(message.is_binary(), form == Form::Binary);
            assert_eq!(message.into_data(), text.as_bytes());
        }
        assert!(client.next().await.unwrap().unwrap().is_close());
    }
    let (near, far) = tokio::io::duplex(64);
    let endless = futures_util::stream::repeat(Bytes::from_static(b"more"));
    let sending = tokio::spawn(send_messages(far, Form::Binary, endless));
    let mut client = client(near).await;
    assert_eq!(bytes(&mut client).await, b"more");
    drop(client);
    // Whether it saw the end by reading or by writing is a matter of timing.
    let _ = sending.await.unwrap();
    let broken = futures_util::stream::iter([Bytes::from_static(b"\xff")]);
    let (_near, far) = tokio::io::duplex(64);
    let error = send_messages(far, Form::Text, broken).await.unwrap_err();
    assert!(error.to_string().contains("no UTF-8"), "{error}");
}

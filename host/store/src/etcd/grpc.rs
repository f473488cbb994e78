//! gRPC over HTTP/2, as far as etcd's API needs it: unary calls and streams in
//! both directions, without compression.
//!
//! ```text
//! message = compressed u8 (0) | length u32, big-endian | protobuf
//! status  = header or trailer grpc-status, grpc-message
//! ```
//! What a peer sends is bounded by `MESSAGE`. A dead connection is found by
//! HTTP/2 pings; not more often than etcd allows.

use super::proto;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// The largest message that is taken: many times what etcd writes at once.
const MESSAGE: usize = 256 << 20;
const WINDOW: u32 = 4 << 20;
const CONNECT: Duration = Duration::from_secs(3);
/// etcd's `grpc-keepalive-min-time` is 5 seconds.
const PING: Duration = Duration::from_secs(6);
const PONG: Duration = Duration::from_secs(4);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a call failed. Codes are gRPC's.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) code: u32,
    pub(super) message: String,
    /// The server can't have seen the request.
    pub(super) unsent: bool,
}

pub(super) const UNAVAILABLE: u32 = 14;

impl Status {
    pub(super) fn unavailable(message: impl ToString) -> Status {
        Status {
            code: UNAVAILABLE,
            message: message.to_string(),
            unsent: false,
        }
    }

    fn unsent(message: impl ToString) -> Status {
        Status {
            unsent: true,
            ..Status::unavailable(message)
        }
    }

    /// `None` is success.
    fn of(headers: &HeaderMap) -> Option<Result<(), Status>> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let code = text("grpc-status")?.parse().unwrap_or(2);
        let message = percent_decoded(text("grpc-message").unwrap_or_default());
        Some(match code {
            0 => Ok(()),
            code => Err(Status {
                code,
                message,
                unsent: false,
            }),
        })
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One connection.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Body>,
    authority: String,
    scheme: &'static str,
}

impl Channel {
    /// `url` is `http://HOST:PORT`, or `https` with TLS.
    pub(super) async fn connect(
        url: &Uri,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Channel, Status> {
        match tokio::time::timeout(CONNECT, Channel::dial(url, tls)).await {
            Ok(done) => done,
            Err(_) => Err(Status::unsent(format!(
                "{url}: no connection within {CONNECT:?}"
            ))),
        }
    }

    async fn dial(url: &Uri, tls: &Arc<rustls::ClientConfig>) -> Result<Channel, Status> {
        let failed = |error: &dyn std::fmt::Display| Status::unsent(format!("{url}: {error}"));
        let host = url.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().unwrap_or(2379);
        let stream = TcpStream::connect((bare, port))
            .await
            .map_err(|e| failed(&e))?;
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        let authority = format!("{host}:{port}");
        if url.scheme_str() != Some("https") {
            return Channel::over(stream, authority, "http").await;
        }
        let name = rustls_pki_types::ServerName::try_from(bare.to_owned());
        let name = name.map_err(|e| failed(&e))?;
        let connector = TlsConnector::from(tls.clone());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|e| failed(&e))?;
        Channel::over(stream, authority, "https").await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        authority: String,
        scheme: &'static str,
    ) -> Result<Channel, Status> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(4 * WINDOW)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(Status::unsent)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("etcd: {error}");
            }
        });
        Ok(Channel {
            sender,
            authority,
            scheme,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn request(&self, path: &str, body: Body) -> Result<Request<Body>, Status> {
        let uri = format!("{}://{}{path}", self.scheme, self.authority);
        Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            // A member that has lost its leader says so at once.
            .header("hasleader", "true")
            .body(body)
            .map_err(Status::unsent)
    }

    async fn send<T: Message + Default>(
        &self,
        path: &str,
        body: Body,
    ) -> Result<Replies<T>, Status> {
        let request = self.request(path, body)?;
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(Status::unsent)?;
        let response = sender.send_request(request).await;
        let response = response.map_err(Status::unavailable)?;
        if let Some(status) = Status::of(response.headers()) {
            status?;
        }
        if response.status() != 200 {
            return Err(Status::unavailable(format!(
                "HTTP status {}",
                response.status()
            )));
        }
        Ok(Replies {
            body: response.into_body(),
            buffer: BytesMut::new(),
            of: PhantomData,
        })
    }

    /// One message there, one back.
    pub(super) async fn unary<T: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<T, Status> {
        let body = Full::new(framed(message)).boxed_unsync();
        let mut replies = self.send(path, body).await?;
        let first = replies.next().await?;
        let first = first.ok_or_else(|| Status::unavailable("no answer"))?;
        // The status comes last.
        while replies.next().await?.is_some() {}
        Ok(first)
    }

    /// The stream of answers to what is sent, which ends with the sender.
    pub(super) async fn stream<S, T>(
        &self,
        path: &str,
        first: &S,
    ) -> Result<(mpsc::Sender<Bytes>, Replies<T>), Status>
    where
        S: Message,
        T: Message + Default,
    {
        let (sender, messages) = mpsc::channel(1);
        let first = framed(first);
        let whole = stream::unfold(
            (Some(first), messages),
            |(first, mut messages)| async move {
                let bytes = match first {
                    Some(first) => first,
                    None => messages.recv().await?,
                };
                Some((Ok(Frame::data(bytes)), (None, messages)))
            },
        );
        let body = StreamBody::new(whole).boxed_unsync();
        Ok((sender, self.send(path, body).await?))
    }

    pub(super) async fn keep_alive(&self, id: i64) -> Result<proto::LeaseResponse, Status> {
        let request = proto::LeaseRequest { id };
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let (_sender, mut replies) = self.stream(path, &request).await?;
        let reply = replies.next().await?;
        reply.ok_or_else(|| Status::unavailable("no answer"))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    // Requests are limited to a few MiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// Messages as they come.
pub(super) struct Replies<T> {
    body: Incoming,
    buffer: BytesMut,
    of: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Replies<T> {
    /// `None` after a good end.
    pub(super) async fn next(&mut self) -> Result<Option<T>, Status> {
        loop {
            if let Some(message) = take(&mut self.buffer)? {
                let decoded = T::decode(message);
                return decoded.map(Some).map_err(Status::unavailable);
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            match frame.map_err(Status::unavailable)?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(status) = frame.trailers_ref().and_then(Status::of) {
                        status?;
                    }
                }
            }
        }
    }
}

/// The next whole message of `buffer`.
fn take(buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some(head) = buffer.first_chunk::<5>() else {
        return Ok(None);
    };
    let [compressed, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if compressed != 0 || length > MESSAGE {
        return Err(Status::unavailable(
            "a message that is compressed or too long",
        ));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end() {
        let request = proto::LeaseRequest { id: 300 };
        let whole = [framed(&request), framed(&request)].concat();
        let mut buffer = BytesMut::new();
        let mut found = 0;
        for byte in &whole {
            buffer.put_u8(*byte);
            while let Some(message) = take(&mut buffer).unwrap() {
                assert_eq!(proto::LeaseRequest::decode(message).unwrap(), request);
                found += 1;
            }
        }
        assert_eq!((found, buffer.len()), (2, 0));
        let mut long = BytesMut::from(&[0, 0xff, 0xff, 0xff, 0xff][..]);
        assert!(take(&mut long).is_err());
    }

    #[test]
    fn statuses_are_read() {
        let mut headers = HeaderMap::new();
        assert!(Status::of(&headers).is_none());
        headers.insert("grpc-status", "0".parse().unwrap());
        assert!(Status::of(&headers).unwrap().is_ok());
        headers.insert("grpc-status", "14".parse().unwrap());
        headers.insert(
            "grpc-message",
            "etcdserver: 100%25 no%20leader%".parse().unwrap(),
        );
        let status = Status::of(&headers).unwrap().unwrap_err();
        assert_eq!(
            (status.code, &status.message[..]),
            (14, "etcdserver: 100% no leader%")
        );
    }

    /// As protoc would have it: union members are written when they are 0.
    #[test]
    fn a_comparison_with_absence_is_written() {
        let compare = proto::Compare {
            target: proto::Target::Mod.into(),
            key: Bytes::from_static(b"k"),
            mod_revision: Some(0),
        };
        assert_eq!(compare.encode_to_vec(), [0x10, 2, 0x1a, 1, b'k', 0x30, 0]);
    }
}

//! gRPC's health checking protocol: `grpc.health.v1.Health/Check`, over HTTP/2
//! with prior knowledge.

use super::{PROBE_AGENT, connect};
use crate::machine::Control;
use crate::pod::health::Outcome;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

/// A status and a service's name are short.
const MESSAGE_MAX: usize = 4096;
const UNIMPLEMENTED: &str = "12";

pub(super) async fn probe(control: &Control, port: u16, service: &str) -> Outcome {
    match check(control, port, service).await {
        Ok(reply) => judge(&reply),
        Err(error) => Outcome::Failure(error),
    }
}

pub(super) fn timed_out(timeout: Duration) -> String {
    let seconds = timeout.as_secs();
    format!("timeout: health rpc did not complete within {seconds}s")
}

/// What came: gRPC's status, and the message if there is one.
#[derive(Debug, Default)]
struct Reply {
    code: String,
    text: String,
    message: Vec<u8>,
}

async fn check(control: &Control, port: u16, service: &str) -> Result<Reply, String> {
    let refused =
        |error: &str| format!("error: failed to connect service at \"127.0.0.1:{port}\": {error}");
    let stream = connect(control, port).await.map_err(|e| refused(&e))?;
    let io = TokioIo::new(stream);
    let shaken = http2::handshake(TokioExecutor::new(), io).await;
    let (mut sender, connection) = shaken.map_err(|e| refused(&e.to_string()))?;
    let request = Request::post(format!(
        "http://127.0.0.1:{port}/grpc.health.v1.Health/Check"
    ))
    .header(CONTENT_TYPE, "application/grpc")
    .header(TE, "trailers")
    .header(USER_AGENT, PROBE_AGENT)
    .body(Full::new(encode(service)))
    .map_err(|e| refused(&e.to_string()))?;
    let broken = |error: hyper::Error| format!("error: health rpc probe failed: {error}");
    let asking = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (parts, mut body) = response.into_parts();
        let mut reply = Reply::default();
        reply.take(&parts.headers);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(broken)?;
            if let Some(trailers) = frame.trailers_ref() {
                reply.take(trailers);
            } else if let Ok(data) = frame.into_data() {
                let room = MESSAGE_MAX.saturating_sub(reply.message.len());
                reply.message.extend(data.into_iter().take(room));
            }
        }
        Ok(reply)
    };
    tokio::select! {
        biased;
        reply = asking => reply,
        ended = connection => Err(match ended {
            Ok(()) => refused("EOF"),
            Err(error) => broken(error),
        }),
    }
}

impl Reply {
    fn take(&mut self, headers: &HeaderMap) {
        let text = |name: &str| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        if let Some(code) = text("grpc-status") {
            self.code = code;
        }
        if let Some(message) = text("grpc-message") {
            self.text = message;
        }
    }
}

fn judge(reply: &Reply) -> Outcome {
    let Reply {
        code,
        text,
        message,
    } = reply;
    if code == UNIMPLEMENTED {
        return Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol \
             (grpc.health.v1.Health): {text}"
        ));
    }
    if code != "0" {
        let error = format!("rpc error: code = {code} desc = {text}");
        return Outcome::Failure(format!("error: health rpc probe failed: {error}"));
    }
    match serving(message) {
        Some("SERVING") => Outcome::Success,
        Some(status) => {
            Outcome::Failure(format!("service unhealthy (responded with \"{status}\")"))
        }
        None => Outcome::Failure("error: health rpc probe failed: no message".to_owned()),
    }
}

/// `HealthCheckRequest { string service = 1; }`, uncompressed, with its length.
fn encode(service: &str) -> Bytes {
    let service = service.as_bytes();
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or(0));
        message.extend_from_slice(service);
    }
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// The status of `HealthCheckResponse { ServingStatus status = 1; }`.
fn serving(framed: &[u8]) -> Option<&'static str> {
    let message = framed.get(5..)?;
    Some(match message {
        [] | [0x08, 0] => "UNKNOWN",
        [0x08, 1] => "SERVING",
        [0x08, 2] => "NOT_SERVING",
        [0x08, 3] => "SERVICE_UNKNOWN",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_length_prefixed() {
        assert_eq!(encode("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = encode(&"x".repeat(200));
        assert_eq!(long[5..8], [0x0a, 0xc8, 1]);
    }

    #[test]
    fn replies_are_judged() {
        let reply = |code: &str, message: &[u8]| Reply {
            code: code.to_owned(),
            text: "t".to_owned(),
            message: message.to_vec(),
        };
        let serving = reply("0", &[0, 0, 0, 0, 2, 8, 1]);
        assert_eq!(judge(&serving), Outcome::Success);
        for (reply, text) in [
            (
                reply("0", &[0, 0, 0, 0, 2, 8, 2]),
                "service unhealthy (responded with \"NOT_SERVING\")",
            ),
            (
                reply("0", &[0, 0, 0, 0, 0]),
                "service unhealthy (responded with \"UNKNOWN\")",
            ),
            (
                reply("0", &[]),
                "error: health rpc probe failed: no message",
            ),
            (
                reply("5", &[]),
                "error: health rpc probe failed: rpc error: code = 5 desc = t",
            ),
            (
                reply("12", &[]),
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): t",
            ),
        ] {
            assert_eq!(judge(&reply), Outcome::Failure(text.to_owned()));
        }
    }
}

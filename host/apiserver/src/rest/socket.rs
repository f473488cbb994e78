//! Watches and logs for clients that ask for a WebSocket, as programs in a
//! browser do: an event, or what came of a log, is a message.

use super::Call;
use crate::audit::Trail;
use crate::proxy::forward::wants_upgrade;
use crate::respond::{self, Media};
use api::status::Status;
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use reconcile::Body;
use streams::{Form, Kind, Negotiated};

/// Where one message ends and the next begins.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Anywhere.
    Anywhere,
    Lines,
    /// After as many bytes as the four before them say.
    Lengths,
}

/// Asked for; nothing has been answered yet.
pub(crate) struct Socket {
    upgrade: OnUpgrade,
    negotiated: Negotiated,
    form: Form,
    cut: Cut,
    trail: Trail,
}

impl Socket {
    /// `None` if the request asks for no WebSocket.
    pub(crate) fn asked(call: &mut Call, kind: Kind) -> Result<Option<Socket>, Status> {
        let named = call.headers.get(header::UPGRADE);
        let websocket = named.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !(websocket && wants_upgrade(&call.headers)) {
            return Ok(None);
        }
        let Some(upgrade) = call.upgrade.take() else {
            return Ok(None);
        };
        let negotiated = streams::negotiate(&call.headers, kind)
            .map_err(|refusal| Status::bad_request(refusal.message))?;
        let (form, cut) = match (kind, call.accepted.media) {
            (Kind::Watch, Media::Protobuf) => (Form::Binary, Cut::Lengths),
            (Kind::Watch, Media::Json | Media::Yaml) => (Form::Text, Cut::Lines),
            _ => (negotiated.form(), Cut::Anywhere),
        };
        Ok(Some(Socket {
            upgrade,
            negotiated,
            form,
            cut,
            trail: call.trail.clone(),
        }))
    }

    /// The answer that changes the protocol; the body of `answer` follows as
    /// messages. A refusal stays what it is.
    fn carry(self, answer: Response<Body>) -> Response<Body> {
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let response = self.negotiated.response(respond::body(Bytes::new()));
        tokio::spawn(async move {
            let _trail = self.trail;
            let io = match self.upgrade.await {
                Ok(io) => TokioIo::new(io),
                Err(e) => return log::warn!("stream could not be upgraded: {e}"),
            };
            let pieces = pieces(answer.into_body(), self.cut);
            // The client may go away at any time; that is no fault here.
            if let Err(e) = streams::send_messages(io, self.form, pieces).await {
                log::debug!("stream ended: {e}");
            }
        });
        response
    }
}

/// The answer as the client wants it: by WebSocket, if it asked for one.
pub(crate) fn carried(socket: Option<Socket>, answer: Response<Body>) -> Response<Body> {
    match socket {
        Some(socket) => socket.carry(answer),
        None => answer,
    }
}

/// Until the body ends or breaks. A log begins with an empty message, by which
/// clients see that it is open.
fn pieces(body: Body, cut: Cut) -> impl Stream<Item = Bytes> {
    let first = match cut {
        Cut::Anywhere => vec![Bytes::new()],
        Cut::Lines | Cut::Lengths => Vec::new(),
    };
    let data = body.into_data_stream();
    let data = data.take_while(|bytes| std::future::ready(bytes.is_ok()));
    let data = data.filter_map(|bytes| std::future::ready(bytes.ok()));
    stream::iter(first).chain(data.flat_map(move |bytes| stream::iter(messages(bytes, cut))))
}

/// The messages of bytes that end where a message ends.
fn messages(mut bytes: Bytes, cut: Cut) -> Vec<Bytes> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let length = match cut {
            Cut::Anywhere => bytes.len(),
            Cut::Lines => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None => bytes.len(),
            },
            Cut::Lengths => {
                let length = bytes.try_get_u32().unwrap_or_default();
                usize::try_from(length).unwrap_or(usize::MAX)
            }
        };
        out.push(bytes.split_to(length.min(bytes.len())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_a_message() {
        for (cut, given, wanted) in [
            (Cut::Anywhere, &b"a\nb"[..], &["a\nb"][..]),
            (Cut::Lines, b"{}\n{\"a\":1}\n", &["{}\n", "{\"a\":1}\n"]),
            (Cut::Lengths, b"\0\0\0\x01a\0\0\0\x02bc", &["a", "bc"]),
            // No server of ours says such a thing; nothing is lost by it.
            (Cut::Lengths, b"\0\0\0\x09a", &["a"]),
            (Cut::Lines, b"", &[]),
        ] {
            let found = messages(Bytes::copy_from_slice(given), cut);
            assert_eq!(found, wanted, "{cut:?}");
        }
    }
}

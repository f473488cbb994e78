//! One request passed on to another server, and its answer passed back
//! (upstream's `UpgradeAwareHandler` and Go's `ReverseProxy`). Bodies stream
//! both ways; an upgraded connection passes bytes with half-close, on
//! a connection of its own.

use super::rewrite::Links;
use super::{html, splice};
use crate::audit::Trail;
use crate::peers::{Peer, Peers};
use crate::respond;
use api::status::Status;
use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder};
use futures_util::stream;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use reconcile::{Body, TransportError};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

/// Compressed bytes that are inflated at once: a thousandfold of them is bearable.
const INFLATED_AT_ONCE: usize = 1024;

/// Headers that are for one connection only (RFC 9110, 7.6.1), and `Expect`,
/// which is answered already.
const HOP: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_URI: &str = "x-forwarded-uri";

/// What says who asks; nobody else is to see or to forge it.
fn is_credential(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "authorization" || name.starts_with("x-remote-") || name.starts_with("impersonate-")
}

/// A request on its way through.
pub(crate) struct Passing {
    pub(crate) method: Method,
    /// As they came.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) upgrade: Option<OnUpgrade>,
    /// The client's address.
    pub(crate) remote: Option<IpAddr>,
    pub(crate) trail: Trail,
}

/// Where it goes.
pub(crate) struct Towards {
    /// Path and query, encoded.
    pub(crate) target: String,
    pub(crate) links: Links,
    /// Put in place of what has the same name.
    pub(crate) headers: HeaderMap,
}

/// Whether a client wants another protocol on this connection.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.to_ascii_lowercase().contains("upgrade")
    })
}

/// Headers without those of one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        if !HOP.contains(&name.as_str()) && !named.iter().any(|n| n == name.as_str()) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

/// The headers that the server gets.
fn outgoing(passing: &Passing, towards: &Towards, upgrade: bool) -> HeaderMap {
    let mut out = end_to_end(&passing.headers);
    let forged: Vec<HeaderName> = out.keys().filter(|k| is_credential(k)).cloned().collect();
    for name in forged {
        out.remove(name);
    }
    // The body knows its length.
    out.remove(header::CONTENT_LENGTH);
    if upgrade {
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(to) = passing.headers.get(header::UPGRADE) {
            out.insert(header::UPGRADE, to.clone());
        }
    } else if let Some(path) = towards.target.split('?').next()
        && let Ok(uri) = HeaderValue::from_str(&format!("{}{path}", towards.links.prefix))
    {
        out.insert(FORWARDED_URI, uri);
    }
    if let Some(remote) = passing.remote {
        let before = out.get(FORWARDED_FOR).and_then(|v| v.to_str().ok());
        let chain = match before {
            Some(before) => format!("{before}, {remote}"),
            None => remote.to_string(),
        };
        if let Ok(chain) = HeaderValue::from_str(&chain) {
            out.insert(FORWARDED_FOR, chain);
        }
    }
    if !out.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(&towards.links.asked)
    {
        out.insert(header::HOST, host);
    }
    let mut seen: Option<HeaderName> = None;
    for (name, value) in towards.headers.clone() {
        match name {
            Some(name) => {
                out.insert(name.clone(), value);
                seen = Some(name);
            }
            None => {
                // One more value of the last name.
                if let Some(name) = &seen {
                    out.append(name.clone(), value);
                }
            }
        }
    }
    out
}

/// Why there is no answer.
pub(crate) enum Failed {
    /// Before or without an answer; in Go's words.
    Unreached(String),
    /// An upgrade was answered with something else.
    NotUpgraded(StatusCode),
}

/// Passes a request on to `peer` and its answer back.
pub(crate) async fn pass(
    passing: Passing,
    towards: Towards,
    peers: &Arc<Peers>,
    peer: &Peer,
) -> Result<Response<Body>, Failed> {
    let upgrade = wants_upgrade(&passing.headers) && passing.upgrade.is_some();
    let mut request = Request::new(());
    *request.headers_mut() = outgoing(&passing, &towards, upgrade);
    let unreached = |e: &dyn std::fmt::Display| Failed::Unreached(e.to_string());
    *request.uri_mut() = towards.target.parse().map_err(|e| unreached(&e))?;
    *request.method_mut() = passing.method.clone();
    let request = request.map(|()| passing.body);
    if !upgrade {
        let answer = peers.send(peer, request).await;
        let answer = answer.map_err(Failed::Unreached)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::NotUpgraded(answer.status()));
        }
        let head = passing.method == Method::HEAD;
        return Ok(answered(answer, towards.links, head));
    }
    let answer = peers.alone(peer, request).await;
    let mut answer = answer.map_err(Failed::Unreached)?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client)) = (answer.status(), passing.upgrade) {
        let server = hyper::upgrade::on(&mut answer);
        splice(client, server, passing.trail);
        return Ok(answer.map(|_| respond::body(Bytes::new())));
    }
    if answer.status().as_u16() < 400 {
        return Err(Failed::NotUpgraded(answer.status()));
    }
    Ok(answered(answer.map(coming), towards.links, false))
}

/// A body as it comes.
pub(crate) fn coming(body: Incoming) -> Body {
    let failed = |e: hyper::Error| TransportError {
        operation: "read what is passed on",
        message: e.to_string(),
    };
    body.map_err(failed).boxed_unsync()
}

/// An answer as the client gets it.
fn answered(answer: Response<Body>, links: Links, head: bool) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    parts.headers = end_to_end(&parts.headers);
    for name in [
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        header::ACCESS_CONTROL_ALLOW_METHODS,
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
    ] {
        parts.headers.remove(name);
    }
    let text = |name: HeaderName, headers: &HeaderMap| {
        let value = headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let location = text(header::LOCATION, &parts.headers);
    if !location.is_empty() {
        if let Some(new) = links.rewrite(&location)
            && let Ok(new) = HeaderValue::from_str(&new)
        {
            parts.headers.insert(header::LOCATION, new);
        }
        return Response::from_parts(parts, body);
    }
    let media = text(header::CONTENT_TYPE, &parts.headers);
    let media = media.split(';').next().unwrap_or_default().trim();
    if media != "text/html" || head || links.prefix.is_empty() {
        return Response::from_parts(parts, body);
    }
    let html = html::Html::new(move |link: &str| links.rewrite(link));
    let coding = text(header::CONTENT_ENCODING, &parts.headers);
    let inflate = match coding.as_str() {
        "" => Inflate::Plain(Vec::new()),
        "gzip" => Inflate::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
        "deflate" => Inflate::Deflate(Box::new(DeflateDecoder::new(Vec::new()))),
        _ => return Response::from_parts(parts, body),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_ENCODING);
    Response::from_parts(parts, rewritten(body, inflate, html))
}

/// How a document is compressed.
enum Inflate {
    Plain(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
}

impl Inflate {
    /// What comes out for `bytes`.
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let out = match self {
            Inflate::Plain(out) => {
                out.extend_from_slice(bytes);
                out
            }
            Inflate::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                decoder.get_mut()
            }
            Inflate::Deflate(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                decoder.get_mut()
            }
        };
        Ok(std::mem::take(out))
    }
}

type Rewriting<F> = Option<(Body, Bytes, Inflate, html::Html<F>)>;

/// A document with its links rewritten, as it comes.
fn rewritten<F>(body: Body, inflate: Inflate, html: html::Html<F>) -> Body
where
    F: Fn(&str) -> Option<String> + Send + 'static,
{
    let start: Rewriting<F> = Some((body, Bytes::new(), inflate, html));
    let frames = stream::unfold(start, |state| async {
        let (mut body, mut left, mut inflate, mut html) = state?;
        loop {
            let mut out = Vec::new();
            if left.is_empty() {
                match body.frame().await {
                    Some(Ok(frame)) => left = frame.into_data().unwrap_or_default(),
                    Some(Err(e)) => return Some((Err(e), None)),
                    None => {
                        html.finish(&mut out);
                        return Some((Ok(Frame::data(out.into())), None));
                    }
                }
            }
            let next = left.split_to(left.len().min(INFLATED_AT_ONCE));
            match inflate.push(&next) {
                Ok(plain) => html.push(&plain, &mut out),
                Err(e) => {
                    let failed = TransportError {
                        operation: "inflate the answer of a proxied server",
                        message: e.to_string(),
                    };
                    return Some((Err(failed), None));
                }
            }
            if !out.is_empty() {
                let rest = Some((body, left, inflate, html));
                return Some((Ok(Frame::data(out.into())), rest));
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

impl Failed {
    /// As pods, Services and nodes have it.
    pub(crate) fn status(self, upgrade: bool) -> Status {
        match self {
            Failed::Unreached(why) if upgrade => {
                Status::new(500, "", format!("error dialing backend: {why}"))
            }
            Failed::Unreached(why) => {
                Status::unavailable(format!("error trying to reach service: {why}"))
            }
            Failed::NotUpgraded(code) => Status::new(
                500,
                "",
                format!("invalid upgrade response: status code {}", code.as_u16()),
            ),
        }
    }
}

//! Which transport and subprotocol a request asks for, and the 101 answer.
//!
//! SPDY as `apimachinery/pkg/util/httpstream` does it, WebSocket as
//! `apiserver/pkg/util/wsstream` and KEP-4006 (port-forward tunnelled) do.

use crate::messages::Form;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What the request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exec and attach.
    RemoteCommand,
    PortForward,
    /// Messages to the client, by WebSocket only.
    Log,
    /// The same; the client's one subprotocol is taken, whatever it is.
    Watch,
}

/// The version of the remote command protocol: what its error stream and its
/// channels mean (`remotecommand` constants v1 to v5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1,
    V2,
    V3,
    /// The error stream carries a `Status`.
    V4,
    /// Channel 255 closes one other channel.
    V5,
}

/// How the bytes are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Spdy,
    WebSocket {
        base64: bool,
    },
    /// SPDY frames inside WebSocket messages.
    Tunnel,
}

/// An agreement with the client; answer with [`Negotiated::response`].
#[derive(Clone, Debug)]
pub struct Negotiated {
    pub(crate) kind: Kind,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    pub(crate) ports: Vec<u16>,
    headers: HeaderMap,
}

/// An answer that ends the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
    /// To be added to the answer.
    pub headers: Box<HeaderMap>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            headers: Box::default(),
        }
    }
}

impl Negotiated {
    /// The headers of the 101 answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The 101 answer with the body that the caller's server wants.
    #[must_use]
    pub fn response<B>(&self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().extend(self.headers.clone());
        response
    }

    /// The ports of the request's query: WebSocket port-forward without a
    /// tunnel names them there; the other transports ignore them.
    #[must_use]
    pub fn with_ports(mut self, ports: Vec<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// How a log's bytes are sent.
    #[must_use]
    pub fn form(&self) -> Form {
        match self.framing {
            Framing::WebSocket { base64: true } => Form::Base64,
            Framing::WebSocket { base64: false } | Framing::Spdy | Framing::Tunnel => Form::Binary,
        }
    }

    /// Whether the ports must come from the query.
    #[must_use]
    pub fn wants_ports(&self) -> bool {
        self.kind == Kind::PortForward && matches!(self.framing, Framing::WebSocket { .. })
    }
}

type Offer = (&'static str, Framing, Version);

const WS: Framing = Framing::WebSocket { base64: false };
const WS_TEXT: Framing = Framing::WebSocket { base64: true };

/// Best first.
const SPDY_COMMAND: &[Offer] = &[
    ("v4.channel.k8s.io", Framing::Spdy, Version::V4),
    ("v3.channel.k8s.io", Framing::Spdy, Version::V3),
    ("v2.channel.k8s.io", Framing::Spdy, Version::V2),
    ("channel.k8s.io", Framing::Spdy, Version::V1),
];
const SPDY_FORWARD: &[Offer] = &[("portforward.k8s.io", Framing::Spdy, Version::V1)];
const WEBSOCKET_COMMAND: &[Offer] = &[
    ("v5.channel.k8s.io", WS, Version::V5),
    ("v4.channel.k8s.io", WS, Version::V4),
    ("v4.base64.channel.k8s.io", WS_TEXT, Version::V4),
    ("channel.k8s.io", WS, Version::V1),
    ("base64.channel.k8s.io", WS_TEXT, Version::V1),
];
const WEBSOCKET_FORWARD: &[Offer] = &[
    ("SPDY/3.1+portforward.k8s.io", Framing::Tunnel, Version::V1),
    ("v4.channel.k8s.io", WS, Version::V4),
    ("v4.base64.channel.k8s.io", WS_TEXT, Version::V4),
];

const WEBSOCKET_LOG: &[Offer] = &[
    ("binary.k8s.io", WS, Version::V1),
    ("base64.binary.k8s.io", WS_TEXT, Version::V1),
];

/// Decides how to serve an upgrade request.
///
/// # Errors
/// No upgrade, an unknown one, or no subprotocol in common.
pub fn negotiate(headers: &HeaderMap, kind: Kind) -> Result<Negotiated, Refusal> {
    let upgrades = tokens(headers, &UPGRADE);
    let connection = tokens(headers, &CONNECTION);
    let wanted = |name: &str| {
        upgrades
            .iter()
            .any(|token| token.eq_ignore_ascii_case(name))
            && connection
                .iter()
                .any(|token| token.eq_ignore_ascii_case("upgrade"))
    };
    if wanted("websocket") {
        websocket(headers, kind)
    } else if wanted("SPDY/3.1") {
        spdy(headers, kind)
    } else {
        Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: missing upgrade headers in request",
        ))
    }
}

fn spdy(headers: &HeaderMap, kind: Kind) -> Result<Negotiated, Refusal> {
    let offers = match kind {
        Kind::RemoteCommand => SPDY_COMMAND,
        Kind::PortForward => SPDY_FORWARD,
        Kind::Log | Kind::Watch => &[],
    };
    let client = tokens(headers, &STREAM_PROTOCOL);
    if client.is_empty() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: X-Stream-Protocol-Version is required",
        ));
    }
    let Some(&(name, framing, version)) = first_common(&client, offers) else {
        let names: Vec<_> = offers.iter().map(|offer| offer.0).collect();
        let mut refusal = Refusal::new(
            StatusCode::FORBIDDEN,
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports {client:?}, \
                 server accepts {names:?}"
            ),
        );
        for name in names {
            refusal
                .headers
                .append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
        }
        return Err(refusal);
    };
    let mut answer = HeaderMap::new();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    answer.insert(STREAM_PROTOCOL, HeaderValue::from_static(name));
    Ok(Negotiated {
        kind,
        framing,
        version,
        ports: Vec::new(),
        headers: answer,
    })
}

fn websocket(headers: &HeaderMap, kind: Kind) -> Result<Negotiated, Refusal> {
    let bad = |message: &str| Refusal::new(StatusCode::BAD_REQUEST, message);
    let key = headers
        .get(http::header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    if headers.get(http::header::SEC_WEBSOCKET_VERSION) != Some(&HeaderValue::from_static("13")) {
        let mut refusal = bad("only version 13 of WebSocket is supported");
        refusal.headers.insert(
            http::header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        return Err(refusal);
    }
    let client = tokens(headers, &SEC_WEBSOCKET_PROTOCOL);
    let (name, framing, version) = protocol(&client, kind).map_err(|why| bad(&why))?;
    let mut answer = HeaderMap::new();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| bad("Sec-WebSocket-Key is wrong"))?;
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !name.is_empty() {
        let name =
            HeaderValue::from_str(name).map_err(|_| bad("Sec-WebSocket-Protocol is wrong"))?;
        answer.insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    Ok(Negotiated {
        kind,
        framing,
        version,
        ports: Vec::new(),
        headers: answer,
    })
}

fn protocol<'a>(client: &[&'a str], kind: Kind) -> Result<(&'a str, Framing, Version), String> {
    let offers = match (kind, client) {
        (_, []) => return Ok(("", WS, Version::V1)),
        (Kind::Watch, [one]) => return Ok((one, WS, Version::V1)),
        (Kind::Watch, _) => return Err("only one subprotocol can be asked for".to_owned()),
        (Kind::RemoteCommand, _) => WEBSOCKET_COMMAND,
        (Kind::PortForward, _) => WEBSOCKET_FORWARD,
        (Kind::Log, _) => WEBSOCKET_LOG,
    };
    first_common(client, offers).copied().ok_or_else(|| {
        let names: Vec<_> = offers.iter().map(|offer| offer.0).collect();
        format!(
            "unable to negotiate protocol: client supports {client:?}, \
             server accepts {names:?}"
        )
    })
}

/// The client's order decides, as upstream's does.
fn first_common<'a>(client: &[&str], offers: &'a [Offer]) -> Option<&'a Offer> {
    client
        .iter()
        .find_map(|name| offers.iter().find(|offer| offer.0 == *name))
}

/// The comma-separated values of all headers of one name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const KEY: &[(&str, &str)] = &[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_client_s_first_known_protocol_is_taken() {
        let spdy = &[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let header = "x-stream-protocol-version";
        let websocket = "sec-websocket-protocol";
        let table = [
            (
                &spdy[..],
                header,
                "v5.channel.k8s.io,v4.channel.k8s.io",
                Kind::RemoteCommand,
                "v4.channel.k8s.io",
            ),
            (
                &spdy[..],
                header,
                "channel.k8s.io",
                Kind::RemoteCommand,
                "channel.k8s.io",
            ),
            (
                &spdy[..],
                header,
                "portforward.k8s.io",
                Kind::PortForward,
                "portforward.k8s.io",
            ),
            (
                KEY,
                websocket,
                "v5.channel.k8s.io",
                Kind::RemoteCommand,
                "v5.channel.k8s.io",
            ),
            (
                KEY,
                websocket,
                "x, base64.channel.k8s.io",
                Kind::RemoteCommand,
                "base64.channel.k8s.io",
            ),
            (
                KEY,
                websocket,
                "SPDY/3.1+portforward.k8s.io",
                Kind::PortForward,
                "SPDY/3.1+portforward.k8s.io",
            ),
        ];
        for (base, name, offered, kind, expected) in table {
            let mut headers = headers(base);
            headers.insert(name, HeaderValue::from_static(offered));
            let response = negotiate(&headers, kind).unwrap().response(());
            assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(response.headers().get(name).unwrap(), expected);
        }
    }

    #[test]
    fn logs_have_two_protocols_and_watches_any() {
        for (kind, offered, form) in [
            (Kind::Log, "binary.k8s.io", Some(Form::Binary)),
            (Kind::Log, "base64.binary.k8s.io", Some(Form::Base64)),
            (Kind::Log, "any", None),
            (Kind::Watch, "any", Some(Form::Binary)),
            (Kind::Watch, "one, other", None),
        ] {
            let mut headers = headers(KEY);
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offered));
            let found = negotiate(&headers, kind);
            assert_eq!(found.as_ref().ok().map(Negotiated::form), form, "{offered}");
            let named = found.map(|found| found.headers()[SEC_WEBSOCKET_PROTOCOL].clone());
            assert!(named.is_err() || named.is_ok_and(|named| named == offered));
        }
    }

    #[test]
    fn the_accept_key_is_rfc_6455_s() {
        let negotiated = negotiate(&headers(KEY), Kind::RemoteCommand).unwrap();
        let accept = negotiated.headers().get(SEC_WEBSOCKET_ACCEPT).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_upgrade_is_refused() {
        let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let unknown = [spdy[0], spdy[1], ("x-stream-protocol-version", "v9")];
        let plain = [("accept", "*/*")];
        for (pairs, status) in [
            (&plain[..], StatusCode::BAD_REQUEST),
            (&spdy[..], StatusCode::BAD_REQUEST),
            (&unknown[..], StatusCode::FORBIDDEN),
            (&KEY[..3], StatusCode::BAD_REQUEST),
        ] {
            let refusal = negotiate(&headers(pairs), Kind::RemoteCommand).unwrap_err();
            assert_eq!(refusal.status, status, "{pairs:?}");
        }
    }
}

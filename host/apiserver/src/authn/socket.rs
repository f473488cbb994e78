//! A bearer token among the subprotocols of a WebSocket, as a program in a
//! browser gives it, which can set no header (upstream's
//! `apiserver/pkg/authentication/request/websocket`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL, UPGRADE};

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
/// Of a scheme that nobody has, and so nobody's.
const MALFORMED: HeaderValue = HeaderValue::from_static("WebSocket malformed");

/// Makes the token an `Authorization` header and takes it from among the
/// subprotocols, so that it is passed on to nobody.
pub(crate) fn take_token(headers: &mut HeaderMap) {
    let upgrade = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    if !upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket")) {
        return;
    }
    let all = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let all = all.filter_map(|value| value.to_str().ok());
    let all = all.flat_map(|value| value.split(',')).map(str::trim);
    let (tokens, others): (Vec<&str>, Vec<&str>) = all.partition(|one| one.starts_with(PREFIX));
    if tokens.is_empty() {
        return;
    }
    let authorization = match (&tokens[..], &others[..]) {
        // Without another one, the answer could name none.
        ([one], [_, ..]) => authorization(one).unwrap_or(MALFORMED),
        _ => MALFORMED,
    };
    let others = HeaderValue::from_str(&others.join(", "));
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(others) = others
        && !others.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    }
    headers.entry(AUTHORIZATION).or_insert(authorization);
}

fn authorization(protocol: &str) -> Option<HeaderValue> {
    let token = URL_SAFE_NO_PAD
        .decode(protocol.strip_prefix(PREFIX)?)
        .ok()?;
    let token = String::from_utf8(token).ok()?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    (!token.trim().is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_a_header() {
        // base64url of "abc": YWJj
        let token = "base64url.bearer.authorization.k8s.io.YWJj";
        let twice = format!("{token}, {token}, x");
        for (protocols, authorization, left) in [
            (
                format!("{token}, binary.k8s.io"),
                "Bearer abc",
                "binary.k8s.io",
            ),
            (format!("a,{token},b"), "Bearer abc", "a, b"),
            (token.to_owned(), "WebSocket malformed", ""),
            (twice, "WebSocket malformed", "x"),
            (format!("{PREFIX}!, x"), "WebSocket malformed", "x"),
            ("x".to_owned(), "", "x"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            let value = HeaderValue::from_str(&protocols).expect("a header");
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
            take_token(&mut headers);
            let text = |name| {
                let value: Option<&HeaderValue> = headers.get(name);
                value.map_or("", |value| value.to_str().expect("text"))
            };
            assert_eq!(text(AUTHORIZATION), authorization, "{protocols}");
            assert_eq!(text(SEC_WEBSOCKET_PROTOCOL), left, "{protocols}");
        }
    }
}

//! From a challenge to the value of `Authorization`: Basic, or a token of
//! the distribution specification's token servers (GET with Basic, or the
//! OAuth2 POST for identity tokens).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::error::{Failure, Kind};
use crate::registry::challenge::Challenge;
use crate::registry::request::{Ask, Http};

const MAX_TOKEN: u64 = 1 << 20;

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// `None` if these credentials can't answer the challenge.
pub(super) async fn answer(
    http: &Http,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
    repository: &str,
    over_tls: bool,
) -> Result<Option<HeaderValue>, Failure> {
    if let Some(c) = credentials.filter(|c| !c.registry_token.is_empty()) {
        return secret(format!("Bearer {}", c.registry_token)).map(Some);
    }
    let basic = credentials.filter(|c| !c.username.is_empty()).map(|c| {
        format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", c.username, c.password))
        )
    });
    let (realm, service, scope) = match challenge {
        Challenge::Basic => return basic.map(secret).transpose(),
        Challenge::Bearer {
            realm,
            service,
            scope,
            ..
        } => (realm, service, scope),
    };
    let pull = format!("repository:{repository}:pull");
    let mut fields = vec![("scope", scope.as_deref().unwrap_or(&pull))];
    if let Some(service) = service {
        fields.push(("service", service));
    }
    let ask = match credentials.filter(|c| !c.identity_token.is_empty()) {
        Some(c) => {
            fields.push(("grant_type", "refresh_token"));
            fields.push(("client_id", "atoll"));
            fields.push(("refresh_token", &c.identity_token));
            let mut ask = Ask::get(realm_uri(realm, "")?).with(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            ask.method = Method::POST;
            ask.body = Bytes::from(form(&fields));
            ask
        }
        None => {
            if let Some(c) = credentials.filter(|_| basic.is_some()) {
                fields.push(("account", &c.username));
            }
            let ask = Ask::get(realm_uri(realm, &form(&fields))?);
            match basic {
                Some(basic) => ask.with(AUTHORIZATION, secret(basic)?),
                None => ask,
            }
        }
    };
    if over_tls && ask.uri.scheme_str() != Some("https") && credentials.is_some() {
        let message = format!("token server {realm} of a TLS registry has no TLS");
        return Err(Failure::new(Kind::Unauthorized, message));
    }
    let token = fetch(http, ask, realm).await?;
    secret(format!("Bearer {token}")).map(Some)
}

/// A header value that is not shown in logs.
fn secret(text: String) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        Failure::new(
            Kind::Unauthorized,
            "the credentials hold control characters",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

async fn fetch(http: &Http, ask: Ask, realm: &str) -> Result<String, Failure> {
    let failed = |kind: Kind, why: &dyn std::fmt::Display| {
        Failure::new(
            kind,
            format!("failed to authorize: failed to fetch token from {realm}: {why}"),
        )
    };
    let response = http.send(ask).await?;
    let status = response.status();
    if !status.is_success() {
        let kind = match status.as_u16() {
            400 | 401 | 403 | 404 => Kind::Unauthorized,
            _ => Kind::Unavailable,
        };
        return Err(failed(kind, &format!("unexpected status: {status}")));
    }
    let body = response
        .into_body()
        .collect(MAX_TOKEN, "a token")
        .await
        .map_err(|f| failed(f.kind, &f))?;
    let token: Token = serde_json::from_slice(&body).map_err(|e| failed(Kind::Unavailable, &e))?;
    match (token.token.is_empty(), token.access_token.is_empty()) {
        (false, _) => Ok(token.token),
        (true, false) => Ok(token.access_token),
        (true, true) => Err(failed(Kind::Unauthorized, &"no token in the answer")),
    }
}

fn realm_uri(realm: &str, query: &str) -> Result<Uri, Failure> {
    let join = if realm.contains('?') { '&' } else { '?' };
    let text = match query {
        "" => realm.to_owned(),
        query => format!("{realm}{join}{query}"),
    };
    let uri: Uri = text
        .parse()
        .map_err(|_| Failure::unavailable(format!("bad token server {realm:?}")))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(a)) if !a.as_str().contains('@') => Ok(uri),
        _ => Err(Failure::unavailable(format!("bad token server {realm:?}"))),
    }
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let encode = |s: &str| {
        s.bytes().fold(String::new(), |mut out, b| {
            match b {
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b':'
                | b'/' => {
                    out.push(char::from(b));
                }
                b => out.push_str(&format!("%{b:02X}")),
            }
            out
        })
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    pairs.join("&")
}
